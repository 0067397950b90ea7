"""Who is who: a member is known by what it said of itself, a connection only as long as it lasts."""

from typing import Any

import numpy as np
import pytest

from sarco_models.errors import RunError
from sarco_models.summaries import Moments
from sarco_models.wire import Code, Describe, Described, Ready, Request, Setup, Train, Trained
from server.failures import NOT_AWAITED, refused
from server.members import LATE, Member, Membership, Node
from server.turns import Asking, Failed, Meeting
from tests.messages import parameters

STUDY = "a" * 64


def moments(total: int = 1000) -> Moments:
    return Moments(*(np.array([total, 7]) for _ in range(5)))


def described(site: str, training: int = 24, total: int = 1000) -> Described:
    return Described(site, "rule", 40, training, 10, 3, moments(total))


def begun(*sites: str, names: bool = False) -> Membership:
    """A run whose sites connect as nodes 1, 2, ..."""
    found = Membership()
    found.see((k, site if names else "", "") for k, site in enumerate(sites, start=1))
    found.admit({k: described(site) for k, site in enumerate(sites, start=1)})
    found.setup = Setup(STUDY, parameters(8), moments())
    return found


def asking(membership: Membership, **changes: Any) -> Asking[Trained]:
    request = Train(STUDY, "setup", 1, parameters(8))
    settings: dict[str, Any] = {
        "requests": dict.fromkeys(membership.members, request),
        "kind": Trained,
        "check": lambda reply, member: "",
    }
    return Asking(STUDY, membership, **{**settings, **changes})


def trained(site: str) -> Trained:
    return Trained(site, 1, 24, parameters(8), {})


def kinds(turn: Any, membership: Membership) -> dict[int, str]:
    found: dict[int, Request | None] = {node.id: turn.next(node) for node in membership.nodes.values()}
    return {id_: type(request).__name__ for id_, request in found.items() if request}


def test_the_record_of_round_0_gives_the_same_members_back() -> None:
    first = begun("north", "south")
    again = Membership()
    again.restore(first.to_record(), "0000.json")
    assert again.members == first.members
    assert list(again.members) == ["north", "south"]
    with pytest.raises(RunError, match=r"0000\.json: its members are damaged"):
        again.restore({"north": {"participants": 3}}, "0000.json")


@pytest.mark.parametrize("other", [described("north", training=23), described("north", total=1001)])
def test_another_number_anywhere_is_another_member(other: Described) -> None:
    assert Member.of(other) != Member.of(described("north"))
    membership = begun("north")
    membership.see([(9, "", "")])
    fault = membership.greet(membership.nodes[9], other)
    assert "comes back with other people or tables" in fault
    assert membership.node_of("north") is None


def test_a_node_is_forgotten_when_it_goes_and_when_it_connects_anew() -> None:
    membership = begun("north", "south")
    membership.see([(1, "", ""), (2, "", "later")])
    assert membership.node_of("north") is not None
    assert membership.node_of("south") is None
    assert membership.may_speak_for(membership.nodes[2]) == {"south"}
    membership.see([(2, "", "later")])
    assert set(membership.nodes) == {2}


def test_how_many_can_be_reached_counts_names_and_those_who_have_none_yet() -> None:
    membership = begun("north", "south", "west")
    assert membership.reachable(["north", "south", "west"]) == 3
    assert membership.reachable(["north"]) == 1
    membership.see([(1, "", ""), (7, "", ""), (8, "", "")])
    assert membership.reachable(["north", "south", "west"]) == 3
    membership.nodes[7].refused = membership.nodes[8].refused = LATE
    assert membership.reachable(["north", "south", "west"]) == 1
    named = begun("north", "south", names=True)
    named.see([(3, "south", ""), (4, "east", "")])
    assert named.reachable(["north", "south"]) == 1


def test_a_member_that_came_back_is_greeted_before_it_is_asked() -> None:
    membership = begun("north", "south")
    membership.ready = {"north", "south"}
    membership.see([(1, "", ""), (5, "", "")])
    turn = asking(membership)
    assert kinds(turn, membership) == {1: "Train", 5: "Describe"}
    turn.take(membership.nodes[5], Describe(STUDY), described("south"))
    assert kinds(turn, membership) == {1: "Train", 5: "Train"}
    turn.take(membership.nodes[5], turn.requests["south"], trained("south"))
    assert set(turn.replies) == {"south"}
    assert kinds(turn, membership) == {1: "Train"}


def test_a_member_without_the_setup_is_given_it_first() -> None:
    membership = begun("north")
    turn, node = asking(membership), membership.nodes[1]
    assert kinds(turn, membership) == {1: "Setup"}
    assert membership.setup is not None
    turn.take(node, membership.setup, Ready("north", membership.setup.digest))
    assert kinds(turn, membership) == {1: "Train"}
    other = asking(begun("north"))
    node = next(iter(other.membership.nodes.values()))
    other.take(node, membership.setup, Ready("north", "f" * 64))
    assert other.failures == {"north": "has kept another setup than it was sent"}
    assert kinds(other, other.membership) == {}


def test_strangers_are_greeted_only_while_a_member_is_missing() -> None:
    membership = begun("north")
    membership.ready = {"north"}
    membership.see([(1, "", ""), (2, "", "")])
    assert kinds(asking(membership), membership) == {1: "Train"}
    membership.see([(2, "", "")])
    turn = asking(membership)
    assert kinds(turn, membership) == {2: "Describe"}
    turn.take(membership.nodes[2], Describe(STUDY), described("east"))
    assert turn.failures == {"node 2 (east)": LATE}
    assert kinds(asking(membership), membership) == {}  # as long as it is connected


def test_a_second_answer_of_a_member_changes_nothing() -> None:
    membership = begun("north")
    turn, node = asking(membership), membership.nodes[1]
    first, second = trained("north"), trained("north")
    turn.take(node, turn.requests["north"], first)
    turn.take(node, turn.requests["north"], second)
    assert turn.replies["north"] is first


def test_an_answer_of_another_kind_and_one_that_is_not_sound_are_failures() -> None:
    membership = begun("north", "south")
    turn = asking(membership, check=lambda reply, member: "too good to be true" if member.site == "north" else "")
    turn.take(membership.nodes[1], turn.requests["north"], trained("north"))
    turn.take(membership.nodes[2], turn.requests["south"], Ready("south", "x"))
    assert turn.failures == {"north": "too good to be true", "south": "answered Ready instead of Trained"}
    assert turn.replies == {}
    assert not turn.open


def test_what_is_left_open_is_away_or_silent() -> None:
    turn = asking(begun("north", "south", "west"))
    turn.take(turn.membership.nodes[3], turn.requests["west"], Failed("Flower error 5", lost=True))
    turn.left_open({"north"})
    assert turn.failures == {"north": "no answer before the deadline", "south": "away", "west": "Flower error 5"}


SHUT = "revoked on 2026-11-20 by the coordinator"


def test_who_was_revoked_is_asked_nothing_and_not_reachable() -> None:
    membership = begun("north", "south", "west", names=True)
    membership.ready = set(membership.members)
    membership.revoked = {"south": SHUT}
    membership.see([(1, "north", ""), (2, "south", ""), (3, "west", "")])
    assert kinds(asking(membership), membership) == {1: "Train", 3: "Train"}
    assert membership.reachable(membership.members) == 2
    assert membership.left_of(membership.members) == {"north", "west"}
    membership.revoked = {}
    membership.see([(1, "north", ""), (3, "west", ""), (9, "south", "")])
    assert kinds(asking(membership), membership) == {1: "Train", 3: "Train", 9: "Describe"}, "enrolled again"


def test_a_turn_is_hopeless_when_no_answers_can_make_it_enough() -> None:
    membership = begun("north", "south", "west")
    turn = asking(membership, needed=3)
    assert not turn.hopeless()
    turn.take(membership.nodes[2], turn.requests["south"], trained("south"))
    membership.revoked = {"south": SHUT}
    assert not turn.hopeless(), "its answer came before"
    membership.revoked = {"west": SHUT}
    assert turn.hopeless()
    turn.left_open({"north"})
    assert turn.failures["north"] == NOT_AWAITED


def test_who_left_with_a_question_is_told_apart_from_who_was_not_asked() -> None:
    """The first may have trained, and spent privacy on it."""
    turn = asking(begun("north", "south", "west"))
    turn.membership.absence = lambda name: "left on 2026-11-20 at 12:00 UTC" if name != "west" else "away"
    turn.take(turn.membership.nodes[1], turn.requests["north"], Failed("Flower error 5", lost=True))
    turn.left_open(set())
    assert turn.failures == {
        "north": "left on 2026-11-20 at 12:00 UTC, when it had been asked",
        "south": "left on 2026-11-20 at 12:00 UTC",
        "west": "away",
    }


LEFT = "left on 2026-11-20 at 12:00 UTC"


def test_that_it_left_is_learned_after_its_connection_is_gone_and_told_once() -> None:
    turn = asking(begun("north", "south"))
    turn.take(turn.membership.nodes[1], turn.requests["north"], Failed("Flower error 5", lost=True))
    assert turn.learned() == {}, "it may be an outage"
    turn.membership.absence = lambda name: LEFT
    assert turn.learned() == {"north": f"{LEFT}, when it had been asked"} == turn.failures
    assert turn.learned() == {}
    assert "north" in turn.open, "it may come back"


def test_only_who_has_left_or_was_revoked_will_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.members.LAST_WORDS_S", 0.0)
    membership = begun("north", "south", names=True)
    north = membership.nodes[1]
    membership.absence = lambda name: LEFT
    assert membership.silent(north, "north") == "", "it is connected; that it left is old news"
    membership.absence = lambda name: "away"
    membership.see([(2, "south", "")])
    assert membership.silent(north, "north") == "", "an outage: the answer may come yet"
    membership.absence = lambda name: LEFT
    assert membership.silent(north, "north") == LEFT
    membership.revoked = {"north": SHUT}
    assert membership.silent(north, "north") == SHUT


def test_who_left_and_came_back_does_not_answer_what_it_was_asked_before(monkeypatch: pytest.MonkeyPatch) -> None:
    membership = begun("north", names=True)
    before = membership.nodes[1]
    membership.see([])
    membership.absence = lambda name: LEFT
    assert membership.silent(before, "north") == "", "what it sent last is fetched first"
    membership.see([(1, "north", "later")])
    membership.absence = lambda name: "away"
    monkeypatch.setattr("server.members.LAST_WORDS_S", 0.0)
    assert membership.silent(before, "north") == LEFT
    assert membership.silent(membership.nodes[1], "north") == ""


@pytest.mark.parametrize("code", [Code.TOO_LATE, Code.WORKER_DOWN])
def test_a_site_whose_worker_was_away_says_again_who_it_is(code: Code) -> None:
    membership = begun("north")
    membership.ready = {"north"}
    turn = asking(membership)
    turn.take(membership.nodes[1], turn.requests["north"], Failed(refused(code)))
    assert kinds(asking(membership), membership) == {1: "Describe"}


def test_a_policy_that_says_no_does_not_make_a_site_a_stranger() -> None:
    membership = begun("north")
    membership.ready = {"north"}
    turn = asking(membership)
    turn.take(membership.nodes[1], turn.requests["north"], Failed(refused(Code.BUDGET_SPENT)))
    assert kinds(turn, membership) == {}
    assert kinds(asking(membership), membership) == {1: "Train"}


def test_at_a_meeting_everybody_describes_themselves_once() -> None:
    membership = Membership()
    membership.see([(1, "", ""), (2, "south", "")])
    meeting = Meeting(STUDY)
    assert kinds(meeting, membership) == {1: "Describe", 2: "Describe"}
    assert kinds(meeting, membership) == {}
    meeting.take(membership.nodes[1], Describe(STUDY), described("north"))
    meeting.take(membership.nodes[2], Describe(STUDY), Failed("refused: internal"))
    assert set(meeting.described) == {1}
    assert meeting.failures == {"south": "refused: internal"}


def test_a_description_that_was_lost_on_the_way_is_asked_for_once_more() -> None:
    membership = Membership()
    membership.see([(1, "", ""), (2, "", "")])
    meeting = Meeting(STUDY)
    assert kinds(meeting, membership) == {1: "Describe", 2: "Describe"}
    lost = Failed("Flower error 8", lost=True)
    for node in membership.nodes.values():
        meeting.take(node, Describe(STUDY), lost)
    assert kinds(meeting, membership) == {1: "Describe", 2: "Describe"}
    meeting.take(membership.nodes[1], Describe(STUDY), lost)
    meeting.take(membership.nodes[2], Describe(STUDY), described("south"))
    assert kinds(meeting, membership) == {}
    assert meeting.failures == {"node 1": "Flower error 8"}
    assert set(meeting.described) == {2}


def test_a_node_is_called_by_the_best_name_that_is_known() -> None:
    assert Node(7).label == "node 7"
    assert Node(7, name="north").label == "north"
    assert Node(7, site="north").label == "north"
