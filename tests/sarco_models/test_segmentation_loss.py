"""Each loss is Dice and cross-entropy of one person alone; what nobody looked for is neither there nor absent."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softmax

from sarco_models.segmentation import OUTSIDE
from sarco_models.segmentation_loss import merged, segmentation_loss

CLASSES = 4
SIDE = 8
OWNER = torch.tensor([0, 0, 1, 2, 2])
PEOPLE = 3


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_logits(rows: int = 5, side: int = SIDE, seed: int = 0) -> Tensor:
    return torch.randn(rows, CLASSES, side, side, generator=rng(seed), dtype=torch.float64) * 2


def some_targets(rows: int = 5, side: int = SIDE, seed: int = 1) -> Tensor:
    return torch.randint(0, CLASSES, (rows, side, side), generator=rng(seed))


def all_muscles(rows: int = 5) -> Tensor:
    return torch.ones(rows, CLASSES - 1, dtype=torch.bool)


def loss(logits: Any, targets: Tensor, annotated: Tensor | None = None) -> Tensor:
    looked_for = all_muscles(len(targets)) if annotated is None else annotated
    return segmentation_loss(logits, targets, looked_for, OWNER[: len(targets)], PEOPLE)


def by_hand(logits: Tensor, targets: Tensor) -> float:
    """1 - Dice + cross-entropy of one person's rows, all muscles drawn: pixel by pixel, class by class."""
    p, missed = softmax(logits, dim=1), []
    for k in range(1, CLASSES):
        there = targets == k
        if there.any():
            missed.append(1 - 2 * float(p[:, k][there].sum()) / float(p[:, k].sum() + there.sum()))
    return sum(missed) / max(len(missed), 1) + float(cross_entropy(logits, targets))


# ---- all muscles annotated -------------------------------------------------------------------------------------------


def test_with_all_muscles_annotated_it_is_dice_plus_cross_entropy() -> None:
    logits, targets = some_logits(), some_targets()
    expected = [by_hand(logits[OWNER.eq(person)], targets[OWNER.eq(person)]) for person in range(PEOPLE)]
    torch.testing.assert_close(loss(logits, targets), torch.tensor(expected, dtype=torch.float64))


def test_a_perfect_answer_costs_nothing_and_a_wrong_one_the_most() -> None:
    targets = some_targets()
    right = torch.nn.functional.one_hot(targets, CLASSES).movedim(-1, 1).double() * 100
    assert loss(right, targets).max() < 1e-9
    assert loss(right.roll(1, dims=1), targets).min() > 90


def test_a_muscle_that_a_person_lacks_is_taught_by_cross_entropy_and_has_no_dice() -> None:
    logits, targets = some_logits(), torch.zeros(5, SIDE, SIDE, dtype=torch.long)
    expected = torch.stack([cross_entropy(logits[OWNER.eq(k)], targets[OWNER.eq(k)]) for k in range(PEOPLE)])
    torch.testing.assert_close(loss(logits, targets), expected)


def test_the_persons_images_are_one_for_dice_so_that_a_muscle_wrongly_found_on_another_costs() -> None:
    targets = torch.zeros(2, SIDE, SIDE, dtype=torch.long)
    targets[0, :4] = 1
    right = torch.nn.functional.one_hot(targets, CLASSES).movedim(-1, 1).double() * 100
    wrong = right.clone()
    wrong[1, 1, :4] = 200
    dice = 2 * 32 / (64 + 32)
    entropy = 100 * 0.25  # of every second pixel of the two images, 100 wrong in half of one
    found = segmentation_loss(wrong, targets, all_muscles(2), torch.zeros(2, dtype=torch.long), 1)
    torch.testing.assert_close(found, torch.tensor([1 - dice + entropy], dtype=torch.float64))


# ---- whose loss it is ------------------------------------------------------------------------------------------------


def test_a_persons_loss_and_its_gradient_are_of_that_person_alone() -> None:
    logits, targets = some_logits().requires_grad_(), some_targets()
    together = loss(logits, targets)
    for person in range(PEOPLE):
        mine = OWNER.eq(person)
        alone = segmentation_loss(
            logits[mine], targets[mine], all_muscles(int(mine.sum())), torch.zeros(int(mine.sum()), dtype=torch.long), 1
        )
        torch.testing.assert_close(together[person], alone[0])
        gradient = torch.autograd.grad(together[person], logits, retain_graph=True)[0]
        assert gradient[mine].abs().sum() > 0
        assert gradient[~mine].abs().sum() == 0


def test_nobodys_rows_cost_nothing() -> None:
    assert segmentation_loss(some_logits(2), some_targets(2), all_muscles(2), torch.tensor([0, 2]), 3)[1] == 0


# ---- partial labels --------------------------------------------------------------------------------------------------

PARTIAL = torch.tensor(
    [[True, False, True], [False, False, True], [True, True, True], [False] * 3, [True, False, True]]
)


def test_probability_may_move_between_the_background_and_what_was_not_annotated() -> None:
    """By any amount, at any pixel: the loss is the same and has no gradient along the way."""
    logits, targets = some_logits(), some_targets().clamp(max=1)
    p = softmax(logits, dim=1)
    moved = p.clone()
    for row, known in enumerate(PARTIAL):
        for k in [k + 1 for k in range(3) if not known[k]]:
            share = torch.rand(SIDE, SIDE, generator=rng(row * 10 + k), dtype=torch.float64)
            moved[row, 0] += share * moved[row, k]
            moved[row, k] *= 1 - share
    assert (moved - p).abs().max() > 0.3
    torch.testing.assert_close(loss(moved.log(), targets, PARTIAL), loss(p.log(), targets, PARTIAL))
    assert not torch.allclose(loss(moved.log(), targets), loss(p.log(), targets))


def test_the_share_of_a_muscle_in_what_is_not_known_gets_no_gradient() -> None:
    """z_0 and z_k of a class that was not annotated: moved so that their sum of probabilities stays."""
    logits, targets = some_logits().requires_grad_(), some_targets().clamp(max=1)
    gradient = torch.autograd.grad(loss(logits, targets, PARTIAL).sum(), logits)[0]
    p = softmax(logits.detach(), dim=1)
    along = gradient[0, 0] / p[0, 0] - gradient[0, 2] / p[0, 2]
    assert along.abs().max() < 1e-12
    assert gradient[0, 2].abs().max() > 1e-4, "what is drawn there still pushes both of them together"


def test_with_nothing_annotated_nothing_is_learned() -> None:
    logits, targets = some_logits(1).requires_grad_(), torch.zeros(1, SIDE, SIDE, dtype=torch.long)
    nothing = torch.zeros(1, CLASSES - 1, dtype=torch.bool)
    total = segmentation_loss(logits, targets, nothing, torch.tensor([0]), 1).sum()
    assert float(total.detach()) == pytest.approx(0, abs=1e-12)
    assert torch.autograd.grad(total, logits)[0].abs().max() < 1e-12


def test_what_is_drawn_of_a_muscle_that_was_not_looked_for_is_background() -> None:
    targets = some_targets()
    cleaned = targets.clone()
    for row, known in enumerate(PARTIAL):
        for k in [k + 1 for k in range(3) if not known[k]]:
            cleaned[row][cleaned[row] == k] = 0
    assert (cleaned != targets).any()
    torch.testing.assert_close(loss(some_logits(), targets, PARTIAL), loss(some_logits(), cleaned, PARTIAL))


def test_merged_probabilities_add_up_and_are_those_of_the_sums() -> None:
    logits = some_logits()
    p, found = softmax(logits, dim=1), merged(logits, PARTIAL).exp()
    torch.testing.assert_close(found.sum(1), torch.ones_like(found[:, 0]))
    torch.testing.assert_close(found[0, 0], p[0, 0] + p[0, 2])
    torch.testing.assert_close(found[1, 0], p[1, 0] + p[1, 1] + p[1, 2])
    torch.testing.assert_close(found[2], p[2])
    assert found[0, 2].abs().max() == 0


@pytest.mark.parametrize("size", [1e4, 1e-4])
def test_extreme_logits_leave_finite_losses_and_gradients(size: float) -> None:
    logits = (some_logits().float() * size).requires_grad_()
    found = loss(logits, some_targets(), PARTIAL)
    assert torch.isfinite(found).all()
    assert torch.isfinite(torch.autograd.grad(found.sum(), logits)[0]).all()


# ---- outside, and deep supervision -----------------------------------------------------------------------------------


def test_pixels_outside_of_the_frame_count_nowhere() -> None:
    targets = some_targets()
    targets[:, :, 5:] = OUTSIDE
    logits = some_logits().requires_grad_()
    found = loss(logits, targets, PARTIAL)
    torch.testing.assert_close(found, loss(logits[..., :5], targets[..., :5], PARTIAL))
    gradient = torch.autograd.grad(found.sum(), logits)[0]
    assert gradient[..., 5:].abs().max() == 0
    assert gradient[2, :, :, :5].abs().min() > 0


def test_an_image_that_is_all_outside_costs_nothing() -> None:
    targets = torch.full((1, SIDE, SIDE), OUTSIDE)
    assert segmentation_loss(some_logits(1), targets, all_muscles(1), torch.tensor([0]), 1) == 0


def test_each_coarser_level_weighs_half_of_the_one_before() -> None:
    targets = some_targets()
    levels = [some_logits(side=8), some_logits(side=4, seed=5), some_logits(side=2, seed=6)]
    coarse = [targets, targets[:, 1::2, 1::2], targets[:, 2::4, 2::4]]
    each = [loss(level, target) for level, target in zip(levels, coarse, strict=True)]
    torch.testing.assert_close(loss(levels, targets), (4 * each[0] + 2 * each[1] + each[2]) / 7)
    torch.testing.assert_close(loss(levels[:1], targets), each[0])


def test_levels_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sides \[4, 8\]; the finest come first"):
        loss([some_logits(side=4), some_logits(side=8)], some_targets())


def test_a_guess_costs_the_logarithm_of_the_classes() -> None:
    logits, targets = torch.zeros(1, CLASSES, SIDE, SIDE), torch.zeros(1, SIDE, SIDE, dtype=torch.long)
    found = segmentation_loss(logits, targets, all_muscles(1), torch.tensor([0]), 1)
    assert float(found) == pytest.approx(math.log(CLASSES))


def test_logits_of_half_precision_are_summed_in_single() -> None:
    targets = torch.randint(0, CLASSES, (1, 64, 64), generator=rng(1))
    logits = some_logits(1, side=64).bfloat16()
    found, expected = (
        segmentation_loss(z, targets, all_muscles(1), torch.tensor([0]), 1) for z in (logits, logits.float())
    )
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


def test_muscles_and_classes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="logits of 4 classes and 2 muscles: one class is background"):
        loss(some_logits(), some_targets(), torch.ones(5, 2, dtype=torch.bool))
