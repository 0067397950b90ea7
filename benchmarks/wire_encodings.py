"""What each form of an update costs and loses, on real updates of real networks, and what compression saves downwards.

    python benchmarks/wire_encodings.py [--models tables last_stage atto tiny] [--rounds 3]

A synthetic hospital trains a few rounds with the product's own code; the last round's update is encoded and decoded in
every form. Printed are bytes against float32, processor seconds (the best of three, one thread), and the relative L2
error of what arrives. Then what was not built: another level of zstd, one step for a whole tensor. Then the way
down: the model itself under zstd, which was not built, and its difference to the one before, which was; seconds saved
are for one site, coding and decoding paid. convnext_tiny begins with random weights, the others with the project's.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from client.tasks import handle
from client.workspace import Site
from sarco_models import encoding
from sarco_models.config import StudyConfig, load_study, merged
from sarco_models.encoding import lengthen, shorten
from sarco_models.fusion import fixed_tensors
from sarco_models.parameters import Parameters, trained_tensors
from sarco_models.schema import design_columns
from sarco_models.summaries import Moments
from sarco_models.wire import Setup, Train, Trained
from server.runs import start_model
from simulation.harness import Arm, SiteFolder, open_sites, prepare
from simulation.synthetic import make_cohort

PROJECT = Path(__file__).resolve().parent.parent
MODELS = {
    "tables": ("clinical and laboratory columns", {"modalities": ("clinical", "lab")}),
    "last_stage": ("convnext_atto, last stage", {"modalities": ("image",), "trainable": "last_stage"}),
    "atto": ("convnext_atto, all layers", {"modalities": ("image",), "trainable": "all"}),
    "tiny": (
        "convnext_tiny, all layers",
        {"modalities": ("image",), "trainable": "all", "backbone": "convnext_tiny", "weights": "none"},
    ),
}
FORMS = [(e, z) for e in encoding.ENCODINGS for z in (False, True)][1:]
LINES = {"1 Gbit/s": 1e9, "Flower on the loopback": 3.4e8, "100 Mbit/s": 1e8}
"""Bits a second; Flower's: 684 MB of a round of three sites in 16 s, on 2 cores (TLS, hashes, SQLite)."""
T = TypeVar("T")


def study_of(model: dict[str, object], rounds: int) -> StudyConfig:
    changes = {
        "model": model,
        "image": {"size": 96},
        "federation": {"rounds": rounds, "min_participants": 6},
        "training": {"local_steps": 12, "warmup_rounds": 0, "balance_classes": False},
    }
    return StudyConfig.model_validate(merged(load_study(PROJECT / "configs" / "study.toml").model_dump(), changes))


def hospital(root: Path, study: StudyConfig) -> Site:
    made = sorted((n, p) for n, p in make_cohort(root / "cohort", scale="tiny", seed=1).items() if n != "central")
    arm = Arm(
        "federated", study, tuple(SiteFolder(n, p, "awgs2019") for n, p in made), None, root / "cache", root / "run"
    )
    prepare(arm)
    return open_sites(arm)[0]


def last_update(site: Site) -> tuple[Parameters, Parameters]:
    """After and before the last round."""
    study, start = site.study, start_model(site.study)
    moments = Moments.of(site.split.train, design_columns(study.features), extremes=False)
    setup = Setup(study.digest, Parameters.pack(fixed_tensors(start)), moments)
    handle(site, setup)
    after = before = Parameters.pack(trained_tensors(start.net))
    for round_ in range(1, study.federation.rounds + 1):
        before = after
        reply = handle(site, Train(study.digest, setup.digest, round_, before))
        assert isinstance(reply, Trained), reply
        after = reply.parameters
    return after, before


def best(work: Callable[[], T]) -> tuple[float, T]:
    seconds = []
    for _ in range(3):
        begun = time.process_time()  # other work on the machine counts less
        done = work()
        seconds.append(time.process_time() - begun)
    return min(seconds), done


def forms(after: Parameters, before: Parameters) -> None:
    update = after.vector - before.vector
    owed = np.zeros_like(update)
    for form, compress in FORMS:
        encoded, short = best(lambda f=form, c=compress: shorten(after, before, owed, encoding=f, compress=c))  # type: ignore[misc]
        decoded, back = best(lambda s=short: lengthen(s.update, before))  # type: ignore[misc]
        share = len(short.update.body) / after.vector.nbytes
        error = float(np.linalg.norm(back.vector - after.vector) / np.linalg.norm(update))
        name = form + "+zstd" * compress
        print(f"  {name:13} {share:6.3f} of the bytes, {encoded:6.3f} s + {decoded:6.3f} s, error {error:.1e}")


def not_built(after: Parameters, before: Parameters) -> None:
    update = after.vector - before.vector
    for form in ("float32", "int8"):
        for level in (1, 3):
            encoding._LEVEL = level
            seconds, short = best(lambda f=form: shorten(after, before, encoding=f, compress=True))  # type: ignore[misc]
            print(f"  {form}+zstd at level {level}: {len(short.update.body) / update.nbytes:.3f}, {seconds:.3f} s")
    encoding._LEVEL = 1
    at, left = 0, 0.0
    for size in after.manifest.sizes:
        piece = update[at : at + size].astype(np.float64)
        step = np.abs(piece).max(initial=0) / 127 or 1.0
        left += float(np.square(piece - np.rint(piece / step) * step).sum())
        at += size
    print(f"  int8 with one step a tensor: error {np.sqrt(left) / np.linalg.norm(update):.1e}")


def downwards(after: Parameters, before: Parameters) -> None:
    """Seconds that zstd adds and saves for one site; the coordinator encodes once for all."""
    zero = Parameters(after.manifest, np.zeros_like(after.vector))
    for what, base in (("the model", zero), ("its difference to the last round's", before)):
        encoded, short = best(lambda b=base: shorten(after, b, encoding="float32", compress=True))  # type: ignore[misc]
        decoded, _ = best(lambda s=short, b=base: lengthen(s.update, b))  # type: ignore[misc]
        saved = after.vector.nbytes - len(short.update.body)
        lines = ", ".join(f"{8 * saved / speed - encoded - decoded:+.2f} s on {line}" for line, speed in LINES.items())
        print(f"  zstd downwards on {what}: {len(short.update.body) / after.vector.nbytes:.3f}; saves {lines}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.models:
        words, model = MODELS[name]
        with tempfile.TemporaryDirectory() as folder:
            after, before = last_update(hospital(Path(folder), study_of(model, options.rounds)))
        print(f"{words}: {len(after.vector):,} numbers, {after.vector.nbytes / 1e6:.2f} MB, ", end="")
        relative = np.linalg.norm(after.vector - before.vector) / np.linalg.norm(before.vector)
        print(f"{len(after.manifest.names)} tensors; an update is {relative:.1e} of the model", flush=True)
        forms(after, before)
        not_built(after, before)
        downwards(after, before)


if __name__ == "__main__":
    main()
