"""Every reply is checked before it counts: what is wrong with one is said in a sentence."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sarco_models.parameters import Manifest, Parameters
from sarco_models.wire import Train, Trained
from server.members import Member
from server.replies import length_of_update, too_long, training_fault
from server.rounds import longest_updates

NUMBERS = 600_001
MANIFEST = Manifest(("body.weight", "head.weight"), ((NUMBERS - 7,), (7,)))
SITE = Member("north", 40, 24, 10, 0, "")
BEFORE = np.random.default_rng(0).normal(size=NUMBERS).astype(np.float32)
REQUEST = Train("study", "setup", 3, Parameters(MANIFEST, BEFORE))
METRICS = {"train_loss": 0.6, "loss": 0.7, "auc": 0.8}
SENT = frozenset(METRICS)


def reply(change: NDArray[np.float32] | None = None, manifest: Manifest = MANIFEST) -> Trained:
    vector = BEFORE + np.float32(0.01) if change is None else change
    return Trained("north", 3, 24, Parameters(manifest, vector), METRICS, "study")


def at(index: int, value: float) -> NDArray[np.float32]:
    vector = BEFORE.copy()
    vector[index] = value
    return vector


def renamed() -> Manifest:
    return Manifest(("body.weight", "tail.weight"), MANIFEST.shapes)


CASES: dict[str, tuple[Callable[[], Trained], str]] = {
    "sound": (reply, ""),
    "nan": (lambda: reply(at(5, math.nan)), "parameters are not finite"),
    "nan at the end": (lambda: reply(at(-1, math.nan)), "parameters are not finite"),
    "infinite": (lambda: reply(at(5, math.inf)), "parameters are not finite"),
    "minus infinite": (lambda: reply(at(300_000, -math.inf)), "parameters are not finite"),
    "shape": (
        lambda: reply(manifest=Manifest(MANIFEST.names, ((NUMBERS - 14,), (14,)))),
        "parameters of another model: body.weight has shape (599987,) instead of (599994,)",
    ),
    "number of numbers": (
        lambda: reply(BEFORE[:-7], Manifest(("body.weight",), ((NUMBERS - 7,),))),
        "parameters of another model: head.weight is missing",
    ),
    "name": (
        lambda: reply(manifest=renamed()),
        "parameters of another model: head.weight is missing, tail.weight is not one of them",
    ),
    "order": (
        lambda: reply(manifest=Manifest(MANIFEST.names[::-1], MANIFEST.shapes[::-1])),
        "parameters of another model: they come in another order",
    ),
    "stale study": (lambda: replace(reply(), study="b" * 64), "answers for study bbbbbbbbbbbb instead of study"),
    "no study": (lambda: replace(reply(), study=None), "answers for study None instead of study"),
    "stale round": (lambda: replace(reply(), round=2), "answers for round 2 instead of 3"),
    "round to come": (lambda: replace(reply(), round=4), "answers for round 4 instead of 3"),
    "other site": (lambda: replace(reply(), site="south"), "answers in the name of south"),
    "long name": (lambda: replace(reply(), site="x" * 10**6), f"answers in the name of {'x' * 80}"),
    "zero weight": (
        lambda: replace(reply(), participants=0),
        "weight of 0 participants; described itself with 24",
    ),
    "negative weight": (lambda: replace(reply(), participants=-24), "weight of -24 participants"),
    "heavy": (lambda: replace(reply(), participants=10**9), "weight of 1000000000 participants"),
    "missing metric": (
        lambda: replace(reply(), metrics={"train_loss": 0.6, "loss": 0.7}),
        "metric auc is missing, which it sent before",
    ),
    "no metrics": (lambda: replace(reply(), metrics={}), "metric auc is missing, which it sent before"),
    "unknown metric": (
        lambda: replace(reply(), metrics={**METRICS, "age_of_p17": 81.0}),
        "metric age_of_p17 is none of train_loss, loss, auc",
    ),
    "metric nan": (lambda: replace(reply(), metrics={**METRICS, "loss": math.nan}), "metric loss is not finite"),
    "metric infinite": (lambda: replace(reply(), metrics={**METRICS, "auc": math.inf}), "metric auc is not finite"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_with_a_reply_is_named(case: str) -> None:
    make, words = CASES[case]
    answer = make()
    fault = training_fault(answer, SITE, REQUEST, length_of_update(answer, REQUEST), SENT)
    assert fault.startswith(words) if words else fault == ""
    assert len(fault) < 200


@pytest.mark.parametrize("metrics", [{}, {"loss": 0.7}, METRICS])
def test_a_hospital_may_keep_metrics_from_the_beginning(metrics: Mapping[str, float]) -> None:
    """Its policy says what leaves; it is held only against what it sent itself."""
    answer = replace(reply(), metrics=metrics)
    assert training_fault(answer, SITE, REQUEST, 1.0, None) == ""
    assert training_fault(answer, SITE, REQUEST, 1.0, frozenset(metrics)) == ""


def test_the_length_of_an_update_is_its_euclidean_norm() -> None:
    change = np.random.default_rng(1).normal(size=NUMBERS).astype(np.float32)
    after = (BEFORE + change).astype(np.float32)
    expected = float(np.linalg.norm(after.astype(np.float64) - BEFORE))
    assert length_of_update(reply(after), REQUEST) == pytest.approx(expected, rel=1e-12)
    assert length_of_update(reply(BEFORE), REQUEST) == 0


def test_numbers_whose_squares_float32_cannot_hold_are_long_and_not_infinite() -> None:
    huge = np.full(NUMBERS, 3e38, np.float32)
    assert length_of_update(reply(huge), REQUEST) == pytest.approx(3e38 * math.sqrt(NUMBERS), rel=1e-3)


LENGTHS: dict[str, tuple[dict[str, float], list[str]]] = {
    "equal": ({"a": 1, "b": 1, "c": 1}, []),
    "one is ten times as long": ({"a": 1, "b": 1, "c": 10}, []),
    "one is longer than that": ({"a": 1, "b": 1, "c": 10.1}, ["c"]),
    "huge": ({"a": 1, "b": 2, "c": 1e30}, ["c"]),
    "two against one": ({"a": 1, "b": 100, "c": 100}, []),
    "two of five": ({"a": 1, "b": 1, "c": 1, "d": 50, "e": 60}, ["d", "e"]),
    "two sites only, and nobody can say which is the strange one": ({"a": 1, "b": 1e30}, []),
    "nobody has moved": ({"a": 0, "b": 0, "c": 0}, []),
    "one has moved": ({"a": 0, "b": 0, "c": 1}, ["c"]),
    "most have not moved": ({"a": 0, "b": 0, "c": 0, "d": 1, "e": 1e30}, ["d", "e"]),
    "one has not moved": ({"a": 0, "b": 1, "c": 1}, []),
}


@pytest.mark.parametrize("case", LENGTHS)
def test_an_update_is_held_against_the_median_of_the_others(case: str) -> None:
    lengths, expected = LENGTHS[case]
    found: dict[str, Any] = too_long(lengths, 10.0, {})
    assert sorted(found) == expected
    for sentence in found.values():
        assert "times as long as the other sites' (median), and longer than any of its own" in sentence
        assert "max_update_ratio = 10" in sentence


def test_who_still_learns_where_the_others_have_learnt_all_is_not_refused() -> None:
    lengths = {"a": 1e-6, "b": 1e-5, "c": 0.4}
    assert sorted(too_long(lengths, 10.0, {})) == ["c"]
    assert too_long(lengths, 10.0, {"a": 0.9, "b": 0.8, "c": 0.5}) == {}
    assert sorted(too_long({**lengths, "c": 0.6}, 10.0, {"a": 0.9, "b": 0.8, "c": 0.5})) == ["c"]


def test_a_length_that_counted_where_nobody_could_compare_it_is_no_leave_for_the_next() -> None:
    before = longest_updates([{"update_lengths": {"a": 1.0, "liar": 1e9}}])
    assert sorted(too_long({"a": 1.0, "b": 1.0, "liar": 9e8}, 10.0, before)) == ["liar"]
    records = [{"update_lengths": {"a": 1.0, "b": 2.0, "c": 3.0}}, {}, {"update_lengths": {"a": 1.5, "b": 1.0, "c": 1}}]
    assert longest_updates(records) == {"a": 1.5, "b": 2.0, "c": 3.0}
