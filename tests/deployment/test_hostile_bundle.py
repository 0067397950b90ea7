"""A coordinator that ships code of its own: it runs at the hospital, as the relay's account, and gets nothing.

The bundle is submitted as Flower takes it and travels as Flower sends it; its ClientApp (tests/hostile_app.py) tries to
read the data, the keys and the state, to write, to look into the worker, and to talk to it.
"""

import hashlib
import json
import os
import pwd
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from sarco_models import wire
from sarco_models.chain import read
from sarco_models.wire import Describe
from server.control import Control
from server.home import Home
from tests import hostile_app
from tests.deployment.federation import Federation, federation
from tests.deployment.studies import a_study
from tests.hostile_app import got

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="gives the relay another account")]

RELAY = "nobody"
REQUESTS = 20

PROJECT = """\
[project]
name = "sarco-fl"
version = "9.9.9"
license = { file = "LICENSE" }
dependencies = ["flwr>=1.41.0"]

[tool.flwr.app]
publisher = "sarco"
fab-format-version = 1
flwr-version-target = "1.41.0"
fab-include = ["/LICENSE", "/hostile_app.py", "/hostile_server.py"]

[tool.flwr.app.components]
serverapp = "hostile_server:app"
clientapp = "hostile_app:app"

[tool.flwr.app.config]
plan = ""
loot = ""
"""

SERVER = """\
import pathlib
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()

@app.main()
def main(grid, context):
    plan = RecordDict({"attack": ConfigRecord({"plan": context.run_config["plan"]})})
    messages = [Message(plan, node, "query") for node in grid.get_node_ids()]
    (reply,) = grid.send_and_receive(messages, timeout=120)
    said = str(reply.error) if reply.has_error() else str(reply.content["loot"]["json"])
    loot = pathlib.Path(context.run_config["loot"])
    loot.with_suffix(".partial").write_text(said)
    loot.with_suffix(".partial").rename(loot)
"""

SEEN_BY_ALL = """\
closed=$1 aside=$2
shift 2
number=0
for place; do
    [ "$place" = -- ] && break
    number=$((number + 1))
    mkdir -p "$aside/$number"
    mount --bind "$place" "$aside/$number"
done
mount -t tmpfs -o mode=755 none "$closed"
number=0
while [ "$1" != -- ]; do
    number=$((number + 1))
    mkdir -p "$1"
    mount --bind "$aside/$number" "$1"
    shift
done
shift
cd /
exec "$@"
"""
"""In a name space of mounts of its own: of a folder that is closed to others, these places are seen and no more."""


def seen_by_all(command: list[str], aside: Path) -> list[str]:
    """The command, where need be in a view of the disk in which other accounts can run this Python and this code."""
    needed = [Path(sys.base_prefix), Path(sys.prefix), Path(__file__).resolve().parents[2]]
    closed = {place for need in needed for place in need.parents if not place.stat().st_mode & 0o001}
    if not closed:
        return command
    top = min(closed, key=lambda place: len(place.parts))
    if not shutil.which("unshare") or not all(place.is_relative_to(top) for place in closed):
        pytest.skip(f"{', '.join(map(str, closed))}: closed to other accounts, and Python or this code lies in it")
    inside = [str(need) for need in dict.fromkeys(needed) if need.is_relative_to(top)]
    return ["unshare", "--mount", "sh", "-ec", SEEN_BY_ALL, "sh", str(top), str(aside), *inside, "--", *command]


@pytest.fixture(scope="module")
def one() -> Iterator[Federation]:
    """One hospital whose relay has an account of its own."""
    try:
        pwd.getpwnam(RELAY)
    except KeyError:
        pytest.skip(f"there is no account {RELAY}")
    study = a_study({"rounds": 1, "min_sites": 1, "round_deadline_s": 60.0})
    with federation(study, ("alpha",), join=(), relay_user=RELAY) as made:
        made.base.chmod(0o711)
        for place in (made.hospitals["alpha"].data, *made.hospitals["alpha"].data.rglob("*")):  # as the how-to says
            place.chmod(place.stat().st_mode & 0o700)
        made.hospitals["alpha"].folder.parent.chmod(0o711)
        made.hospitals["alpha"].join(around=lambda command: seen_by_all(command, made.base / "python"))
        made.wait_online("alpha", seconds=90)
        yield made


def plan_of(made: Federation) -> hostile_app.Plan:
    alpha = made.hospitals["alpha"]
    names = (
        "site.toml",
        "state",
        "state/audit.jsonl",
        "state/identity.pem",
        "keys",
        "keys/node.pem",
        "kit",
        "cache",
        "logs",
        "logs/worker.log",
        "run",
        "run/state.json",
        "run/state.json.lock",
    )
    secrets = [str(alpha.data), str(alpha.data / "participants.csv"), *(str(alpha.folder / name) for name in names)]
    return {
        "read": [*secrets, str(alpha.folder), "/etc/shadow"],
        "write": [*secrets, str(alpha.folder), "/etc"],
        "pid": alpha.pid("worker"),
        "socket": str(alpha.folder / "run" / "worker.sock"),
        "request": wire.to_bytes(Describe("f" * 64)).hex(),
        "requests": REQUESTS,
    }


def submit(made: Federation, plan: hostile_app.Plan, loot: Path) -> None:
    """As anybody who reaches the coordinator's Control API can."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from flwr.cli.build import build_fab_from_files
    from flwr.proto import control_pb2 as pb

    files = {"pyproject.toml": PROJECT, "LICENSE": "none\n", "hostile_server.py": SERVER}
    files["hostile_app.py"] = Path(hostile_app.__file__).read_text()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        content = build_fab_from_files({name: text.encode() for name, text in files.items()})[0]
    request = pb.StartRunRequest()
    request.fab.hash_str, request.fab.content = hashlib.sha256(content).hexdigest(), content
    request.override_config["plan"].string = json.dumps(plan)
    request.override_config["loot"].string = str(loot)
    with Control(Home.open(made.home)) as control:
        control._call("start-run", request, pb.StartRunResponse)


def test_an_honest_run_passes_through_the_relays_own_account(one: Federation) -> None:
    one.start_run().wait_done(180)


def test_code_that_the_coordinator_ships_gets_nothing(one: Federation) -> None:
    alpha, place = one.hospitals["alpha"], one.base / "loot.json"
    log = alpha.folder / "state" / "audit.jsonl"
    before = len(read(log))
    submit(one, plan_of(one), place)
    one.wait(place.is_file, 150, "the hostile code has told what it got")
    loot = json.loads(place.read_text())

    account = pwd.getpwnam(RELAY)
    assert loot["account"] == f"{account.pw_uid}:{account.pw_gid}"
    talk = {"a petabyte", "a request", "garbage", "many requests", "noise", "one huge piece", "status"}
    assert set(got(loot)) <= talk, "what can be had is what the worker says to everybody: codes"
    refused = [found for what, found in loot.items() if what in talk - {"noise", "status"}]
    assert all('"kind": "Refused"' in found or not found.startswith("got ") for found in refused)
    assert "participant_id" not in place.read_text()
    assert not [name for name in json.loads(loot["environment"]) if "SECRET" in name or "KEY" in name]

    codes = [entry.facts.get("code") for entry in read(log)[before:] if entry.facts.get("code")]
    assert codes.count("study_not_approved") == REQUESTS + 1, "each is written down"
    assert one.site("audit", "verify", alpha.site_file).status == 0
    assert alpha.joined.running
