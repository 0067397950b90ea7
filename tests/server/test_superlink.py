"""The launcher of the SuperLink: it replaces what it says, and another release of Flower would be noticed."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from sarco_models.processes import quiet_environment

ROOT = Path(__file__).parents[2]

_MAIN = """
import importlib, json, sys
import server.superlink as superlink
from flwr.supercore.object_store import object_store_factory

superlink.flower_superlink = lambda: None
superlink.main()
module = importlib.import_module("flwr.superlink.cli.flower_superlink")
store = object_store_factory.ObjectStoreFactory(sys.argv[1]).store()
print(json.dumps([module.uvicorn.run is superlink.serve, type(store).__name__]))
"""


@pytest.mark.slow
def test_flowers_server_and_store_are_replaced(tmp_path: Path) -> None:
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", _MAIN, str(tmp_path / "a.sqlite")],
        env={**quiet_environment(tmp_path), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == '[true, "ObjectFiles"]'
    assert (tmp_path / "a.objects").is_dir()


def test_flower_still_calls_what_is_replaced() -> None:
    superlink = importlib.import_module("flwr.superlink.cli.flower_superlink")
    supernode = importlib.import_module("flwr.supernode.cli.flower_supernode")
    called = {module: Path(str(module.__file__)).read_text() for module in (superlink, supernode)}
    assert "uvicorn.run(\n        app=" in called[superlink]
    assert "uvicorn.Config(\n            app=" in called[supernode]
    factory = importlib.import_module("flwr.supercore.object_store.object_store_factory")
    assert "SqlObjectStore(self.database)" in Path(str(factory.__file__)).read_text()
    executor = importlib.import_module("flwr.supercore.superexec.executor.subprocess_executor")
    assert "subprocess.Popen(args)" in Path(str(executor.__file__)).read_text()
