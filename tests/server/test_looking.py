"""A hospital that is shut out, and a SuperLink that fails, as a run meets them."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from flwr.app import Context

from client.inside import make_app
from client.workspace import Site
from sarco_models.errors import QuorumLost, RunError, ShutOut
from sarco_models.wire import Train
from server import federation as loop
from server.dashboard.troubles import of_ending
from server.fetching import passes
from server.home import Enrolled, Home
from server.live import read_live
from server.rounds import run_study
from server.runs import Run
from simulation.harness import Arm, SiteFolder, open_sites, prepare
from tests.sites import tables_site, tables_study
from tests.unsteady_grid import UnsteadyGrid

NAMES = {1: "site0", 2: "site1", 3: "site2"}
TODAY = datetime.now(UTC).isoformat(timespec="seconds")
Opened = Callable[..., tuple[UnsteadyGrid, Run]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_LOOK_S", 0.02)
    monkeypatch.setattr("server.members.LAST_WORDS_S", 0.1)


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """A run of three enrolled hospitals in a coordinator's home; a message lives a minute."""

    def make(**federation: Any) -> tuple[UnsteadyGrid, Run]:
        home = tmp_path / "home"
        (home / "runs").mkdir(parents=True)
        (home / "coordinator.toml").write_text('address = "fl.example.org:8443"\n')
        write_sites(home)
        hospitals = []
        for k in range(3):
            tables_site(tmp_path / "data" / f"site{k}", n=20 + 6 * k, seed=k)
            hospitals.append(SiteFolder(f"site{k}", tmp_path / "data" / f"site{k}", "invented2026"))
        settings = {"min_sites": 3, "rounds": 2, "round_deadline_s": 60.0, "round_attempts": 3, **federation}
        study = tables_study(training={"learning_rate": 0.01}, federation=settings)
        arm = Arm("federated", study, tuple(hospitals), None, tmp_path / "cache", home / "runs" / "tiny-1")
        run, sites = prepare(arm), open_sites(arm)

        def site_of(context: Context) -> Site:
            return sites[int(context.node_config["partition-id"])]

        return UnsteadyGrid(make_app(site_of), nodes=3, names=NAMES), Run.open(run.folder)

    return make


def write_sites(home: Path, *revoked: str) -> None:
    """sites.json, as ``revoke`` writes it."""
    key = "ecdsa-sha2-nistp384 AAAA"
    Home.open(home).write_sites(
        tuple(Enrolled(name, key, "", "2026-01-01", TODAY if name in revoked else "") for name in NAMES.values())
    )


def revoked_at_work(grid: UnsteadyGrid, run: Run) -> None:
    """Hospital site1 is shut out half a second after it was asked in round 1, and what it was to send never comes."""
    asked: list[float] = []

    def fate(node: int, request: Any) -> Any:
        if node != 2 or not isinstance(request, Train):
            return None
        asked.append(time.monotonic())
        return "never"

    def before() -> None:
        if asked and time.monotonic() - asked[0] > 0.2:
            write_sites(run.folder.parents[1], "site1")

    grid.fate, grid.before = fate, before


LEFT = "left on 2026-11-20 at 12:00 UTC"


def leave(grid: UnsteadyGrid, run: Run) -> None:
    """Hospital site1 has left, and ``up`` has seen it."""
    (run.folder.parents[1] / "departures.json").write_text(json.dumps({"site1": "2026-11-20T12:00:00+00:00"}))
    grid.online = {1, 3}


def come_back(grid: UnsteadyGrid, run: Run) -> None:
    """By another process, which knows nothing of what the one before was asked."""
    (run.folder.parents[1] / "departures.json").write_text("{}")
    grid.online, grid.since = {1, 2, 3}, {2: "later"}


def left_at_work(grid: UnsteadyGrid, run: Run, *, back: bool = False, answer: float | str = "never") -> None:
    """Hospital site1 leaves a fifth of a second after it was asked in round 1; ``back``: half a second later it is.

    Args:
        back: whether it comes back.
        answer: seconds after the question at which the answer comes that it was sending as it left.
    """
    asked: list[float] = []

    def fate(node: int, request: Any) -> Any:
        if node != 2 or not isinstance(request, Train) or asked:
            return None
        asked.append(time.monotonic())
        return answer

    def before() -> None:
        since = time.monotonic() - asked[0] if asked else 0.0
        if since > 0.2 and not grid.since and 2 in grid.online:
            leave(grid, run)
        elif since > 0.7 and back and not grid.since:
            come_back(grid, run)

    grid.fate, grid.before = fate, before


def failed(run: Run) -> str:
    return str((read_live(run.folder) or {})["failure"])


def test_a_run_that_lacks_a_revoked_hospital_ends_at_once_and_names_it(opened: Opened) -> None:
    grid, run = opened()
    revoked_at_work(grid, run)
    began = time.monotonic()
    with pytest.raises(ShutOut, match=r"round 1: site1 was revoked on \S+ by the coordinator; site0, site2 may still"):
        run_study(grid, run)
    assert time.monotonic() - began < 10, "neither the deadline nor the wait for sites is waited for"
    assert "enrol the hospital again" in failed(run)
    assert "resume this run" in failed(run)
    trouble = of_ending(failed(run))
    assert trouble.what == "A hospital was revoked, and those that are left are too few."
    live = read_live(run.folder) or {}
    assert live["sites"]["site1"]["why"].startswith("revoked on ")
    assert live["sites"]["site1"]["state"] == "failed", "it may have worked"


def test_nobody_at_work_is_waited_for_where_it_is_in_vain(opened: Opened) -> None:
    grid, run = opened()
    revoked_at_work(grid, run)
    fate = grid.fate
    grid.fate = lambda node, request: 50.0 if node == 3 and isinstance(request, Train) else fate(node, request)
    began = time.monotonic()
    with pytest.raises(ShutOut):
        run_study(grid, run)
    assert time.monotonic() - began < 10


def test_a_run_goes_on_without_a_revoked_hospital_where_the_others_are_enough(opened: Opened) -> None:
    grid, run = opened(min_sites=2)
    revoked_at_work(grid, run)
    began = time.monotonic()
    run_study(grid, run)
    assert time.monotonic() - began < 10
    reasons = [record["failures"]["site1"] for record in run.records()[1:]]
    assert [reason.removeprefix(f"revoked on {TODAY[:10]} by the coordinator") for reason in reasons] == [
        ", when it had been asked",
        "",
    ]
    assert grid.of("Train").count((2, 2)) == 0


def test_an_enrolled_hospital_goes_on_where_the_revoked_one_stopped(opened: Opened) -> None:
    """Its tables are the same, so it is the same member, by whatever key it connects."""
    grid, run = opened()
    revoked_at_work(grid, run)
    with pytest.raises(ShutOut):
        run_study(grid, run)
    grid.fate, grid.before, grid.since = (lambda node, request: None), (lambda: None), {2: "later"}
    write_sites(run.folder.parents[1])
    run_study(grid, run)
    assert [sorted(record["sites"]) for record in run.records()[1:]] == [sorted(NAMES.values())] * 2


def test_a_wait_for_a_hospital_ends_when_it_is_revoked(opened: Opened) -> None:
    grid, run = opened()
    gone: list[float] = []

    def before() -> None:
        if (1, 1) in grid.of("Train") and not gone:
            gone.append(time.monotonic())
            grid.online = {1, 3}
        elif gone and time.monotonic() - gone[0] > 0.5:
            write_sites(run.folder.parents[1], "site1")

    grid.before = before
    began = time.monotonic()
    with pytest.raises(ShutOut, match="round 2: site1 was revoked"):
        run_study(grid, run)
    assert time.monotonic() - began < 10


def test_a_hospital_that_left_is_said_to_have_left(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.live._EVERY_S", 0.0)
    grid, run = opened(min_sites=2)
    (run.folder.parents[1] / "departures.json").write_text(json.dumps({"site1": "2026-11-20T12:00:00+00:00"}))

    def before() -> None:
        if (1, 1) in grid.of("Train"):
            grid.online = {1, 3}

    grid.before = before
    run_study(grid, run)
    assert run.records()[2]["failures"] == {"site1": "left on 2026-11-20 at 12:00 UTC"}


def test_a_hospital_that_leaves_in_mid_round_is_given_up_and_the_round_goes_on(opened: Opened) -> None:
    grid, run = opened(min_sites=2)
    left_at_work(grid, run)
    began = time.monotonic()
    run_study(grid, run)
    assert time.monotonic() - began < 20, "a round may take a minute"
    assert [record["failures"]["site1"] for record in run.records()[1:]] == [f"{LEFT}, when it had been asked", LEFT]
    assert [record["attempts"] for record in run.records()[1:]] == [[], []]


def test_it_may_come_back_and_be_asked_again_while_others_are_at_work(opened: Opened) -> None:
    grid, run = opened(rounds=1)
    left_at_work(grid, run, back=True)
    fate, slow = grid.fate, [2.0]

    def fates(node: int, request: Any) -> Any:
        return slow.pop() if node == 3 and isinstance(request, Train) and slow else fate(node, request)

    grid.fate = fates
    began = time.monotonic()
    run_study(grid, run)
    assert time.monotonic() - began < 20
    record = run.records()[1]
    assert (sorted(record["sites"]), record["failures"], record["attempts"]) == (sorted(NAMES.values()), {}, [])
    assert grid.of("Train").count((2, 1)) == 2


def test_a_round_that_needs_it_is_repeated_when_it_is_back_and_asks_nobody_twice(opened: Opened) -> None:
    grid, run = opened(rounds=1)
    left_at_work(grid, run)
    before = grid.before

    def later() -> None:
        before()
        live = read_live(run.folder) or {}
        if (live.get("phase"), live.get("round")) == ("waiting", 1):
            come_back(grid, run)

    grid.before = later
    began = time.monotonic()
    run_study(grid, run)
    assert time.monotonic() - began < 20
    record = run.records()[1]
    assert sorted(record["sites"]) == sorted(NAMES.values())
    reasons = {"site1": f"{LEFT}, when it had been asked"}
    assert record["attempts"] == [{"sites": ["site0", "site2"], "failures": reasons}]
    assert [grid.of("Train").count((node, 1)) for node in (1, 2, 3)] == [1, 2, 1]


def test_what_it_was_sending_as_it_left_is_used(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.members.LAST_WORDS_S", 5.0)
    grid, run = opened(min_sites=2, rounds=1)
    left_at_work(grid, run, answer=1.0)
    run_study(grid, run)
    record = run.records()[1]
    assert (sorted(record["sites"]), record["failures"]) == (sorted(NAMES.values()), {})


def test_a_run_that_needs_it_and_waits_in_vain_says_who_left(opened: Opened) -> None:
    grid, run = opened()
    vars(run)["coordinator"] = run.coordinator.model_copy(update={"wait_for_sites_s": 0.5})
    left_at_work(grid, run)
    began = time.monotonic()
    with pytest.raises(QuorumLost) as lost:
        run_study(grid, run)
    assert time.monotonic() - began < 20
    assert str(lost.value).startswith(
        f"round 1: 0 of site1 are connected after 0.5 s (site1 {LEFT}); 1 of them must answer (min_sites = 3): start"
    )


def broken(status: int) -> Exception:
    request = httpx.Request("POST", "https://superlink/v1/runtime/get-nodes")
    if not status:
        return httpx.RemoteProtocolError("Server disconnected without sending a response.", request=request)
    return httpx.HTTPStatusError("failed", request=request, response=httpx.Response(status, request=request))


@pytest.mark.parametrize("status", [500, 503, 0])
def test_a_superlink_that_does_not_say_who_is_there_is_asked_again(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr("server.live._EVERY_S", 0.0)
    grid, run = opened()
    told: list[str] = []
    fails = [0]

    def before() -> None:
        if grid.of("Train") and fails[0] < 3:
            fails[0] += 1
            told.append(str((read_live(run.folder) or {}).get("trouble", "")))
            raise broken(status)

    grid.before = before
    run_study(grid, run)
    assert [sorted(record["sites"]) for record in run.records()[1:]] == [sorted(NAMES.values())] * 2
    assert fails == [3]
    assert told[1] == (
        f"the SuperLink does not say who is connected ({f'HTTP {status}' if status else 'no connection'}); "
        "it is asked again and again"
    )
    assert (read_live(run.folder) or {})["trouble"] == ""


def test_a_superlink_that_never_says_it_again_ends_the_run_with_the_way_out(opened: Opened) -> None:
    grid, run = opened(round_deadline_s=1.0)

    def before() -> None:
        if grid.of("Train"):
            raise broken(500)

    grid.before = before
    grid.fate = lambda node, request: "never" if isinstance(request, Train) else None
    with pytest.raises((RunError, QuorumLost)):
        run_study(grid, run)
    assert "the SuperLink has not said for" in failed(run)
    assert "(HTTP 500), and a round may take 1 s: see sarco-coordinator logs superlink" in failed(run)


def test_only_what_may_be_over_the_next_time_is_waited_out() -> None:
    assert passes(broken(502))
    assert passes(broken(0))
    assert not passes(broken(404))
    assert not passes(ValueError("ours"))
