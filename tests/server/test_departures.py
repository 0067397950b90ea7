"""Who is not there, and why: from sites.json, and from how Flower's connections end."""

import json
from pathlib import Path

import pytest

from server.departures import FILE, Absences, Connection, Departures, read_departures
from server.enrolment import enrol, revoke
from server.failures import AWAY, gone, in_words, left, not_there, revoked, state_of, when_asked
from server.home import Home
from tests.server.a_home import a_home, a_pub

NOON = "2026-11-20T12:00:00+00:00"
NOON_S = 1795176000.0


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = a_home(tmp_path)
    enrol(home, [a_pub(tmp_path, name) for name in ("alpha", "beta")])
    return home


def seen(online: bool, lease: float, ended: str = "", name: str = "alpha") -> Connection:
    return Connection(name, online, lease, ended)


def test_who_ends_a_connection_before_its_lease_has_left(home: Home) -> None:
    departures = Departures(home)
    departures.look([seen(True, NOON_S + 40)])
    departures.look([seen(False, NOON_S, NOON)])
    assert read_departures(home.folder) == {"alpha": NOON}
    departures.look([seen(False, NOON_S, NOON)])
    assert read_departures(home.folder) == {"alpha": NOON}
    Departures(home).look([seen(False, NOON_S, NOON)])
    assert read_departures(home.folder) == {"alpha": NOON}, "up was started again; it is known still"


def test_whose_lease_ran_out_has_not_left(home: Home) -> None:
    departures = Departures(home)
    departures.look([seen(True, NOON_S - 20)])
    departures.look([seen(True, NOON_S)])
    departures.look([seen(False, NOON_S, NOON)])
    assert read_departures(home.folder) == {}


def test_who_was_never_seen_is_said_nothing_of(home: Home) -> None:
    Departures(home).look([seen(False, NOON_S, NOON), seen(False, 0.0, name="beta")])
    assert not (home.folder / FILE).exists()


def test_who_came_back_has_not_left_any_more(home: Home) -> None:
    departures = Departures(home)
    departures.look([seen(True, NOON_S + 40)])
    departures.look([seen(False, NOON_S, NOON)])
    departures.look([seen(True, NOON_S + 900, NOON)])
    assert read_departures(home.folder) == {}
    later = "2026-11-20T12:15:00+00:00"
    departures.look([seen(False, NOON_S + 900, later)])
    assert read_departures(home.folder) == {}, "this time its heartbeats stopped"


@pytest.mark.parametrize("content", ["", "[1]", "{"])
def test_a_damaged_file_says_nothing(home: Home, content: str) -> None:
    (home.folder / FILE).write_text(content)
    assert read_departures(home.folder) == {}


def test_a_run_learns_of_a_revocation_at_its_next_look(home: Home) -> None:
    absences = Absences.of_run(home.runs_folder / "study-1")
    assert absences.revoked() == {}
    assert absences.why("beta") == AWAY
    revoke(home, "beta")
    why = absences.revoked()["beta"]
    assert why == absences.why("beta")
    assert why.startswith("revoked on 20")
    assert why.endswith(" by the coordinator")


def test_who_was_enrolled_again_is_not_revoked(home: Home, tmp_path: Path) -> None:
    absences = Absences.of_run(home.runs_folder / "study-1")
    revoke(home, "beta")
    assert set(absences.revoked()) == {"beta"}
    sites = json.loads(home.sites_file.read_text())
    for site in sites["sites"]:
        site["enrolled"] = NOON
    home.sites_file.write_text(json.dumps(sites))
    enrol(home, [a_pub(tmp_path / "new", "beta")])
    assert absences.revoked() == {}
    home.sites_file.write_text("{")
    assert absences.revoked() == {}, "a damaged list costs no run its hospitals"


def test_a_run_of_a_simulation_knows_nobody(tmp_path: Path) -> None:
    absences = Absences.of_run(tmp_path / "runs" / "demo")
    assert absences.revoked() == {}
    assert absences.why("alpha") == AWAY


def test_who_left_is_said_with_the_hour(home: Home) -> None:
    (home.folder / FILE).write_text(json.dumps({"beta": NOON}))
    assert Absences.of_run(home.runs_folder / "study-1").why("beta") == "left on 2026-11-20 at 12:00 UTC"


@pytest.mark.parametrize("reason", [revoked(NOON), left(NOON)])
def test_only_who_was_asked_nothing_was_not_there(reason: str) -> None:
    """What a hospital had begun to work on may have cost privacy: the dashboard counts it."""
    asked = when_asked(reason)
    assert (not_there(reason), state_of(reason)) == (True, "away")
    assert (not_there(asked), state_of(asked)) == (False, "failed")
    assert gone(reason)
    assert gone(asked)
    assert when_asked(asked) == asked
    assert in_words(reason).startswith(f"{reason}: ")
    assert in_words(in_words(asked)) == in_words(asked)
