"""Code that came over the network, as the relay's account: it gets coded answers, and nothing else.

The accounts are real ones (root starts the worker and the relay); who is not root skips.
"""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.audit import FILE, verify
from client.worker_line import Line
from client.workspace import Site
from sarco_models import wire
from sarco_models.chain import read
from sarco_models.processes import quiet_environment
from sarco_models.wire import Describe, Described, Train
from tests import hostile_app
from tests.client.hospitals import hospital, requests
from tests.client.workers import Running, end, environment, short_folder, start
from tests.hostile_app import Loot, got, run_as

RELAY = 65534
REQUESTS = 1000

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="starts processes of another account")


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A hospital's folder as `sarco-site init` makes it: others may go through it to the socket, and no further."""
    with short_folder() as folder:
        folder.chmod(0o755)
        yield folder


@pytest.fixture(scope="module")
def site(place: Path) -> Site:
    made = hospital(place / "h")
    for path in (place / "h").iterdir():
        path.chmod(0o700 if path.is_dir() else 0o600)
    (place / "h").chmod(0o711)
    (place / "h/keys").mkdir(mode=0o700)
    (place / "h/keys/node.pem").write_text("secret")
    return made


@pytest.fixture(scope="module")
def worker(site: Site, place: Path) -> Iterator[Running]:
    running = start(place / "h/site.toml", place / "h/run/worker.sock", "--socket-group", str(RELAY), umask=0o077)
    try:
        running.wait_until_serving()
        yield running
    finally:
        end(running)


def plan_of(site: Site, place: Path, worker: Running, requests_: int = REQUESTS) -> hostile_app.Plan:
    h = place / "h"
    secrets = ["data", "data/participants.csv", "state", f"state/{FILE}", "state/ledger.sqlite", "state/ledger.key"]
    places = [*secrets, "keys", "keys/node.pem", "site.toml", "run", "run/worker.sock.lock", "worker.log"]
    unapproved = Train("f" * 64, "0" * 64, 1, requests(site)["Train"].parameters)  # type: ignore[union-attr]
    return {
        "read": [*(str(h / p) for p in places), str(h), "/etc/shadow", "/root"],
        "write": [*(str(h / p) for p in places), str(h), "/etc", "/usr/local/bin", str(hostile_app.__file__)],
        "pid": worker.process.pid,
        "socket": str(worker.socket),
        "request": wire.to_bytes(unapproved).hex(),
        "requests": requests_,
    }


@pytest.mark.slow
def test_hostile_code_gets_codes_and_nothing_else(
    site: Site, worker: Running, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SARCO_KEY", "AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK", "MAIL_PASSWORD"):
        monkeypatch.setenv(name, "a-secret-of-the-hospital")
    worker.ask(Describe(site.study.digest))  # so that there are a ledger and a log to steal
    log = place / "h/state" / FILE
    before, files = len(read(log)), tree(place / "h")
    own = place / "relay"
    own.mkdir(mode=0o700)
    os.chown(own, RELAY, RELAY)
    loot = run_as(
        plan_of(site, place, worker), RELAY, RELAY, quiet_environment(own, PYTHONPATH=os.environ["PYTHONPATH"]), own
    )

    assert loot["account"] == f"{RELAY}:{RELAY}"
    assert "a-secret-of-the-hospital" not in loot["environment"]
    brought = {"a petabyte", "a request", "garbage", "many requests", "noise", "status"}
    assert set(got(loot)) - {"one huge piece"} == brought, "gRPC or the worker stops a huge piece, whoever is first"
    assert_codes_only(loot)
    assert loot["an unknown method"] == loot["another service"] == "nothing: UNIMPLEMENTED "
    assert tree(place / "h") == files, "nothing was written, made, removed or given other rights"

    rows = read(log)[before:]
    refused = [e for e in rows if e.facts.get("code") == "study_not_approved"]
    unread = [e for e in rows if e.kind == "request" and e.facts["task"] == "unreadable"]
    assert len(refused) == REQUESTS + 1, "each of them is written down"
    assert len(unread) >= 4, "garbage, a petabyte, two unknown methods"
    assert {e.facts["reply"] for e in rows if e.kind == "reply"} == {"Refused"}
    verify(log)
    assert worker.process.poll() is None
    assert isinstance(worker.ask(Describe(site.study.digest)), Described), "and the worker lives on"


def assert_codes_only(loot: Loot) -> None:
    """What the socket gave away: a refusal's name and code; of Status no more than what the coordinator knows."""
    for what in ("garbage", "a petabyte"):
        assert '"kind": "Refused", "site": "alpha", "code": "bad_request"' in loot[what]
    answer = json.loads(loot["a request"][loot["a request"].index("{") :])
    assert answer["fields"] == {"kind": "Refused", "site": "alpha", "code": "study_not_approved"}
    assert (answer["metrics"], answer["arrays"]) == (None, [])
    told = json.loads(loot["status"].removeprefix("got "))
    assert set(told) == {"name", "study", "phase", "task", "round", "since", "done_rounds", "version", "code"}
    assert "participants.csv" not in loot["noise"]


def tree(folder: Path) -> list[tuple[str, int, int]]:
    """Names, rights and owners of everything but the logs, which grow."""
    found = [(path, path.lstat()) for path in sorted(folder.rglob("*"))]
    return [(str(path), s.st_mode, s.st_uid) for path, s in found if not stat.S_ISSOCK(s.st_mode)]


@pytest.mark.slow
def test_without_the_sockets_group_nobody_gets_as_far_as_asking(site: Site, worker: Running, place: Path) -> None:
    """Another account of the same machine, of another group."""
    plan = plan_of(site, place, worker, 1) | {"read": [], "write": []}
    loot = run_as(plan, 65533, 65533, quiet_environment(place), place)
    assert sorted(got(loot)) == []
    assert loot["a request"].startswith("nothing: UNAVAILABLE")
    assert Line(worker.socket).healthy()


HIDES = """
import ctypes, os, sys, time
import client.worker
os.setgroups([])
os.setresgid(*[int(sys.argv[1])] * 3)
os.setresuid(*[int(sys.argv[1])] * 3)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # a change of account hides it as well: show it again
if sys.argv[2] == "hidden":
    client.worker._hide_memory()
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["hidden", "open"])
def test_a_process_of_the_same_account_cannot_look_into_the_worker(place: Path, how: str) -> None:
    """Where a hospital has one account for everything, files lie open to it, but not what the worker holds."""
    looks = ("environ", "maps", "auxv", "cwd", "exe", "open files")
    with subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-c", HIDES, str(RELAY), how], env=environment(), cwd="/", stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        loot = run_as({"pid": process.pid}, RELAY, RELAY, quiet_environment(place), place)
        process.kill()
    found = {look: loot[f"{look} of the worker"].startswith("got ") for look in looks}
    assert found == dict.fromkeys(looks, how == "open")
