"""Whether the six models stand in the paper's order of AUC, and how sure the pairs are that do not."""

from collections.abc import Mapping

from server.paper.entries import limits_text
from server.paper.finished import Finished
from server.paper.published import COMBINATIONS, Analysis
from server.results import OverSeeds
from server.tables import number

SHORT = {combination.key: combination.short for combination in COMBINATIONS}
ARMS = {combination.key: combination for combination in COMBINATIONS}


def order_sentence(run: Finished, paper: Analysis) -> str:
    """Both orders, and each pair that stands the other way round with our paired interval of its difference."""
    printed = {key: cells["auc"].value for key, cells in paper.models.items()}
    found = {key: auc_of(run, run.arm(combination)) for key, combination in ARMS.items()}
    ours = {key: each.mean for key, each in found.items() if each}
    if len(ours) < len(printed):
        lacking = ", ".join(SHORT[key] for key in printed if key not in ours)
        return f"The order of the six models cannot be compared: the run holds no AUC of {lacking}."
    theirs, mine = _ranked(printed), _ranked(ours)
    order = f"By AUC the paper orders {_words(theirs)}; "
    swapped = [(a, b) for i, a in enumerate(theirs) for b in theirs[i + 1 :] if ours[a] < ours[b]]
    if not swapped:
        return order + "ours is the same order."
    gaps = {pair: _difference(run, pair) for pair in swapped}
    pairs = "; ".join(_pair(pair, printed, ours, gap) for pair, gap in gaps.items())
    return order + f"ours {_words(mine)}. The other way round: {pairs}." + _reason(list(gaps.values()))


def auc_of(run: Finished, arm: str | None) -> OverSeeds | None:
    """AUC of an arm where the cross-validation took place."""
    return run.results.over_seeds(arm, "auc", run.site) if arm else None


def _ranked(values: Mapping[str, float]) -> list[str]:
    return sorted(values, key=lambda key: -values[key])


def _words(keys: list[str]) -> str:
    return " > ".join(SHORT[key] for key in keys)


def _difference(run: Finished, pair: tuple[str, str]) -> OverSeeds | None:
    first, second = (run.arm(ARMS[key]) for key in pair)
    return run.difference(first, second) if first and second else None


def _pair(pair: tuple[str, str], printed: Mapping[str, float], ours: Mapping[str, float], gap: OverSeeds | None) -> str:
    a, b = pair
    limits = f", 95 % {limits_text(gap.low, gap.high, 3, signed=True)}" if gap else ""
    apart = number(printed[a] - printed[b], 3, signed=True), number(ours[a] - ours[b], 3, signed=True)
    return f"{SHORT[a]} and {SHORT[b]} (paper {apart[0]}, ours {apart[1]}{limits})"


def _reason(gaps: list[OverSeeds | None]) -> str:
    """Whether chance alone explains the pairs, where their intervals are known."""
    known = [gap for gap in gaps if gap and gap.low is not None and gap.high is not None]
    if len(known) < len(gaps):
        return ""
    sure = sum(gap.high < 0 for gap in known if gap.high is not None)
    if not sure:
        which = "This difference cannot" if len(gaps) == 1 else "None of these differences can"
        return f" {which} be told from 0, so chance alone can explain the order."
    return f" Of these differences, {sure} of {len(gaps)} leave out 0: chance alone does not explain the order."
