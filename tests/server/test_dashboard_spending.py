"""Epsilon so far is composed as the study's plan says, and never shown too small."""

import pytest

from sarco_models.accounting import plan
from server.dashboard.files import Attempt, Record
from server.dashboard.spending import Spending, rounds_at_most, spent_after
from server.failures import revoked, when_asked
from tests.server.example_home import ROUNDS, study


def record(round_: int, sites: str, failures: dict[str, str], *attempts: Attempt) -> Record:
    return Record(round_, {name: {} for name in sites}, {}, failures, None, None, None, 0.0, attempts)


def test_the_whole_study_costs_what_it_promised_and_no_more() -> None:
    cfg = study()
    assert cfg.privacy is not None
    planned = plan(cfg)
    whole = spent_after(cfg, planned.rounds, planned.releases)
    assert cfg.privacy.epsilon - 0.01 <= whole <= cfg.privacy.epsilon


def test_every_round_costs_more() -> None:
    cfg = study()
    costs = [spent_after(cfg, k, 0) for k in (0, 1, 2, 5, ROUNDS)]
    assert costs[0] == 0.0
    assert costs == sorted(set(costs))


def test_a_round_beyond_the_plan_costs_nothing_for_the_hospitals_ledger_refuses_it() -> None:
    cfg = study()
    assert spent_after(cfg, 10 * ROUNDS, 9) == spent_after(cfg, plan(cfg).rounds, plan(cfg).releases)


def test_what_may_have_been_trained_counts_and_what_was_refused_before_does_not() -> None:
    records = [
        record(0, "ab", {"a": "away"}),
        record(1, "ab", {}),
        record(2, "a", {"b": "no answer before the deadline"}),
        record(3, "a", {"b": "refused: task_not_allowed"}),
        record(4, "a", {"b": "refused: too_late"}),
        record(5, "a", {"b": "away"}),
        record(6, "", {"a": "parameters are not finite", "b": "Flower error 5"}),
    ]
    assert rounds_at_most(records, {}) == {"a": 6, "b": 4}
    assert rounds_at_most(records, {"a": "asked", "b": "refused"}) == {"a": 7, "b": 4}


def test_who_was_shut_out_at_work_may_have_trained_and_later_rounds_cost_it_nothing() -> None:
    shut = revoked("2026-11-20")
    records = [record(0, "ab", {}), record(1, "a", {"b": when_asked(shut)}), record(2, "a", {"b": shut})]
    assert rounds_at_most(records, {"b": "away"}) == {"a": 2, "b": 1}


def test_who_answered_an_attempt_that_fell_short_has_trained_and_only_once() -> None:
    short = Attempt(("a",), {"b": "no answer before the deadline", "c": "away"})
    records = [record(0, "abc", {}), record(1, "bc", {"a": "away"}, short, short)]
    assert rounds_at_most(records, {}) == {"a": 1, "b": 1, "c": 1}


def test_a_number_is_shown_once_it_is_known() -> None:
    import time

    spending, cfg = Spending(), study()
    end = time.monotonic() + 30
    while (found := spending.of(cfg, 3, 1)).computing:
        assert found.epsilon is None
        assert time.monotonic() < end
        time.sleep(0.01)
    assert found.epsilon == pytest.approx(spent_after(cfg, 3, 1))
    spending.close()
