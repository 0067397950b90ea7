"""A whole federated run against a plain PyTorch loop over the very same batches, and the cost of many sites.

    python benchmarks/engine_run.py [--repeats 5]          ratio of wall times, A B A B ...
    python benchmarks/engine_run.py --sites 3 30 300       seconds per site and round, and peak memory

The plain loop trains three sites in turn and averages their weights; it knows no message, no check and no file. The
study has no central cohort and no validation participants, so that both sides do the same arithmetic.
"""

import argparse
import csv
import json
import resource
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from client.training_round import seed_of
from client.workspace import Site
from sarco_models.config import StudyConfig, load_study
from sarco_models.parameters import Parameters
from sarco_models.schema import design_columns
from sarco_models.summaries import Moments, agreed_scaling
from sarco_models.training import Reader, participant_loss, predict, steps_per_epoch, warmup_cosine
from server.runs import Run
from simulation.harness import Arm, SiteFolder, open_sites, prepare, train_in_process
from simulation.synthetic import make_cohort

PROJECT = Path(__file__).resolve().parent.parent


def image_study(rounds: int) -> StudyConfig:
    study = load_study(PROJECT / "configs" / "study.toml")
    return study.model_copy(
        update={
            "image": study.image.model_copy(update={"size": 96}),
            "split": study.split.model_copy(update={"validation": 0.0}),
            "federation": study.federation.model_copy(update={"rounds": rounds, "min_participants": 6}),
        }
    )


def plain_loop(sites: list[Site], start: Parameters) -> np.ndarray:
    study, cfg = sites[0].study, sites[0].study.training
    moments = [Moments.of(s.split.train, design_columns(study.features), extremes=False) for s in sites]
    scaling = agreed_scaling(study, sum(moments[1:], start=moments[0]))
    readers = [Reader.of(s.model, scaling, study) for s in sites]
    weights = torch.tensor([float(len(s.split.train)) for s in sites])
    mean = torch.from_numpy(start.vector.copy())
    for round_ in range(1, study.federation.rounds + 1):
        after = []
        for site, reader in zip(sites, readers, strict=True):
            net = site.model.net.train()
            torch.nn.utils.vector_to_parameters(mean.clone(), net.parameters())
            steps = cfg.local_epochs * steps_per_epoch(site.split.train, cfg)
            rate = warmup_cosine(
                round_=round_, rounds=study.federation.rounds, warmup_rounds=cfg.warmup_rounds, steps=steps
            )
            image = [p for n, p in net.named_parameters() if n.startswith("branches.image.")]
            rest = [p for n, p in net.named_parameters() if not n.startswith("branches.image.")]
            rates = (cfg.backbone_learning_rate or cfg.learning_rate, cfg.learning_rate)
            optimizer = torch.optim.AdamW([{"params": image}, {"params": rest}], weight_decay=cfg.weight_decay)
            rng = np.random.default_rng([seed_of(site, round_), 1])
            torch.manual_seed(seed_of(site, round_))
            step = 0
            for _ in range(cfg.local_epochs):
                for batch in reader.batches(site.split.train, rng):
                    for group, lr in zip(optimizer.param_groups, rates, strict=True):
                        group["lr"] = lr * rate(step)
                    optimizer.zero_grad()
                    participant_loss(net, batch).backward()
                    optimizer.step()
                    step += 1
            after.append(torch.nn.utils.parameters_to_vector(net.parameters()).detach())
        mean = sum(w * v for w, v in zip(weights / weights.sum(), after, strict=True))
    torch.nn.utils.vector_to_parameters(mean, sites[0].model.net.parameters())
    for site, reader in zip(sites, readers, strict=True):
        site.model.net.load_state_dict(sites[0].model.net.state_dict())
        predict(site.model.net, reader, site.split.train)  # as the threshold needs
        predict(site.model.net, reader, site.split.test)  # as the sites' assessments need
    return mean.numpy()


def ratio(repeats: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        made = make_cohort(root / "cohort", scale="small", seed=1, central_participants=6)
        sites = tuple(SiteFolder(n, p, "awgs2019") for n, p in sorted(made.items()) if n != "central")
        arm = Arm("federated", image_study(rounds=20), sites, root, root / "cache", root / "run")
        engine, plain = [], []
        for k in range(repeats + 1):
            each = replace(arm, folder=root / f"run{k}")
            run = prepare(each)
            (each.folder / "coordinator.toml").write_text('cache = "cache"\n')
            opened = open_sites(each)
            for site in opened:
                _ = site.model  # both sides find their networks built
            begun = time.perf_counter()
            train_in_process(run, opened)
            engine.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            vector = plain_loop(opened, run.parameters_after(0))
            plain.append(time.perf_counter() - begun)
            final = Parameters.load(each.folder / "model.safetensors", run.manifest).vector
            assert np.abs(final - vector).max() < 1e-4, np.abs(final - vector).max()
        ratios = [a / b for a, b in zip(engine[1:], plain[1:], strict=True)]  # the first pair fills the caches
        print(f"engine / plain loop, {repeats} pairs: median {statistics.median(ratios):.3f}", end=" ")
        print(f"(min {min(ratios):.3f}, max {max(ratios):.3f}); a run takes {statistics.median(plain[1:]):.1f} s plain")


def tiny_site(folder: Path, seed: int) -> SiteFolder:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    with (folder / "participants.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["participant_id", "y", "a", "b"])
        rows.writerows([f"p{i}", i % 2, rng.random(), rng.random()] for i in range(40))
    return SiteFolder(folder.name, folder, "r")


def many(count: int) -> None:
    tree = {
        "name": "many",
        "title": "many",
        "label": {"column": "y", "rule": "r"},
        "features": [{"name": "a", "group": "t"}, {"name": "b", "group": "t"}],
        "model": {"modalities": ["t"]},
        "federation": {"rounds": 5},
    }
    study = StudyConfig.model_validate_json(json.dumps(tree))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        sites = tuple(tiny_site(root / f"site{k:04d}", k) for k in range(count))
        arm = Arm("federated", study, sites, root, root / "cache", root / "run")
        run = prepare(arm)
        (arm.folder / "coordinator.toml").write_text("")
        opened = open_sites(arm)
        begun = time.perf_counter()
        train_in_process(run, opened)
        seconds = time.perf_counter() - begun
        assert len(Run.open(arm.folder).records()) == 6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{count:4} sites: {1000 * seconds / 5 / count:6.2f} ms per site and round, peak memory {peak:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sites", type=int, nargs="*")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.sites:
        for count in options.sites:
            many(count)
    else:
        ratio(options.repeats)


if __name__ == "__main__":
    main()
