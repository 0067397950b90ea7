"""What a run hands to Flower: two names and no code.

Flower sends a bundle (FAB) to every hospital and runs what lies in it. Ours holds a pyproject.toml and the licence
alone: the ServerApp and the ClientApp that it names are found in what each machine has installed. So the coordinator's
process runs the coordinator's installed code, a hospital's relay runs the code that the hospital installed and
reviewed, and nothing that a run ships can replace it. The same versions give the same bytes.
"""

import hashlib
import warnings
from functools import lru_cache

from server.versions import versions

PUBLISHER, NAME = "sarco", "sarco-fl"

_PROJECT = """\
[project]
name = "{name}"
version = "{version}"
description = "Names the apps that each machine has installed; holds no code."
license = {{ file = "LICENSE" }}
dependencies = ["flwr>={flwr}"]

[tool.flwr.app]
publisher = "{publisher}"
fab-format-version = 1
flwr-version-target = "{flwr}"
fab-include = ["/LICENSE"]

[tool.flwr.app.components]
serverapp = "server.app:app"
clientapp = "client.app:app"

[tool.flwr.app.config]
run-dir = ""
"""
_LICENSE = "Apache License 2.0, https://www.apache.org/licenses/LICENSE-2.0. The code is in the package sarco-fl.\n"
_UNINSTALLED = "0.0.0"


@lru_cache(maxsize=1)
def bundle() -> bytes:
    """The FAB of every run of these versions."""
    known = versions()
    version = known["sarco-fl"] if known["sarco-fl"][0].isdigit() else _UNINSTALLED
    project = _PROJECT.format(name=NAME, version=version, flwr=known["flwr"], publisher=PUBLISHER)
    with warnings.catch_warnings():
        # flwr 1.41 asks pathspec for a pattern by a name that pathspec is about to drop
        warnings.filterwarnings("ignore", "GitWildMatchPattern", DeprecationWarning)
        from flwr.cli.build import build_fab_from_files

        return build_fab_from_files({"pyproject.toml": project.encode(), "LICENSE": _LICENSE.encode()})[0]


def bundle_digest() -> str:
    """SHA-256 of the bundle, as Flower knows it."""
    return hashlib.sha256(bundle()).hexdigest()
