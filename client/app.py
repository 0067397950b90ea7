"""The Flower ClientApp of a site: three translations and no decision."""

import logging
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.tasks import handle, place_of
from client.workspace import Site, open_site
from sarco_models import wire
from sarco_models.errors import ChainBroken, ConfigError, DataError, ProtocolError, SarcoError
from sarco_models.wire import Code, Refused, Reply, Request

log = logging.getLogger(__name__)

SiteOf = Callable[[Context], Site]


def make_app(site_of: SiteOf) -> ClientApp:
    """A ClientApp that answers for the site which ``site_of`` finds."""
    app = ClientApp()

    def respond(message: Message, context: Context) -> Message:
        return wire.answer(*_reply(message, context, site_of))

    for action in ("describe", "setup", "keys", "reveal"):
        app.query(action)(respond)
    app.train()(respond)
    app.evaluate()(respond)
    app.evaluate("assess")(respond)
    app.evaluate("probe")(respond)
    return app


def _reply(message: Message, context: Context, site_of: SiteOf) -> tuple[Reply, Message, str]:
    """Reply, what it answers, and the head of the audit log that it is written down in.

    Only codes leave: an exception here would travel to the server with its text (FLOWER 1.3).
    """
    head = ""
    try:
        site = site_of(context)
        reply = _readable(site, message)
        head = site.audit.head
    except SarcoError as error:
        # A wrong site.toml may be named in the hospital's log; a fault of the data holds file names and values.
        told = isinstance(error, ConfigError | ChainBroken)
        log.error("the site cannot answer: %s", error if told else type(error).__name__)
        codes = {DataError: Code.DATA_FAULT, ChainBroken: Code.INTERNAL}
        reply = Refused("", next((c for kind, c in codes.items() if isinstance(error, kind)), Code.BAD_REQUEST))
    except Exception as error:
        log.error("the site cannot answer: %s", place_of(error))
        reply = Refused("", Code.INTERNAL)
    return reply, message, head


def _readable(site: Site, message: Message) -> Reply:
    try:
        request: Request = wire.decode(message.content)
    except ProtocolError as error:
        log.warning("bad request: %s", error)
        site.audit.unreadable()
        return Refused(site.name, Code.BAD_REQUEST)
    return handle(site, request)


def site_file(context: Context) -> Path:
    """Where this node's site.toml is.

    A hospital names it in its node config (``site-config``). In Flower's simulation a node knows only its number:
    it takes that site, in the order of their names, of the run directory that the run config names.
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


app = make_app(lambda context: _opened(site_file(context)))
