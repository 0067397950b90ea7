"""One arm of a comparison with one seed: a real federation of one or more sites, run to its end and scored.

Every arm is a federation, be it of all sites, of one, or of one that holds everybody (:mod:`simulation.arms`). So the
same code trains them all, on the same people, from the same starting weights.
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

from client.identity import make_identity, peer_lines, public_of
from client.inside import make_app
from client.ledger import BudgetConfig
from client.policy import Policy
from client.quality.check import says_synthetic
from client.study_words import asked_for
from client.workspace import Site, open_site
from sarco_models.aims import aim_of
from sarco_models.cohort import HeldOut, People, open_cohort, pool
from sarco_models.config import StudyConfig
from sarco_models.devices import choose
from sarco_models.errors import RunError
from sarco_models.schema import IMAGES_FILE, PARTICIPANTS_FILE, design_columns
from sarco_models.scores import ParticipantScores
from sarco_models.secret import Secret
from sarco_models.summaries import TableScaling
from server.evaluation import released_probabilities
from server.muscle_scores import PEOPLE_FILE
from server.plan_file import require_planned
from server.privacy_statement import facts as privacy_facts
from server.rounds import run_study
from server.runs import CoordinatorConfig, Run, start_model, write_json, write_text
from server.traffic import each_round, form_of
from simulation.arms import CENTRAL as CENTRAL
from simulation.arms import Arm as Arm
from simulation.arms import SiteFolder as SiteFolder
from simulation.grid import InProcessGrid
from simulation.muscle_scoring import write_muscle_scores
from simulation.own_norms import POOLED as POOLED
from simulation.own_norms import own_norms as own_norms

MAX_PARAMETER_BYTES = 1 << 30
"""What a simulated hospital lets leave in one reply: ten times convnext_tiny."""

SCORES = "scores.csv"
MUSCLE_SCORES = PEOPLE_FILE
"""Of an arm that finds muscles, in place of the scores."""

REFERENCE = "reference.csv"
"""In a cross-validation, the inner validation people's scores: what puts the folds on a common scale."""


def prepare(arm: Arm) -> Run:
    """Write the arm's run directory: the coordinator's files, and a site.toml for each hospital that trains."""
    central = str(arm.central.resolve()) if arm.central else ""
    cache, model = str(arm.cache.resolve()), _segmenter(arm.study)
    coordinator = CoordinatorConfig(central=central, cache=cache, segmenter=model, poll_s=0.05, retry_s=0)
    run = Run.create(arm.folder, arm.study, coordinator, begin=arm.begin)
    places = {site.name: arm.folder / "sites" / site.name for site in arm.sites if site.name in arm.trained_on}
    masked = arm.study.federation.secure_aggregation
    peers = {name: public_of(make_identity(place / "state")) for name, place in places.items()} if masked else {}
    for site in arm.sites:
        if site.name in places:
            write_text(places[site.name] / "site.toml", _site_toml(arm, site) + peer_lines(peers))
    return run


def _segmenter(study: StudyConfig) -> str:
    """Where the model that finds a study's muscles lies; empty where it needs none."""
    auto = study.image.auto
    return str(auto.place) if auto and auto.place else ""


def _site_toml(arm: Arm, site: SiteFolder) -> str:
    entries = {
        "name": site.name,
        "data": str(site.data.resolve()),
        "study": "../../study.json",
        "cache": str(arm.cache.resolve()),
        "segmenter": _segmenter(arm.study),
        "label_rule": site.label_rule,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in entries.items()]
    policy = [f"{key} = {json.dumps(value)}" for key, value in permitting(arm.study).model_dump().items()]
    budget = [f"{key} = {json.dumps(value)}" for key, value in affordable(arm.study).model_dump().items()]
    return "\n".join([*lines, "[policy]", *policy, "[budget]", *budget]) + "\n"


def permitting(study: StudyConfig) -> Policy:
    """What a simulated hospital allows, key by key: all that its study needs, and no other study."""
    masked = study.federation.secure_aggregation
    return Policy(
        approved_studies=(study.digest,),
        tasks=asked_for(study),
        metrics=("train_loss", "loss", "dice" if study.segments else "auc"),
        statistics=("sums", "histogram", "assessment", "leakage"),
        min_training_participants=study.federation.min_participants,
        min_cell=3,
        min_sites=1,
        max_epsilon=study.privacy.epsilon if study.privacy else 0.0,
        unprotected_training=study.privacy is None or study.privacy.statistics == "exact",
        plain_updates=not masked,
        parameters=("*",),
        max_parameter_bytes=MAX_PARAMETER_BYTES,
    )


def affordable(study: StudyConfig) -> BudgetConfig:
    """What a simulated hospital spends: all that its study costs, and no more."""
    if study.privacy is None:
        return BudgetConfig(lifetime_epsilon="unlimited", study_epsilon="unlimited")
    cfg = study.privacy
    return BudgetConfig(
        lifetime_epsilon=cfg.epsilon, study_epsilon=cfg.epsilon, delta=cfg.delta, accountant=cfg.accountant
    )


def run_arm(arm: Arm) -> dict[str, Any]:
    """Train, score and describe one arm in this process; an arm that is done is only read.

    Returns:
        What is known of the arm: trained_on, participants, images, rounds, seconds, bytes, threshold, prevalence.
    """
    found = finished(arm)
    if found:
        return found
    require_planned(arm.study, arm.folder / "study.json")
    logging.getLogger("flwr").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    started = time.monotonic()
    run = prepare(arm)
    sites = open_sites(arm)
    repeat_chance(arm, run, sites)
    train_in_process(run, sites)
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
        if folder is None:
            continue
        for table in (PARTICIPANTS_FILE, IMAGES_FILE):
            path = folder / table
            digest.update(path.read_bytes() if path.is_file() else b"absent")
    return digest.hexdigest()


def open_sites(arm: Arm) -> list[Site]:
    """The sites of an arm; the pooled arm has a single one that holds everybody."""
    sites = [open_site(path) for path in sorted((arm.folder / "sites").glob("*/site.toml"))]
    if not arm.pooled:
        for site in () if arm.study.unplanned else sites[1:]:
            # Sites answer one after another and load what they are sent: in one process they share one network.
            site.__dict__["model"] = sites[0].model
        return sites
    policy = permitting(arm.study).model_copy(update={"min_training_participants": 2})
    together = pool([s.split for s in sites])
    rule = arm.study.label.rule
    state = arm.folder / "sites" / POOLED / "state"
    return [Site(POOLED, arm.study, rule, policy, together, state, budget=affordable(arm.study))]


def repeat_chance(arm: Arm, run: Run, sites: list[Site]) -> None:
    """Let the noise of synthetic hospitals follow from the seed, so that a run can be repeated.

    Noise that can be repeated protects nobody: where one folder is not of computer-made people, all keep their own.
    """
    if all(says_synthetic(site.data) for site in arm.sites):
        for site in sites:
            words = [arm.study.training.seed, len(run.records()), *site.name.encode()]
            site.secret = Secret(int.from_bytes(np.random.SeedSequence(words).generate_state(4).tobytes(), "little"))


def train_in_process(run: Run, sites: list[Site]) -> None:
    """The real ServerApp loop and ClientApp on a grid in this process."""

    def site_of(context: Context) -> Site:
        return sites[int(context.node_config["partition-id"])]

    run_study(InProcessGrid(make_app(site_of), nodes=len(sites)), run)


def finish(arm: Arm, run: Run, seconds: float) -> dict[str, Any]:
    """Score the released model on everybody who was held out, and write arm.json last."""
    if arm.study.segments:
        write_muscle_scores(arm, run)
    else:
        write_text(arm.folder / SCORES, _scores(arm, run, arm.held_out()))
    if arm.kind == "cv":
        write_text(arm.folder / REFERENCE, _scores(arm, run, {arm.site: arm.split_of(arm.site).validation}))
    released, records = run.released or {}, run.records()
    moved = each_round(records)
    splits = [arm.split_of(name) for name in arm.trained_on]
    about = {
        "study": arm.study.digest,
        "data": data_digest(arm),
        "trained_on": list(arm.trained_on),
        "personal": arm.personal,
        "participants": sum(len(s.train) for s in splits),
        "images": sum(len(s.train.images) for s in splits),
        "rounds": len(records) - 1,
        "seconds": max(seconds, sum(r["seconds"] for r in records)),
        "bytes_down": sum(r["bytes_down"] for r in records) + released["bytes_down"],
        "bytes_up": sum(r["bytes_up"] for r in records) + released["bytes_up"],
        "update_form": form_of(arm.study.federation),
        "round_down": moved.down if moved else None,
        "round_up": moved.up if moved else None,
        "threshold": released["threshold"],
        "training_prevalence": released["prevalence"],
        **privacy_facts(run),
    }
    write_json(arm.folder / "arm.json", about)
    return about


def _scores(arm: Arm, run: Run, groups: Mapping[str, HeldOut]) -> str:
    """One row per held-out participant. Only simulation may write such a file (SCIENCE, pitfall 27)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["site", "participant_id", "label", "probability"])
    for name, people in groups.items():
        probability = released_probabilities(run, people, own_norms(arm, run, name))
        for participant_id, label, value in zip(people.ids, people.labels, probability, strict=True):
            writer.writerow([name, participant_id, int(label), repr(float(value))])
    return text.getvalue()


@dataclass(frozen=True, eq=False)
class Scores:
    """One arm's or control's probabilities of one cohort's held-out participants.

    Attributes:
        arm, seed, site: where they belong.
        people: one probability each.
        threshold: frozen before; None where there is none.
        calls: (participants,) who is called positive, where the threshold is not the same for everybody.
    """

    arm: str
    seed: int
    site: str
    people: ParticipantScores
    threshold: float | None
    calls: NDArray[np.bool_] | None = None


def read_scores(arm: Arm) -> Iterator[Scores]:
    """What a finished arm says of everybody who was held out, by cohort."""
    threshold = json.loads((arm.folder / "arm.json").read_text(encoding="utf-8"))["threshold"]
    for site, people in read_people(arm.folder / SCORES).items():
        yield Scores(arm.name, arm.study.training.seed, site, people, threshold)


def read_people(path: Path) -> dict[str, ParticipantScores]:
    """A file of scores, by cohort."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = {}
    for site in dict.fromkeys(r["site"] for r in rows):
        here = [r for r in rows if r["site"] == site]
        found[site] = ParticipantScores(
            tuple(r["participant_id"] for r in here),
            np.array([float(r["probability"]) for r in here]),
            np.array([r["label"] == "1" for r in here]),
        )
    return found


def compute_frozen(arm: Arm, name: str) -> None:
    """Read the images of one cohort, and what the frozen layers make of them, into the cache that all arms share."""
    torch.set_num_threads(1)
    columns = design_columns(arm.study.features)
    nobody = np.zeros(len(columns))
    scaling = TableScaling(nobody, nobody, nobody + 1)
    if name in arm.trained_on:
        people: People = arm.split_of(name).train
    else:
        folder = arm.central if name == CENTRAL else next(s.data for s in arm.sites if s.name == name)
        cohort = open_cohort(folder or arm.cache, arm.study, arm.cache, name=name)
        people = HeldOut(cohort, np.arange(len(cohort), dtype=np.int64))
    model = start_model(arm.study).to(choose("auto"))
    aim_of(arm.study).reader(model, scaling, arm.study).prepare(people)
