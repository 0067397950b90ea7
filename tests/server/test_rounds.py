"""Rounds over sites that come and go: who takes part, what a round waits for, and what is never used."""

import gc
import itertools
import json
import os
import time
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, Context, Message
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError

from client.inside import make_app
from client.workspace import Site
from sarco_models import wire
from sarco_models.errors import QuorumLost, RunError
from sarco_models.parameters import Parameters
from sarco_models.wire import Code, Refused, Train, Trained
from server import federation as loop
from server.live import alone, read_live
from server.members import LATE
from server.rounds import run_study
from server.runs import Run, write_json
from server.strategies import aggregate
from simulation.harness import Arm, SiteFolder, open_sites, prepare
from tests.sites import tables_site, tables_study
from tests.unsteady_grid import UnsteadyGrid

NAMES = {1: "site0", 2: "site1", 3: "site2"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_LOOK_S", 0.02)


@pytest.fixture
def arm(tmp_path: Path) -> Callable[..., Arm]:
    """An arm of three hospitals, two of which are a quorum; a message lives a second."""

    def make(folder: str = "run", **federation: Any) -> Arm:
        hospitals = []
        for k in range(3):
            place = tmp_path / "data" / f"site{k}"
            if not place.exists():
                tables_site(place, n=20 + 6 * k, seed=k)
            hospitals.append(SiteFolder(place.name, place, "invented2026"))
        settings = {"min_sites": 2, "rounds": 3, "round_deadline_s": 1.0, **federation}
        study = tables_study(training={"learning_rate": 0.01}, federation=settings)
        return Arm("federated", study, tuple(hospitals), None, tmp_path / "cache", tmp_path / folder)

    return make


def grid_of(arm: Arm, sites: list[Site], names: dict[int, str] | None = None, **_: Any) -> UnsteadyGrid:
    def site_of(context: Context) -> Site:
        return sites[int(context.node_config["partition-id"])]

    return UnsteadyGrid(make_app(site_of), nodes=len(sites), names=names)


def opened(arm: Arm, names: dict[int, str] | None = None, **coordinator: Any) -> tuple[UnsteadyGrid, Run]:
    run = prepare(arm)
    if coordinator:
        cfg = run.coordinator.model_dump() | coordinator
        lines = [f"{k} = {json.dumps(v)}" for k, v in cfg.items()]
        (run.folder / "coordinator.toml").write_text("\n".join(lines) + "\n")
    return grid_of(arm, open_sites(arm), names), Run.open(run.folder)


def failures(run: Run) -> list[dict[str, str]]:
    return [record["failures"] for record in run.records()]


def took_part(run: Run) -> list[list[str]]:
    return [sorted(record["sites"]) for record in run.records()[1:]]


ALL = ["site0", "site1", "site2"]

# ---- who takes part ------------------------------------------------------------------------------------------------


def test_a_site_that_goes_away_and_comes_back_takes_part_again(arm: Callable[..., Arm]) -> None:
    grid, run = opened(arm(rounds=4))

    def fate(node: int, request: Any) -> Any:
        if isinstance(request, Train) and request.round == 2 and node == 3:
            grid.online.discard(3)  # its connection is gone in the middle of the round, and Flower says so
            return 5
        if isinstance(request, Train) and request.round == 3:
            grid.online.add(3)
        return None

    grid.fate = fate
    run_study(grid, run)
    assert took_part(run)[0] == ALL
    assert took_part(run)[1] == ["site0", "site1"]
    assert failures(run)[2] == {"site2": "Flower error 5"}
    assert took_part(run)[3] == ALL
    sent = [s.kind for s in grid.sent if s.node == 3]
    back = len(sent) - 1 - sent[::-1].index("Describe")
    assert back > 0
    assert sent[back : back + 2] == ["Describe", "Train"]  # it says who it is, still has its setup, and goes on


def test_a_site_under_another_number_is_the_same_member(arm: Callable[..., Arm]) -> None:
    federated = arm(rounds=3)
    run = prepare(federated)
    sites = open_sites(federated)

    def site_of(context: Context) -> Site:
        return sites[int(context.node_config["partition-id"]) % 3]

    grid = UnsteadyGrid(make_app(site_of), nodes=6)
    grid.online = {1, 2, 3}

    def moved() -> None:
        if ("Train", 1) in {(s.kind, s.round) for s in grid.sent}:
            grid.online = {1, 2, 6}

    grid.before = moved
    run_study(grid, run)
    assert took_part(run) == [ALL, ALL, ALL]
    assert {node for node, _ in grid.of("Train")} == {1, 2, 3, 6}
    assert (6, 0) in grid.of("Describe")


def test_a_site_that_lost_its_setup_is_given_it_again_within_the_round(arm: Callable[..., Arm]) -> None:
    grid, run = opened(arm())
    done: list[int] = []

    def change(node: int, reply: Any) -> Any:
        if node == 2 and grid.sent[-1].kind == "Train" and grid.sent[-1].round == 2 and not done:
            done.append(node)
            return Refused("site1", Code.SETUP_NEEDED)
        return reply

    grid.change = change
    run_study(grid, run)
    assert took_part(run) == [ALL] * 3
    assert failures(run)[2] == {}
    assert [s.kind for s in grid.sent if s.node == 2 and s.kind in ("Setup", "Train")] == [
        "Setup", "Train", "Train", "Setup", "Train", "Train"
    ]  # fmt: skip


def test_a_site_that_never_keeps_its_setup_does_not_hold_up_the_round(arm: Callable[..., Arm]) -> None:
    grid, run = opened(arm(rounds=1))
    grid.change = lambda node, reply: (
        Refused("site1", Code.SETUP_NEEDED) if node == 2 and grid.sent[-1].kind == "Train" else reply
    )
    run_study(grid, run)
    assert took_part(run) == [["site0", "site2"]]
    assert failures(run)[1] == {"site1": "refused: setup_needed"}


def test_who_came_after_the_beginning_takes_part_in_the_next_run(arm: Callable[..., Arm]) -> None:
    grid, run = opened(arm(), NAMES)
    grid.online = {1, 2}

    def comes() -> None:
        if ("Train", 1) in {(s.kind, s.round) for s in grid.sent}:
            grid.online.add(3)

    grid.before = comes
    run_study(grid, run)
    assert took_part(run) == [["site0", "site1"]] * 3
    told = [f["site2"] for f in failures(run) if f]
    assert told == [LATE]
    assert not [s for s in grid.sent if s.node == 3]


def test_a_run_waits_for_the_sites_that_are_expected_by_name(arm: Callable[..., Arm]) -> None:
    grid, run = opened(arm(rounds=1), NAMES, expected=ALL, grace_s=5)
    grid.online = {1, 2}
    looks: list[float] = []

    def comes() -> None:
        looks.append(time.monotonic())
        if len(looks) == 4:
            grid.online.add(3)

    grid.before = comes
    run_study(grid, run)
    assert took_part(run) == [ALL]


def test_an_expected_site_that_does_not_come_is_named_and_the_run_begins(arm: Callable[..., Arm]) -> None:
    grid, run = opened(arm(rounds=1), NAMES, expected=ALL, grace_s=0.2)
    grid.online = {1, 2}
    run_study(grid, run)
    assert took_part(run) == [["site0", "site1"]]
    assert failures(run)[0] == {"site2": "away"}


def test_a_site_that_calls_itself_by_another_name_than_it_was_enrolled_with_takes_no_part(
    arm: Callable[..., Arm],
) -> None:
    grid, run = opened(arm(rounds=1), {1: "site0", 2: "site1", 3: "north"})
    run_study(grid, run)
    assert took_part(run) == [["site0", "site1"]]
    assert "is enrolled as north and calls itself site2" in failures(run)[0]["north"]
    assert set(run.records()[0]["members"]) == {"site0", "site1"}


def test_two_nodes_of_one_name_both_take_no_part(arm: Callable[..., Arm]) -> None:
    federated = arm(rounds=1, min_sites=1)
    run = prepare(federated)
    sites = open_sites(federated)
    grid = UnsteadyGrid(make_app(lambda context: sites[min(int(context.node_config["partition-id"]), 2)]), nodes=4)
    run_study(grid, run)
    assert took_part(run) == [["site0", "site1"]]
    assert failures(run)[0] == dict.fromkeys(
        ("node 3 (site2)", "node 4 (site2)"), "another node has the same name"
    )  # fmt: skip


# ---- going on -----------------------------------------------------------------------------------------------------


def interrupted(grid: UnsteadyGrid, run: Run, round_: int) -> None:
    """Let the run die when a round's messages go out."""

    def dies(node: int, request: Any) -> None:
        if isinstance(request, Train) and request.round == round_:
            raise KeyboardInterrupt

    grid.fate = dies
    with pytest.raises(KeyboardInterrupt):
        run_study(grid, run)
    grid.fate = lambda node, request: None


def test_a_run_goes_on_with_a_quorum_and_the_others_come_back_later(arm: Callable[..., Arm]) -> None:
    grid, run = opened(arm(rounds=4))
    interrupted(grid, run, 2)
    grid.online = {1, 2}

    def comes() -> None:
        if ("Train", 3) in {(s.kind, s.round) for s in grid.sent}:
            grid.online.add(3)

    grid.before = comes
    run_study(grid, run)
    assert took_part(run)[:2] == [ALL, ["site0", "site1"]]
    assert took_part(run)[3] == ALL
    assert failures(run)[2] == {"site2": "away"}


def breaks_off(grid: UnsteadyGrid, error: BaseException) -> None:
    """Let the run break off when the messages of round 2 go out."""

    def fate(node: int, request: Any) -> None:
        if isinstance(request, Train) and request.round == 2:
            raise error

    grid.fate = fate


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_a_process_that_is_ended_does_not_call_its_run_failed(arm: Callable[..., Arm], error: BaseException) -> None:
    """Whoever looks sees a death, and starts the run again; a failure would be left alone."""
    grid, run = opened(arm())
    breaks_off(grid, error)
    with pytest.raises(type(error)):
        run_study(grid, run)
    live = read_live(run.folder) or {}
    assert (live["phase"], live["round"], live["failure"]) == ("round", 2, "")


def test_a_fault_of_our_own_is_told(arm: Callable[..., Arm]) -> None:
    grid, run = opened(arm())
    breaks_off(grid, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        run_study(grid, run)
    assert (read_live(run.folder) or {})["failure"] == "the run broke off: ZeroDivisionError"


def test_a_complete_run_that_died_before_its_last_word_says_it_when_it_is_run_again(arm: Callable[..., Arm]) -> None:
    grid, run = opened(arm(rounds=1))
    run_study(grid, run)
    live = run.folder / "live.json"
    live.unlink()
    asked = len(grid.sent)
    run_study(grid, run)
    assert len(grid.sent) == asked
    said = read_live(run.folder) or {}
    assert (said["phase"], said["round"], said["rounds"], said["failure"]) == ("done", 1, 1, "")
    before = live.read_bytes()
    run_study(grid, run)
    assert live.read_bytes() == before


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_averages_with_and_without_momentum_go_on(arm: Callable[..., Arm], momentum: float) -> None:
    settings = {"rounds": 2, "strategy": "fedavgm", "server_momentum": momentum}
    grid, run = opened(arm(**settings))
    interrupted(grid, run, 2)
    run_study(grid, Run.open(run.folder))
    assert took_part(run) == [ALL, ALL]


def test_a_run_that_goes_on_sends_nobody_the_frozen_layers_again(arm: Callable[..., Arm]) -> None:
    grid, run = opened(arm())
    interrupted(grid, run, 2)
    grid.sent.clear()
    run_study(grid, run)
    assert took_part(run) == [ALL] * 3
    assert grid.of("Setup") == []
    assert sorted(grid.of("Describe")) == [(1, 0), (2, 0), (3, 0)]


def test_a_run_does_not_take_back_a_site_with_other_people(arm: Callable[..., Arm]) -> None:
    federated = arm()
    grid, run = opened(federated)
    interrupted(grid, run, 2)
    tables_site(federated.sites[2].data, n=26, seed=77)
    grid = grid_of(federated, open_sites(federated))
    run_study(grid, run)
    assert took_part(run) == [ALL, ["site0", "site1"], ["site0", "site1"]]
    assert failures(run)[2]["site2"].startswith("comes back with other people or tables than it began with")


@pytest.mark.slow
def test_a_run_of_an_earlier_version_still_goes_on(arm: Callable[..., Arm]) -> None:
    """Its record of round 0 holds a digest of the sum over all sites, and no members."""
    whole, broken = arm("whole"), arm("broken")
    grid, run = opened(whole)
    run_study(grid, run)
    grid, old = opened(broken)
    interrupted(grid, old, 2)
    record = old.records()[0]
    del record["members"]
    record["described"] = record["setup"]
    write_json(old.folder / "rounds" / "0000.json", record)
    grid.online = {1, 2}
    with pytest.raises(RunError, match=r"then: site0, site1, site2; now: site0, site1"):
        run_study(grid, Run.open(old.folder))
    grid.online = {1, 2, 3}
    run_study(grid, Run.open(old.folder))
    assert np.array_equal(old.final.vector, run.final.vector)


def test_damaged_members_are_named(arm: Callable[..., Arm]) -> None:
    grid, run = opened(arm())
    interrupted(grid, run, 2)
    record = run.records()[0]
    record["members"]["site1"].pop("digest")
    write_json(run.folder / "rounds" / "0000.json", record)
    with pytest.raises(RunError, match="its members are damaged: restore the file"):
        run_study(grid, run)


def test_a_run_directory_is_used_by_one_process_at_a_time(arm: Callable[..., Arm]) -> None:
    grid, run = opened(arm())
    with alone(run.folder), pytest.raises(RunError, match="works on this run already"):
        run_study(grid, run)
    assert grid.sent == []


# ---- what a round waits for ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_frozen_site_costs_each_round_its_deadline_and_takes_part_again_when_it_thaws(
    arm: Callable[..., Arm],
) -> None:
    grid, run = opened(arm(rounds=4))
    thawed: list[float] = []

    def fate(node: int, request: Any) -> Any:
        if node == 3 and getattr(request, "round", 0) == 2:
            return "never"
        if node == 3 and not thawed and grid.of("Train").count((1, 3)):
            return "never"
        if (1, 4) in grid.of("Train"):
            thawed.append(time.monotonic())
        return None

    grid.fate = fate
    run_study(grid, run)
    assert took_part(run)[:2] == [ALL, ["site0", "site1"]]
    assert took_part(run)[3] == ALL
    assert failures(run)[2] == {"site2": "no answer before the deadline"}
    assert 0.9 < run.records()[2]["seconds"] < 5


def test_a_message_lives_as_long_as_its_round(arm: Callable[..., Arm]) -> None:
    grid, run = opened(arm(rounds=1, round_deadline_s=30))
    run_study(grid, run)
    assert all(29 < s.seconds <= 30 for s in grid.sent)


@pytest.mark.slow
def test_an_answer_that_comes_too_late_is_told_of_and_never_used(arm: Callable[..., Arm]) -> None:
    used, unused = arm("used"), arm("unused")
    grid, run = opened(used)
    silent: list[Any] = [1.4]

    def fate(node: int, request: Any) -> Any:
        if isinstance(request, Train) and (node, request.round) == (3, 1):
            return silent[0]
        return 0.8 if isinstance(request, Train) and (node, request.round) == (1, 2) else None

    grid.fate = fate
    grid_slow = grid
    run_study(grid, run)
    late = [record["late"] for record in run.records()[1:]]
    assert late == [{}, {"site2": "answered after the deadline; its answer was not used"}, {}]
    assert took_part(run) == [["site0", "site1"], ALL, ALL]
    grid, other = opened(unused)
    silent[0], grid.fate = "never", fate
    run_study(grid, other)
    assert took_part(run) == took_part(other)
    assert np.array_equal(run.final.vector, other.final.vector)
    assert max(s.at for s in grid_slow.sent if s.node == 3 and s.round == 1) < min(
        s.at for s in grid_slow.sent if s.node == 3 and s.round == 2
    )


@pytest.mark.slow
def test_a_busy_site_is_sent_nothing_before_its_message_expired(arm: Callable[..., Arm]) -> None:
    grid, run = opened(arm(rounds=3, round_deadline_s=0.4))
    grid.fate = lambda node, request: 0.6 if node == 3 and isinstance(request, Train) else None
    run_study(grid, run)
    to_it = [s for s in grid.sent if s.node == 3]
    for before, after in itertools.pairwise(to_it):
        if before.kind == "Train":
            assert after.at - before.at >= before.seconds - 0.02


@pytest.mark.parametrize("code", [1, 2, 7])
def test_an_error_of_the_site_is_not_waited_for(arm: Callable[..., Arm], code: int) -> None:
    grid, run = opened(arm(rounds=1, round_deadline_s=60))
    grid.fate = lambda node, request: code if node == 3 and isinstance(request, Train) else None
    began = time.monotonic()
    run_study(grid, run)
    assert time.monotonic() - began < 5
    assert failures(run)[1] == {"site2": f"Flower error {code}"}
    assert grid.of("Train").count((3, 1)) == 1


@pytest.mark.parametrize("code", [3, 4, 5, 8])
def test_what_was_lost_on_the_way_is_sent_once_more_in_the_same_round(arm: Callable[..., Arm], code: int) -> None:
    grid, run = opened(arm(rounds=1, round_deadline_s=60))
    lost: list[int] = []

    def fate(node: int, request: Any) -> Any:
        if node == 3 and isinstance(request, Train) and not lost:
            lost.append(node)
            return code
        return None

    grid.fate = fate
    run_study(grid, run)
    assert took_part(run) == [ALL]
    assert failures(run)[1] == {}


def test_what_is_lost_again_and_again_is_given_up(arm: Callable[..., Arm]) -> None:
    grid, run = opened(arm(rounds=1, round_deadline_s=60))
    grid.fate = lambda node, request: 8 if node == 3 and isinstance(request, Train) else None
    run_study(grid, run)
    assert failures(run)[1] == {"site2": "Flower error 8"}
    assert grid.of("Train").count((3, 1)) == 2


def test_what_no_proxy_lets_through_is_said(arm: Callable[..., Arm], monkeypatch: pytest.MonkeyPatch) -> None:
    grid, run = opened(arm())
    interrupted(grid, run, 1)
    monkeypatch.setattr(grid, "push_messages", lambda messages: [])
    with pytest.raises(QuorumLost, match="the message could not be sent: a proxy's limit of size"):
        run_study(grid, run)


def test_a_superlink_that_takes_no_message_for_a_while_delays_and_loses_nothing(
    arm: Callable[..., Arm], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where its database is locked: Flower raises an error of its own."""
    grid, run = opened(arm(rounds=2, round_attempts=5), retry_s=0.0)
    interrupted(grid, run, 1)
    push, tries = grid.push_messages, iter(range(100))

    def locked(messages: Any) -> Any:
        if next(tries) < 2:
            raise ObjectPushError("id", 1, "session")
        return push(messages)

    monkeypatch.setattr(grid, "push_messages", locked)
    run_study(grid, run)
    assert run.released
    assert next(tries) > 3


# ---- what a site may send -----------------------------------------------------------------------------------------


def other_type(content: Any) -> None:
    array = content["parameters"]["packed"]
    content["parameters"]["packed"] = Array(dtype="nope", shape=array.shape, stype=array.stype, data=array.data)


def shape_of(number: str) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        names, _ = json.loads(content["fields"]["parameters.manifest"])
        content["fields"]["parameters.manifest"] = f"[{json.dumps(names)},[{','.join([f'[{number}]'] * len(names))}]]"

    return change


HOSTILE: dict[str, Callable[[Any], None]] = {
    "array of no type": other_type,
    "deep manifest": lambda content: content["fields"].update({"parameters.manifest": "[" * 100_000}),
    "infinite shape": shape_of("Infinity"),
    "shape beyond int64": shape_of("1e30"),
    "no fields": lambda content: content.pop("fields"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_reply_that_cannot_be_read_costs_its_site_the_round_and_nobody_else(
    arm: Callable[..., Arm], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    grid, run = opened(arm(rounds=2))
    pull = grid.pull_messages

    def hostile(ids: Iterable[str]) -> list[Message]:
        found = list(pull(ids))
        for message in found:
            reply: Any = wire.decode(message.content)
            if isinstance(reply, Trained) and (reply.site, reply.round) == ("site1", 2):
                HOSTILE[case](message.content)
        return found

    monkeypatch.setattr(grid, "pull_messages", hostile)
    run_study(grid, run)
    assert took_part(run) == [ALL, ["site0", "site2"]]
    assert failures(run)[2]["site1"].startswith("unreadable reply: ")
    assert len(failures(run)[2]["site1"]) < 350


def test_a_liar_in_a_round_of_two_is_found_in_the_next_of_three(arm: Callable[..., Arm]) -> None:
    grid, run = opened(arm(rounds=3))

    def change(node: int, reply: Any) -> Any:
        if isinstance(reply, Trained) and node == 2:
            far = np.float32(1e6 if reply.round == 1 else 9e5)
            return replace(reply, parameters=Parameters(reply.parameters.manifest, reply.parameters.vector + far))
        return (
            Refused("site2", Code.INTERNAL) if isinstance(reply, Trained) and (node, reply.round) == (3, 1) else reply
        )

    grid.change = change
    run_study(grid, run)
    assert took_part(run)[0] == ["site0", "site1"]
    for record in run.records()[2:]:
        assert "max_update_ratio" in record["failures"]["site1"]


# ---- a quorum, again ----------------------------------------------------------------------------------------------


def test_a_round_without_a_quorum_is_repeated_and_its_attempts_are_recorded(arm: Callable[..., Arm]) -> None:
    grid, run = opened(arm(min_sites=3))
    refused: list[int] = []

    def change(node: int, reply: Any) -> Any:
        if node == 2 and grid.sent[-1].kind == "Train" and grid.sent[-1].round == 2 and len(refused) < 2:
            refused.append(node)
            return Refused("site1", Code.INTERNAL)
        return reply

    grid.change = change
    run_study(grid, run)
    assert took_part(run) == [ALL] * 3
    attempt = {"sites": ["site0", "site2"], "failures": {"site1": "refused: internal"}}
    assert [r["attempts"] for r in run.records()[1:]] == [[], [attempt, attempt], []]
    asked = grid.of("Train")
    assert [asked.count((node, 2)) for node in (1, 2, 3)] == [1, 3, 1]  # who has answered is not asked again


def test_a_repeated_round_gives_the_model_of_an_undisturbed_one(arm: Callable[..., Arm]) -> None:
    grid, run = opened(arm("disturbed", min_sites=3))
    count: list[int] = []

    def fate(node: int, request: Any) -> Any:
        if node == 2 and isinstance(request, Train):
            count.append(node)
            return 2 if len(count) == 2 else None
        return None

    grid.fate = fate
    run_study(grid, run)
    grid, calm = opened(arm("calm", min_sites=3))
    run_study(grid, calm)
    assert np.array_equal(run.final.vector, calm.final.vector)


def test_a_round_waits_for_sites_to_come_back(arm: Callable[..., Arm], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.live._EVERY_S", 0.0)
    grid, run = opened(arm(min_sites=3), wait_for_sites_s=20)
    gone: list[float] = []
    seen: list[dict[str, Any]] = []

    def comes() -> None:
        if (1, 1) in grid.of("Train") and not gone:
            gone.append(time.monotonic())
            grid.online = {1}
        elif gone and time.monotonic() - gone[0] > 0.4:
            grid.online = {1, 2, 3}
        seen.append(read_live(run.folder) or {})

    grid.before = comes
    run_study(grid, run)
    assert took_part(run) == [ALL] * 3
    waiting = [live for live in seen if live["phase"] == "waiting" and live["round"] == 2]
    assert waiting
    assert waiting[-1]["sites"]["site1"]["state"] == "away"


def test_a_wait_that_is_in_vain_ends_the_run_and_names_who_is_missing(arm: Callable[..., Arm]) -> None:
    grid, run = opened(arm(min_sites=3, round_attempts=2), wait_for_sites_s=0.1)
    grid.before = lambda: grid.online.discard(2) if (1, 1) in grid.of("Train") else None
    with pytest.raises(
        QuorumLost, match=r"round 2: 2 of site0, site1, site2 are connected after 0.1 s; 3 of them must"
    ):
        run_study(grid, run)
    live = read_live(run.folder) or {}
    assert live["phase"] == "failed"
    assert "start the missing sites and run the same command again" in live["failure"]
    grid.before, grid.online = (lambda: None), {1, 2, 3}
    run_study(grid, run)
    assert took_part(run) == [ALL] * 3


def test_the_final_evaluation_waits_for_its_quorum_too(arm: Callable[..., Arm]) -> None:
    grid, run = opened(arm(rounds=1, min_sites=3))
    lost: list[int] = []

    def change(node: int, reply: Any) -> Any:
        if grid.sent[-1].kind == "Evaluate" and node == 1 and not lost:
            lost.append(node)
            return Refused("site0", Code.INTERNAL)
        return reply

    grid.change = change
    run_study(grid, run)
    assert sorted(run.released["sites"]) == ALL  # type: ignore[index]
    assert grid.of("Evaluate").count((2, 1)) == 1


@pytest.mark.slow
def test_lengths_of_updates_are_remembered_when_a_run_goes_on(
    arm: Callable[..., Arm], monkeypatch: pytest.MonkeyPatch
) -> None:
    grid, run = opened(arm(rounds=3))
    interrupted(grid, run, 3)
    expected = {site: max(r["update_lengths"][site] for r in run.records()[1:]) for site in ALL}
    seen: list[Any] = []
    monkeypatch.setattr("server.rounds.too_long", lambda lengths, ratio, before: seen.append(before) or {})
    run_study(grid, run)
    assert seen == [expected]


def test_a_metric_that_disappears_is_missed_whether_or_not_the_first_reply_counted(arm: Callable[..., Arm]) -> None:
    grid, run = opened(arm(rounds=3))

    def change(node: int, reply: Any) -> Any:
        if node != 2 or not isinstance(reply, Trained):
            return reply
        return {
            1: replace(reply, participants=0),
            2: replace(reply, metrics={}),
            3: reply,
        }[reply.round]

    grid.change = change
    run_study(grid, run)
    assert took_part(run) == [["site0", "site2"], ["site0", "site2"], ALL]
    assert failures(run)[1]["site1"].startswith("weight of 0 participants")
    assert failures(run)[2]["site1"].startswith("metric auc is missing, which it sent before")


# ---- what is told meanwhile ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_a_run_does_is_told_while_it_does_it(arm: Callable[..., Arm], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.live._EVERY_S", 0.0)
    grid, run = opened(arm(rounds=2))
    told: list[dict[str, Any]] = []

    def fate(node: int, request: Any) -> Any:
        told.append(read_live(run.folder) or {})
        return "never" if node == 3 and getattr(request, "round", 0) == 2 and isinstance(request, Train) else None

    grid.fate = fate
    run_study(grid, run)
    phases = list(dict.fromkeys((t["phase"], t["round"]) for t in told))
    assert phases == [
        ("describe", 0), ("setup", 0), ("round", 1), ("round", 2), ("evaluate", 2), ("assess", 2), ("probe", 2)
    ]  # fmt: skip
    assert all(t["needed"] == 2 and t["rounds"] == 2 for t in told)
    round_ = [t for t in told if (t["phase"], t["round"]) == ("round", 1)][-1]
    assert round_["deadline"] - round_["started"] == pytest.approx(1.0)
    assert (read_live(run.folder) or {})["phase"] == "done"


def test_what_became_of_the_sites_is_told_when_a_round_is_over(arm: Callable[..., Arm]) -> None:
    """At once, however short the round was: whoever looks on must not take a site for silent that was refused."""
    grid, run = opened(arm(rounds=2))
    told: list[dict[str, Any]] = []
    grid.change = lambda node, reply: (
        replace(reply, participants=0) if node == 3 and isinstance(reply, Trained) else reply
    )

    def looking(*given: Any) -> Any:
        told.append(read_live(run.folder) or {})
        return aggregate(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("server.rounds.aggregate", looking)
        run_study(grid, run)
    assert [(t["phase"], t["round"]) for t in told] == [("round", 1), ("round", 2)]
    for live in told:
        assert {site: found["state"] for site, found in live["sites"].items()} == {
            "site0": "answered", "site1": "answered", "site2": "failed"
        }  # fmt: skip


def test_a_model_goes_down_once_to_each_site_and_is_packed_once(arm: Callable[..., Arm]) -> None:
    grid, run = opened(arm(rounds=1))
    seen: list[int] = []
    push = grid.push_messages

    def spying(messages: Any) -> Any:
        batch = list(messages)
        seen.extend(id(m.content) for m in batch if "train" in m.metadata.message_type)
        return push(batch)

    grid.push_messages = spying  # type: ignore[method-assign]
    run_study(grid, run)
    assert len(seen) == 3
    assert len(set(seen)) == 1
    assert sorted(grid.of("Train")) == [(1, 1), (2, 1), (3, 1)]


# ---- many rounds --------------------------------------------------------------------------------------------------


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
def test_two_hundred_rounds_take_no_more_memory_than_sixty(arm: Callable[..., Arm]) -> None:
    grid, run = opened(arm(rounds=200, round_deadline_s=60))
    resident: dict[int, int] = {}
    counted: dict[int, int] = {}

    def fate(node: int, request: Any) -> None:
        if node != 1 or not isinstance(request, Train):
            return
        grid.sent.clear()  # the test's own list
        if request.round == 130:
            tracemalloc.start()
        if request.round in (60, 120, 145, 200):
            gc.collect()
            resident[request.round] = resident_bytes()
            counted[request.round] = tracemalloc.get_traced_memory()[0]

    grid.fate = fate
    try:
        run_study(grid, run)
    finally:
        tracemalloc.stop()
    assert len(run.records()) == 201
    assert resident[120] < 1.05 * resident[60]
    assert counted[200] - counted[145] < 55 * 1000, "bytes a round, of what Python holds"
    stored = {path.name for path in (run.folder / "rounds").glob("*.np*")}
    assert stored == {"0199.npy", "0200.npy"}
