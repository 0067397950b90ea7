"""A U-Net is its encoder's maps and a decoder; nothing in it knows of other images; what is frozen may be kept."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sarco_models.architectures import ARCHITECTURES, Norm, Trainable
from sarco_models.backbones import PHANTOM_WEIGHTS
from sarco_models.config import ModelConfig, StudyConfig, merged
from sarco_models.errors import ConfigError
from sarco_models.parameters import Parameters, local_tensors, trained_tensors
from sarco_models.segmentation_loss import segmentation_loss
from sarco_models.unet import SegmentationNet, build_segmenter, build_unet

SIZE = 64
OUTPUTS = 3
NAMES = ("convnext_atto", "convnextv2_atto", "efficientnet_lite0", "swin_atto")
STUDY: dict[str, Any] = {
    "name": "muscles",
    "title": "Two muscles",
    "segmentation": {"muscles": [{"name": "rectus_femoris"}, {"name": "biceps_brachii"}]},
    "image": {"size": SIZE, "roi": "none"},
    "model": {"modalities": ["image"], "backbone": "convnext_atto"},
    "training": {"balance_classes": False},
}


def study(**changes: Any) -> StudyConfig:
    return StudyConfig.model_validate_json(json.dumps(merged(STUDY, changes)))


def norm_of(name: str) -> Norm:
    return "group" if ARCHITECTURES[name].batch_norm else "none"


def net_of(
    name: str = "convnext_atto", trainable: Trainable = "all", *, size: int = SIZE, seed: int = 0, **changes: Any
) -> SegmentationNet:
    """A network in double precision, whose layers all do something: layer scale begins at 1e-6."""
    norm = changes.pop("norm", "frozen" if trainable == "head" and ARCHITECTURES[name].batch_norm else norm_of(name))
    start = "phantom" if norm == "frozen" else "none"  # a study's; what is built begins at random
    model = ModelConfig(modalities=("image",), backbone=name, trainable=trainable, weights=start, norm=norm, **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build_unet(model, size, OUTPUTS, "none")
        for key, parameter in net.named_parameters():
            if key.endswith("gamma"):
                nn.init.normal_(parameter, 0.5, 0.2)
    return net.double()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def logits_of(net: SegmentationNet, images: Tensor) -> Tensor:
    with torch.no_grad():
        found = net.eval()(images)
    assert isinstance(found, Tensor)
    return found


def encoder_of(net: SegmentationNet) -> nn.Module:
    """Those of its layers that train."""
    return net.trained.get_submodule("encoder")


def maps_of(net: SegmentationNet, images: Tensor) -> list[Tensor]:
    """What the decoder reads of the encoder, finest first."""
    last, *finer = net.frozen(images)
    deepest, *further = encoder_of(net)(last)
    maps = [*finer, *further, deepest]
    return [m for m in maps if m.shape[1:] != images.shape[1:]]  # without the image itself


# ---- encoders --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["convnext_atto", "convnextv2_atto", "swin_atto"])
def test_the_decoder_reads_the_maps_that_timm_would_give(name: str, images: Tensor) -> None:
    net, options = net_of(name), dict(ARCHITECTURES[name].options)
    if name == "swin_atto":
        options |= {"img_size": SIZE, "window_size": SIZE // 32, "drop_path_rate": 0.0}
    whole = timm.create_model(ARCHITECTURES[name].timm_name, num_classes=0, in_chans=1, **options).double().eval()
    with torch.no_grad():
        for theirs, mine in zip(whole.parameters(), encoder_of(net).parameters(), strict=False):
            theirs.copy_(mine)
        expected = whole.forward_intermediates((images - 0.5) / 0.25, intermediates_only=True)
        maps = maps_of(net, images)
    for mine, theirs in zip(maps, expected[-4:], strict=True):
        torch.testing.assert_close(mine.movedim(3, 1) if name == "swin_atto" else mine, theirs)


@pytest.mark.parametrize(
    ("name", "strides", "widths"),
    [
        ("convnext_atto", [4, 8, 16, 32], [40, 80, 160, 320]),
        ("efficientnet_lite0", [2, 4, 8, 16, 32], [16, 24, 40, 112, 320]),
    ],
)
def test_maps_are_those_of_the_published_networks(
    name: str, strides: list[int], widths: list[int], images: Tensor
) -> None:
    """Liu et al. (2022), figure 4, at atto's width; Tan and Le (2019), table 1."""
    maps = maps_of(net_of(name), images)
    assert [SIZE // m.shape[-1] for m in maps] == strides
    assert [m.shape[1] for m in maps] == widths


@pytest.mark.parametrize("name", NAMES)
def test_the_decoder_climbs_to_half_of_the_images_resolution(name: str, images: Tensor) -> None:
    """A ConvNeXt and a Swin begin at a quarter: there a convolution of the image is the finest map."""
    seen: list[Tensor] = []
    net = net_of(name)
    net.trained.get_submodule("head.decoder").register_forward_hook(lambda _, __, x: seen.append(x))
    logits_of(net, images)
    assert seen[0].shape == (3, 16, SIZE // 2, SIZE // 2)
    own = [key for key, _ in net.named_parameters() if ".detail." in key]
    assert bool(own) != ARCHITECTURES[name].batch_norm


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_network_that_a_study_may_name_can_be_an_encoder(name: str) -> None:
    """Shapes only, without numbers: the largest has 850 million."""
    with torch.device("meta"):
        net = build_unet(ModelConfig(modalities=("image",), backbone=name, norm=norm_of(name)), 96, OUTPUTS, "none")
        assert net(torch.zeros(1, 1, 96, 96)).shape == (1, OUTPUTS, 96, 96)


def _content(tensor: Tensor) -> bytes:
    """Its numbers, however they lie in memory."""
    return tensor.detach().float().contiguous().numpy().tobytes()


@pytest.mark.parametrize(("name", "norm"), [("convnext_atto", "none"), ("efficientnet_lite0", "frozen")])
def test_the_encoder_begins_with_the_shipped_weights(name: str, norm: Norm) -> None:
    model = ModelConfig(modalities=("image",), backbone=name, weights="phantom", norm=norm)
    net = build_unet(model, SIZE, OUTPUTS)
    state = load_file(PHANTOM_WEIGHTS / f"{name}.safetensors")
    held = {(tuple(p.shape), _content(p)) for p in encoder_of(net).parameters()}
    shipped = {(tuple(t.shape), _content(t)) for t in state.values()}
    assert held <= shipped
    assert len(held) > 50


# ---- shapes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [SIZE, 75])
def test_logits_have_the_size_of_the_image(name: str, size: int) -> None:
    images = torch.rand(2, 1, size, size, dtype=torch.float64)
    assert logits_of(net_of(name, size=size), images).shape == (2, OUTPUTS, size, size)


def test_what_fills_an_image_up_is_black() -> None:
    """A size that is no multiple of 32 gives what its black-bordered image gives."""
    small, large = net_of(size=50), net_of(size=SIZE)
    large.load_state_dict(small.state_dict())
    images = torch.rand(2, 1, 50, 50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    bordered = torch.zeros(2, 1, SIZE, SIZE, dtype=torch.float64)
    bordered[..., :50, :50] = images
    torch.testing.assert_close(logits_of(small, images), logits_of(large, bordered)[..., :50, :50])


def test_an_image_of_another_size_is_refused(images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 32, 64\); this network reads \(1, 64, 64\)"):
        net_of()(images[:, :, :32])


# ---- nobody's images change another's --------------------------------------------------------------------------------


def norms(net: nn.Module) -> Iterator[nn.Module]:
    return (m for m in net.modules() if "Norm" in type(m).__name__)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("trainable", ["all", "last_stage", "head"])
def test_no_batch_norm_lives_and_the_decoder_has_group_norms(name: str, trainable: Trainable) -> None:
    net = net_of(name, trainable)
    assert not any(isinstance(m, _BatchNorm) for m in net.modules())
    kinds = {type(m) for m in norms(net.trained.get_submodule("head"))}
    assert kinds == {nn.GroupNorm}


@pytest.mark.parametrize("name", NAMES)
def test_an_image_gives_the_same_in_any_company_in_training_too(name: str, images: Tensor) -> None:
    net = net_of(name).train()
    state = copy.deepcopy(net.state_dict())
    with torch.no_grad():
        together, alone = net(images), torch.cat([net(image[None]) for image in images])
    torch.testing.assert_close(together, alone)
    assert all(torch.equal(state[key], tensor) for key, tensor in net.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_a_persons_gradient_from_a_batch_is_that_of_the_person_alone(name: str, images: Tensor) -> None:
    net, owner = net_of(name).train(), torch.tensor([0, 0, 1])
    parameters = list(trained_tensors(net).values())
    targets = torch.randint(0, OUTPUTS, (3, SIZE, SIZE), generator=torch.Generator().manual_seed(2))
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


# ---- what trains, and what may be kept -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["convnext_atto", "efficientnet_lite0", "swin_atto"])
@pytest.mark.parametrize("trainable", ["all", "last_stage", "head"])
def test_what_is_frozen_may_be_kept(name: str, trainable: Trainable, images: Tensor) -> None:
    net = net_of(name, trainable)
    kept = net.frozen.train()(images)
    torch.testing.assert_close(net.trained.eval()(kept, None), logits_of(net, images))
    assert net.freezes_layers == (trainable != "all")
    assert all(len(tensor) == len(images) for tensor in kept)
    if trainable == "head":
        assert not list(encoder_of(net).parameters())
        maps = sum(m[0].numel() for m in maps_of(net_of(name), images))
        image = 0 if ARCHITECTURES[name].batch_norm else SIZE**2  # whose detail is read beside the maps
        assert sum(tensor[0].numel() for tensor in kept) == maps + image


def test_exactly_the_last_stage_and_the_decoder_train() -> None:
    names = set(trained_tensors(net_of(trainable="last_stage")))
    assert {name.split(".")[1] for name in names} == {"encoder", "head"}
    last = [n for n, _ in timm.create_model("convnext_atto", in_chans=1).stages[3].named_parameters()]
    assert len([n for n in names if ".encoder." in n]) == len(last)


def test_training_leaves_the_frozen_part_as_it_is() -> None:
    net = net_of(trainable="head").train()
    assert net.trained.training
    assert not any(m.training for m in net.frozen.modules())
    assert not any(p.requires_grad for p in net.frozen.parameters())


def test_local_norms_of_encoder_and_decoder_stay_at_their_site() -> None:
    net = net_of(norm="local")
    local = local_tensors(net)
    assert {name.split(".")[1] for name in local} == {"encoder", "head"}
    assert len(local) == 2 * sum(1 for m in norms(net) if any(True for _ in m.parameters(recurse=False)))


# ---- building --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_channels_stay_beside_each_other_in_memory_when_a_round_brings_parameters(name: str, images: Tensor) -> None:
    """Which is faster, and changes nothing else."""
    net, plain = net_of(name).float(), net_of(name, seed=1).float().to(memory_format=torch.contiguous_format)
    Parameters.pack(trained_tensors(plain)).load_into(trained_tensors(net))
    wide = [p for p in net.parameters() if p.dim() == 4 and min(p.shape[1:3]) > 1]
    assert wide
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in wide)
    torch.testing.assert_close(*(logits_of(each, images.float()) for each in (net, plain)), rtol=1e-3, atol=1e-4)


def test_the_same_seed_builds_the_same_network() -> None:
    one, same, other = (net_of(seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["trained.head.logits.0.weight"], other["trained.head.logits.0.weight"])


def test_a_study_says_network_encoder_and_classes() -> None:
    net = build_segmenter(study(), "none")
    assert net(torch.zeros(1, 1, SIZE, SIZE)).shape == (1, 3, SIZE, SIZE)
    one = build_segmenter(study(segmentation={"classes": "one"}), "none")
    assert one(torch.zeros(1, 1, SIZE, SIZE)).shape == (1, 2, SIZE, SIZE)


def test_a_study_that_diagnoses_has_no_such_network() -> None:
    diagnosing = study(segmentation=None, label={"column": "frail", "rule": "invented"})
    with pytest.raises(ConfigError, match=r"muscles has no section \[segmentation\]"):
        build_segmenter(diagnosing)


def test_statistics_of_batches_are_refused() -> None:
    model = ModelConfig(modalities=("image",), backbone="efficientnet_lite0", norm="local")
    with pytest.raises(ConfigError, match=r'keeps no statistics of batches: write "group" or "frozen"'):
        build_unet(model, SIZE, OUTPUTS)


@pytest.mark.slow
def test_it_learns_where_a_bright_disc_is() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ModelConfig(modalities=("image",), backbone="convnext_atto", weights="phantom")
        net = build_unet(model, SIZE, 2).train()
        optimizer = torch.optim.AdamW(net.parameters(), 2e-3)
        places = torch.randint(16, 48, (40, 2))
        rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
        discs = ((rows - places[:, :1, None]) ** 2 + (columns - places[:, 1:, None]) ** 2 < 144).long()
        images = (discs * 0.3 + 0.3 + 0.1 * torch.randn(40, SIZE, SIZE))[:, None]
        annotated, owner = torch.ones(8, 1, dtype=torch.bool), torch.arange(8)
        for step in range(60):
            rows_ = torch.arange(8) + 8 * (step % 4)
            optimizer.zero_grad()
            segmentation_loss(net(images[rows_]), discs[rows_], annotated, owner, 8).mean().backward()
            optimizer.step()
        with torch.no_grad():
            found = net.eval()(images[32:]).argmax(1)
    dice = 2 * (found * discs[32:]).sum() / (found.sum() + discs[32:].sum())
    assert dice > 0.9
