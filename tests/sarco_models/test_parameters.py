"""What was packed under a name is what is loaded under that name, or nothing is loaded at all."""

import copy
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from sarco_models.errors import ProtocolError, WeightsError
from sarco_models.parameters import (
    Manifest,
    Parameters,
    all_tensors,
    keep_at_site,
    local_tensors,
    trained_tensors,
)


def tensors(seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {"b.weight": (3, 2), "a.bias": (4,), "scale": (), "empty": (0, 5)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def received(parameters: Parameters) -> Parameters:
    """As it comes over a network: the bytes of a message, which cannot be written to."""
    return Parameters(parameters.manifest, np.frombuffer(parameters.vector.tobytes(), dtype=np.float32))


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


# ---- round trips -----------------------------------------------------------------------------------------------------


def test_loading_gives_back_what_was_packed() -> None:
    source, target = tensors(1), tensors(2)
    packed = Parameters.pack(source)
    assert packed.vector.shape == (11,)
    for parameters in (packed, received(packed)):
        target = tensors(2)
        parameters.load_into(target)
        assert same(source, target)


def test_packing_copies() -> None:
    """Training on changes neither what was sent nor what came down."""
    source = {"w": torch.ones(3)}
    packed = Parameters.pack(source)
    source["w"].mul_(2)
    np.testing.assert_array_equal(packed.vector, 1)
    packed.load_into(source)
    source["w"].mul_(2)
    np.testing.assert_array_equal(packed.vector, 1)


def test_a_network_without_parameters_is_an_empty_vector() -> None:
    packed = Parameters.pack({})
    assert (packed.vector.shape, packed.vector.dtype) == ((0,), np.dtype(np.float32))
    packed.load_into({})


def test_half_precision_is_packed_and_loaded_as_single() -> None:
    half = {"w": torch.tensor([0.1, 2.5]).half()}
    packed = Parameters.pack(half)
    assert packed.vector.dtype == np.float32
    packed.load_into(half)
    np.testing.assert_array_equal(half["w"].float().numpy(), packed.vector)


def test_a_manifest_survives_its_text() -> None:
    manifest = Manifest.of(tensors())
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert manifest.sizes == (6, 4, 1, 0)


def test_digests_are_of_names_shapes_and_content() -> None:
    packed = Parameters.pack(tensors())
    again = received(packed)
    assert (packed.digest, packed.manifest.digest) == (again.digest, again.manifest.digest)
    others = [
        Parameters.pack(tensors(2)),
        Parameters.pack({("x" + name): t for name, t in tensors().items()}),
        Parameters.pack({name: t.reshape(-1) for name, t in tensors().items()}),
    ]
    assert len({packed.digest, *(p.digest for p in others)}) == 4
    assert packed.digest != hashlib.sha256(b"").hexdigest()


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: {k: v for k, v in t.items() if k != "scale"}, r"absent \['scale'\], unexpected \[\]"),
        (lambda t: t | {"more": torch.zeros(1)}, r"absent \[\], unexpected \['more'\]"),
        (lambda t: t | {"a.bias": torch.zeros(5)}, r"parameter a\.bias has shape \(5,\); the model needs \(4,\)"),
        (lambda t: t | {"b.weight": torch.zeros(2, 3)}, r"b\.weight has shape \(2, 3\); the model needs \(3, 2\)"),
        (lambda t: dict(reversed(t.items())), "another order"),
    ],
)
def test_parameters_of_another_model_are_refused_and_load_nothing(change: object, words: str) -> None:
    model, before = tensors(1), tensors(1)
    with pytest.raises(ProtocolError, match=words):
        Parameters.pack(change(tensors(2))).load_into(model)  # type: ignore[operator]
    assert same(model, before)


@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(10, np.float32),
        np.zeros(12, np.float32),
        np.zeros(11, np.float64),
        np.zeros((11, 1), np.float32),
        np.zeros(11, ">f4"),
    ],
)
def test_a_vector_that_does_not_fit_its_manifest_cannot_be_made(vector: NDArray[Any]) -> None:
    with pytest.raises(ProtocolError, match=r"the manifest says float32 of shape \(11,\)"):
        Parameters(Manifest.of(tensors()), vector)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "[]",
        "{}",
        "null",
        '[["a"]]',
        "[1, 2]",
        '[["a"], [["x"]]]',
        '[["a"], 1]',
        '[["a"], [[1], [2]]]',
        "[" * 100_000,
        '[["a"], [[Infinity]]]',
    ],
)
def test_a_damaged_manifest_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError, match="damaged"):
        Manifest.from_json(text)


# ---- what travels ----------------------------------------------------------------------------------------------------


def test_buffers_are_never_packed() -> None:
    """STYLE 7.1: batch-norm statistics are made of private images and sit in the state dict."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    net.train()(torch.randn(4, 1, 8, 8) + 5)
    assert "1.running_mean" in net.state_dict()
    assert list(all_tensors(net)) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    before = Parameters.pack(all_tensors(net)).digest
    net(torch.randn(4, 1, 8, 8) - 5)
    assert Parameters.pack(all_tensors(net)).digest == before


def test_frozen_parameters_are_not_among_those_that_training_changes() -> None:
    net = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 1))
    assert list(trained_tensors(net)) == ["1.weight", "1.bias"]
    assert list(all_tensors(net)) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_a_batch_norm_that_lives_belongs_to_its_site() -> None:
    """Li et al. 2021: affine parts and statistics. Whatever the kind of batch norm, none of it is sent (STYLE 7.1)."""
    for norm in (nn.BatchNorm2d(2), BatchNormAct2d(2)):
        net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(norm))
        assert list(trained_tensors(net)) == ["0.weight", "0.bias"]
        names = [f"1.0.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        assert list(local_tensors(net)) == names
        Parameters.pack(local_tensors(net)).load_into(local_tensors(net))


def test_other_norms_travel() -> None:
    net = nn.Sequential(nn.LayerNorm(2), nn.GroupNorm(1, 2), nn.InstanceNorm2d(2, affine=True))
    assert list(trained_tensors(net)) == [f"{k}.{part}" for k in range(3) for part in ("weight", "bias")]
    assert local_tensors(net) == {}
    keep_at_site(net[0])
    assert list(local_tensors(copy.deepcopy(net))) == ["0.weight", "0.bias"]
    assert list(trained_tensors(net)) == [f"{k}.{part}" for k in (1, 2) for part in ("weight", "bias")]


def test_loading_changes_the_network_itself_and_keeps_its_gradients_possible() -> None:
    net = nn.Linear(2, 1)
    Parameters(Manifest.of(trained_tensors(net)), np.array([1, 2, 3], np.float32)).load_into(trained_tensors(net))
    assert net(torch.tensor([[1.0, 1.0]])).item() == 6
    assert net.weight.requires_grad


# ---- files -----------------------------------------------------------------------------------------------------------


def test_a_saved_file_is_loaded_bit_for_bit_in_the_models_order(tmp_path: Path) -> None:
    packed = Parameters.pack(tensors())
    for parameters in (packed, received(packed)):
        parameters.save(tmp_path / "model.safetensors")
        assert Parameters.load(tmp_path / "model.safetensors", packed.manifest).digest == packed.digest
    turned = Manifest.of(dict(reversed(tensors().items())))
    target = dict(reversed(tensors(2).items()))
    Parameters.load(tmp_path / "model.safetensors", turned).load_into(target)
    assert same(target, tensors())
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_an_empty_vector_is_saved_and_loaded(tmp_path: Path) -> None:
    nothing = Parameters.pack({})
    nothing.save(tmp_path / "frozen.safetensors")
    assert Parameters.load(tmp_path / "frozen.safetensors", nothing.manifest).digest == nothing.digest


def test_a_wrong_file_is_refused_with_words(tmp_path: Path) -> None:
    manifest = Manifest.of(tensors())
    path = tmp_path / "model.safetensors"
    with pytest.raises(WeightsError, match=r"model\.safetensors: no such file"):
        Parameters.load(path, manifest)
    path.write_bytes(b"not a safetensors file at all")
    with pytest.raises(WeightsError, match=r"model\.safetensors: not a safetensors file"):
        Parameters.load(path, manifest)
    save_file({"other": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match=r"unexpected \['other'\]"):
        Parameters.load(path, manifest)
    save_file(tensors() | {"scale": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match=r"parameter scale has shape \(2,\); the model needs \(\)"):
        Parameters.load(path, manifest)
