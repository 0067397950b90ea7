"""A score is held against the truth, and a participant has one vote however many images there are."""

import numpy as np
import pytest

from sarco_models.errors import UndefinedMetric
from sarco_models.score_check import ScoreCheck


def check(scores: list[float], dices: list[float], owners: str = "") -> ScoreCheck:
    return ScoreCheck(np.array(scores), np.array(dices), tuple(owners or map(str, range(len(scores)))))


def test_shares_below_and_above_a_score_are_counted() -> None:
    made = check([0.1, 0.2, 0.5, 0.7, 0.9, 1.0], [0.3, 0.9, 0.7, 0.85, 0.95, 0.79])
    assert made.below(0.6).bad == pytest.approx(2 / 3)
    assert made.above(0.6).bad == pytest.approx(1 / 3)
    assert made.below(0.05).bad is None
    assert sum(b.masks for b in made.bins()) == 6, "a score of exactly 1 is in the last bin"


def test_a_participant_with_many_images_has_one_vote() -> None:
    made = check([0.9] * 10, [0.5] * 9 + [0.9], "aaaaaaaaab")
    assert made.above(0.5).dice == pytest.approx((0.5 + 0.9) / 2)
    assert made.above(0.5).bad == pytest.approx(0.5)
    assert made.above(0.5).people == 2


def test_ranks_are_of_participants() -> None:
    rising = check([0.1, 0.3, 0.5, 0.7], [0.2, 0.4, 0.6, 0.8])
    assert rising.spearman == pytest.approx(1)
    assert check([0.1, 0.9, 0.5, 0.7], [0.9, 0.1, 0.6, 0.4], "abcd").spearman == pytest.approx(-1)
    with pytest.raises(UndefinedMetric, match="three participants"):
        _ = check([0.1, 0.2, 0.3], [0.1, 0.2, 0.3], "aab").spearman


def test_the_threshold_keeps_its_word_on_the_masks_it_was_made_of() -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0, 1, 400)
    dices = np.clip(scores + rng.normal(0, 0.1, 400), 0, 1)
    made = ScoreCheck(scores, dices, tuple(map(str, range(400))))
    threshold = made.threshold(bad=0.05)
    assert (made.above(threshold).bad or 0) <= 0.05
    lower = scores[scores < threshold].max()
    assert (made.above(lower).bad or 0) > 0.05, "a lower one would do as well"


def test_equal_scores_stand_or_fall_together() -> None:
    made = check([0.9, 0.9, 0.9, 0.2], [0.9, 0.9, 0.1, 0.9])
    with pytest.raises(UndefinedMetric, match="at every score"):
        made.threshold(bad=0.2)


@pytest.mark.parametrize(
    ("scores", "dices", "words"),
    [([], [], "one each"), ([0.5], [0.5, 0.6], "one each"), ([np.nan, 1.0], [0.5, 0.6], "no number")],
)
def test_what_cannot_be_counted_is_refused(scores: list[float], dices: list[float], words: str) -> None:
    with pytest.raises(UndefinedMetric, match=words):
        check(scores, dices)
