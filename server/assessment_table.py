"""What the sites themselves say of the released model, as a coordinator reads it: a row each, and all of them together.

Every number is a site's own answer, on its test participants, at the threshold that was frozen before; what a site
withholds is shown as withheld. Rows and sentences are plain text: the command prints them.
"""

from collections.abc import Mapping

from sarco_models.errors import UndefinedMetric
from sarco_models.heterogeneity import Pooled
from sarco_models.intervals import Estimate, proportion
from sarco_models.site_evaluation import Calls, SiteEvaluation, forest, pooled_auc_range, pooled_calls

HEADINGS = ("site", "people", "cases", "AUC", "sensitivity", "specificity")
WITHHELD = "withheld"


def rows(assessments: Mapping[str, SiteEvaluation]) -> list[tuple[str, ...]]:
    """One row for each site, in the order of :data:`HEADINGS`; 95 % intervals are on a line of their own."""
    return [
        (
            site,
            str(found.participants),
            WITHHELD if found.positives is None else str(found.positives),
            _area(found),
            _share(found.found),
            _share(found.spared),
        )
        for site, found in assessments.items()
    ]


def sentences(assessments: Mapping[str, SiteEvaluation], threshold: float) -> list[str]:
    """What the sites say together: the forest's summary, calls added up, and everybody's AUC from the histograms."""
    found = list(assessments.values())
    said = [f"calls at the frozen threshold {threshold:.4f}, on test participants; 95 % intervals"]
    try:
        said += _pooled(forest(found))
    except UndefinedMetric as error:
        said.append(f"no AUC over sites: {error}")
    for name, calls in pooled_calls(found).items():
        over = f"{calls.sites} site{'s' if calls.sites > 1 else ''}"
        said.append(f"{name} over {over}: {_estimate(calls.share)}, n = {calls.participants}")
    try:
        area = pooled_auc_range(found)
    except UndefinedMetric as error:
        return [*said, f"no AUC of all people together: {error}"]
    people = sum(f.participants for f in found if f.histogram)
    return [
        *said,
        f"AUC of all {people} people together, from the sites' merged histograms: {area.value:.3f}; the exact one is "
        f"certainly between {area.low:.3f} and {area.high:.3f}",
    ]


def _pooled(pooled: Pooled) -> list[str]:
    said = [f"AUC over {pooled.sites} sites, random effects (Hartung-Knapp): {_estimate(pooled.random)}"]
    if pooled.prediction:
        said.append(f"a further site would lie at {_estimate(pooled.prediction)} (prediction interval)")
    return [*said, pooled.caution] if pooled.caution else said


def _estimate(value: Estimate) -> str:
    return f"{value.value:.3f} ({value.low:.3f} to {value.high:.3f})"


def _area(found: SiteEvaluation) -> str:
    area = found.auc_interval()
    return f"{area.value:.3f}\n{area.low:.3f} to {area.high:.3f}" if area else WITHHELD


def _share(calls: Calls | None) -> str:
    if calls is None:
        return WITHHELD
    everybody = calls.right + calls.wrong
    share = proportion(calls.right, everybody)
    return f"{calls.right}/{everybody} = {share.value:.3f}\n{share.low:.3f} to {share.high:.3f}"
