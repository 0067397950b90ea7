"""A backbone cut in two is the same network; what is trained is what the study says; weights fit or are refused."""

import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sarco_models import backbones
from sarco_models.backbones import Backbone, Trainable, build_backbone
from sarco_models.errors import ConfigError, WeightsError

NAME = "convnext_atto"
TRAINABLE = get_args(Trainable)


@cache
def whole() -> nn.Module:
    """The network as timm makes it, with weights of its own; do not change it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model: nn.Module = timm.create_model(NAME, num_classes=0, in_chans=1)
        for parameter in model.parameters():  # layer scale begins at 1e-6, where every network is much the same
            if parameter.dim() == 1:
                nn.init.normal_(parameter, 0.5, 0.5)
    return model.eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of ``whole`` in half precision, as ``sarco-lab pretrain`` writes them."""
    path = tmp_path_factory.mktemp("weights") / f"{NAME}.safetensors"
    save_file({name: tensor.half() for name, tensor in whole().state_dict().items()}, path)
    return path


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))


def features(backbone: Backbone, images: Tensor) -> Tensor:
    with torch.no_grad():
        out: Tensor = backbone.trained.eval()(backbone.frozen(images))
    return out


def content(parameters: Iterable[Tensor]) -> set[tuple[tuple[int, ...], float, float]]:
    """What tells tensors apart, whatever their names."""
    return {(tuple(p.shape), float(p.sum()), float(p.abs().sum())) for p in (p.detach() for p in parameters)}


# ---- two parts, one network ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trainable", TRAINABLE)
def test_frozen_and_trained_part_are_the_whole_network_of_timm(
    trainable: Trainable, weights: Path, images: Tensor
) -> None:
    """Cut anywhere, with grey values from [0, 1] to mean 0.5 and deviation 0.25."""
    backbone = build_backbone(NAME, trainable, str(weights))
    reference = timm.create_model(NAME, num_classes=0, in_chans=1).eval()
    reference.load_state_dict({k: v.half().float() for k, v in whole().state_dict().items()})
    with torch.no_grad():
        expected = reference((images - 0.5) / 0.25)
    assert features(backbone, images).shape == (2, backbone.width) == (2, 320)
    torch.testing.assert_close(features(backbone, images), expected, rtol=1e-5, atol=1e-5)
    assert expected.std() > 0.01


@pytest.mark.parametrize(
    ("trainable", "trained"),
    [("head", r"$^"), ("last_stage", r"stages\.3\.|norm_pre|head\."), ("all", r".*")],
)
def test_exactly_the_named_layers_are_trained(trainable: Trainable, trained: str, weights: Path) -> None:
    backbone = build_backbone(NAME, trainable, str(weights))
    named = {name: p.half().float() for name, p in whole().named_parameters()}
    expected = [p for name, p in named.items() if re.match(trained, name)]
    rest = [p for name, p in named.items() if not re.match(trained, name)]
    assert content(backbone.trained.parameters()) == content(expected)
    assert content(backbone.frozen.parameters()) == content(rest)
    assert all(p.requires_grad for p in backbone.trained.parameters())
    assert not any(p.requires_grad for p in backbone.frozen.parameters())


def test_a_gradient_reaches_every_trained_parameter_and_none_that_is_frozen(weights: Path, images: Tensor) -> None:
    backbone = build_backbone(NAME, "last_stage", str(weights))
    backbone.trained(backbone.frozen(images)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in backbone.trained.parameters())
    assert all(p.grad is None for p in backbone.frozen.parameters())


def test_the_frozen_part_is_in_evaluation_mode() -> None:
    """Its output may be kept: no dropout, no batch statistics."""
    backbone = build_backbone(NAME, "last_stage")
    assert not any(module.training for module in backbone.frozen.modules())


def test_an_images_features_do_not_depend_on_its_neighbours(weights: Path, images: Tensor) -> None:
    """ConvNeXt normalises layers, not batches (SCIENCE section 5, pitfall 16)."""
    backbone = build_backbone(NAME, "all", str(weights))
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in backbone.trained.modules())
    torch.testing.assert_close(features(backbone, images)[:1], features(backbone, images[:1]), rtol=1e-5, atol=1e-5)


# ---- where weights come from -----------------------------------------------------------------------------------------


def test_weights_of_half_precision_become_single(weights: Path) -> None:
    backbone = build_backbone(NAME, "all", str(weights))
    assert {p.dtype for p in backbone.trained.parameters()} == {torch.float32}


def test_phantom_weights_are_the_projects_own_file(
    weights: Path, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbones, "PHANTOM_WEIGHTS", weights.parent)
    phantom, file = build_backbone(NAME, "head", "phantom"), build_backbone(NAME, "head", str(weights))
    assert torch.equal(features(phantom, images), features(file, images))


def test_a_classifiers_own_last_layer_is_left_out(weights: Path, tmp_path: Path, images: Tensor) -> None:
    more = whole().state_dict() | {"head.fc.weight": torch.zeros(1000, 320), "head.fc.bias": torch.zeros(1000)}
    save_file(more, tmp_path / "classifier.safetensors")
    a = build_backbone(NAME, "all", str(tmp_path / "classifier.safetensors"))
    torch.testing.assert_close(
        features(a, images), features(build_backbone(NAME, "all", str(weights)), images), rtol=1e-2, atol=1e-2
    )


def _absent(path: Path) -> None:
    path.unlink(missing_ok=True)


def _text(path: Path) -> None:
    path.write_text("weights")


def _incomplete(path: Path) -> None:
    save_file({k: v for k, v in whole().state_dict().items() if "stages.3" not in k}, path)


def _of_colour_images(path: Path) -> None:
    save_file(whole().state_dict() | {"stem.0.weight": torch.zeros(40, 3, 4, 4)}, path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_absent, r"no such weights; make them with `sarco-lab pretrain --out .*w\.safetensors`"),
        (_text, "not a safetensors file"),
        (_incomplete, r"tensors of convnext_atto are absent, the first is stages\.3\."),
        (_of_colour_images, r"stem\.0\.weight is \(40, 3, 4, 4\); convnext_atto needs \(40, 1, 4, 4\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_words(
    tmp_path: Path, make: Callable[[Path], None], words: str
) -> None:
    path = tmp_path / "w.safetensors"
    make(path)
    with pytest.raises(WeightsError, match=words) as error:
        build_backbone(NAME, "all", str(path))
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", ["convnext_attoo", "resnet18", "", "swin_tiny_patch4_window7_224"])
def test_another_network_is_refused_with_examples(name: str) -> None:
    with pytest.raises(
        ConfigError, match=r"model\.backbone = '.*': timm has no such ConvNeXt; for example: .*convnext_tiny"
    ):
        build_backbone(name, "all")


def test_without_the_internet_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> nn.Module:
        raise OSError("no route to host\nand many more lines")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        WeightsError, match=r'no route to host; the coordinator needs .* use a safetensors file or "phantom"'
    ):
        build_backbone(NAME, "all", "timm")
