"""What a hospital tells of the final model of a study that finds muscles, beside loss and Dice of validation people.

Dice of each muscle on validation participants (where ``metrics`` of site.toml has dice), sums of the shapes of muscles
that were drawn on training participants (``sums``), and how many validation participants' muscles were found well or
badly, by quality score (``histogram``). Nothing is of fewer people than ``min_cell``. Sums and counts are exact:
a private study has neither, unless it says so itself.
"""

import logging

from client.scoring import allowed, reader_of
from client.workspace import Site
from sarco_models.accepted import good_and_bad, scored_people
from sarco_models.aims import finding
from sarco_models.drawn_shapes import drawn_shapes
from sarco_models.errors import UndefinedMetric
from sarco_models.histograms import MergedHistogram
from sarco_models.segmentation_reader import SegmentationReader
from sarco_models.segmentation_scores import in_a_round, score, told
from sarco_models.shapes import told_shapes
from sarco_models.wire import Evaluate, Evaluated

log = logging.getLogger(__name__)


def evaluated_muscles(site: Site, request: Evaluate) -> Evaluated:
    """The answer to Evaluate; the model has been received, and what it costs charged."""
    reader = finding(reader_of(site, request.setup))
    private = site.study.privacy
    exact = private is None or private.statistics == "exact"
    metrics = allowed(site, _scores(site, reader))
    if exact and "sums" in site.policy.statistics:
        metrics |= told_shapes(drawn_shapes(reader, site.split.train), site.policy.min_cell)
    histogram = _accepted(site, reader) if exact and "histogram" in site.policy.statistics else None
    return Evaluated(site.name, request.round, len(site.split.train), metrics, histogram)


def _scores(site: Site, reader: SegmentationReader) -> dict[str, float]:
    """Loss and Dice on validation participants; distances and sizes are measured on test participants alone."""
    people, least = site.split.validation, site.policy.min_cell
    if len(people) < least:
        return {}
    found = score(site.model.net, reader, people, each=site.wanted.each, sizes=False)
    by_muscle = {name: value for name, value in told(found, least).items() if name.split(".")[1] == "dice"}
    return in_a_round(found) | by_muscle


def _accepted(site: Site, reader: SegmentationReader) -> MergedHistogram | None:
    """Validation participants by quality score; None where they are too few to be shown."""
    people, least = site.split.validation, site.policy.min_cell
    try:
        if len(people) < max(least, 1):
            raise UndefinedMetric(f"{len(people)} validation participants; min_cell is {least}")
        scores, dices = scored_people(site.model.net, reader, people, each=site.wanted.each)
        return good_and_bad(scores, dices, num_bins=site.study.evaluation.histogram_bins, min_cell=least)
    except UndefinedMetric as error:
        log.warning("%s: no counts of validation participants by score leave: %s", site.name, error)
        return None
