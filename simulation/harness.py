"""One arm of a comparison with one seed: a real federation of one or more sites, run to its end and scored.

Every arm is a federation: ``federated`` of all sites, ``local:SITE`` of one, ``pooled`` of one that holds everybody.
So the same code trains them all, on the same people, from the same starting weights.
"""

import csv
import hashlib
import io
import json
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import Context
from numpy.typing import NDArray

from client.app import make_app
from client.policy import Policy
from client.workspace import Site, norms_file, open_site
from sarco_models.cohort import HeldOut, Split, everyone, open_cohort, pool, split
from sarco_models.config import StudyConfig
from sarco_models.errors import RunError
from sarco_models.schema import IMAGES_FILE, PARTICIPANTS_FILE, design_columns
from sarco_models.summaries import TableScaling
from sarco_models.training import Reader
from server.evaluation import released_probabilities
from server.rounds import run_study
from server.runs import CoordinatorConfig, Run, start_model, write_json, write_text
from simulation.grid import InProcessGrid

POOLED = "pooled"
CENTRAL = "central"


@dataclass(frozen=True)
class SiteFolder:
    """Where a hospital's data are, and how its labels were made."""

    name: str
    data: Path
    label_rule: str


@dataclass(frozen=True)
class Arm:
    """One way of training with one seed.

    Attributes:
        name: ``federated``, ``pooled`` or ``local:SITE``.
        study: with this arm's seed.
        sites: every hospital of the comparison; all are scored, whichever train.
        central: folder of the central test cohort.
        cache: preprocessed images, shared by all arms.
        folder: run directory of the arm.
    """

    name: str
    study: StudyConfig
    sites: tuple[SiteFolder, ...]
    central: Path
    cache: Path
    folder: Path

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Names of the hospitals whose people this arm trains on."""
        return (
            (self.name.removeprefix("local:"),) if self.name.startswith("local:") else tuple(s.name for s in self.sites)
        )


def prepare(arm: Arm) -> Run:
    """Write the arm's run directory: the coordinator's files, and a site.toml for each hospital that trains."""
    coordinator = CoordinatorConfig(central=str(arm.central.resolve()), cache=str(arm.cache.resolve()), poll_s=0.05)
    run = Run.create(arm.folder, arm.study, coordinator)
    for site in arm.sites:
        if site.name in arm.trained_on:
            write_text(arm.folder / "sites" / site.name / "site.toml", _site_toml(arm, site))
    return run


def _site_toml(arm: Arm, site: SiteFolder) -> str:
    entries = {
        "name": site.name,
        "data": str(site.data.resolve()),
        "study": "../../study.json",
        "cache": str(arm.cache.resolve()),
        "label_rule": site.label_rule,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in entries.items()]
    required = arm.study.federation.min_participants
    policy = ["[policy]", f'approved_studies = ["{arm.study.digest}"]', f"min_training_participants = {required}"]
    return "\n".join([*lines, *policy]) + "\n"


def run_arm(arm: Arm) -> dict[str, Any]:
    """Train, score and describe one arm in this process; an arm that is done is only read.

    Returns:
        What is known of the arm: trained_on, participants, images, rounds, seconds, bytes, threshold, prevalence.
    """
    found = finished(arm)
    if found:
        return found
    logging.getLogger("flwr").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    started = time.monotonic()
    run = prepare(arm)
    train_in_process(run, open_sites(arm))
    return finish(arm, run, time.monotonic() - started)


def finished(arm: Arm) -> dict[str, Any] | None:
    """What arm.json says; None while the arm is not complete.

    Raises:
        RunError: the folder holds the arm of another study or of other data.
    """
    done = arm.folder / "arm.json"
    if not done.exists():
        return None
    found: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
    if found["study"] != arm.study.digest or found["data"] != data_digest(arm):
        raise RunError(
            f"{arm.folder}: was trained by another study or on other data than this experiment names: "
            "give another --out, or remove the folder"
        )
    return found


def data_digest(arm: Arm) -> str:
    """Digest of every hospital's tables, of the central cohort's, and of the hospitals' names."""
    digest = hashlib.sha256()
    for name, folder in [(CENTRAL, arm.central), *((s.name, s.data) for s in arm.sites)]:
        digest.update(f"|{name}|".encode())
        for table in (PARTICIPANTS_FILE, IMAGES_FILE):
            path = folder / table
            digest.update(path.read_bytes() if path.is_file() else b"absent")
    return digest.hexdigest()


def open_sites(arm: Arm) -> list[Site]:
    """The sites of an arm; the pooled arm has a single one that holds everybody."""
    sites = [open_site(path) for path in sorted((arm.folder / "sites").glob("*/site.toml"))]
    if arm.name != POOLED:
        for site in sites[1:]:
            # Sites answer one after another and load what they are sent: in one process they share one network.
            site.__dict__["model"] = sites[0].model
        return sites
    policy = Policy(approved_studies=(arm.study.digest,), min_training_participants=2)
    together = pool([s.split for s in sites])
    rule = arm.study.label.rule
    return [Site(POOLED, arm.study, rule, policy, together, arm.folder / "sites" / POOLED / "state")]


def train_in_process(run: Run, sites: list[Site]) -> None:
    """The real ServerApp loop and ClientApp on a grid in this process."""

    def site_of(context: Context) -> Site:
        return sites[int(context.node_config["partition-id"])]

    run_study(InProcessGrid(make_app(site_of), nodes=len(sites)), run)


def finish(arm: Arm, run: Run, seconds: float) -> dict[str, Any]:
    """Score the released model on everybody who was held out, and write arm.json last."""
    write_text(arm.folder / "scores.csv", _scores(arm, run))
    released, records = run.released or {}, run.records()
    splits = [site_split(arm, site) for site in arm.sites if site.name in arm.trained_on]
    about = {
        "study": arm.study.digest,
        "data": data_digest(arm),
        "trained_on": list(arm.trained_on),
        "participants": sum(len(s.train) for s in splits),
        "images": sum(len(s.train.images) for s in splits),
        "rounds": len(records) - 1,
        "seconds": max(seconds, sum(r["seconds"] for r in records)),
        "bytes_down": sum(r["bytes_down"] for r in records) + released["bytes_down"],
        "bytes_up": sum(r["bytes_up"] for r in records) + released["bytes_up"],
        "threshold": released["threshold"],
        "training_prevalence": released["prevalence"],
    }
    write_json(arm.folder / "arm.json", about)
    return about


def site_split(arm: Arm, site: SiteFolder) -> Split:
    """The split of one hospital, as the hospital itself makes it."""
    cohort = open_cohort(site.data, arm.study, arm.cache, name=site.name)
    return split(cohort, arm.study.split, arm.study.training.seed)


def held_out(arm: Arm) -> Mapping[str, HeldOut]:
    """People that nobody trained on: the central cohort, and each hospital's test participants."""
    central = everyone(open_cohort(arm.central, arm.study, arm.cache))
    return {CENTRAL: central, **{site.name: site_split(arm, site).test for site in arm.sites}}


def _scores(arm: Arm, run: Run) -> str:
    """scores.csv: one row per held-out participant. Only simulation may write such a file (SCIENCE, pitfall 27)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["site", "participant_id", "label", "probability"])
    for name, people in held_out(arm).items():
        probability = released_probabilities(run, people, own_norms(arm, run, name))
        for participant_id, label, value in zip(people.ids, people.labels, probability, strict=True):
            writer.writerow([name, participant_id, int(label), repr(float(value))])
    return text.getvalue()


def own_norms(arm: Arm, run: Run, name: str) -> Path | None:
    """File of the batch norms that a cohort is scored with, in a study that keeps them local (FedBN).

    A hospital that trained has its own; where only one did, its norms are the model's; everybody else is scored with
    those of the starting weights (None).
    """
    trained = (POOLED,) if arm.name == POOLED else arm.trained_on
    owner = name if name in trained else trained[0] if len(trained) == 1 else ""
    if not owner or not arm.study.model.local_norms:
        return None
    return norms_file(arm.folder / "sites" / owner / "state", run.records()[0]["setup"], arm.study.federation.rounds)


@dataclass(frozen=True)
class Scores:
    """One arm's or control's probabilities of one cohort's held-out participants, and its frozen threshold."""

    arm: str
    seed: int
    site: str
    ids: tuple[str, ...]
    labels: NDArray[np.bool_]
    probability: NDArray[np.float64]
    threshold: float | None


def read_scores(arm: Arm) -> Iterator[Scores]:
    """What a finished arm says of everybody who was held out, by cohort."""
    threshold = json.loads((arm.folder / "arm.json").read_text(encoding="utf-8"))["threshold"]
    with (arm.folder / "scores.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for site in dict.fromkeys(r["site"] for r in rows):
        here = [r for r in rows if r["site"] == site]
        ids = tuple(r["participant_id"] for r in here)
        labels = np.array([r["label"] == "1" for r in here])
        probability = np.array([float(r["probability"]) for r in here])
        yield Scores(arm.name, arm.study.training.seed, site, ids, labels, probability, threshold)


def compute_frozen(arm: Arm, name: str) -> None:
    """Read the images of one cohort, and what the frozen layers make of them, into the cache that all arms share."""
    torch.set_num_threads(1)
    model = start_model(arm.study)
    columns = design_columns(arm.study.features)
    nobody = np.zeros(len(columns))
    reader = Reader.of(model, TableScaling(nobody, nobody, nobody + 1), arm.study)
    if name == CENTRAL:
        reader.prepare(everyone(open_cohort(arm.central, arm.study, arm.cache)))
        return
    site = next(s for s in arm.sites if s.name == name)
    reader.prepare(site_split(arm, site).train)
