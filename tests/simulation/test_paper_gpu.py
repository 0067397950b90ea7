"""The paper's sizes are in a file that a GPU can run, and the suite trains by it for a few steps."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from sarco_models.architectures import architecture
from sarco_models.cohort import open_cohort, split
from sarco_models.parameters import trained_tensors
from sarco_models.schema import design_columns
from sarco_models.summaries import Moments, agreed_scaling
from sarco_models.training import (
    Reader,
    Training,
    adamw,
    chained,
    fit,
    participant_loss,
    predict,
    steps_per_epoch,
    warmup_cosine,
)
from server.runs import start_model
from simulation.experiments import Experiment
from simulation.synthetic import make_cohort

EXPERIMENTS = Path(__file__).parents[2] / "configs" / "experiments"
SIX = {"image", "clinical", "lab", "image_clinical", "image_lab", "all"}


def test_the_file_has_the_papers_sizes(tmp_path: Path) -> None:
    """SCIENCE 1.3: P3, P6, P7, P10, P11 and P12."""
    experiment = Experiment.load(EXPERIMENTS / "paper_gpu.toml", tmp_path)
    assert set(experiment.config.variants) == SIX
    folds = experiment.config.cross_validation
    assert folds is not None
    assert (folds.folds, folds.draws) == (5, 3)
    for name, study in experiment.studies.items():
        cfg = study.training
        assert study.federation.rounds * cfg.local_epochs == 150
        assert cfg.learning_rate == cfg.backbone_learning_rate == 3e-4
        assert cfg.batch_participants * (cfg.images_per_participant if study.uses_images else 1) == 48, name
        assert (study.image.size, study.image.framing, study.tabular.scaling) == (224, "paper", "minmax")
        assert study.model.trainable == "all"
        assert architecture(study.model.backbone).timm_name == "convnext_tiny"


def test_it_differs_from_the_file_for_two_cores_in_sizes_alone(tmp_path: Path) -> None:
    large, small = (Experiment.load(EXPERIMENTS / name, tmp_path) for name in ("paper_gpu.toml", "paper.toml"))
    assert list(large.config.variants) == list(small.config.variants)
    assert large.config.cross_validation == small.config.cross_validation
    for name in SIX:
        assert large.config.variants[name].title == small.config.variants[name].title
        assert large.studies[name].model.modalities == small.studies[name].model.modalities
        assert large.studies[name].features == small.studies[name].features


@pytest.mark.slow
def test_a_few_steps_of_it(tmp_path: Path) -> None:
    """ConvNeXt-Tiny as a whole on 224 pixels and both tables; random weights, for the suite has no internet."""
    changes = {
        "seeds": [1],
        "cohort": {"scale": "tiny", "width_px": 96},
        "overrides": {"model": {"weights": "none"}, "training": {"batch_participants": 4, "images_per_participant": 1}},
    }
    experiment = Experiment.load(EXPERIMENTS / "paper_gpu.toml", tmp_path, changes=changes)
    make_cohort(experiment.data(1), scale="tiny", seed=1, width_px=96, central_participants=6, workers=1)
    arm = next(arm for arm in experiment.arms(1) if arm.variant == "all")
    study = arm.study
    cohort = open_cohort(experiment.data(1) / "shanghai", study, tmp_path / "cache")
    people = split(cohort, study.split, study.training.seed)
    moments = Moments.of(people.train, design_columns(study.features), extremes=True)
    model = start_model(study)
    reader = Reader.of(model, agreed_scaling(study, moments), study)
    before = {name: tensor.detach().clone() for name, tensor in trained_tensors(model.net).items()}
    steps = study.training.local_epochs * steps_per_epoch(people.train, study.training)
    rates = warmup_cosine(round_=1, rounds=study.federation.rounds, warmup_rounds=1, steps=steps)
    rng = np.random.default_rng(1)
    batches = islice(chained(reader.batches(people.train, rng) for _ in range(study.training.local_epochs)), 3)
    losses = fit(Training(model.net, adamw(model.net, study.training), batches, participant_loss, rates), seed=1)
    assert len(losses) == 3
    assert np.isfinite(losses).all()
    after = trained_tensors(model.net)
    assert sum(t.numel() for t in after.values()) > 27_000_000
    still = [name for name, tensor in after.items() if torch.equal(tensor, before[name])]
    assert all(name.startswith("absent.") for name in still), still
    assert np.isfinite(predict(model.net, reader, people.test)).all()
