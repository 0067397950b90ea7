"""One hospital, assembled once: its configuration, its cohort and split, and the model that it was sent."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import Tensor

from client.approval import FILE as APPROVALS
from client.approval import Approvals
from client.audit import FILE as AUDIT
from client.audit import Audit
from client.identity import by_name, identity_of
from client.ledger import FILE as LEDGER
from client.ledger import BudgetConfig, Ledger, heads_kept
from client.once import first_asked
from client.person_sets import PersonSet, tables_digest
from client.policy import Policy
from client.site_config import SiteConfig as SiteConfig
from client.site_config import at_site
from client.site_folder import UNKNOWN_RULE
from client.wanted import Wanted
from sarco_models.aims import aim_of
from sarco_models.clipping import ClipState
from sarco_models.cohort import Split, open_cohort, split
from sarco_models.config import StudyConfig, load_config, load_study
from sarco_models.devices import choose
from sarco_models.errors import ChainBroken, ConfigError, WeightsError
from sarco_models.fusion import Model, build_model, fixed_tensors
from sarco_models.image_cache import Progress
from sarco_models.mask_origins import OF_ALL_MASKS
from sarco_models.parameters import Manifest, Parameters, local_tensors, trained_tensors
from sarco_models.schema import PARTICIPANTS_FILE
from sarco_models.secret import Secret
from sarco_models.summaries import Moments, agreed_scaling
from sarco_models.training import AnyReader
from sarco_models.wire import Assess, Evaluate, Measure, Probe, Setup, Train

log = logging.getLogger(__name__)

_KEPT_ROUNDS = 4
"""Of which a hospital keeps its norms, and what rounding left: a coordinator that was killed repeats two at most."""


@dataclass
class Site:
    """A hospital that answers requests.

    Attributes:
        name: as the coordinator knows it.
        study: the study file that the hospital has read.
        label_rule: how this hospital's labels were made.
        policy: what is allowed.
        split: training, validation and test participants.
        state: folder for what must outlive a process.
        threads: processor threads of one training.
        device: where models compute.
        approvals: what ``sarco-site approve`` has recorded.
        secret: where noise and the choice of participants come from. Simulation may give one that repeats itself;
            site.toml cannot.
        peers: public key of each hospital that this one masks its updates with, by name.
        budget: how much privacy may be spent on any participant.
        tables: digest of the tables' content, so that other tables are recognised.
        held: the model that came down last, where the study compresses; in memory only.
        wanted: whether anybody waits for the answer to the request that is worked on.
    """

    name: str
    study: StudyConfig
    label_rule: str
    policy: Policy
    split: Split
    state: Path
    threads: int = 1
    device: torch.device = field(default_factory=lambda: choose("auto"))
    approvals: Approvals | None = None
    secret: Secret = field(default_factory=Secret)
    peers: Mapping[str, str] = field(default_factory=dict)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    tables: str = ""
    held: Parameters | None = None
    wanted: Wanted = field(default_factory=Wanted)
    _ready: tuple[str, AnyReader] | None = None

    @cached_property
    def model(self) -> Model:
        """The study's network; its weights always come from the coordinator."""
        return build_model(self.study, weights="none").to(self.device)

    @cached_property
    def audit(self) -> Audit:
        """What was asked, decided and sent; raises ChainBroken where it was tampered with."""
        return Audit.open(self.state / AUDIT)

    @cached_property
    def identity(self) -> Ed25519PrivateKey:
        """The hospital's own key; raises ConfigError where there is none."""
        return identity_of(self.state)

    @cached_property
    def ledger(self) -> Ledger:
        """What was spent on whom; raises ChainBroken where it was tampered with."""
        return Ledger.open(self.state / LEDGER, heads_kept(self.state / AUDIT))

    @cached_property
    def persons(self) -> PersonSet:
        """Who is charged for training and for sums over those in training."""
        return PersonSet.of_training(self.split, self.tables)

    @property
    def no_approval(self) -> str:
        """Why there is no valid record of an approval of the study; empty where there is one."""
        try:
            return self.approvals.lacking(self.study.digest) if self.approvals else "none on record"
        except ChainBroken as error:
            return str(error)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """What training changes, by name."""
        return trained_tensors(self.model.net)

    @cached_property
    def norms(self) -> dict[str, Tensor]:
        """What training changes and never leaves: norms, by name, where the study keeps them local."""
        return local_tensors(self.model.net)

    def receive(self, request: Train | Evaluate | Assess | Measure | Probe) -> None:
        """Put the model together: what came down, and this hospital's own norms as they were at that time.

        They are kept by round, so that a round that is repeated after a crash is the same round.
        """
        request.parameters.load_into(self.tensors)
        if self.norms:
            before = request.round - 1 if isinstance(request, Train) else request.round
            path = norms_file(self.state, request.setup, before)
            Parameters.load(path, Manifest.of(self.norms)).load_into(self.norms)

    def owed(self, request: Train) -> Parameters | None:
        """What rounding has left of the updates before this round; None where nothing is known of any.

        A hospital that missed rounds takes the latest there is. A file that cannot be read is as good as none: a model
        a little off the best is not worth a round.
        """
        path = _latest(self.state, "owed", request.setup, request.round - 1)
        try:
            return Parameters.load(path, request.parameters.manifest) if path else None
        except WeightsError as error:
            log.warning("what rounding left of earlier updates is lost: %s", error)
            return None

    def keep_owed(self, request: Train, left: Parameters) -> None:
        """Store what rounding has left of a round's update; it stays here, and is added to the next one."""
        self._keep_round("owed", request, left)

    def keep_norms(self, request: Train) -> None:
        """Store this hospital's norms as a round has left them; those of later rounds are of another run."""
        if self.norms:
            self._keep_round("norms", request, Parameters.pack(self.norms))

    def _keep_round(self, what: str, request: Train, tensors: Parameters) -> None:
        tensors.save(_round_file(self.state, what, request.setup, request.round))
        kept = {_round_of(path): path for path in _round_files(self.state, what, request.setup)}
        past = sorted(round_ for round_ in kept if 0 < round_ <= request.round)
        for round_ in {*kept} - {0, *past[-_KEPT_ROUNDS:]}:
            kept[round_].unlink()

    @property
    def clip(self) -> ClipState | None:
        """Adaptive clipping: where the norm was after the last round of this study; None before the first."""
        path = self.state / f"clip-{self.study.digest}.json"
        return ClipState(json.loads(path.read_text(encoding="utf-8"))["norm"]) if path.is_file() else None

    def keep_clip(self, clip: ClipState) -> None:
        """Store the clipping norm for the next round; it follows from noised counts, and stays here."""
        partial = self.state / f"clip-{self.study.digest}.{os.getpid()}.partial"
        partial.write_text(json.dumps({"norm": clip.norm}), encoding="utf-8")
        partial.rename(self.state / f"clip-{self.study.digest}.json")

    def first_assessment(self, request: Assess | Measure) -> bool:
        """Whether this is the first assessment of the study here, or the same one again, as after a crash."""
        point: list[object] = [request.prevalence, request.threshold] if isinstance(request, Assess) else []
        about = [request.setup, *point, request.parameters.digest]
        return first_asked(self.state, "assessed", request.study, about)

    def keep(self, setup: Setup) -> None:
        """Store a setup, so that this process and any later one can use it."""
        self.state.mkdir(parents=True, exist_ok=True)
        for what in ("setup.", "norms-", "owed-", "kept-", "clip-"):
            for left in self.state.glob(f"{what}*.partial"):
                left.unlink(missing_ok=True)
        partial = self.state / f"setup.{os.getpid()}.partial"
        sums = {f.name: getattr(setup.moments, f.name) for f in fields(Moments)}
        with partial.open("wb") as file:
            manifest = np.array(json.dumps([setup.study, setup.frozen.manifest.to_json()]))
            np.savez(file, manifest=manifest, frozen=setup.frozen.vector, **sums)
        for older in sorted(self.state.glob("setup-*.npz"), key=lambda path: path.stat().st_mtime_ns)[:-1]:
            older.unlink(missing_ok=True)
        partial.rename(self._setup_file(setup.digest))
        for path in (*self.state.glob("norms-*"), *self.state.glob("owed-*")):
            if not self._setup_file(path.name.split("-")[1]).is_file():
                path.unlink(missing_ok=True)
        self._use(setup)

    def reader(self, setup_digest: str) -> AnyReader | None:
        """What turns people into the network's rows under this setup; None if the setup was never sent here."""
        if self._ready is None or self._ready[0] != setup_digest:
            path = self._setup_file(setup_digest)
            if not path.is_file():
                return None
            with np.load(path, allow_pickle=False) as stored:
                study, manifest = json.loads(str(stored["manifest"]))
                moments = Moments(**{f.name: stored[f.name] for f in fields(Moments)})
                self._use(Setup(study, Parameters(Manifest.from_json(manifest), stored["frozen"]), moments))
        return self._ready[1] if self._ready else None

    def _setup_file(self, digest: str) -> Path:
        return self.state / f"setup-{digest}.npz"

    def _use(self, setup: Setup) -> None:
        setup.frozen.load_into(fixed_tensors(self.model))
        if self.norms:
            Parameters.pack(self.norms).save(_round_file(self.state, "norms", setup.digest, 0))
        scaling = agreed_scaling(self.study, setup.moments)
        self._ready = (setup.digest, aim_of(self.study).reader(self.model, scaling, self.study))


def norms_file(state: Path, setup: str, round_: int) -> Path:
    """File of a hospital's own norms as they were after this round; it may not have taken part in the last ones.

    Raises:
        WeightsError: the setup was never sent here.
    """
    found = _latest(state, "norms", setup, round_)
    if found is None:
        raise WeightsError(f"{state}: holds no norms of setup {setup[:12]}: let the coordinator send it again")
    return found


def _latest(state: Path, what: str, setup: str, round_: int) -> Path | None:
    found = [path for path in _round_files(state, what, setup) if _round_of(path) <= round_]
    return max(found, key=_round_of) if found else None


def _round_files(state: Path, what: str, setup: str) -> list[Path]:
    return list(state.glob(f"{what}-{setup}-*.safetensors"))


def _round_file(state: Path, what: str, setup: str, round_: int) -> Path:
    return state / f"{what}-{setup}-{round_}.safetensors"


def _round_of(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _check_rule(path: Path, config: SiteConfig, study: StudyConfig) -> None:
    """Refuse labels of an unknown rule, and of another one than a study insists on."""
    if config.label_rule == UNKNOWN_RULE:
        raise ConfigError(
            f"{path}: label_rule = {UNKNOWN_RULE!r}, and it leaves with the first answer: write the rule that your "
            f"labels were made by, such as {study.label.rule}, the study's"
        )
    if config.label_rule != study.label.rule and not study.label.allow_mixed_rules:
        raise ConfigError(
            f"{path}: label_rule = {config.label_rule!r}; the study asks for {study.label.rule!r} and does not allow "
            "mixed rules: label your participants by the study's rule, or ask the coordinator for allow_mixed_rules"
        )


def open_site(path: Path, progress: Progress | None = None) -> Site:
    """Open the hospital that a site.toml describes.

    Raises:
        ConfigError: the file is wrong, does not say how the labels were made, or says another rule than a study that
            insists on one; or the study's segmentation model is not here.
        DataError: see :func:`sarco_models.cohort.open_cohort`.
    """
    config = load_config(path, SiteConfig)
    study = at_site(load_study(path.parent / config.study), config, path.parent)
    if not study.segments:
        _check_rule(path, config, study)
    device = choose(config.device)
    place, cache = path.parent / config.data, path.parent / config.cache
    cohort = open_cohort(place, study, cache, progress, name=config.name, templates=config.templates)
    parts = split(cohort, study.split, study.training.seed)
    for told in parts.cohort.findings[len(cohort.findings) :]:
        log.info("%s", told)
    for told in (f for f in cohort.findings if f.rule in OF_ALL_MASKS and f.severity == "warning"):
        log.warning("%s", told)
    return Site(
        name=config.name,
        study=study,
        label_rule=study.label.rule if study.segments else config.label_rule,
        policy=config.policy,
        split=parts,
        state=path.parent / config.state,
        threads=config.threads,
        device=device,
        approvals=Approvals(path.parent / APPROVALS),
        peers=by_name(config.peers),
        budget=config.budget,
        tables=tables_digest(place / PARTICIPANTS_FILE),
    )
