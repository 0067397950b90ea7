"""What hospitals say of the muscles that a released model finds: held against what can be true, and kept.

An empty sentence means that nothing is wrong; see :mod:`server.replies`.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path

from sarco_models.agreement import FEWEST, PairSums
from sarco_models.config import StudyConfig
from sarco_models.errors import UndefinedMetric
from sarco_models.intervals import Estimate
from sarco_models.segmentation_scores import MEASURES, PAIR_PARTS, SIZES, TOLD_SIZES
from sarco_models.wire import Measured
from server.members import Member
from server.whole_files import write_json

FILE = "measured.json"
_PARTS = ("n", "mean", "sd")


def measured_fault(reply: Measured, site: Member, study: StudyConfig) -> str:
    """What is wrong with a site's answer to :class:`sarco_models.messages.Measure`."""
    held_out = site.participants - site.training
    if reply.site != site.site:
        return f"answers in the name of {reply.site[:80]}"
    if not 0 < reply.participants <= held_out:
        return f"measured {reply.participants} people; described itself with {held_out} beside those in training"
    muscles = study.segmentation.names if study.segmentation else ()
    expected: dict[str, tuple[str, ...]] = {f"{muscle}.{measure}": _PARTS for muscle in muscles for measure in MEASURES}
    expected |= {f"{muscle}.{size}": PAIR_PARTS for muscle in muscles for size in TOLD_SIZES}
    for stem in sorted({name.rpartition(".")[0] for name in reply.metrics}):
        if stem not in expected:
            return f"metric {stem[:60]} is none of the study's"
        wrong = _sums_wrong if expected[stem] == PAIR_PARTS else _wrong
        fault = wrong(stem, [reply.metrics.get(f"{stem}.{part}") for part in expected[stem]], reply.participants)
        if fault:
            return fault
    extra = set(reply.metrics) - {f"{stem}.{part}" for stem, parts in expected.items() for part in parts}
    return f"metric {min(extra)[:60]} is none of the study's" if extra else ""


def write_measured(folder: Path, replies: Mapping[str, Measured]) -> None:
    """Write what the sites of a run have measured, by name."""
    found = {site: {"participants": reply.participants, **reply.metrics} for site, reply in replies.items()}
    write_json(folder / FILE, found)


def read_measured(folder: Path) -> dict[str, dict[str, float]]:
    """Site -> ``participants`` and all that :class:`sarco_models.messages.Measured` holds; empty in another study."""
    path = folder / FILE
    found: dict[str, dict[str, float]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


@dataclass(frozen=True)
class Agreed:
    """How far a size in found and in drawn masks agree over all hospitals that told of it, participants' means.

    Attributes:
        muscle: name in the study.
        size: ``thickness_mm`` or ``csa_cm2``.
        participants: of all hospitals together.
        sites: who told of it.
        bias, lower, upper: found minus drawn, and the limits within which 95 % of participants' differences lie.
        icc: ICC(2,1) of participants' means; None where nothing differs between them.
    """

    muscle: str
    size: str
    participants: int
    sites: tuple[str, ...]
    bias: Estimate
    lower: Estimate
    upper: Estimate
    icc: Estimate | None


def agreed(measured: Mapping[str, Mapping[str, float]], muscles: Sequence[str]) -> Iterator[Agreed]:
    """Agreement of each muscle's sizes, from the sums of all hospitals; what nobody told of is absent.

    Args:
        measured: see :func:`read_measured`.
        muscles: names in the study.
    """
    for muscle in muscles:
        for size in TOLD_SIZES:
            told = {site: _sums(found, f"{muscle}.{size}") for site, found in measured.items()}
            known = {site: sums for site, sums in told.items() if sums}
            if known:
                together = reduce(add, known.values())
                try:
                    icc = together.icc()
                except UndefinedMetric:
                    icc = None
                yield Agreed(muscle, size, together.n, tuple(known), *together.limits(), icc)


def _sums(found: Mapping[str, float], stem: str) -> PairSums | None:
    if f"{stem}.n" not in found:
        return None
    n, *rest = (found[f"{stem}.{part}"] for part in PAIR_PARTS)
    return PairSums(int(n), *rest)


def _sums_wrong(stem: str, parts: list[float | None], participants: int) -> str:
    """What is wrong with the sums of one size: no two lists of so many positive numbers have them."""
    known = [float(part) for part in parts if part is not None]
    if len(known) < len(parts):
        return f"{stem} comes without one of {', '.join(PAIR_PARTS)}"
    n, a, b, aa, bb, ab = known
    most, slack = SIZES[stem.partition(".")[2]], 1 + 1e-9
    possible = (
        all(math.isfinite(part) and part >= 0 for part in known)
        and n.is_integer()
        and FEWEST <= n <= participants
        and max(a, b) <= most * n
        and a * a <= n * aa * slack
        and b * b <= n * bb * slack
        and ab * ab <= aa * bb * slack
    )
    return "" if possible else f"{stem}: n = {n:g} and sums {', '.join(f'{v:g}' for v in known[1:])}: none are possible"


def _wrong(stem: str, parts: list[float | None], participants: int) -> str:
    """What is wrong with one measure of one muscle."""
    if None in parts:
        return f"{stem} comes without its n, mean or sd"
    n, mean, sd = (float(part) for part in parts if part is not None)
    if not (math.isfinite(mean) and math.isfinite(sd) and sd >= 0 and n.is_integer() and 1 <= n <= participants):
        return f"{stem}: {n:g} people, mean {mean:g}, SD {sd:g}: no such numbers are possible"
    low, high = MEASURES[stem.partition(".")[2]]
    return "" if low <= mean <= high else f"{stem}: a mean of {mean:g} is not from {low:g} to {high:g}"
