"""Grad-CAM of all three families against its definition, and of networks whose evidence is known."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sarco_models.architectures import Norm, Trainable
from sarco_models.backbones import build_backbone
from sarco_models.config import IMAGE
from sarco_models.errors import ConfigError
from sarco_models.fusion import FusionNet, Inputs, Model, TableBranch
from sarco_models.preprocess import Pixels
from sarco_models.saliency import ImagePath, forgetting, grad_cam
from sarco_models.saliency_checks import rank_likeness

SIZE = 64
FAMILIES: dict[str, Norm] = {"convnext_atto": "none", "efficientnet_lite0": "group", "swin_atto": "none"}


def pictures(images: int = 3, seed: int = 0) -> Pixels:
    """Noise with a bright bar at a place of its own in each image."""
    made = np.random.default_rng(seed).integers(0, 60, (images, SIZE, SIZE), dtype=np.uint8)
    for k in range(images):
        made[k, 10 + 12 * k : 18 + 12 * k, 8:40] = 220
    return made


def fused(name: str, trainable: Trainable = "all", weights: str = "none") -> Model:
    """An image beside a table; every weight of the output counts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        backbone = build_backbone(name, trainable, weights, norm=FAMILIES[name], image_size=SIZE)
        branches = {"lab": TableBranch(2, 4, 0.5, deep=True), IMAGE: backbone.trained}
        net = FusionNet(branches, {"lab": 4, IMAGE: backbone.width}, 0.3)
        nn.init.normal_(net.output.weight)
        nn.init.normal_(net.absent["lab"])
    return Model(backbone.frozen, net, {"lab": (0, 1)})


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return {name: fused(name) for name in FAMILIES}


def alone(model: Model, pixels: Pixels) -> Tensor:
    """Logits of the whole network for people who have an image and nothing else."""
    assert model.frozen is not None
    people = len(pixels)
    image = model.frozen(torch.from_numpy(pixels)[:, None].float() / 255)
    here, lacking = torch.ones(people, dtype=torch.bool), torch.zeros(people, dtype=torch.bool)
    logits: Tensor = model.net.eval()(Inputs(image, {"lab": torch.zeros(people, 2)}, {IMAGE: here, "lab": lacking}))
    return logits


# ---- the definition --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_the_logit_is_that_of_the_image_alone(models: dict[str, Model], name: str) -> None:
    path = ImagePath(models[name], SIZE)
    np.testing.assert_allclose(
        path.logits(pictures(40)), alone(models[name], pictures(40)).detach().numpy(), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_maps_are_equations_1_and_2_of_the_paper(models: dict[str, Model], name: str) -> None:
    """Selvaraju et al. (2017), by a hook on the layer in a pass through the whole network."""
    model, pixels = models[name], pictures()
    branch = model.net.branches[IMAGE]
    assert isinstance(branch, nn.Sequential)
    kept: list[Tensor] = []
    hook = branch[-2].register_forward_hook(lambda _module, _inputs, out: kept.append(out))
    logits = alone(model, pixels)
    hook.remove()
    (gradient,) = torch.autograd.grad(logits.sum(), kept[0])
    activation = kept[0].detach()
    if name == "swin_atto":  # rows, columns, channels
        gradient, activation = gradient.permute(0, 3, 1, 2), activation.permute(0, 3, 1, 2)
    alpha = gradient.mean(dim=(2, 3), keepdim=True)
    expected = torch.relu((alpha * activation).sum(dim=1)).numpy()
    found = ImagePath(model, SIZE).maps(pixels)
    assert found.shape == (3, 2, 2)
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max())
    assert expected.max() > 0


@pytest.mark.parametrize("name", ["efficientnet_lite0", "swin_atto"])
def test_what_speaks_for_and_against_adds_up_to_the_images_part_of_the_logit(
    models: dict[str, Model], name: str
) -> None:
    """Between the last feature map and the logit all is linear: the map leaves nothing out (Zhou et al. 2016)."""
    model, pixels = models[name], pictures(6)
    path = ImagePath(model, SIZE)
    for_it, against = path.maps(pixels), path.maps(pixels, positive=False)
    assert not (for_it * against).any()
    rest = model.net.output.bias + model.net.output.weight[:, :4] @ model.net.absent["lab"]
    np.testing.assert_allclose((for_it - against).sum(axis=(1, 2)), path.logits(pixels) - rest.item(), atol=1e-3)


@pytest.mark.parametrize("trainable", ["last_stage", "head"])
@pytest.mark.parametrize("stride", [32, 16, 8])
def test_a_map_does_not_depend_on_where_training_began(trainable: Trainable, stride: int) -> None:
    """Whichever layers are frozen, and their outputs kept on disk, the map is made from pixels by all of them."""
    expected = grad_cam(fused("convnext_atto", "all", "phantom"), pictures(), stride)
    found = grad_cam(fused("convnext_atto", trainable, "phantom"), pictures(), stride)
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max())
    assert found.shape == (3, SIZE, SIZE)
    assert expected.max() > 0


@pytest.mark.parametrize("name", FAMILIES)
def test_a_finer_map_has_more_cells_and_the_same_logit(models: dict[str, Model], name: str) -> None:
    paths = {stride: ImagePath(models[name], SIZE, stride) for stride in (32, 16, 8)}
    assert [path.maps(pictures()).shape for path in paths.values()] == [(3, 2, 2), (3, 4, 4), (3, 8, 8)]
    for path in paths.values():
        np.testing.assert_allclose(path.logits(pictures()), paths[32].logits(pictures()), atol=1e-5, rtol=1e-5)
    with pytest.raises(ConfigError, match="one cell for 64 pixels of 64: try 32, 16 or 8"):
        ImagePath(models[name], SIZE, 64)


def test_an_image_is_explained_by_itself_however_many_there_are(models: dict[str, Model]) -> None:
    path = ImagePath(models["swin_atto"], SIZE)
    many = path.maps(pictures(40))
    np.testing.assert_allclose(path.maps(pictures(40)[[37]])[0], many[37], rtol=1e-3, atol=1e-6)
    assert path.maps(pictures(0)).size == path.logits(pictures(0)).size == 0


# ---- evidence that is known ------------------------------------------------------------------------------------------


class _ChannelsLast(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


class _Pooled(nn.Module):
    def __init__(self, dims: tuple[int, int]) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=self.dims)


def light_meter(sign: float, *, channels: int = 3, channels_last: bool = False) -> Model:
    """A network whose logit is the image's mean brightness, times ``sign``, on a grid of 8 x 8."""
    layers: list[nn.Module] = [nn.AvgPool2d(8), nn.Conv2d(1, channels, 1)]
    layers += [_ChannelsLast(), _Pooled((1, 2))] if channels_last else [_Pooled((2, 3))]
    net = FusionNet({IMAGE: nn.Sequential(*layers)}, {IMAGE: channels}, 0.0)
    with torch.no_grad():
        for tensor in (*net.branches[IMAGE].parameters(), *net.output.parameters()):
            tensor.fill_(0)
        net.branches[IMAGE][1].weight.fill_(1)  # type: ignore[index,union-attr]
        net.output.weight.fill_(sign)
    return Model(nn.Sequential(nn.Identity()), net, {})


@pytest.mark.parametrize(("channels", "channels_last"), [(3, False), (3, True), (8, False)])
def test_the_map_lies_on_the_evidence(channels: int, channels_last: bool) -> None:
    """A bright patch in the third row and sixth column of the grid is where a light meter finds light.

    With as many channels as rows as well, where a shape does not say which is which.
    """
    pixels = np.zeros((1, SIZE, SIZE), dtype=np.uint8)
    pixels[0, 16:24, 40:48] = 255
    model = light_meter(1.0, channels=channels, channels_last=channels_last)
    (cell,) = ImagePath(model, SIZE, 8).maps(pixels)
    assert np.argwhere(cell > 0).tolist() == [[2, 5]]
    (pixel,) = grad_cam(model, pixels, 8)
    assert pixel.shape == (SIZE, SIZE)
    assert np.unravel_index(pixel.argmax(), pixel.shape)[0] in range(16, 24)
    assert np.unravel_index(pixel.argmax(), pixel.shape)[1] in range(40, 48)


def test_what_speaks_against_is_shown_on_request_only() -> None:
    pixels = pictures(1)
    model = light_meter(-1.0)
    assert not grad_cam(model, pixels, 8).any()
    np.testing.assert_array_equal(grad_cam(model, pixels, 8, positive=False), grad_cam(light_meter(1.0), pixels, 8))


def test_a_model_without_image_or_without_feature_map_is_refused() -> None:
    tables = Model(None, FusionNet({"lab": nn.Linear(2, 4)}, {"lab": 4}, 0.0), {"lab": (0, 1)})
    with pytest.raises(ConfigError, match="reads no image"):
        ImagePath(tables, SIZE)
    flat = FusionNet({IMAGE: nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, 3))}, {IMAGE: 3}, 0.0)
    with pytest.raises(ConfigError, match="no layer of this network"):
        ImagePath(Model(nn.Sequential(nn.Identity()), flat, {}), SIZE)


# ---- forgetting ------------------------------------------------------------------------------------------------------


def test_forgetting_goes_layer_by_layer_from_the_output_and_spares_the_model() -> None:
    model = fused("convnext_atto", "last_stage", "phantom")
    before = {name: t.clone() for name, t in model.net.state_dict().items()}
    seen = []
    for destroyed, wreck in forgetting(model, torch.Generator().manual_seed(0)):
        changed = {name for name, t in wreck.net.state_dict().items() if not torch.equal(t, before[name])}
        assert wreck.frozen is not None
        seen.append((destroyed, len(changed)))
        if destroyed == 1:
            assert changed == {"output.weight"}
    # output and last stage; then the three stages and the stem of the frozen part
    assert [destroyed for destroyed, _ in seen] == [1, 2, 3, 4, 5, 6]
    assert seen[1][1] == seen[5][1] > 6
    assert all(torch.equal(t, before[name]) for name, t in model.net.state_dict().items())


@pytest.mark.parametrize("name", FAMILIES)
def test_forgetting_shuffles_what_comes_into_each_unit_and_nothing_else(models: dict[str, Model], name: str) -> None:
    """So that a network whose norms have fixed statistics does not run out of all bounds."""
    model = models[name]
    *_, (_, wreck) = forgetting(model, torch.Generator().manual_seed(0))
    for before, after in zip(model.net.parameters(), wreck.net.parameters(), strict=True):
        if before.dim() > 1:
            before, after = before.flatten(1).sort(dim=1).values, after.flatten(1).sort(dim=1).values
        assert torch.equal(before, after)
    assert np.isfinite(ImagePath(wreck, SIZE).logits(pictures())).all()


def test_maps_depend_on_what_was_learned() -> None:
    """Grad-CAM of shuffled weights is another map; one that looks at the image alone would stay the same."""
    model = fused("convnext_atto", "all", "phantom")
    pixels = pictures(4)
    learned = grad_cam(model, pixels, 8)
    *_, (_, wreck) = forgetting(model, torch.Generator().manual_seed(0))
    assert np.nanmean(rank_likeness(learned, grad_cam(wreck, pixels, 8))) < 0.6
    np.testing.assert_allclose(rank_likeness(learned, learned), 1)
