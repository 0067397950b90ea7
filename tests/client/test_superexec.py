"""The process that waits for messages, and its copies: each answers one, and leaves no trace in the next."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sarco_models.processes import quiet_environment

pytestmark = pytest.mark.slow

_RUN = """
import json, os, pathlib, signal, sys, time
import client.superexec as superexec

out = pathlib.Path(sys.argv[1])

def answer(words):
    facts = {
        "pid": os.getpid(), "parent": os.getppid(), "words": words, "threads": len(os.listdir("/proc/self/task")),
        "ours": sorted(name for name in sys.modules if name.split(".")[0] in ("client", "sarco_models")),
        "flower": "flwr.supernode.runtime.run_clientapp" in sys.modules, "trace": getattr(json, "trace", ""),
        "open": [os.readlink(f"/proc/self/fd/{n}") for n in (1, 2)],
        "secret": os.environ.get("READ_LATER", ""),
    }
    json.trace = words[-1]
    (out / (words[-1] + ".partial")).write_text(json.dumps(facts))
    (out / (words[-1] + ".partial")).rename(out / words[-1])
    os._exit(3)

superexec.answer = answer
copies = superexec.Copies()
os.environ["READ_LATER"] = "secret"
copies.start(["flwr-clientapp", "--token", "first"])
copies.start(["flwr-clientapp", "--token", "second"], stdout=-3, stderr=-3)
while len([p for p in out.iterdir() if p.suffix != ".partial"]) < 2:
    time.sleep(0.02)
alive = [p.name for p in pathlib.Path("/proc").iterdir() if p.name == str(copies.pid)]
other = copies.start([sys.executable, "-c", "print('another')"])
other.wait()
os.kill(copies.pid, signal.SIGKILL)
os.waitpid(copies.pid, 0)
pathlib.Path(out / "bin").mkdir()
script = out / "bin" / "flwr-clientapp"
script.write_text(f"#!/bin/sh\\necho anew $2 > {out}/anew\\n")
script.chmod(0o700)
os.environ["PATH"] = f"{script.parent}:{os.environ['PATH']}"
copies.start(["flwr-clientapp", "--token", "third"]).wait()
print(json.dumps({"waiting": copies.pid, "alive": alive}))
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two copies were, and what became of a message when the process that waits was killed."""
    out = tmp_path_factory.mktemp("out")
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", _RUN, str(out)],
        env={**quiet_environment(out), "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts | {name: json.loads((out / name).read_text()) for name in ("first", "second")} | {
        "anew": (out / "anew").read_text(), "said": done.stdout, "warned": done.stderr,
    }  # fmt: skip


def test_each_message_has_a_process_of_its_own(seen: dict[str, Any]) -> None:
    one, other = seen["first"], seen["second"]
    assert seen["alive"] == [str(seen["waiting"])]
    assert len({one["pid"], other["pid"], seen["waiting"]}) == 3
    assert one["parent"] == other["parent"] == seen["waiting"]
    assert [one["words"], other["words"]] == [["flwr-clientapp", "--token", name] for name in ("first", "second")]


def test_nothing_of_one_message_is_found_by_the_next(seen: dict[str, Any]) -> None:
    assert [seen[name]["trace"] for name in ("first", "second")] == ["", ""]


def test_flower_is_there_and_nothing_of_ours_so_that_what_was_shipped_is_imported(seen: dict[str, Any]) -> None:
    for name in ("first", "second"):
        assert seen[name]["flower"]
        assert seen[name]["ours"] == []
        assert seen[name]["threads"] == 1


def test_what_the_superexec_reads_later_is_not_in_the_copies(seen: dict[str, Any]) -> None:
    assert [seen[name]["secret"] for name in ("first", "second")] == ["", ""]


def test_what_flower_wants_quiet_is_quiet(seen: dict[str, Any]) -> None:
    assert seen["second"]["open"] == ["/dev/null", "/dev/null"]
    assert "/dev/null" not in seen["first"]["open"]


def test_another_command_and_a_message_without_the_process_that_waits_go_flowers_way(seen: dict[str, Any]) -> None:
    assert "another" in seen["said"]
    assert seen["anew"] == "anew third\n"
    assert "is gone" in seen["warned"]


def test_the_process_that_waits_ends_with_the_superexec(tmp_path: Path) -> None:
    code = "import client.superexec as s, os; print(s.Copies().pid, flush=True); os._exit(0)"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code],
        env={**quiet_environment(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE, text=True, timeout=60, check=True,
    )  # fmt: skip
    waiting, until = Path("/proc") / done.stdout.strip(), time.monotonic() + 20
    while waiting.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not waiting.exists()
