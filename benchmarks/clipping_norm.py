"""How long participants' gradients are, on SYNTHETIC people: what the default of ``privacy.max_grad_norm`` rests on.

    python benchmarks/clipping_norm.py                       # 48 people, about two minutes
    python benchmarks/clipping_norm.py --scale small --seeds 1 2 3

A clipping norm chosen on the hospitals' own gradients would be a release of its own, unaccounted. These people are
rendered and drawn, so that anybody may look at them. Quantiles over the training participants of the three hospitals of
the norm over all trained parameters together: at the start of a study (shipped weights of ConvNeXt-atto, 96 px), and
after ten full-batch steps with gradients clipped at the default, as a private study without noise would take them.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sarco_models.cohort import TrainingPeople, open_cohort, pool, split
from sarco_models.config import StudyConfig, load_study, merged
from sarco_models.per_participant import gradients_of
from sarco_models.privacy import noised
from sarco_models.protection import PrivacyConfig
from sarco_models.reader import Reader
from sarco_models.schema import design_columns
from sarco_models.secret import Secret
from sarco_models.summaries import Moments, agreed_scaling
from sarco_models.training import Training, build_optimizer, fit, participant_loss
from server.runs import start_model
from simulation.synthetic import make_cohort

PROJECT = Path(__file__).resolve().parent.parent
SITES = ("shanghai", "sichuan", "zhongshan")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
IMAGES, ALL = ("image",), ("image", "clinical", "lab")
ROWS = (
    ("tables", ("clinical", "lab"), "head"),
    ("image, head", IMAGES, "head"),
    ("image, last stage", IMAGES, "last_stage"),
    ("image, all layers", IMAGES, "all"),
    ("image + tables, head", ALL, "head"),
    ("image + tables, last stage", ALL, "last_stage"),
    ("image + tables, all layers", ALL, "all"),
)
STEPS = 10


def study_of(modalities: tuple[str, ...], trainable: str, seed: int) -> StudyConfig:
    base = load_study(PROJECT / "configs" / "study.toml").model_dump(mode="json")
    changes = {
        "image": {"size": 96},
        "augmentation": {"cached_views": 1},
        "model": {"modalities": list(modalities), "trainable": trainable, "backbone": "convnext_atto",
                  "weights": "phantom"},
        "training": {"balance_classes": False, "local_steps": STEPS, "optimizer": "sgd", "learning_rate": 0.5,
                     "backbone_learning_rate": 0.05, "weight_decay": 0.0, "seed": seed},
        "privacy": {"epsilon": 8.0, "delta": 1e-5},
    }  # fmt: skip
    return StudyConfig.model_validate_json(json.dumps(merged({**base, "privacy": {}}, changes)))


def norms(reader: Reader, people: TrainingPeople, seed: int) -> NDArray[np.float64]:
    """(participants,) norm of each person's gradient, in train mode, all participants once."""
    net = reader.model.net.train()
    batch = reader.drawn(people, np.random.default_rng(seed), 1)(np.arange(len(people)))
    torch.manual_seed(seed)
    return torch.cat([part.norms() for part in gradients_of(net, participant_loss)(batch)]).double().numpy()


def measured(folder: Path, study: StudyConfig, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Norms at the start and after some steps."""
    parts = [
        split(open_cohort(folder / s, study, folder / "cache" / s, name=s), study.split, seed) for s in SITES
    ]  # fmt: skip
    people = pool(parts).train
    moments = Moments.of(people, design_columns(study.features), extremes=False)
    reader = Reader.of(start_model(study), agreed_scaling(study, moments), study)
    start = norms(reader, people, seed)
    net = reader.model.net
    training = Training(net, build_optimizer(net, study.training), [], participant_loss, lambda _: 1.0)
    fit(noised(study, reader, people, Secret(seed), noise_multiplier=0.0)(training), seed=seed)
    return start, norms(reader, people, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=("tiny", "small", "full"), default="tiny")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--rows", type=int, nargs="+", default=list(range(len(ROWS))), help="which networks, from 0")
    given = parser.parse_args()
    torch.set_num_threads(1)
    default = PrivacyConfig(epsilon=1, delta=1e-5).max_grad_norm
    print(f"SYNTHETIC people, scale {given.scale}, seeds {given.seeds}; default clipping norm {default:g}")
    print(f"{'trained':28}{'when':12}{'n':>5}" + "".join(f"{f'q{100 * q:g}':>8}" for q in QUANTILES) + "   clipped")
    with tempfile.TemporaryDirectory() as scratch:
        for seed in given.seeds:
            make_cohort(Path(scratch) / str(seed), scale=given.scale, seed=seed, workers=1)
        for name, modalities, trainable in (ROWS[k] for k in given.rows):
            found = [
                measured(Path(scratch) / str(seed), study_of(modalities, trainable, seed), seed) for seed in given.seeds
            ]
            for k, when in enumerate(("start", f"{STEPS} steps")):
                lengths = np.concatenate([pair[k] for pair in found])
                cells = "".join(f"{q:8.2f}" for q in np.quantile(lengths, QUANTILES))
                print(
                    f"{name:28}{when:12}{len(lengths):5}{cells}   {100 * np.mean(lengths > default):5.0f} %", flush=True
                )


if __name__ == "__main__":
    main()
