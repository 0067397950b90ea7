"""Flower's SuperLink in a launcher of our own: ``python -m server.superlink FLOWER'S ARGUMENTS``.

What it does is Flower's; what is changed costs less processor time and nothing else: a request's body reaches Flower's
application in one piece (sarco_models/whole_bodies.py); the pieces of messages lie in files (server/object_files.py).
"""

from __future__ import annotations

import gc
import importlib
import sys
from types import SimpleNamespace
from typing import Any

import uvicorn
from flwr.supercore.object_store import object_store_factory
from flwr.superlink.cli import flower_superlink

from sarco_models.whole_bodies import with_whole_bodies
from server.object_files import ObjectFiles


def serve(app: Any, **given: Any) -> None:
    """``uvicorn.run`` for Flower."""
    gc.collect()
    gc.freeze()  # what was imported is there to stay: it is not looked through again and again
    uvicorn.run(app=with_whole_bodies(app), **given)


def main() -> None:
    """Run Flower's SuperLink until it ends."""
    # the package shows a function under this name, and the module is behind it
    module = importlib.import_module("flwr.superlink.cli.flower_superlink")
    for place, name, replacement in (
        (module, "uvicorn", SimpleNamespace(run=serve)),
        (object_store_factory, "SqlObjectStore", ObjectFiles),
    ):
        getattr(place, name)  # another release of Flower would not notice the replacement
        setattr(place, name, replacement)
    sys.argv[0] = "flower-superlink"
    flower_superlink()


if __name__ == "__main__":
    main()
