"""The operating point of a released model: frozen on the sites' training participants, from their merged histograms.

A hospital in which a class has fewer people than may be shown sends no histogram: the threshold rests on the others,
and the release says on whom. Where nobody sends one, as in a study that withholds them, there is no threshold, and the
release says why.
"""

import logging
from collections.abc import Sequence
from typing import Any

from sarco_models.config import StudyConfig
from sarco_models.decisions import choose_threshold
from sarco_models.errors import UndefinedMetric
from sarco_models.histograms import binned_roc, distinct_points
from sarco_models.wire import Evaluated

log = logging.getLogger(__name__)


def frozen_threshold(replies: Sequence[Evaluated], study: StudyConfig, prevalence: float) -> dict[str, Any]:
    """The threshold on the probability, by the study's rule, from the sites' merged histograms; and whom it rests on.

    Returns:
        ``threshold``, None where nothing divides the participants; ``threshold_from``: the sites that show a histogram,
        their people, and the sites that do not; ``no_threshold``: why there is none, only then.
    """
    shown = {r.site: r.histogram for r in replies if r.histogram}
    people = [sum(int(getattr(h, part).sum()) for h in shown.values()) for part in ("positives", "negatives")]
    origin = {
        "sites": list(shown),
        "participants": sum(people),
        "positives": people[0],
        "withheld": [r.site for r in replies if not r.histogram],
    }
    cfg = study.evaluation
    try:
        if not shown:
            raise UndefinedMetric(_nobody_shows(study))
        threshold = choose_threshold(
            distinct_points(binned_roc(list(shown.values()))),
            cfg.threshold_rule,
            min_sensitivity=cfg.min_sensitivity,
            cost_ratio=cfg.cost_ratio,
            prevalence=prevalence,
        )
    except UndefinedMetric as error:
        log.warning("no threshold: %s", error)
        return {"threshold": None, "no_threshold": str(error), "threshold_from": origin}
    return {"threshold": threshold, "threshold_from": origin}


def _nobody_shows(study: StudyConfig) -> str:
    if study.segments:
        return "the study finds muscles: nobody is positive or negative"
    if study.privacy is not None and study.privacy.statistics == "withheld":
        return "the study withholds histograms (privacy.statistics)"
    return (
        "no site shows a histogram: a class has fewer people than may be shown, or the site's policy keeps histograms "
        "back (site.toml)"
    )
