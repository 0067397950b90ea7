"""A backbone cut in two is the same network; what is trained is what the study says; weights fit or are refused."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sarco_models import backbones
from sarco_models.architectures import ARCHITECTURES, Norm, Trainable
from sarco_models.backbones import Backbone, build_backbone
from sarco_models.errors import ConfigError, WeightsError

NAME = "convnext_atto"
B0 = "efficientnet_b0"
NAMES = (NAME, "convnextv2_atto", B0, "swin_atto")
TRAINABLE = get_args(Trainable)
SIZE = 64
LAST_STAGE = {  # timm's names of what works at a 32nd of the image's resolution
    NAME: r"stages\.3\.|norm_pre|head\.",
    "convnextv2_atto": r"stages\.3\.|norm_pre|head\.",
    B0: r"blocks\.[56]\.|conv_head|bn2",
    "swin_atto": r"layers\.3\.|norm\.",
}


def timms(name: str, image_size: int = SIZE, **options: Any) -> nn.Module:
    """The network as timm makes it."""
    if name == "swin_atto":
        windows = {"img_size": image_size, "window_size": image_size // 32, "drop_path_rate": 0.0}
        name, options = ARCHITECTURES[name].timm_name, {**windows, **ARCHITECTURES[name].options, **options}
    model: nn.Module = timm.create_model(name, **{"num_classes": 0, "in_chans": 1, **options})
    return model


def live(module: nn.Module) -> list[nn.Module]:
    """STYLE 7.1: by ``isinstance``, since timm's batch norms are of a type of their own."""
    return [m for m in module.modules() if isinstance(m, _BatchNorm)]


def distinct(model: nn.Module, seed: int = 3) -> nn.Module:
    """The network with weights of its own, and batch norms that have seen noise.

    As timm makes them, layer scale is 1e-6 and batch norms let everything fade, so that all images are alike.
    """
    generator = torch.Generator().manual_seed(seed)
    for tensor in model.parameters():
        values = torch.randn(tensor.shape, generator=generator)
        vector = tensor.dim() == 1 or tensor.shape[:3] == (1, 1, 1)
        tensor.data = 0.5 + 0.2 * values if vector else values * tensor[0].numel() ** -0.5
    for norm in live(model):
        norm.momentum = 1.0  # type: ignore[assignment]
    if live(model):
        channels = next(p for p in model.parameters() if p.dim() == 4).shape[1]
        model.train()(torch.randn(8, channels, SIZE, SIZE, generator=generator))
    return model.eval()


@cache
def whole(name: str) -> nn.Module:
    """A network of timm; do not change it."""
    return distinct(timms(name))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of every ``whole`` in half precision, as ``sarco-lab pretrain`` writes them."""
    place = tmp_path_factory.mktemp("weights")
    for name in NAMES:
        save_file({key: t.half() for key, t in whole(name).state_dict().items()}, place / f"{name}.safetensors")
    return place


@pytest.fixture
def weights(folder: Path) -> Path:
    return folder / f"{NAME}.safetensors"


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def built(folder: Path, name: str, trainable: Trainable = "all", norm: Norm = "frozen") -> Backbone:
    """A backbone with the weights of ``whole``; ``norm`` is for those that have batch norms."""
    path = str(folder / f"{name}.safetensors")
    return build_backbone(name, trainable, path, norm=norm if name == B0 else "none", image_size=SIZE)


def features(backbone: Backbone, images: Tensor) -> Tensor:
    with torch.no_grad():
        out: Tensor = backbone.trained.eval()(backbone.frozen(images))
    return out


def content(parameters: Iterable[Tensor]) -> set[tuple[tuple[int, ...], float, float]]:
    """What tells tensors apart, whatever their names."""
    return {(tuple(p.shape), float(p.sum()), float(p.abs().sum())) for p in (p.detach() for p in parameters)}


# ---- two parts, one network ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trainable", TRAINABLE)
@pytest.mark.parametrize("name", NAMES)
def test_frozen_and_trained_part_are_the_whole_network_of_timm(
    name: str, trainable: Trainable, folder: Path, images: Tensor
) -> None:
    """Cut anywhere, with grey values from [0, 1] to mean 0.5 and deviation 0.25."""
    backbone = built(folder, name, trainable)
    reference = timms(name).eval()
    reference.load_state_dict({k: v.half().float() for k, v in whole(name).state_dict().items()})
    with torch.no_grad():
        expected = reference((images - 0.5) / 0.25)
    assert features(backbone, images).shape == (2, backbone.width) == (2, 1280 if name == B0 else 320)
    torch.testing.assert_close(features(backbone, images), expected, rtol=1e-5, atol=1e-5)
    assert expected.std() > 0.01
    assert not torch.allclose(expected[0], expected[1], rtol=1e-2)


@pytest.mark.parametrize("trainable", TRAINABLE)
@pytest.mark.parametrize("name", NAMES)
def test_exactly_the_named_layers_are_trained(name: str, trainable: Trainable, folder: Path) -> None:
    """In every family the last stage is what works at a 32nd of the image's resolution."""
    backbone = built(folder, name, trainable, "frozen" if trainable == "head" else "local")
    trained = {"head": r"$^", "last_stage": LAST_STAGE[name], "all": ""}[trainable]
    named = {key: p.half().float() for key, p in whole(name).named_parameters()}
    expected = {key for key in named if re.match(trained, key)}
    assert content(backbone.trained.parameters()) == content(named[key] for key in expected)
    assert content(backbone.frozen.parameters()) >= content(named[key] for key in set(named) - expected)
    assert all(p.requires_grad for p in backbone.trained.parameters())
    assert not any(p.requires_grad for p in backbone.frozen.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_reaches_every_trained_parameter_and_none_that_is_frozen(
    name: str, folder: Path, images: Tensor
) -> None:
    backbone = built(folder, name, "last_stage", "group")
    backbone.trained(backbone.frozen(images)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in backbone.trained.parameters())
    assert all(p.grad is None for p in backbone.frozen.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_the_frozen_part_is_in_evaluation_mode_and_travels_by_name(name: str, folder: Path) -> None:
    """Its output may be kept: no dropout, no batch statistics. All it has are parameters: buffers do not travel."""
    frozen = built(folder, name, "last_stage", "local").frozen
    assert not any(module.training for module in frozen.modules())
    assert not live(frozen)
    assert set(frozen.state_dict()) == {key for key, _ in frozen.named_parameters()}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_changed_in_place(name: str, folder: Path, images: Tensor) -> None:
    """What is kept of the frozen part is read again; hooks on gradients break as well (STYLE 7.3)."""
    backbone = built(folder, name, "last_stage", "local")
    assert not [
        m for part in (backbone.frozen, backbone.trained) for m in part.modules() if getattr(m, "inplace", False)
    ]
    kept = backbone.frozen(images)
    before = kept.clone()
    backbone.trained(kept)
    assert torch.equal(kept, before)


@pytest.mark.parametrize(("name", "norm"), [(NAME, "none"), ("swin_atto", "none"), (B0, "frozen"), (B0, "group")])
def test_an_images_features_do_not_depend_on_its_neighbours_even_in_training(
    name: str, norm: Norm, folder: Path, images: Tensor
) -> None:
    """SCIENCE section 5, pitfall 16."""
    trained = built(folder, name, "all", norm).trained.train()
    assert not live(trained)
    with torch.no_grad():
        torch.testing.assert_close(trained(images)[:1], trained(images[:1]), rtol=1e-5, atol=1e-5)


def test_names_lead_back_to_timms(folder: Path, tmp_path: Path, images: Tensor) -> None:
    """What was trained of a backbone is a weights file for the next."""
    for name in NAMES:
        backbone = built(folder, name, "all", "local")
        save_file(backbone.weights(), tmp_path / "w.safetensors")
        assert set(backbone.weights()) == set(whole(name).state_dict())
        norm: Norm = "local" if name == B0 else "none"
        again = build_backbone(name, "all", str(tmp_path / "w.safetensors"), norm=norm, image_size=SIZE)
        assert torch.equal(features(again, images), features(backbone, images))


# ---- batch norms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trainable", TRAINABLE)
def test_a_frozen_norm_learns_nothing_of_the_images(trainable: Trainable, folder: Path, images: Tensor) -> None:
    """STYLE 7.1: of "head only" training, a running mean moved by .55 in one step on images from N(5, 3)."""
    backbone = built(folder, B0, trainable)
    net = nn.Sequential(backbone.frozen, backbone.trained.train())
    before = {key: t.clone() for key, t in net.state_dict().items()}
    in_training = net(images * 3 + 5)
    assert not live(net)
    assert all(torch.equal(t, before[key]) for key, t in net.state_dict().items())
    assert torch.equal(in_training, net.eval()(images * 3 + 5))


def test_a_frozen_norm_is_not_trained_and_its_neighbours_are(folder: Path) -> None:
    trained = built(folder, B0).trained
    fixed = [m for m in trained.modules() if isinstance(m, backbones._FixedNorm)]
    assert len(fixed) == len(live(whole(B0)))
    assert not any(p.requires_grad for m in fixed for p in m.parameters())
    convolutions = [m for m in trained.modules() if isinstance(m, nn.Conv2d)]
    assert all(p.requires_grad for m in convolutions for p in m.parameters())


def test_group_norms_stand_where_batch_norms_stood_with_their_affine_part(folder: Path) -> None:
    """Wu and He (2018); groups of 8 channels, which divide every width of an EfficientNet."""
    trained = built(folder, B0, "all", "group").trained
    groups = [m for m in trained.modules() if isinstance(m, nn.GroupNorm)]
    norms = live(whole(B0))
    assert [g.num_channels for g in groups] == [n.num_features for n in norms]
    assert {g.num_channels / g.num_groups for g in groups} == {8}
    assert all(torch.equal(g.weight, n.weight.half().float()) for g, n in zip(groups, norms, strict=True))  # type: ignore[operator]
    assert not live(trained)
    assert not list(trained.buffers())


def test_activations_survive_the_change_of_their_norm(folder: Path) -> None:
    counts = {
        norm: sum(isinstance(m, nn.SiLU) for m in built(folder, B0, "all", norm).trained.modules())
        for norm in ("frozen", "group", "local")
    }
    assert set(counts.values()) == {sum(isinstance(m, nn.SiLU) for m in whole(B0).modules())}


def test_a_local_norm_lives_where_it_is_trained_only(folder: Path, images: Tensor) -> None:
    backbone = built(folder, B0, "last_stage", "local")
    norms = live(backbone.trained)
    assert len(norms) == len(
        [n for n, m in whole(B0).named_modules() if m in live(whole(B0)) and re.match(LAST_STAGE[B0], n)]
    )
    before = [m.running_mean.clone() for m in norms]  # type: ignore[operator, union-attr]
    backbone.trained.train()(backbone.frozen(images))
    assert not [m for m, b in zip(norms, before, strict=True) if torch.equal(m.running_mean, b)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", [n for n, a in ARCHITECTURES.items() if a.batch_norm and re.search(r"_(b[0-2]|s|lite0)$", n)]
)
def test_every_width_of_an_efficientnet_is_a_multiple_of_a_group(name: str) -> None:
    with torch.device("meta"):
        widths = {m.num_features for m in timm.create_model(name).modules() if isinstance(m, _BatchNorm)}
    assert all(width % backbones.GROUP_CHANNELS == 0 for width in widths)


# ---- images of any size ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [64, 96, 160, 224])
def test_a_swins_windows_tile_every_stage(size: int) -> None:
    """An eighth of the first grid: the same part of the scene at every size, and 7 at 224 as published; no padding."""
    backbone = build_backbone("swin_atto", "all", image_size=size)
    blocks: list[Any] = [
        m for m in backbone.trained.modules() if hasattr(m, "window_size") and hasattr(m, "shift_size")
    ]
    assert {b.window_size for b in blocks} == {(size // 32, size // 32)}
    assert all(side % (size // 32) == 0 for b in blocks for side in b.input_resolution)
    assert features(backbone, torch.rand(1, 1, size, size)).shape == (1, 320)


def offsets(window: int) -> Tensor:
    """(offsets, 2) distance down and across between two patches of a window, as a share of the window's side."""
    step = torch.arange(1 - window, window) / window
    return torch.cartesian_prod(step, step)


@pytest.mark.parametrize("size", [64, 96, 192, 224])
def test_a_swins_weights_serve_images_of_another_size(size: int, tmp_path: Path) -> None:
    """Windows see the same part of the scene, so a bias that grows with the distance in the scene still does."""
    slopes = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    state = distinct(timms("swin_atto", 224)).state_dict()
    tables = [key for key in state if key.endswith("bias_table")]
    state |= {key: (offsets(7) @ slopes).repeat(1, state[key].shape[1] // 2) for key in tables}
    save_file(state, tmp_path / "w.safetensors")
    weights = build_backbone("swin_atto", "all", str(tmp_path / "w.safetensors"), image_size=size).weights()
    assert len(tables) == 12
    for key, tensor in weights.items():
        expected = (offsets(size // 32) @ slopes).repeat(1, tensor.shape[1] // 2) if key in tables else state[key]
        torch.testing.assert_close(tensor, expected)


def test_larger_windows_than_a_swin_has_learned_take_its_outermost_bias_at_their_edge(tmp_path: Path) -> None:
    state = distinct(timms("swin_atto", 64)).state_dict()
    key = "layers.0.blocks.0.attn.relative_position_bias_table"
    save_file(state, tmp_path / "w.safetensors")
    larger = build_backbone("swin_atto", "all", str(tmp_path / "w.safetensors"), image_size=128).weights()[key]
    torch.testing.assert_close(larger.view(7, 7, -1)[[0, 0, -1, -1, 3], [0, -1, 0, -1, 3]], state[key][[0, 2, 6, 8, 4]])


@pytest.mark.parametrize("name", [NAME, B0])
@pytest.mark.parametrize("size", [32, 50, 96])
def test_convolutions_read_images_of_any_size(name: str, size: int, folder: Path) -> None:
    norm: Norm = "frozen" if name == B0 else "none"
    backbone = build_backbone(name, "last_stage", str(folder / f"{name}.safetensors"), norm=norm, image_size=size)
    assert features(backbone, torch.rand(2, 1, size, size)).shape == (2, backbone.width)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["convnext_tiny", "convnextv2_tiny", "swin_tiny_patch4_window7_224", "efficientnet_b4"]
)
@pytest.mark.parametrize("trainable", TRAINABLE)
def test_networks_for_a_gpu_are_cut_likewise(name: str, trainable: Trainable) -> None:
    norm: Norm = "frozen" if ARCHITECTURES[name].batch_norm else "none"
    backbone = build_backbone(name, trainable, norm=norm)
    kept = backbone.frozen(torch.rand(1, 1, 224, 224))
    assert (
        kept.shape[1:]
        == {
            "head": (backbone.width,),
            "last_stage": {"s": (14, 14, 384), "c": (384, 14, 14), "e": (160, 14, 14)}[name[0]],
            "all": (1, 224, 224),
        }[trainable]
    )
    assert features(backbone, torch.rand(1, 1, 224, 224)).shape == (1, backbone.width)


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


def test_phantom_weights_that_are_not_shipped_can_be_made() -> None:
    made = r"pretrain --backbone efficientnet_b3 --out FILE` and name the file"
    with pytest.raises(ConfigError, match=rf"no weights of efficientnet_b3 are shipped.* {made}"):
        build_backbone("efficientnet_b3", "head", "phantom", norm="frozen")
    with pytest.raises(WeightsError, match=r"w\.safetensors: no such weights; make them with `sarco-lab"):
        build_backbone("efficientnet_b3", "head", "w.safetensors", norm="frozen")


def test_a_classifiers_own_last_layer_is_left_out(weights: Path, tmp_path: Path, images: Tensor) -> None:
    more = whole(NAME).state_dict() | {"head.fc.weight": torch.zeros(1000, 320), "head.fc.bias": torch.zeros(1000)}
    save_file(more, tmp_path / "classifier.safetensors")
    a = build_backbone(NAME, "all", str(tmp_path / "classifier.safetensors"))
    torch.testing.assert_close(
        features(a, images), features(build_backbone(NAME, "all", str(weights)), images), rtol=1e-2, atol=1e-2
    )


@pytest.fixture
def published(tmp_path: Path) -> Callable[[str], Path]:
    """A file as timm publishes it: for colour images of 224 pixels, with a classifier of ten classes."""

    def write(name: str) -> Path:
        path = tmp_path / f"{name}.safetensors"
        save_file(distinct(timms(name, 224, in_chans=3, num_classes=10)).state_dict(), path)
        return path

    return write


@pytest.mark.parametrize("name", NAMES)
def test_a_published_file_and_timms_own_loading_are_the_same_network(
    name: str, published: Callable[[str], Path], images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has no internet names the file. timm's part is played with the file in place of the download."""
    path, create = published(name), timm.create_model

    def with_local_file(made: str, *, pretrained: bool = False, **options: Any) -> nn.Module:
        if pretrained:
            options |= {**ARCHITECTURES[name].options, "pretrained_cfg_overlay": {"file": str(path), "num_classes": 10}}
        model: nn.Module = create(made, pretrained=pretrained, **options)
        return model

    monkeypatch.setattr(timm, "create_model", with_local_file)
    monkeypatch.setitem(ARCHITECTURES, name, replace(ARCHITECTURES[name], timm_weights=True))  # type: ignore[arg-type]
    norm: Norm = "frozen" if name == B0 else "none"
    ours = build_backbone(name, "all", str(path), norm=norm, image_size=SIZE)
    timms_own = build_backbone(name, "all", "timm", norm=norm, image_size=SIZE)
    torch.testing.assert_close(features(ours, images), features(timms_own, images), rtol=1e-5, atol=1e-5)


def test_a_grey_image_is_to_colour_weights_an_image_of_three_equal_colours(
    published: Callable[[str], Path], images: Tensor
) -> None:
    colour = timms(NAME, in_chans=3).eval()
    state = load_file(published(NAME))
    colour.load_state_dict({key: state[key] for key in colour.state_dict()})
    backbone = build_backbone(NAME, "all", str(published(NAME)))
    with torch.no_grad():
        expected = colour(((images - 0.5) / 0.25).expand(-1, 3, -1, -1))
    torch.testing.assert_close(features(backbone, images), expected, rtol=1e-5, atol=1e-5)


def _absent(path: Path) -> None:
    path.unlink(missing_ok=True)


def _text(path: Path) -> None:
    path.write_text("weights")


def _incomplete(path: Path) -> None:
    save_file({k: v for k, v in whole(NAME).state_dict().items() if "stages.3" not in k}, path)


def _of_four_channels(path: Path) -> None:
    save_file(whole(NAME).state_dict() | {"stem.0.weight": torch.zeros(40, 4, 4, 4)}, path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_absent, r"no such weights; make them with `sarco-lab pretrain --out .*w\.safetensors`"),
        (_text, "not a safetensors file"),
        (_incomplete, r"of the network's tensors are absent, the first is stages\.3\."),
        (_of_four_channels, r"stem\.0\.weight is \(40, 4, 4, 4\); the network needs \(40, 1, 4, 4\)"),
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


def test_weights_without_statistics_are_no_batch_norms(tmp_path: Path) -> None:
    state = {k: t for k, t in whole(B0).state_dict().items() if "num_batches" not in k}
    save_file(state, tmp_path / "w.safetensors")
    build_backbone(B0, "all", str(tmp_path / "w.safetensors"), norm="frozen")
    save_file({k: t for k, t in state.items() if "running" not in k}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"the first is blocks\.0\.0\.bn1\.running_mean"):
        build_backbone(B0, "all", str(tmp_path / "w.safetensors"), norm="frozen")


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("convnext_attoo", {}, "the nearest: convnext_atto"),
        ("resnet18", {}, "no such ConvNeXt, EfficientNet or Swin"),
        (B0, {}, 'write "frozen", "group" or "local"'),
        (NAME, {"norm": "group"}, "has no batch norm"),
        ("swin_atto", {"image_size": 100}, "write 96"),
    ],
)
def test_a_network_that_cannot_be_made_is_refused_with_the_way_out(
    name: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=rf"model\.backbone = '{name}': .*{words}"):
        build_backbone(name, "all", **options)


def test_without_the_internet_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def offline(name: str, *, pretrained: bool = False, **options: Any) -> nn.Module:
        if pretrained:
            raise OSError("no route to host\nand many more lines")
        model: nn.Module = create(name, **options)
        return model

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        WeightsError, match=r'no route to host; the coordinator needs .* use a safetensors file or "phantom"'
    ):
        build_backbone(NAME, "all", "timm")
