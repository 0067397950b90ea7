"""Epsilon against two other libraries and a closed form; the noise of a study against the epsilon that it promises.

dp-accounting is Google's, and shares no code with Opacus. Grids are small enough to run in seconds; the whole grid is
marked slow.
"""

import itertools
import json
import math
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from opacus.accountants import PRVAccountant, RDPAccountant
from scipy.optimize import brentq
from scipy.stats import norm

from sarco_models import accounting
from sarco_models.accounting import UNPROTECTED, Accountant, Spend, epsilon, merged, plan
from sarco_models.config import PrivacyConfig, StudyConfig
from sarco_models.errors import ConfigError
from tests.sites import tables_study

DELTA = 1e-5
ACCOUNTANTS: tuple[Accountant, ...] = ("prv", "rdp")

GRID = [
    [Spend(3.5, 1.0, 30)],
    [Spend(22.2, 1.0, 30)],
    [Spend(1.1, 0.05, 400)],
    [Spend(0.8, 0.01, 500)],
    [Spend(2.0, 0.3, 40), Spend(40.0, 1.0, 2)],
    [Spend(1.5, 0.999, 8)],
    [Spend(60.0, 1.0, 3)],
    [Spend(1.0, 1e-4, 100)],
]
SLOW_GRID = [
    [Spend(noise, rate, steps)]
    for noise, rate, steps in itertools.product((0.6, 1.3, 5.0, 30.0, 300.0), (1e-3, 0.03, 0.3, 1.0), (1, 20, 1000))
    if epsilon([Spend(noise, rate, steps)], DELTA, "rdp") < 60
]


def test_noise_that_costs_8_3_and_1_is_the_noise_that_theory_says() -> None:
    """Thirty full-batch steps are one Gaussian release of noise / sqrt(30); Balle and Wang (2018) is exact for it."""
    for target in (8.0, 3.0, 1.0):
        exact = brentq(lambda noise, target=target: balle_wang(noise / math.sqrt(30), DELTA) - target, 1.0, 60.0)
        found = plan(private_study(target, statistics="exact", steps=1, rounds=30)).training.noise_multiplier
        assert exact <= found < 1.02 * exact, "prv adds its error of .01 to epsilon, and nothing more"


@pytest.mark.parametrize("spends", GRID, ids=str)
def test_renyi_epsilon_is_that_of_dp_accounting(spends: list[Spend]) -> None:
    ours, theirs = epsilon(spends, DELTA, "rdp"), of_dp_accounting(spends, "rdp")
    assert ours == pytest.approx(theirs, rel=2e-3), "the orders are not quite the same"


@pytest.mark.parametrize("spends", GRID, ids=str)
def test_prv_epsilon_is_just_above_that_of_privacy_loss_distributions(spends: list[Spend]) -> None:
    assert_just_above(spends)


@pytest.mark.slow
@pytest.mark.parametrize("spends", SLOW_GRID, ids=str)
def test_both_accountants_agree_with_dp_accounting_over_a_grid(spends: list[Spend]) -> None:
    assert_just_above(spends)
    # At orders between whole numbers theirs interpolates from above, and Opacus sums the series.
    theirs = of_dp_accounting(spends, "rdp")
    assert 0.98 * theirs <= epsilon(spends, DELTA, "rdp") <= 1.001 * theirs + 0.01


def assert_just_above(spends: list[Spend]) -> None:
    exact = of_dp_accounting(spends, "pld")
    # Theirs is above the truth by its own grid.
    assert exact - 1e-3 * max(1.0, exact) <= epsilon(spends, DELTA, "prv") <= exact + 0.02


@pytest.mark.parametrize(("noise", "steps"), [(1.0, 1), (3.5, 30), (30.0, 1), (80.0, 200), (900.0, 5)])
@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-8])
def test_with_everybody_in_every_step_both_are_above_the_closed_form(noise: float, steps: int, delta: float) -> None:
    exact = balle_wang(noise / math.sqrt(steps), delta)
    assert exact <= epsilon([Spend(noise, 1.0, steps)], delta, "prv") <= exact + 0.02
    assert exact <= epsilon([Spend(noise, 1.0, steps)], delta, "rdp") <= 1.25 * exact + 0.1


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
def test_it_is_the_number_of_one_opacus_accountant_fed_step_by_step(accountant: Accountant) -> None:
    spends = [Spend(2.0, 0.2, 3), Spend(6.0, 1.0, 1), Spend(2.0, 0.2, 4), Spend(3.0, 1.0, 2)]
    assert abs(epsilon(spends, DELTA, accountant) - uninterrupted(spends, accountant)) < 1e-9


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
def test_neither_order_nor_the_way_of_counting_steps_matters(accountant: Accountant) -> None:
    spends = [Spend(2.0, 0.5, 6), Spend(9.0, 1.0, 2), Spend(4.0, 0.5, 1)]
    singly = [replace(s, steps=1) for s in spends for _ in range(s.steps)]
    np.random.default_rng(1).shuffle(singly)  # type: ignore[arg-type]
    assert merged(singly) == merged(reversed(spends))
    assert epsilon(singly, DELTA, accountant) == epsilon(spends, DELTA, accountant)


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
def test_nothing_costs_nothing_and_no_noise_costs_everything(accountant: Accountant) -> None:
    assert epsilon([], DELTA, accountant) == 0.0
    assert epsilon([Spend(5.0, 1.0, 3), UNPROTECTED], DELTA, accountant) == math.inf
    assert epsilon([Spend(0.0, 1e-3, 1)], DELTA, accountant) == math.inf


@pytest.mark.parametrize("seed", range(4))
def test_more_rows_never_lower_epsilon(seed: int) -> None:
    """Renyi exactly; prv rounds to a grid of its own for every sequence, and may fall by less than .001."""
    rng = np.random.default_rng(seed)
    rates = (0.2, 1.0) if seed % 2 else (1.0,)
    noises, steps = rng.choice([4.0, 9.0, 30.0], 8), rng.integers(1, 4, 8)
    rows = [Spend(float(noises[k]), float(rng.choice(rates)), int(steps[k])) for k in range(8)]
    renyi = [epsilon(rows[:k], DELTA, "rdp") for k in range(9)]
    numerical = [epsilon(rows[:k], DELTA, "prv") for k in range(9)]
    assert all(after >= before for before, after in itertools.pairwise(renyi))
    assert all(after >= before - 1e-3 for before, after in itertools.pairwise(numerical))


def test_a_row_that_costs_almost_nothing_does_not_lower_epsilon_noticeably() -> None:
    before = [Spend(3.5, 1.0, 30)]
    for noise in (1e3, 1e4, 1e6):
        after = epsilon([*before, Spend(noise, 1.0, 1)], DELTA, "prv")
        assert after >= epsilon(before, DELTA, "prv") - 1e-3


@pytest.mark.parametrize(
    "spend",
    [
        Spend(1e8, 1.0, 1000), Spend(1e8, 0.2, 1000), Spend(1.0, 1e-12, 100), Spend(0.01, 1e-9, 5),
        Spend(5.0, 0.1, 1_000_000_000), Spend(1e-3, 1.0, 10), Spend(1e-200, 1.0, 1), Spend(1e-200, 0.5, 1),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("accountant", ACCOUNTANTS)
def test_extreme_facts_give_a_number_and_no_warning(spend: Spend, accountant: Accountant) -> None:
    """Warnings are errors here: Opacus takes the logarithm of 0 at a rate of 1, and misses its larger orders."""
    assert epsilon([spend], DELTA, accountant) >= 0.0


@pytest.mark.parametrize(
    "facts",
    [(-1.0, 1.0, 1), (math.nan, 1.0, 1), (math.inf, 1.0, 1), (1.0, 0.0, 1), (1.0, 1.1, 1), (1.0, 1.0, 0)],
)
def test_what_cannot_be_a_fact_is_none(facts: tuple[float, float, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Spend(*facts)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5])
def test_delta_is_a_chance(delta: float) -> None:
    with pytest.raises(ValueError, match="delta"):
        epsilon([Spend(1.0, 1.0, 1)], delta)


# --- the noise of a study ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
@pytest.mark.parametrize("statistics", ["private", "withheld", "exact"])
@pytest.mark.parametrize("sizes", [(8.0, 1.0, 1, 30), (3.0, 0.1, 5, 10), (0.5, 1.0, 2, 20)], ids=str)
def test_a_study_costs_what_it_promises(
    sizes: tuple[float, float, int, int], statistics: str, accountant: Accountant
) -> None:
    """A noise that was off by a factor, in either direction, would fail here, by our accountant and by another."""
    target, rate, steps, rounds = sizes
    study = private_study(
        target, rate=rate, steps=steps, rounds=rounds, statistics=statistics, accountant=accountant, spare_rounds=3
    )
    spends = plan(study).spends()
    assert target - 0.01 <= epsilon(spends, DELTA, accountant) <= target
    assert of_dp_accounting(spends, "pld") <= target + 1e-3


def test_a_plan_counts_everything_that_a_study_does() -> None:
    found = plan(private_study(3.0, steps=4, rounds=10, spare_rounds=2, rate=0.5, accountant="rdp"))
    assert found.training.steps == 4
    assert found.training.sample_rate == 0.5
    assert (found.rounds, found.releases) == (12, 2)
    assert found.statistics is not None
    training, statistics = found.spends()
    assert (training.steps, statistics.steps, statistics.sample_rate) == (48, 2, 1.0)


def test_statistics_alone_cost_their_share() -> None:
    for share in (0.02, 0.1, 0.5):
        found = plan(private_study(2.0, statistics_share=share)).spends()[1]
        assert 2.0 * share - 0.01 <= epsilon([found], DELTA) <= 2.0 * share


def test_every_release_of_statistics_is_counted() -> None:
    """Sums and histogram; of withheld statistics the number of positives alone; exact ones are outside epsilon."""
    plans = {s: plan(private_study(2.0, statistics=s)) for s in ("private", "withheld", "exact")}
    assert {s: p.releases for s, p in plans.items()} == {"private": 2, "withheld": 1, "exact": 0}
    assert plans["exact"].statistics is None
    assert plans["exact"].training.noise_multiplier < plans["private"].training.noise_multiplier
    assert plans["withheld"].statistics != plans["private"].statistics, "one release needs less noise for its share"


def test_spare_rounds_are_paid_for() -> None:
    spare, none = plan(private_study(2.0, spare_rounds=5)), plan(private_study(2.0))
    assert spare.training.noise_multiplier > none.training.noise_multiplier
    assert epsilon(spare.spends(), DELTA) == pytest.approx(epsilon(none.spends(), DELTA), abs=2e-3)


@pytest.mark.parametrize("word", ["noise_multiplier", "noise", "sigma"])
def test_a_noise_cannot_be_written_in_a_study(word: str) -> None:
    with pytest.raises(ValueError, match=f"privacy.{word}"):
        private_study(3.0, **{word: 1.0})


def test_a_study_without_privacy_has_no_plan() -> None:
    with pytest.raises(ConfigError, match=r"\[privacy\]"):
        plan(tables_study())


def test_a_promise_that_no_noise_can_keep_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"raise privacy\.statistics_share"):
        plan(private_study(1e-6, statistics_share=1e-3, delta=1e-12))


def test_a_plan_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    study = private_study(2.5, rounds=7)
    first = plan(study)
    monkeypatch.setattr(accounting, "_noise", None)
    assert plan(private_study(2.5, rounds=7)) == first


def test_reading_a_study_brings_no_torch() -> None:
    code = "import sys, sarco_models.accounting; raise SystemExit('torch' in sys.modules or 'opacus' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603 - our own interpreter


def private_study(
    target: float, *, rate: float = 1.0, steps: int = 2, rounds: int = 5, accountant: str = "prv", **privacy: Any
) -> StudyConfig:
    section = {"epsilon": target, "delta": DELTA, "sample_rate": rate, "accountant": accountant, **privacy}
    return tables_study(
        training={"local_steps": steps, "balance_classes": False}, federation={"rounds": rounds}, privacy=section
    )


def test_the_study_of_these_tests_is_read_as_a_file_is() -> None:
    assert isinstance(private_study(1.0).privacy, PrivacyConfig)
    assert json.loads(private_study(1.0).model_dump_json())["privacy"]["epsilon"] == 1.0


# --- others' accountants ----------------------------------------------------------------------------------------------


def balle_wang(noise: float, delta: float) -> float:
    """Epsilon of one Gaussian release of sensitivity 1, exactly; Balle and Wang (2018), theorem 8."""

    def excess(found: float) -> float:
        first = norm.cdf(1 / (2 * noise) - found * noise)
        return float(first - math.exp(found + norm.logcdf(-1 / (2 * noise) - found * noise)) - delta)

    return 0.0 if excess(0.0) <= 0 else float(brentq(excess, 0.0, 500.0, xtol=1e-12))


def uninterrupted(spends: Iterable[Spend], accountant: Accountant) -> float:
    """One accountant of Opacus, stepped as an optimizer would, merged only as it merges itself."""
    theirs = PRVAccountant() if accountant == "prv" else RDPAccountant()
    for spend in sorted(spends, key=lambda s: (s.noise_multiplier, s.sample_rate)):
        for _ in range(spend.steps):
            theirs.step(noise_multiplier=spend.noise_multiplier, sample_rate=spend.sample_rate)
    with np.errstate(divide="ignore"):
        return float(theirs.get_epsilon(DELTA))


def of_dp_accounting(spends: Iterable[Spend], accountant: str) -> float:
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
    from dp_accounting.pld import PLDAccountant
    from dp_accounting.rdp import RdpAccountant

    spends = list(spends)
    high = accounting._HIGH_ORDERS if all(s.sample_rate == 1 for s in spends) else ()
    orders = [*accounting._ORDERS, *high]
    mesh = 1e-4 if epsilon(spends, DELTA, "rdp") < 2 else 1e-3
    theirs = PLDAccountant(value_discretization_interval=mesh) if accountant == "pld" else RdpAccountant(orders)
    for spend in spends:
        event: Any = GaussianDpEvent(spend.noise_multiplier)
        if spend.sample_rate < 1:
            event = PoissonSampledDpEvent(spend.sample_rate, event)
        theirs.compose(event, spend.steps)
    return float(theirs.get_epsilon(DELTA))
