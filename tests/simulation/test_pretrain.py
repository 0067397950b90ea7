"""The shipped backbone comes from phantoms alone, by this module, and its file loads where a study asks for it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from sarco_models.backbones import PHANTOM_WEIGHTS, build_backbone
from sarco_models.config import ImageConfig
from simulation.pretrain import TARGETS, Pretraining, pretrain, render_phantoms

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
