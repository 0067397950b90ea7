"""The whole trial on networks whose evidence is known: one that looks where it should, and ones that fail."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sarco_models.architectures import Norm
from sarco_models.backbones import build_backbone
from sarco_models.config import IMAGE
from sarco_models.fusion import FusionNet, Model
from sarco_models.saliency_trial import ASKED, Trial, Views, put_to_the_test

SIZE, PEOPLE = 64, 16


class _Pooled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


def light_meter() -> Model:
    """A network whose logit is the image's brightness on a grid of 8 x 8; all of its weights are equal."""
    net = FusionNet({IMAGE: nn.Sequential(nn.AvgPool2d(8), nn.Conv2d(1, 3, 1), _Pooled())}, {IMAGE: 3}, 0.0)
    with torch.no_grad():
        for tensor in (*net.branches[IMAGE].parameters(), *net.output.parameters()):
            tensor.fill_(0)
        net.branches[IMAGE][1].weight.fill_(1)  # type: ignore[index]
        net.output.weight.fill_(100)
    return Model(nn.Sequential(nn.Identity()), net, {})


@pytest.fixture(scope="module")
def seen() -> Views:
    """A dim visible part of 32 x 32 with a bright muscle of 16 x 16 at a place of its own; black around it."""
    rng = np.random.default_rng(0)
    pixels = np.zeros((PEOPLE, SIZE, SIZE), dtype=np.uint8)
    visible, muscle = np.zeros(pixels.shape, dtype=np.bool_), np.zeros(pixels.shape, dtype=np.bool_)
    for k in range(PEOPLE):
        row, column = 16 + 8 * (k % 3), 16 + 8 * (k // 3 % 3)
        visible[k, 16:48, 16:48] = True
        muscle[k, row : row + 16, column : column + 16] = True
        pixels[k][visible[k]] = 2
        pixels[k][muscle[k]] = rng.integers(150, 250, 256)
    fascia = visible & ~muscle
    return Views(pixels, visible, muscle, fascia, np.arange(PEOPLE) % 2 == 0)


@pytest.fixture(scope="module")
def trial(seen: Views) -> Trial:
    (found,) = put_to_the_test(light_meter(), seen, [8], np.random.default_rng(1), few=12, wrecks=3)
    return found


def test_every_question_is_asked(trial: Trial) -> None:
    assert set(trial.checks) == set(ASKED)
    assert (trial.stride, trial.people, trial.few, trial.empty) == (8, PEOPLE, 12, 0)


def test_maps_on_the_evidence_pass_where_they_lie_and_what_they_cost(trial: Trial) -> None:
    """The meter's light is in the muscle: little on black, none on the dim rest, and no better order of deletion."""
    assert trial.checks["muscle"].passed
    assert trial.checks["deletion_black_random"].passed
    assert trial.checks["deletion_black_centre"].passed
    assert not trial.checks["fascia"].passed  # the band was put where no light is
    lift = trial.checks["fascia"].found
    assert lift is not None
    assert lift.high < 1


def test_a_map_that_destroyed_weights_do_not_change_fails(trial: Trial) -> None:
    """Equal weights in another order are the same weights: every wreck has the very same map."""
    assert [wreck.value for wreck in trial.wrecks] == pytest.approx([1.0] * 3)
    assert not trial.checks["weights"].passed
    assert "destroyed weights" in trial.verdict(6.0)
    assert trial.verdict(6.0).startswith("With cells of 6.0 mm the maps fail")
    assert "cells of 8 pixels" in trial.verdict()


def real(name: str, norm: Norm = "none", weights: str = "none") -> Model:
    """A network of images alone; its output is random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        backbone = build_backbone(name, "last_stage", weights, norm=norm, image_size=SIZE)
        net = FusionNet({IMAGE: backbone.trained}, {IMAGE: backbone.width}, 0.0)
    return Model(backbone.frozen, net, {})


FAMILIES: list[tuple[str, Norm]] = [("efficientnet_lite0", "group"), ("swin_atto", "none")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "norm"), FAMILIES)
def test_the_other_families_are_put_to_the_same_test(seen: Views, name: str, norm: Norm) -> None:
    usual, fine = put_to_the_test(real(name, norm), seen.first(3), [32, 8], np.random.default_rng(2), few=3, wrecks=2)
    for trial in (usual, fine):
        assert set(trial.checks) == set(ASKED)
    assert usual.checks["muscle"] != fine.checks["muscle"]


@pytest.mark.slow
def test_every_wreck_is_another_one(seen: Views) -> None:
    """Random orders of real weights: likeness is low, and not the same in any two draws."""
    model = real("convnext_atto", weights="phantom")
    some = seen.first(4)
    usual, fine = put_to_the_test(model, some, [32, 8], np.random.default_rng(2), few=4, wrecks=3)
    assert len({wreck.value for wreck in fine.wrecks}) == len(fine.wrecks) == 3
    assert fine.checks["weights"].found is not None
    values = [wreck.value for wreck in fine.wrecks]
    assert min(values) < fine.checks["weights"].found.value < max(values)
    assert usual.stride == 32


def test_without_masks_nothing_is_said_of_muscle_and_fascia(seen: Views) -> None:
    bare = Views(seen.pixels, seen.visible, None, None, seen.labels)
    (found,) = put_to_the_test(light_meter(), bare, [8], np.random.default_rng(1), few=4, wrecks=1)
    assert set(ASKED) - set(found.checks) == {"muscle", "fascia"}


def test_maps_that_are_empty_pass_nothing_that_needs_a_value(seen: Views) -> None:
    dark = Views(0 * seen.pixels, seen.visible, seen.muscle, seen.fascia, seen.labels)
    (found,) = put_to_the_test(light_meter(), dark, [8], np.random.default_rng(1), few=4, wrecks=1)
    assert found.empty == PEOPLE
    assert set(found.failed) == set(ASKED)
    assert found.checks["muscle"].found is None


def test_the_first_people_are_the_same_people(seen: Views) -> None:
    few = seen.first(3)
    assert len(few) == 3
    np.testing.assert_array_equal(few.pixels, seen.pixels[:3])
    assert few.muscle is not None
    assert len(seen.first(99)) == PEOPLE
