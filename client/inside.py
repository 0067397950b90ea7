"""A site that answers inside the process of the ClientApp: simulation and tests, where no worker stands beside.

The same tasks, the same answers; what is missing is the wall between the code that came and the data.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.answering import answer
from client.flower_app import app_of
from client.tasks import handle
from client.workspace import Site, open_site
from sarco_models import wire
from sarco_models.errors import ConfigError
from sarco_models.wire import Reply

SiteOf = Callable[[Context], Site]


def make_app(site_of: SiteOf) -> ClientApp:
    """A ClientApp that answers for the site which ``site_of`` finds."""

    def answered(message: Message, context: Context) -> tuple[Reply, str]:
        return answer(
            lambda: site_of(context),
            lambda: wire.decode(message.content),
            lambda site, request: handle(site, request),
        )

    return app_of(answered)


def answer_inside(message: Message, context: Context) -> tuple[Reply, str]:
    """Answer for the site whose site.toml is this node's; it is opened once in a process."""
    return answer(lambda: _opened(site_file(context)), lambda: wire.decode(message.content), handle)


def site_file(context: Context) -> Path:
    """Where this node's site.toml is.

    A node config may name it (``site-config``). In Flower's simulation a node knows only its number: it takes that
    site, in the order of their names, of the run directory that the run config names.
    """
    named = context.node_config.get("site-config")
    if named:
        return Path(str(named))
    run_dir = str(context.run_config.get("run-dir", ""))
    sites = sorted(Path(run_dir, "sites").glob("*/site.toml")) if run_dir else []
    number = int(context.node_config.get("partition-id", -1))
    if not 0 <= number < len(sites):
        raise ConfigError(
            f"run-dir = {run_dir!r} has {len(sites)} sites and this is node {number}: make a run directory with "
            "`sarco-lab prepare`, name it in --run-config, and give the federation as many nodes as it has sites"
        )
    return sites[number]


@lru_cache(maxsize=8)
def _opened(path: Path) -> Site:
    """A site is opened once per process."""
    return open_site(path)
