"""A found muscle is doubted for reasons that a person would have, and says which."""

import numpy as np
import pytest
from numpy.typing import NDArray

from sarco_models.plausible import NOTHING, edge_entropy, judge, largest_pieces
from sarco_models.segmenter import Found
from sarco_models.shapes import ShapeSums
from sarco_models.views import View
from tests.sarco_models.test_shapes import MM, SHAPE, ellipse, people


def found(mask: NDArray[np.bool_], sure: float = 0.98, agreement: tuple[float | None, ...] = ()) -> Found:
    """A network that is as sure everywhere of what it has found."""
    p = np.where(mask, sure, 1 - sure).astype(np.float32)
    view = View(SHAPE, 64, (0.0, 100.0), (0.0, 160.0), None)
    return Found(mask.astype(np.uint8), np.stack([1 - p, p]), view, 1, agreement)


# ---- the score -------------------------------------------------------------------------------------------------------


def test_a_sure_and_shapely_muscle_is_accepted_without_reasons() -> None:
    quality = judge(found(ellipse(), agreement=(0.97,)), 1, MM)
    assert quality.accepted
    assert quality.score > 0.8
    assert quality.reasons == ()


def test_an_unsure_network_expects_the_dice_that_it_gets() -> None:
    """Where probabilities are right, the expected Dice is the Dice: 2 E|A and B| / (E|A| + |B|)."""
    rng = np.random.default_rng(0)
    p = np.clip(rng.normal(0.2, 0.3, SHAPE) + 0.6 * ellipse(), 0.001, 0.999).astype(np.float32)
    view = View(SHAPE, 64, (0.0, 100.0), (0.0, 160.0), None)
    guessed = Found((p > 0.5).astype(np.uint8), np.stack([1 - p, p]), view)
    truths = [rng.uniform(size=SHAPE) < p for _ in range(20)]
    dices = [2 * (t & guessed.mask(1)).sum() / (t.sum() + guessed.mask(1).sum()) for t in truths]
    assert judge(guessed, 1, MM).expected_dice == pytest.approx(np.mean(dices), abs=0.01)


@pytest.mark.parametrize(
    ("spoiled", "words"),
    [
        (lambda: found(ellipse(), sure=0.6), "expects a Dice"),
        (lambda: found(ellipse(), agreement=(0.5,)), "mirrored"),
        (lambda: found(ellipse() | ellipse((15, 20), (9, 15))), "1 further piece"),
        (lambda: found(ellipse() & ~ellipse(half=(9, 25))), "holes"),
        (lambda: found(ellipse((4, 80))), "top of the frame"),
        (lambda: found(ellipse((50, 150))), "right side"),
    ],
)
def test_what_is_wrong_lowers_the_score_and_is_said(spoiled: object, words: str) -> None:
    good = judge(found(ellipse()), 1, MM)
    worse = judge(spoiled(), 1, MM)  # type: ignore[operator]
    assert worse.score < good.score
    assert any(words in reason for reason in worse.reasons)


def test_an_outline_where_a_panorama_ends_is_no_outline_of_a_muscle() -> None:
    mask, blank = ellipse(), np.zeros(SHAPE, dtype=bool)
    blank[60:] = True
    cut = found(mask & ~blank)
    seen = Found(cut.classes, cut.probabilities, cut.view, blank=blank)
    assert judge(seen, 1, MM).score == pytest.approx(0.7 * judge(cut, 1, MM).score, rel=0.05)
    assert "of its outline is where the picture ends" in judge(seen, 1, MM).reasons[0]
    blank[:70] = False
    assert judge(Found(cut.classes, cut.probabilities, cut.view, blank=blank), 1, MM) == judge(cut, 1, MM)


def test_a_muscle_of_another_size_than_people_draw_is_doubted() -> None:
    shapes, owners = people(30)
    drawn = ShapeSums.of(shapes, owners).range()
    tiny = found(ellipse(half=(4, 12)), sure=0.9999)
    assert judge(tiny, 1, MM, drawn=drawn).score < 0.5 < judge(tiny, 1, MM).score
    assert "of drawn ones" in judge(tiny, 1, MM, drawn=drawn).reasons[0], "the heaviest reason comes first"


def test_nothing_found_has_no_score() -> None:
    assert judge(found(np.zeros(SHAPE, dtype=bool)), 1, MM) == NOTHING
    assert not NOTHING.accepted


def test_the_threshold_decides() -> None:
    score = judge(found(ellipse()), 1, MM).score
    assert judge(found(ellipse()), 1, MM, threshold=score).accepted
    assert not judge(found(ellipse()), 1, MM, threshold=score + 0.01).accepted


def test_entropy_is_of_the_edge_alone() -> None:
    mask = ellipse()
    p = np.where(mask, 0.99, 0.01).astype(np.float32)
    far = p.copy()
    far[:10] = 0.5
    assert edge_entropy(far, mask, MM) == edge_entropy(p, mask, MM)
    assert edge_entropy(np.full(SHAPE, 0.5, np.float32), mask, MM) == pytest.approx(1)


# ---- cleaning --------------------------------------------------------------------------------------------------------


def test_only_the_largest_piece_of_each_muscle_is_left_and_the_rest_is_said() -> None:
    classes = np.zeros(SHAPE, np.uint8)
    classes[ellipse()] = 1
    classes[2:6, 2:7] = 1
    classes[90:95, 100:140] = 2
    cleaned = largest_pieces(classes)
    np.testing.assert_array_equal(cleaned.classes == 1, ellipse())
    np.testing.assert_array_equal(cleaned.classes == 2, classes == 2)
    assert cleaned.words(("rectus femoris", "biceps")) == ("1 smaller piece of rectus femoris removed (20 pixels)",)
    assert largest_pieces(cleaned.classes).words(("a", "b")) == ()


def test_both_bellies_are_kept_and_it_is_said_what_is_measured() -> None:
    classes = np.zeros(SHAPE, np.uint8)
    classes[ellipse((50, 0), (15, 30)) | ellipse((50, SHAPE[1]), (15, 30))] = 1
    np.testing.assert_array_equal(largest_pieces(classes).classes, classes)
    classes[2:6, 60:67] = 1
    cleaned = largest_pieces(classes)
    assert cleaned.words(("rectus abdominis",)) == ("1 smaller piece of rectus abdominis removed (28 pixels)",)
    quality = judge(found(cleaned.classes == 1), 1, MM)
    assert "of two bellies; thickness and width are of the larger one" in " ".join(quality.reasons)
    assert "further piece" not in " ".join(quality.reasons)


def test_a_trace_of_another_muscle_is_removed_and_said() -> None:
    classes = np.zeros(SHAPE, np.uint8)
    classes[ellipse()] = 1
    classes[2:6, 2:7] = 2
    cleaned = largest_pieces(classes)
    assert not (cleaned.classes == 2).any()
    assert cleaned.words(("rectus femoris", "biceps")) == ("a trace of biceps removed (20 pixels)",)


def test_nothing_is_cleaned_where_nothing_was_found() -> None:
    assert not largest_pieces(np.zeros(SHAPE, np.uint8)).classes.any()
