"""What differential privacy costs a participant: facts in, epsilon out, and the noise that a study needs.

A :class:`Spend` is a fact: so much noise, such a chance to take part, so many steps. Epsilon is never stored, added or
averaged; it is computed from all facts together (:func:`epsilon`) by Opacus: ``prv`` composes privacy loss random
variables numerically (Gopi et al. 2021), ``rdp`` Renyi divergences (Mironov 2017; Mironov et al. 2019). Both are upper
bounds. The order of the facts is of no matter, and equal ones are merged, so that a ledger over many restarts and one
uninterrupted accountant say the same.

The unit is one participant with all images and all table values. The assumptions, all of them:

* Two neighbouring hospitals' data differ by one participant who is added or removed. Whether a given person is
  replaced by another is a larger step and is not bounded by the same number.
* Each step adds Gaussian noise of ``noise_multiplier`` times the L2 norm that one participant can change a sum by. The
  sum is of participants drawn independently, each with chance ``sample_rate`` (Poisson sampling); 1 is everybody.
* Noise and sampling come from entropy that nobody else knows.
* A participant belongs to one hospital: what others do with their own participants costs this one nothing (parallel
  composition). Who is at two hospitals pays at both.
* The coordinator sees every answer of a hospital. Secure aggregation makes what is seen less, never epsilon larger.

The noise of a study is not a setting. :func:`plan` finds it from epsilon, delta and everything that the study does.
"""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sarco_models.config import PrivacyConfig, StudyConfig
from sarco_models.errors import ConfigError

Accountant = Literal["prv", "rdp"]

PRV_ERROR = 0.01
"""``prv`` is the upper end of an interval of this half width; Opacus' default."""

_LOW_ORDERS = tuple(1 + x / 10 for x in range(1, 100))
_ORDERS = (*_LOW_ORDERS, *range(12, 64), 64, 80, 96, 128, 192, 256, 384, 512)
"""Orders of the Renyi divergence: those of Opacus, and larger ones for small epsilons."""

_HIGH_ORDERS = tuple(float(2**k) for k in range(10, 21))
"""Beyond them a sampled step is bounded by the same step without sampling, which costs nothing to compute."""

_MOST_POINTS = 1 << 22
"""A privacy loss on more points takes minutes and gigabytes; it is one of epsilons beyond any use."""

_TOLERANCE = 1e-3
_SIGNIFICANT = 5
_MOST_NOISE = 1e7


@dataclass(frozen=True)
class Spend:
    """What was done with everybody of a group of participants.

    Attributes:
        noise_multiplier: standard deviation of the noise over what one participant can change; 0 is no noise at all,
            and no epsilon is large enough then.
        sample_rate: chance of each participant to be in a step, above 0 up to 1.
        steps: how often, 1 or more.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int

    def __post_init__(self) -> None:
        """What cannot be a fact is a mistake of the caller."""
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier >= 0):
            raise ValueError(f"noise_multiplier = {self.noise_multiplier}; expected a number of 0 or more")
        if not 0 < self.sample_rate <= 1:
            raise ValueError(f"sample_rate = {self.sample_rate}; expected a chance above 0 and up to 1")
        if self.steps < 1:
            raise ValueError(f"steps = {self.steps}; expected 1 or more")


UNPROTECTED = Spend(noise_multiplier=0.0, sample_rate=1.0, steps=1)
"""One round, or one release, without differential privacy."""


def merged(spends: Iterable[Spend]) -> tuple[Spend, ...]:
    """Equal noise and rate added up, in an order that does not depend on the order that they came in."""
    steps: Counter[tuple[float, float]] = Counter()
    for spend in spends:
        steps[spend.noise_multiplier, spend.sample_rate] += spend.steps
    return tuple(Spend(noise, rate, steps[noise, rate]) for noise, rate in sorted(steps))


def epsilon(spends: Iterable[Spend], delta: float, accountant: Accountant = "prv") -> float:
    """Epsilon of everything together, an upper bound at ``delta``; 0 for nothing, infinite where a step had no noise.

    ``prv`` gives what Opacus' accountant gives, or the Renyi bound where that is smaller (epsilons below .05) or where
    the privacy loss would need more than four million points (epsilons in the hundreds).

    More spending never lowers ``rdp``. ``prv`` may fall by what its grid rounds, less than .001: each value is an upper
    bound of its own, and who decides by it decides rightly.

    Args:
        spends: in any order; noise and rate need not be the same.
        delta: chance that the bound fails, above 0 and below 1; below one divided by the number of participants.
        accountant: how it is computed.

    Raises:
        ValueError: delta is no such chance.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta = {delta}; expected a chance above 0 and below 1")
    history = merged(spends)
    if not history:
        return 0.0
    if history[0].noise_multiplier == 0:
        return math.inf
    return _epsilon(history, delta, accountant)


@lru_cache(maxsize=8192)
def _epsilon(history: tuple[Spend, ...], delta: float, accountant: Accountant) -> float:
    bound = _renyi_epsilon(history, delta)
    if accountant == "rdp" or _points(history, delta) > _MOST_POINTS:
        return bound
    return min(bound, _numerical_epsilon(history, delta))


def _numerical_epsilon(history: tuple[Spend, ...], delta: float) -> float:
    """Opacus' PRV accountant; infinite where its numbers do not hold together, and it says so."""
    from opacus.accountants import PRVAccountant  # it brings torch, and who only reads a study needs none

    accountant = PRVAccountant()
    accountant.history = [(s.noise_multiplier, s.sample_rate, s.steps) for s in history]
    # At a sample rate of 1 it takes the logarithm of 0, rightly; the orders matter for the size of its grid only.
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = float(accountant.get_epsilon(delta, eps_error=PRV_ERROR))
        except (RuntimeError, ValueError):
            return math.inf
    return found if math.isfinite(found) and found >= 0 else math.inf


def _points(history: tuple[Spend, ...], delta: float) -> float:
    """How many points Opacus' grid would have; Gopi et al. (2021), theorem 5.5 and remark 5.6."""
    error = delta / 1000
    half = _renyi_epsilon(history, error / 4) + 3
    mesh = PRV_ERROR / math.sqrt(sum(s.steps for s in history) * math.log(12 / error) / 2)
    return 2 * half / mesh


def _renyi_epsilon(history: tuple[Spend, ...], delta: float) -> float:
    """Smallest epsilon over all orders; Balle et al. (2020), theorem 21, through Opacus."""
    from opacus.accountants.analysis.rdp import get_privacy_spent

    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the largest order may be the best: the bound holds all the same
        curve = sum(_renyi_curve(s.noise_multiplier, s.sample_rate) * s.steps for s in history)
        found, _order = get_privacy_spent(orders=[*_ORDERS, *_HIGH_ORDERS], rdp=curve, delta=delta)
    return max(float(found), 0.0) if not math.isnan(found) else math.inf


@lru_cache(maxsize=1024)
def _renyi_curve(noise: float, rate: float) -> NDArray[np.float64]:
    """(orders,) Renyi divergence of one step."""
    from opacus.accountants.analysis.rdp import compute_rdp

    # Where a series cannot be summed in double precision there is no bound but infinity.
    with np.errstate(all="ignore"):
        try:
            low = compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=list(_ORDERS))
            high = compute_rdp(q=1.0, noise_multiplier=noise, steps=1, orders=list(_HIGH_ORDERS))
        except ArithmeticError:
            return np.full(len(_ORDERS) + len(_HIGH_ORDERS), np.inf)
    curve = np.concatenate([low, high])
    return np.maximum(np.where(np.isnan(curve), np.inf, curve), 0.0)


# --- the noise that a study needs -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """Everything that a study does with one participant.

    Attributes:
        training: one round.
        statistics: one release of sums, counts or a histogram; None where none is released with noise.
        releases: how many of those; 0 without ``statistics``.
        rounds: of training, spare ones included.
    """

    training: Spend
    statistics: Spend | None
    releases: int
    rounds: int

    def spends(self) -> tuple[Spend, ...]:
        """The whole study."""
        training = replace(self.training, steps=self.training.steps * self.rounds)
        if self.statistics is None:
            return (training,)
        return training, replace(self.statistics, steps=self.statistics.steps * self.releases)


RELEASES: Mapping[str, int] = {"private": 2, "withheld": 1, "exact": 0}
"""Statistics that a study releases under noise: ``Described`` (sums over the tables that the model uses and the number
of positives, one vector with one noise; of withheld statistics that number alone) and ``Evaluated`` (the score
histogram). An answer that is given again is given from what was kept, and costs nothing; one that is made anew is
another release, and is charged as one. A study that finds muscles releases none, for nobody is a case and no table is
read; but for the sums that an nnU-Net is planned from."""


def plan(study: StudyConfig) -> Plan:
    """How much noise makes the whole study cost its epsilon at its delta, and not more.

    With ``privacy.statistics = "private"`` or ``"withheld"`` the statistics get the noise at which they alone would
    cost ``statistics_share`` of epsilon; training then gets the noise at which everything together costs epsilon. Both
    are found to .001 below the target and never above, by the study's own accountant, for ``rounds + spare_rounds``
    rounds of ``local_steps`` steps at ``sample_rate``. What "exact" statistics show is outside epsilon.

    Raises:
        ConfigError: the study has no [privacy], or no noise is large enough.
    """
    cfg = study.privacy
    if cfg is None:
        raise ConfigError(f"study {study.name} has no [privacy]: there is no noise to plan; add the section")
    releases = 0 if study.segments and not study.unplanned else RELEASES[cfg.statistics]
    return _plan(cfg, study.federation.rounds + cfg.spare_rounds, study.training.local_steps, releases)


@lru_cache(maxsize=256)
def _plan(cfg: PrivacyConfig, rounds: int, local_steps: int, releases: int) -> Plan:
    """Cached by all that it depends on."""
    statistics = None
    if releases:
        share = cfg.statistics_share * cfg.epsilon
        statistics = Spend(_noise(lambda noise: (Spend(noise, 1.0, releases),), share, cfg, "statistics_share"), 1.0, 1)

    def study(noise: float) -> tuple[Spend, ...]:
        training = Spend(noise, cfg.sample_rate, local_steps * rounds)
        return (training,) if statistics is None else (training, replace(statistics, steps=releases))

    noise = _noise(study, cfg.epsilon, cfg, "epsilon")
    training = Spend(noise, cfg.sample_rate, local_steps)
    return Plan(training, statistics, releases, rounds)


def _noise(spends: Callable[[float], tuple[Spend, ...]], target: float, cfg: PrivacyConfig, field: str) -> float:
    """The least noise, to five digits, at which ``spends`` of it cost at most ``target`` and hardly less.

    Renyi accounting, which takes no time, gives a noise that is enough by either accountant; from there false position
    in the logarithms of noise and epsilon, where the curve is nearly straight, and bisection where that stalls.
    """

    def cost(noise: float, accountant: Accountant) -> float:
        return epsilon(spends(noise), cfg.delta, accountant)

    enough = _enough(lambda noise: cost(noise, "rdp"), spends, target, field)
    low, high = enough, enough
    while cost(low, cfg.accountant) <= target:
        high, low = low, low / 1.25
    floor = target - _TOLERANCE * min(1.0, target)
    for k in range(60):
        found = cost(high, cfg.accountant)
        if found >= floor:
            break
        middle = _rounded_up(_between(low, high, (cost(low, cfg.accountant), found, target), halve=k % 3 == 2))
        if cost(middle, cfg.accountant) <= target:
            high = middle
        else:
            low = middle
    return _rounded_up(high)


def _enough(
    cost: Callable[[float], float], spends: Callable[[float], tuple[Spend, ...]], target: float, field: str
) -> float:
    """A noise that costs at most ``target``, and less than a quarter more than the least one."""
    # About right for sampled and full batches alike: everything as one Gaussian release.
    noise = max(0.3, 4 * math.sqrt(sum(s.steps * s.sample_rate**2 for s in spends(1.0))) / target)
    while cost(noise) > target:
        noise *= 1.25
        if noise > _MOST_NOISE:
            raise ConfigError(
                f"privacy.{field}: no noise up to {_MOST_NOISE:g} brings the cost down to {target:.4g}: raise "
                f"privacy.{field} or privacy.delta, or lower training.local_steps or federation.rounds"
            )
    while cost(noise / 1.25) <= target:
        noise /= 1.25
    return noise


def _between(low: float, high: float, costs: tuple[float, float, float], *, halve: bool) -> float:
    """Where the straight line between two noises meets the target; ``costs`` are those of both and the target."""
    at_low, at_high, target = (math.log(max(cost, 1e-300)) for cost in costs)
    share = 0.5 if halve or not at_low > at_high else (at_low - target) / (at_low - at_high)
    return math.exp(math.log(low) + min(max(share, 0.02), 0.98) * (math.log(high) - math.log(low)))


def _rounded_up(noise: float) -> float:
    """To five significant digits: the same on every machine, short to read, and never less than it was."""
    step = 10.0 ** (math.floor(math.log10(noise)) + 1 - _SIGNIFICANT)
    return float(f"{math.ceil(noise / step - 1e-9) * step:.{_SIGNIFICANT}g}")
