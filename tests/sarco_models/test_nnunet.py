"""The network is the plan's; it speaks at every resolution while it trains; a plan that does not fit is refused."""

import copy
import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sarco_models.config import ImageConfig, StudyConfig, merged
from sarco_models.errors import ConfigError
from sarco_models.nnunet import build_nnunet, check_plan
from sarco_models.parameters import trained_tensors
from sarco_models.segmentation import MuscleConfig, PlanConfig, SegmentationConfig
from sarco_models.segmentation_loss import segmentation_loss
from sarco_models.unet import SegmentationNet, build_segmenter

SIDE = 32
PLAN = PlanConfig(patch=(SIDE, SIDE), mm_per_pixel=0.5, features=(8, 16, 32, 32), grey_mean=60.0, grey_sd=30.0)
IMAGE = ImageConfig(size=SIDE, window_mm=16.0, roi="none")
MUSCLES = tuple(MuscleConfig(name=name) for name in ("rectus_femoris", "biceps_brachii"))
OUTPUTS = 3


def plan(**changes: Any) -> PlanConfig:
    return PlanConfig.model_validate(PLAN.model_dump() | changes)


def net_of(seed: int = 0, **changes: Any) -> SegmentationNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        cfg = SegmentationConfig(muscles=MUSCLES, network="nnunet", plan=plan(**changes))
        return build_nnunet(cfg, IMAGE).double()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_it_has_logits_at_all_resolutions_but_the_lowest_in_training_and_the_finest_after(images: Tensor) -> None:
    """Four stages have three on the way up; the lowest of them says nothing (Isensee et al. 2021)."""
    net = net_of()
    levels = net.train()(images)
    assert [tuple(level.shape) for level in levels] == [(3, OUTPUTS, 32, 32), (3, OUTPUTS, 16, 16)]
    assert net.eval()(images).shape == (3, OUTPUTS, 32, 32)
    torch.testing.assert_close(net(images), levels[0])


@pytest.mark.parametrize("features", [(8, 16), (8, 16, 32), (8, 8, 16, 16, 24)])
def test_it_has_the_stages_and_features_of_the_plan(features: tuple[int, ...], images: Tensor) -> None:
    net = net_of(features=features)
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    down = [c.out_channels for c in convolutions if c.stride == (2, 2)]
    assert down == list(features[1:])
    in_stages = [c for c in convolutions if c.kernel_size == (3, 3)]
    assert len(in_stages) == 2 * len(features) + 2 * (len(features) - 1)
    assert sum(isinstance(m, nn.ConvTranspose2d) for m in net.modules()) == len(features) - 1
    assert net.eval()(images).shape == (3, OUTPUTS, SIDE, SIDE)


def test_every_norm_is_of_groups_and_every_slope_is_nnu_nets() -> None:
    net = net_of()
    kinds = [m for m in net.modules() if "Norm" in type(m).__name__]
    assert kinds
    assert all(isinstance(m, nn.GroupNorm) and m.num_channels == 8 * m.num_groups for m in kinds)
    slopes = {m.negative_slope for m in net.modules() if isinstance(m, nn.LeakyReLU)}
    assert slopes == {0.01}
    assert not list(net.buffers())


def test_grey_levels_are_those_of_the_plan() -> None:
    images = torch.tensor([60.0, 90.0, 0.0]).view(3, 1, 1, 1).expand(3, 1, SIDE, SIDE) / 255
    (seen,) = net_of().frozen(images)
    torch.testing.assert_close(seen[:, 0, 0, 0], torch.tensor([0.0, 1.0, -2.0]))
    assert not net_of().freezes_layers


def test_an_image_gives_the_same_in_any_company(images: Tensor) -> None:
    net = net_of().train()
    for together, *alone in zip(net(images), *(net(image[None]) for image in images), strict=True):
        torch.testing.assert_close(together, torch.cat(alone))


def test_a_persons_gradient_from_a_batch_is_that_of_the_person_alone(images: Tensor) -> None:
    net, owner = net_of().train(), torch.tensor([0, 0, 1])
    parameters = list(trained_tensors(net).values())
    targets = torch.randint(0, OUTPUTS, (3, SIDE, SIDE), generator=torch.Generator().manual_seed(2))
    annotated = torch.tensor([[True, True], [True, False], [True, True]])
    losses = segmentation_loss(net(images), targets, annotated, owner, 2)
    for person, rows in enumerate((slice(0, 2), slice(2, 3))):
        nobody_else = torch.zeros(len(owner[rows]), dtype=torch.long)
        alone = segmentation_loss(net(images[rows]), targets[rows], annotated[rows], nobody_else, 1)[0]
        expected = torch.autograd.grad(alone, parameters)
        found = torch.autograd.grad(losses[person], parameters, retain_graph=True)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)
        assert all(bool(g.abs().sum() > 0) for g in expected)


def test_it_holds_nothing_of_the_images_it_has_seen(images: Tensor) -> None:
    """MONAI's own assembly keeps the last batch's logits, and can then be neither copied nor sent."""
    net = net_of().train()
    before = copy.deepcopy(net.state_dict())
    net(images)
    assert all(torch.equal(before[key], tensor) for key, tensor in copy.deepcopy(net).state_dict().items())


def test_the_same_seed_builds_the_same_network() -> None:
    one, same, other = (net_of(seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(next(iter(one.values())), next(iter(other.values())))


def test_a_study_builds_it() -> None:
    text = json.dumps(
        merged(
            {
                "name": "planned",
                "title": "Planned",
                "image": IMAGE.model_dump(),
                "model": {"modalities": ["image"]},
                "training": {"balance_classes": False},
            },
            {"segmentation": {"muscles": [{"name": "triceps"}], "network": "nnunet", "plan": PLAN.model_dump()}},
        )
    )
    net = build_segmenter(StudyConfig.model_validate_json(text), "none")
    assert net.eval()(torch.zeros(1, 1, SIDE, SIDE)).shape == (1, 2, SIDE, SIDE)


@pytest.mark.parametrize(
    ("changes", "image", "words"),
    [
        ({"patch": (32, 64)}, IMAGE, r"patch = \[32, 64\].*a square: write two equal numbers"),
        ({}, IMAGE.model_copy(update={"size": 64}), r"image.size = 64: write size = 32 in \[image\]"),
        ({"features": (8, 8, 8, 8, 8, 8)}, IMAGE, r"halve 32 pixels 5 times: .*multiples of 32, or fewer"),
        ({"features": (8, 12)}, IMAGE, r"features = \[8, 12\]: group norms need multiples of 8"),
        ({"features": (8, 0)}, IMAGE, r"features = \[8, 0\]: group norms need multiples of 8"),
        ({"convolutions": 3}, IMAGE, r"convolutions = 3: the blocks have 2 in each stage: write 2"),
        ({"mm_per_pixel": 0.4}, IMAGE, r"0\.4, 32 pixels of which are 12\.8 mm; .*window_mm = 16: .*window_mm = 12\.8"),
        ({}, IMAGE.model_copy(update={"framing": "paper"}), r'image.framing = "paper".*write framing = "physical"'),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_with_the_way_out(
    changes: dict[str, Any], image: ImageConfig, words: str
) -> None:
    with pytest.raises(ConfigError, match=r"segmentation\.plan: .*" + words):
        check_plan(plan(**changes), image)


def test_a_plan_that_fits_is_accepted_whatever_was_rounded() -> None:
    check_plan(plan(mm_per_pixel=0.5001), IMAGE)


def test_without_a_plan_nothing_is_built() -> None:
    with pytest.raises(ConfigError, match=r"needs the section \[segmentation\.plan\].*`sarco-coordinator plan`"):
        build_nnunet(SegmentationConfig(muscles=MUSCLES, network="nnunet"), IMAGE)
