"""What hospitals say of the muscles that a released model finds: held against what can be true, and kept.

An empty sentence means that nothing is wrong; see :mod:`server.replies`.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from sarco_models.config import StudyConfig
from sarco_models.segmentation_scores import MEASURES
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
    known = {f"{muscle}.{measure}" for muscle in muscles for measure in MEASURES}
    told = {name.rpartition(".")[0] for name in reply.metrics}
    for stem in sorted(told):
        if stem not in known:
            return f"metric {stem[:60]} is none of the study's"
        fault = _wrong(stem, [reply.metrics.get(f"{stem}.{part}") for part in _PARTS], reply.participants)
        if fault:
            return fault
    extra = set(reply.metrics) - {f"{stem}.{part}" for stem in told for part in _PARTS}
    return f"metric {min(extra)[:60]} is none of the study's" if extra else ""


def write_measured(folder: Path, replies: Mapping[str, Measured]) -> None:
    """Write what the sites of a run have measured, by name."""
    found = {site: {"participants": reply.participants, **reply.metrics} for site, reply in replies.items()}
    write_json(folder / FILE, found)


def read_measured(folder: Path) -> dict[str, dict[str, float]]:
    """Site -> ``participants`` and ``MUSCLE.MEASURE.n``, ``.mean``, ``.sd``; empty before, or in another study."""
    path = folder / FILE
    found: dict[str, dict[str, float]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _wrong(stem: str, parts: list[float | None], participants: int) -> str:
    """What is wrong with one measure of one muscle."""
    if None in parts:
        return f"{stem} comes without its n, mean or sd"
    n, mean, sd = (float(part) for part in parts if part is not None)
    if not (math.isfinite(mean) and math.isfinite(sd) and sd >= 0 and n.is_integer() and 1 <= n <= participants):
        return f"{stem}: {n:g} people, mean {mean:g}, SD {sd:g}: no such numbers are possible"
    low, high = MEASURES[stem.partition(".")[2]]
    return "" if low <= mean <= high else f"{stem}: a mean of {mean:g} is not from {low:g} to {high:g}"
