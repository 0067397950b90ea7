"""Gradient inversion finds an image in a plain update of one image, and nothing in one that is protected."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sarco_models import inversion
from sarco_models.config import ImageConfig, StudyConfig
from sarco_models.errors import ProtocolError
from sarco_models.fusion import Inputs, Model, build_model
from sarco_models.images import Frame
from sarco_models.inversion import Picture, from_update, gradient, invert, label_of, psnr, ssim, table_rows
from sarco_models.masking import Mask, masked_update
from sarco_models.parameters import Parameters, trained_tensors
from sarco_models.preprocess import model_input
from sarco_models.training import Batch, Training, fit, participant_loss, sgd
from simulation.anatomy import random_subject
from simulation.phantom import render
from tests.sites import image_study

SIZE = 32
ATTO = {"modalities": ["image"], "weights": "phantom", "trainable": "all"}


def network(**model: Any) -> Model:
    torch.manual_seed(0)
    return build_model(study_of(**model))


def study_of(size: int = SIZE, **model: Any) -> StudyConfig:
    return image_study(model={**ATTO, **model}, image={"size": size}, training={"optimizer": "sgd"})


@cache
def phantom(k: int = 1, size: int = SIZE) -> Picture:
    """A rendered SYNTHETIC muscle as the network sees it."""
    rng = np.random.default_rng([5, k])
    image = render(random_subject(rng), rng)
    frame = Frame(image.pixels, (image.mm_per_pixel,) * 2, "aixplorer", (0, 0), image.pixels.shape)
    return model_input(frame, image.mask, ImageConfig(size=size)) / 255.0


def noised(observed: Mapping[str, Tensor], clip: float, noise: float, seed: int = 3) -> dict[str, Tensor]:
    """The gradient as differential privacy sends it: clipped as one vector, and noise of ``noise`` times the clip."""
    length = float(torch.stack([(g * g).sum() for g in observed.values()]).sum().sqrt())
    rng = torch.Generator().manual_seed(seed)
    share = min(1.0, clip / length)
    return {k: g * share + noise * clip * torch.randn(g.shape, generator=rng) for k, g in observed.items()}


def cosine(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    a, b = (torch.cat([t.double().reshape(-1) for t in each.values()]) for each in (first, second))
    return float(a @ b / (a.norm() * b.norm()))


# ---- what the attacker is given --------------------------------------------------------------------------------------


def one_image_update(model: Model, study: StudyConfig, image: Picture, label: float) -> dict[str, Tensor]:
    """Parameters of a hospital that took one step of the project's own training on one image."""
    assert model.frozen is not None
    pixels = model.frozen(torch.from_numpy(image).float()[None, None])
    batch = Batch(
        Inputs(pixels, {}, {"image": torch.ones(1, dtype=torch.bool)}), torch.zeros(1, dtype=torch.int64),
        torch.tensor([label]),
    )  # fmt: skip
    fit(Training(model.net, sgd(model.net, study.training), [batch], participant_loss, lambda _: 1.0), seed=1)
    return {name: t.detach().clone() for name, t in trained_tensors(model.net).items()}


def test_the_gradient_of_the_attack_is_what_a_hospitals_own_training_step_moves_by() -> None:
    study, model = study_of(), network()
    expected = gradient(model, phantom(), 1.0)
    before = {name: t.detach().clone() for name, t in trained_tensors(model.net).items()}
    after = one_image_update(model, study, phantom(), 1.0)
    rates = dict.fromkeys(before, study.training.learning_rate)
    found = from_update(before, after, rates, decay=study.training.weight_decay, adamw=False)
    assert cosine(found, expected) > 0.999


def test_the_first_step_of_adamw_hides_nothing_that_a_sign_would_show() -> None:
    rng = torch.Generator().manual_seed(2)
    before = {"w": torch.randn(4000, generator=rng) * 0.05}
    size = 10 ** (-9 + 7 * torch.rand(4000, generator=rng))
    true = {"w": size * torch.randn(4000, generator=rng).sign()}
    weight = before["w"].clone().requires_grad_(True)
    optimizer = torch.optim.AdamW([weight], lr=1e-3, weight_decay=0.1)
    weight.grad = true["w"].clone()
    optimizer.step()
    found = from_update(before, {"w": weight}, {"w": 1e-3}, decay=0.1, adamw=True)["w"]
    assert (found.sign() == true["w"].sign()).float().mean() > 0.99
    small = size < 1e-4  # there the size is known as well
    assert ((found - true["w"]).abs() / size)[small].median() < 0.05


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_the_label_stands_in_the_sign_of_one_number(label: float) -> None:
    assert label_of(gradient(network(), phantom(), label)) == label


def test_a_row_of_a_table_stands_in_the_gradient_and_is_read_off_exactly() -> None:
    model = network(modalities=["image", "clinical", "lab"], tabular="per_group", weights="none")
    rng = np.random.default_rng(1)
    rows = {name: rng.normal(size=len(columns)) for name, columns in model.table_columns.items()}
    observed = gradient(model, phantom(), 0.0, rows)
    found = table_rows(model, observed)
    assert set(found) == {"clinical", "lab"}
    for name, row in rows.items():
        assert np.allclose(found[name].numpy(), row, atol=1e-5)
    private = table_rows(model, noised(observed, 1.0, 1.0))
    assert all(abs(np.corrcoef(private[name].numpy(), rows[name])[0, 1]) < 0.9 for name in ("clinical",))


def test_a_branch_that_took_no_part_is_not_made_up() -> None:
    model = network(modalities=["image", "clinical", "lab"], tabular="per_group", weights="none")
    row = {"lab": np.array([0.5, -1.0])}
    observed = gradient(model, phantom(), 1.0, row)
    assert set(table_rows(model, observed)) == {"lab"}
    assert set(invert(model, observed, 1.0, (SIZE, SIZE), steps=2).rows) == {"lab"}


# ---- the search ------------------------------------------------------------------------------------------------------


def test_the_true_image_explains_its_gradient_and_no_other_does() -> None:
    model = network()
    observed = gradient(model, phantom(1), 1.0)
    goal = inversion._unit(list(observed.values()))
    search = inversion._Search(model, inversion._still(model), goal, {}, torch.ones(1))
    near, far = (
        float(search.distance(torch.from_numpy(p).float()[None, None]).detach()) for p in (phantom(1), phantom(2))
    )
    assert near < 1e-9
    assert far > 1e-3


def test_the_distance_has_the_gradient_of_one_minus_the_cosine() -> None:
    rng = torch.Generator().manual_seed(1)
    mine = [torch.randn(3, 4, generator=rng, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    goal = inversion._unit([torch.randn(3, 4, generator=rng, dtype=torch.float64) for _ in range(2)])
    found = inversion._Distance.apply(goal, *mine)
    flat, aim = (torch.cat([t.ravel() for t in each]) for each in (mine, goal))
    plain = 1 - flat @ aim / flat.norm()
    assert float(found.detach()) == pytest.approx(float(plain.detach()), abs=1e-14)
    for a, b in zip(torch.autograd.grad(2 * found, mine), torch.autograd.grad(2 * plain, mine), strict=True):
        assert torch.allclose(a, b, atol=1e-14)


@pytest.mark.parametrize(
    "options",
    [{"kernel_size": 7, "padding": 3}, {"kernel_size": (3, 5), "stride": 2, "padding": (1, 2), "dilation": 2}],
)
def test_depthwise_convolutions_are_the_same_in_the_form_that_is_searched(options: dict[str, Any]) -> None:
    torch.manual_seed(1)
    conv = nn.Conv2d(6, 6, groups=6, **options).double()
    other, x = inversion._Depthwise(conv), torch.rand(2, 6, 13, 11, dtype=torch.float64)
    assert torch.allclose(conv(x), other(x), atol=1e-12)
    assert [name for name, _ in other.named_parameters()] == [name for name, _ in conv.named_parameters()]
    model = network()
    assert any(isinstance(m, inversion._Depthwise) for m in inversion._still(model).modules())
    assert list(trained_tensors(inversion._still(model))) == list(trained_tensors(model.net))


def test_the_distance_is_one_minus_the_cosine() -> None:
    model = network()
    first, second = (gradient(model, phantom(k), 1.0) for k in (1, 2))
    goal = inversion._unit(list(first.values()))
    search = inversion._Search(model, inversion._still(model), goal, {}, torch.ones(1))
    found = float(search.distance(torch.from_numpy(phantom(2)).float()[None, None]).detach())
    assert found == pytest.approx(1 - cosine(first, second), rel=1e-3)


def test_the_search_is_the_same_for_the_same_seed_and_leaves_the_model_alone() -> None:
    model = network()
    before = Parameters.pack(trained_tensors(model.net)).digest
    observed = gradient(model, phantom(), 1.0)
    first, second = (invert(model, observed, 1.0, (SIZE, SIZE), steps=4, seed=4) for _ in range(2))
    assert np.array_equal(first.image, second.image)
    assert first.image.shape == (SIZE, SIZE)
    assert first.image.min() >= 0
    assert Parameters.pack(trained_tensors(model.net)).digest == before
    assert all(p.grad is None for p in model.net.parameters())


def test_more_starts_are_never_worse() -> None:
    model = network()
    observed = gradient(model, phantom(), 1.0)
    one, two = (invert(model, observed, 1.0, (SIZE, SIZE), steps=3, restarts=n).distance for n in (1, 2))
    assert two <= one


def test_what_is_not_of_this_network_is_refused() -> None:
    model = network()
    with pytest.raises(ProtocolError, match="gradient of 1 tensors"):
        invert(model, {"w": torch.zeros(3)}, 1.0, (SIZE, SIZE))
    tables = network(modalities=["clinical"], weights="none")
    with pytest.raises(ProtocolError, match="reads no image"):
        invert(tables, trained_tensors(tables.net), 1.0, (SIZE, SIZE))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "model"),
    [
        (32, {"backbone": "efficientnet_lite0", "norm": "frozen"}),
        (32, {"backbone": "efficientnet_lite0", "norm": "group", "weights": "none"}),
        (64, {"backbone": "efficientnet_lite0", "norm": "local", "trainable": "last_stage"}),
        (32, {"backbone": "convnextv2_atto", "weights": "none", "trainable": "last_stage"}),
        # Fused attention has no second derivative.
        (64, {"backbone": "swin_atto", "weights": "none", "trainable": "last_stage"}),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else str(value),
)
def test_every_image_network_can_be_searched(size: int, model: dict[str, Any]) -> None:
    made = network(size=size, **model)
    observed = gradient(made, phantom(1, size), 1.0)
    few, more = (invert(made, observed, 1.0, (size, size), steps=n).distance for n in (4, 12))
    assert np.isfinite(more)
    assert more < few


# ---- success and failure ---------------------------------------------------------------------------------------------


@cache
def attacked(trainable: str, noise: float | None) -> tuple[float, float]:
    """SSIM and distance of an attack of 100 steps; noise None: the plain update, 0: clipped only."""
    model = network(trainable=trainable)
    observed = gradient(model, phantom(), 1.0)
    sent = observed if noise is None else noised(observed, 0.01, noise)
    found = invert(model, sent, 1.0, (SIZE, SIZE), steps=100)
    return ssim(found.image, phantom()), found.distance


@pytest.mark.slow
def test_a_plain_update_of_one_image_shows_the_image() -> None:
    similarity, distance = attacked("all", None)
    assert similarity > 0.85
    assert distance < 1e-4


@pytest.mark.slow
def test_features_of_one_image_alone_already_show_its_shape() -> None:
    similarity, _ = attacked("head", None)
    assert similarity > ssim(np.full_like(phantom(), phantom().mean()), phantom()) + 0.2


@pytest.mark.slow
def test_clipping_alone_protects_nothing_for_it_keeps_the_direction() -> None:
    assert attacked("all", 0.0)[0] > 0.85


@pytest.mark.slow
@pytest.mark.parametrize(("trainable", "noise"), [("all", 0.5), ("head", 1.0)])
def test_with_noise_nothing_is_recognised(trainable: str, noise: float) -> None:
    similarity, distance = attacked(trainable, noise)
    assert similarity < 0.3
    assert distance > 0.5


@pytest.mark.slow
def test_under_a_mask_there_is_nothing_to_find() -> None:
    """What the coordinator sees of a site under secure aggregation, taken for its update."""
    model = network()
    observed = gradient(model, phantom(), 1.0)
    vector = Parameters.pack(observed).vector
    masks = [Mask(bytes(range(32)))]
    seen = masked_update(np.zeros_like(vector), vector, share=1.0, update_range=8.0, masks=masks)
    sent = Parameters(Parameters.pack(observed).manifest, seen.view(np.int32).astype(np.float32))
    loot = {name: torch.empty_like(t) for name, t in observed.items()}
    sent.load_into(loot)
    assert abs(cosine(loot, observed)) < 0.01
    assert ssim(invert(model, loot, 1.0, (SIZE, SIZE), steps=60).image, phantom()) < 0.3


# ---- how near two pictures are ---------------------------------------------------------------------------------------


def pictures() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(0)
    first = rng.random((40, 50))
    return first, np.clip(first + 0.1 * rng.normal(size=first.shape), 0, 1)


def test_psnr_is_known_for_a_known_error() -> None:
    first, _ = pictures()
    assert psnr(first, first) == float("inf")
    assert psnr(first + 0.1, first) == pytest.approx(20.0)


def test_ssim_is_one_for_the_same_picture_and_the_luminance_term_for_a_flat_one() -> None:
    first, second = pictures()
    assert ssim(first, first) == pytest.approx(1.0)
    assert ssim(first, second) == ssim(second, first) < 1
    flat, brighter = np.full((30, 30), 0.2), np.full((30, 30), 0.6)
    assert ssim(flat, brighter) == pytest.approx((2 * 0.12 + 1e-4) / (0.04 + 0.36 + 1e-4))
    assert ssim(1 - first, first) < 0 < ssim(second, first)


def test_ssim_is_the_published_formula_written_out() -> None:
    """Wang et al. (2004), equation 13, window by window, away from the border."""
    first, second = pictures()
    reach = 5
    offset = np.arange(-reach, reach + 1)
    window = np.exp(-(offset**2) / (2 * 1.5**2))
    weights = np.outer(window, window) / window.sum() ** 2
    patches = [np.lib.stride_tricks.sliding_window_view(p, weights.shape) for p in (first, second)]
    mean = [np.einsum("ijkl,kl->ij", p, weights) for p in patches]
    square = [np.einsum("ijkl,kl->ij", p**2, weights) - m**2 for p, m in zip(patches, mean, strict=True)]
    both = np.einsum("ijkl,kl->ij", patches[0] * patches[1], weights) - mean[0] * mean[1]
    exact = (2 * mean[0] * mean[1] + 1e-4) * (2 * both + 9e-4)
    exact /= (mean[0] ** 2 + mean[1] ** 2 + 1e-4) * (square[0] + square[1] + 9e-4)
    inner = slice(reach, -reach)
    assert np.allclose(inversion._ssim_map(first, second)[inner, inner], exact, atol=1e-9)
