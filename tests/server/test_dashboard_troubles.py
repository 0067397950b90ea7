"""Everything that a run can record of a hospital is said in words, with something to do about it."""

import pytest

from sarco_models.messages import Code
from server.dashboard import history
from server.dashboard.troubles import explain, of_ending, of_rounds, over
from server.failures import NO_ANSWER, flower_error, in_words, left, refused, revoked, when_asked
from server.members import AWAY, LATE
from server.replies import too_long

RECORDED = (
    NO_ANSWER,
    AWAY,
    LATE,
    "parameters are not finite",
    "parameters of another model: head.weight has shape (3,) instead of (2,)",
    "answers in the name of beta",
    "another node has the same name",
    "answers for round 3 instead of 4",
    "answered Ready instead of Trained",
    "weight of 7 participants; described itself with 9",
    "metric auc is missing, which it sent before: does site.toml still allow it?",
    "metric loss is not finite",
    "label rule ewgsop2; the study asks for awgs2019",
    "its counts of participants contradict each other",
    "its sums are not of the study's 7 columns",
    "its sums count more people than it has",
    "its histogram is not the study's",
    "its histogram counts other people than it described",
    "a masked update of another model",
    "answers for study 0123456789ab instead of ba9876543210",
    "assessed at a threshold of 0.3 instead of 0.4",
    "assessed on 17 people; it described itself with 12 beside those in training",
    "probed 20 and 12 people; described itself with 24 in training and 10 others",
    "an AUC of 1.2 and a share of 0.1; both are from 0 to 1",
    "its key is none",
    "the message could not be sent: a proxy's limit of size?",
    "unreadable reply: no such kind",
    "its audit log has 3 entries; it had 5 before: it was cut",
    *too_long({"a": 1.0, "b": 1.0, "c": 50.0}, 10.0, {}).values(),
)


@pytest.mark.parametrize("reason", RECORDED)
def test_what_was_wrong_with_an_answer_is_said_in_other_words(reason: str) -> None:
    what, remedy = explain(reason)
    assert what != reason
    assert remedy


@pytest.mark.parametrize("code", list(Code))
def test_every_code_of_a_refusal_is_said_in_words(code: Code) -> None:
    what, remedy = explain(refused(code))
    assert what.startswith("it refused: ")
    assert str(code) not in what
    assert remedy


@pytest.mark.parametrize("code", list(Code))
def test_a_live_reason_in_words_says_the_same_as_the_recorded_code(code: Code) -> None:
    assert explain(in_words(refused(code))) == explain(refused(code))


@pytest.mark.parametrize("number", range(9))
def test_every_error_of_flower_is_said_in_words(number: int) -> None:
    assert "Flower error" not in explain(flower_error(number))[0]


def test_an_unknown_reason_is_shown_as_it_was_written_without_a_path() -> None:
    assert explain("the moon at /data/moon.csv") == ("the moon at …/moon.csv", explain("")[1])
    assert explain("")[0] == "no reason was given"


def test_the_dashboard_knows_the_reasons_of_those_who_are_away() -> None:
    assert (history.AWAY, history.LATE) == (AWAY, LATE)
    assert all(history.gone(why) for why in (AWAY, LATE, NO_ANSWER))
    assert all(history.gone(why) for why in (revoked("2026-11-20"), when_asked(left("2026-11-20T12:00"))))
    assert not history.gone("parameters are not finite")


@pytest.mark.parametrize(
    ("rounds", "words"),
    [([0], "at the start"), ([3], "round 3"), ([3, 4, 5], "rounds 3 to 5"), ([1, 3, 9], "3 rounds, last in round 9")],
)
def test_the_same_in_several_rounds_is_one_trouble(rounds: list[int], words: str) -> None:
    (trouble,) = of_rounds([(k, {"a": AWAY}) for k in rounds], last=9, current=False)
    assert (trouble.when, trouble.times) == (words, len(rounds))


def test_the_latest_trouble_stands_in_front() -> None:
    found = of_rounds([(1, {"a": AWAY}), (2, {"b": AWAY}), (3, {"a": NO_ANSWER})], last=3, current=True)
    assert [(t.who, t.weight) for t in found] == [("a", "site"), ("b", "note"), ("a", "note")]


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        ("describe: 1 sites answered usably, min_sites = 3 (beta: away)", "Too few hospitals"),
        ("[Errno 28] No space left on device: '/srv/fl/rounds/0001.npy'", "disk is full"),
        ("runs/x: the sites describe themselves otherwise than when the run began", "are others"),
        ("/srv/x: cannot be written: Read-only file system", "cannot be written"),
        ("something else", "has stopped"),
    ],
)
def test_a_run_that_stopped_is_explained_with_the_command_that_goes_on(failure: str, words: str) -> None:
    trouble = of_ending(failure)
    assert words in trouble.what
    assert "sarco-coordinator resume" in trouble.remedy
    assert "/srv" not in trouble.written


@pytest.mark.parametrize(
    ("reason", "state", "expected"),
    [
        (AWAY, "asked", True),
        (AWAY, "answered", True),
        (AWAY, "away", False),
        (AWAY, "", False),
        (NO_ANSWER, "asked", False),
        (NO_ANSWER, "answered", True),
        ("parameters are not finite", "asked", False),
        ("parameters are not finite", "answered", True),
    ],
)
def test_who_is_back_needs_no_attention_any_more(reason: str, state: str, expected: bool) -> None:
    (trouble,) = of_rounds([(4, {"a": reason})], last=4, current=True)
    assert trouble.weight == "site"
    assert over(trouble, state) is expected
