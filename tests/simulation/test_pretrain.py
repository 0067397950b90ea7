"""The shipped backbone comes from phantoms alone, by this module, and its file loads where a study asks for it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import nn

from sarco_models.architectures import Norm
from sarco_models.backbones import PHANTOM_WEIGHTS, build_backbone
from sarco_models.config import ImageConfig
from sarco_models.errors import ConfigError
from simulation.pretrain import TARGETS, Pretraining, pretrain, render_phantoms, settle_norms

SMALL = Pretraining(sizes=(32, 48), phantoms=250, epochs=1, mixed_epochs=1, batch=25)


@pytest.mark.slow
def test_pretraining_writes_weights_that_a_study_loads(tmp_path: Path) -> None:
    out, told = tmp_path / "w.safetensors", list[str]()
    r2 = pretrain(SMALL, out, workers=1, tell=told.append)
    assert set(r2) == set(TARGETS)
    assert np.isfinite(list(r2.values())).all()
    assert [t for t in told if t.startswith("epoch 2 of 2")]
    with safe_open(out, "pt") as file:
        notes = file.metadata()
        stem = file.get_tensor("stem.0.weight")
    assert "SYNTHETIC" in notes["source"]
    assert notes["phantoms"] == "250"
    loaded = build_backbone("convnext_atto", "all", str(out)).trained.state_dict()
    assert torch.equal(next(iter(loaded.values())), stem.float())


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "norm"), [("efficientnet_b0", "frozen"), ("swin_atto", "none")])
def test_other_families_are_pretrained_likewise(
    backbone: str, norm: Norm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the statistics of batch norms, so that a study may freeze them; for images of other sizes too."""
    rng = np.random.default_rng(0)

    def noise(cfg: Pretraining, _workers: int) -> tuple[list[NDArray[np.uint8]], NDArray[np.float64]]:
        pixels = [rng.integers(0, 256, (60, size, size), dtype=np.uint8) for size in cfg.sizes]
        return pixels, rng.normal(size=(60, len(TARGETS)))

    monkeypatch.setattr("simulation.pretrain.render_phantoms", noise)
    out = tmp_path / "w.safetensors"
    cfg = Pretraining(backbone=backbone, sizes=(64, 96), epochs=2, mixed_epochs=2, batch=6)
    pretrain(cfg, out, workers=1, tell=list[str]().append)
    fresh, loaded = (build_backbone(backbone, "all", w, norm=norm, image_size=96) for w in ("none", str(out)))
    pairs = zip(loaded.trained.parameters(), fresh.trained.parameters(), strict=True)
    assert not [p for p, start in pairs if torch.equal(p, start)]


def test_an_unknown_backbone_is_refused_before_anything_is_rendered(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such ConvNeXt, EfficientNet or Swin"):
        pretrain(replace(SMALL, backbone="resnet18"), tmp_path / "w.safetensors", workers=1, tell=pytest.fail)


@pytest.mark.slow
def test_phantoms_of_a_seed_do_not_depend_on_the_workers() -> None:
    (one, truth), (two, same) = (render_phantoms(SMALL, workers) for workers in (1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert np.array_equal(truth, same)
    assert [p.shape for p in one] == [(250, 32, 32), (250, 48, 48)]


def test_shipped_weights_say_what_they_are_and_stay_small() -> None:
    path = PHANTOM_WEIGHTS / "convnext_atto.safetensors"
    assert path.stat().st_size < 8_000_000
    with safe_open(path, "pt") as file:
        notes = file.metadata()
        assert all(file.get_tensor(name).dtype == torch.float16 for name in file.keys())  # noqa: SIM118 - not a dict
    assert "SYNTHETIC" in notes["source"]
    cfg = Pretraining()
    assert (notes["phantoms"], notes["seed"], notes["sizes"]) == (str(cfg.phantoms), str(cfg.seed), str(cfg.sizes))
    assert json.loads(notes["image"]) == json.loads(ImageConfig().model_dump_json())


def test_batch_norms_are_settled_on_all_phantoms_after_training() -> None:
    """The plain mean and variance of the whole, whatever the last steps were of."""
    pixels = torch.from_numpy(np.random.default_rng(3).integers(0, 255, (300, 8, 8), dtype=np.uint8))
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten())
    net.train()
    net(torch.full((4, 1, 8, 8), 9.0))  # what was gathered on the way
    settle_norms(net, pixels)
    norm = net[0]
    values = pixels.float() / 255
    assert norm.running_mean.item() == pytest.approx(values.mean().item(), abs=1e-3)
    assert norm.running_var.item() == pytest.approx(values.var().item(), abs=1e-3)
    assert norm.momentum == 0.1
