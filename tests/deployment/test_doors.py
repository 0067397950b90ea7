"""Who may not join: refused, both sides say why and what to do, and ``join`` does not end with 0.

All of them try at the same time, each from a folder of its own; alpha is the one that has joined as it should.
"""

import json
import re
import shutil
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server.certificates import Authority, issue, make_authority
from tests.deployment.federation import Federation, federation
from tests.deployment.hospital import SITE, Hospital
from tests.deployment.hurt import hurt
from tests.deployment.started import Started, arguments
from tests.deployment.studies import all_needed

pytestmark = pytest.mark.slow

FINGERPRINT = re.compile(r"\b[0-9a-f]{4}(?: [0-9a-f]{4}){4}\b")
ENDS = 150.0
"""Seconds in which a join that cannot succeed says so: a lease of Flower's is 60."""


def unregistered(made: Federation, hospital: Hospital) -> None:
    """Its kit is another's; its own NAME.pub was never enrolled."""


def revoked(made: Federation, hospital: Hospital) -> None:
    made.coordinator("revoke", hospital.name, "--home", made.home).well()


def swapped_key(made: Federation, hospital: Hospital) -> None:
    """The key of a hospital that is online."""
    for name in ("node.pem", "node.pub"):
        shutil.copy2(made.hospitals["alpha"].folder / "keys" / name, hospital.folder / "keys" / name)


def missing_key(made: Federation, hospital: Hospital) -> None:
    (hospital.folder / "keys" / "node.pem").unlink()


def wrong_ca(made: Federation, hospital: Hospital) -> None:
    other = make_authority(made.base / "other")
    shutil.copy2(other.certificate, hospital.folder / "kit" / "ca.pem")
    kit = hospital.folder / "kit" / "kit.json"
    kit.write_text(json.dumps(json.loads(kit.read_text()) | {"ca": other.pem}))


def expired_certificate(made: Federation, hospital: Hospital) -> None:
    """It reaches the gate through a line that shows a certificate that has just expired."""
    line = made.new_line()
    line.server_tls = _expired(made)
    port = made.stack.enter_context(line.open()).port
    _other_address(hospital, port)


def same_site_twice(made: Federation, hospital: Hospital) -> None:
    """A second machine with a copy of alpha's folder."""
    shutil.rmtree(hospital.folder)
    shutil.copytree(made.hospitals["alpha"].folder, hospital.folder, ignore=_no_sockets)
    shutil.rmtree(hospital.folder / "run")


def clock_fast(made: Federation, hospital: Hospital) -> None:
    """See ENVIRONMENTS."""


CASES: dict[str, tuple[Callable[[Federation, Hospital], None], tuple[str, ...], tuple[str, ...]]] = {
    # what is done; what the hospital is told; what the coordinator is told; "a|b": one of them
    "unregistered": (unregistered, ("not enrolled|does not know", "enrol"), ("not enrolled|unknown", "enrol")),
    "revoked": (revoked, ("revoked",), ("revoked", "revoked")),
    "swapped": (swapped_key, ("connected already|is online already", "another machine"), ("online already",)),
    "missing": (missing_key, ("node.pem",), ()),
    "wrongca": (wrong_ca, ("authority", "fingerprint"), ()),
    "expired": (expired_certificate, ("expired", "renew"), ()),
    "fast": (clock_fast, ("clock", "synchroni"), ("clock",)),
    "twice": (same_site_twice, ("connected already|is online already", "another machine"), ("online already",)),
}
OWN = ("revoked", "unregistered")
"""Those that have keys of their own; the others are copies of delta's folder, of which none gets in."""


def _no_sockets(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).is_socket()]


def _other_address(hospital: Hospital, port: int) -> None:
    kit = hospital.folder / "kit" / "kit.json"
    kit.write_text(json.dumps(json.loads(kit.read_text()) | {"address": f"127.0.0.1:{port}"}))


def _expired(made: Federation) -> ssl.SSLContext:
    authority = Authority(made.home / "ca.pem", made.home / "ca.key")
    stem = made.base / "expired"
    issue(authority, stem, ["127.0.0.1", "localhost"], days=0)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(stem.with_suffix(".pem"), stem.with_suffix(".key"))
    return context


@pytest.fixture(scope="module")
def door() -> Iterator[Federation]:
    with federation(all_needed(rounds=1), ("alpha", "delta", "revoked"), join=("alpha",)) as made:
        made.wait_online("alpha")
        yield made


@pytest.fixture(scope="module")
def tried(door: Federation) -> dict[str, Started]:
    """Everybody who may not join has tried."""
    stranger = door.found_hospital("unregistered")
    kit = json.loads((door.home / "kits" / "alpha.kit").read_text()) | {"site": "unregistered"}
    (door.base / "unregistered.kit").write_text(json.dumps(kit))
    door.site("approve", door.base / "unregistered.kit", "--site", stranger.site_file, "--yes").well()
    for name, (hurts, *_) in CASES.items():
        if name not in OWN:
            door.hospitals[name] = Hospital(name, door.base)
            shutil.copytree(door.hospitals["delta"].folder, door.hospitals[name].folder)
        hurts(door, door.hospitals[name])
    fast = hurt(door.base / "hurt", clock_s=10)
    return {name: door.hospitals[name].join(fast if name == "fast" else None) for name in CASES}


@pytest.mark.parametrize("case", CASES)
def test_who_may_not_join_is_told_why_and_what_to_do(door: Federation, tried: dict[str, Started], case: str) -> None:
    status = tried[case].ended(ENDS)
    assert status != 0
    _, here, there = CASES[case]
    words = " ".join(tried[case].words.lower().split())
    assert "traceback" not in words
    assert not [part for part in here if not any(each in words for each in part.split("|"))], words
    if there:
        told = door.coordinator("status", door.home).out.lower()
        rows = (door.home / "refusals.jsonl").read_text().lower()
        for part in there:
            assert any(each in told for each in part.split("|")), told
            assert any(each in rows for each in part.split("|")), rows
    assert not door.hospitals[case].processes() or case in ("swapped", "twice")


def test_the_one_who_was_there_stays(door: Federation, tried: dict[str, Started]) -> None:
    for started in tried.values():
        started.ended(ENDS)
    assert door.hospitals["alpha"].joined.running
    door.wait_online("alpha")


def test_a_second_join_in_the_same_folder_is_refused(door: Federation) -> None:
    alpha = door.hospitals["alpha"]
    second = Started(door.base, door.base / "said" / "second.log", arguments(SITE, "join", alpha.folder))
    assert second.ended(30) != 0
    assert str(alpha.joined.pid) in second.words
    assert alpha.joined.running


def test_both_sides_read_the_same_fingerprints_over_the_telephone(door: Federation) -> None:
    """Of the coordinator's authority, and of the hospital's keys."""
    made = door.found_hospital("omega")
    at_hospital = door.site("init", made.folder, "--name", "omega", "--data", made.data).out
    at_coordinator = door.coordinator("enrol", made.folder / "omega.pub", "--home", door.home).well().out
    (keys,) = FINGERPRINT.findall(at_coordinator)
    assert keys in at_hospital
    status = door.coordinator("status", door.home).out
    (authority,) = FINGERPRINT.findall(status)
    kit = door.home / "kits" / "omega.kit"
    assert authority in door.site("approve", kit, "--site", made.site_file, "--yes").well().out
