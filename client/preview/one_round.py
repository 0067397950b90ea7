"""One real round of a study at this hospital, with the code that answers the coordinator, and nobody to send it to.

The hospital is opened a second time on a scratch state folder, under a policy that lets every request through: so
ledger, audit and kept answers of the hospital are not touched, and what a request would be answered is known before
anybody has allowed it. What the hospital's own policy says is asked beside that. Nothing here opens a connection.

Secure aggregation needs other hospitals. Two are made up here, with keys of their own, so that the masks are real ones.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from client import tasks
from client.approval import FILE as APPROVALS
from client.approval import Approvals
from client.identity import make_identity, public_of
from client.policy import Policy
from client.preview.permission import keys_to_change, no_approval, permitting, refusal, stays, too_few
from client.site_config import at_site
from client.study_words import Missing, asked_for
from client.training_round import train
from client.workspace import Site, SiteConfig, open_site
from sarco_models.config import StudyConfig, load_config, load_study
from sarco_models.errors import ConfigError, WeightsError
from sarco_models.fusion import Model, build_model, fixed_tensors
from sarco_models.image_cache import Progress
from sarco_models.masking import Occasion, signed_key
from sarco_models.messages import (
    Assess,
    Code,
    Describe,
    Described,
    Evaluate,
    Keyed,
    Keys,
    Masked,
    Masking,
    Measure,
    Probe,
    Refused,
    Reply,
    Request,
    Reveal,
    Setup,
    Train,
    Trained,
    Updated,
    expanded,
)
from sarco_models.parameters import Parameters, trained_tensors
from sarco_models.payload import Part, digest_of, parts_of, pieces

R = TypeVar("R", bound=Reply)
THRESHOLD = 0.5
"""Of the assessment in a preview: the real one is frozen after the last round."""

OTHERS = ("made_up_hospital_b", "made_up_hospital_c")
"""Who stands in for the other hospitals under the masks."""

_MAY_BE_REFUSED = (Assess, Measure, Probe)
"""A run goes on without these."""


@dataclass(frozen=True)
class Piece:
    """One piece of a reply.

    Attributes:
        part: name, shape, dtype, bytes, hash.
        value: of a field or metric, as text; empty for vectors.
        stays: why the hospital's policy keeps it, with the key; empty where it leaves.
    """

    part: Part
    value: str
    stays: str


@dataclass(frozen=True, eq=False)
class Answer:
    """What one request is answered.

    Attributes:
        request: its name.
        reply: as it was made.
        pieces: everything in it.
        times: how often in the whole study.
        refused: why the hospital's policy would refuse the request today, with the key to change; empty where not.
        absent: what the reply leaves out for want of people.
    """

    request: str
    reply: Reply
    pieces: tuple[Piece, ...]
    times: int
    refused: str
    absent: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        """Of what may leave, once."""
        return sum(p.part.bytes for p in self.pieces if not p.stays)

    @property
    def digest(self) -> str:
        """Of the reply as it was made."""
        return digest_of(self.reply)


@dataclass(frozen=True, eq=False)
class Round:
    """A round that was run for looking at.

    Attributes:
        site: the scratch hospital; its model is the trained one.
        config: the hospital's own site.toml.
        root: folder of site.toml, which its paths are relative to.
        setup: what the coordinator would have sent first.
        start: trained parameters before the round.
        after: trained parameters after the round, before any masks.
        answers: in the order of a run.
        keys: what would have to be changed for this study to run here.
        notes: what was done otherwise than in a run, such as random starting weights.
    """

    site: Site
    config: SiteConfig
    root: Path
    setup: Setup
    start: Parameters
    after: Parameters
    answers: tuple[Answer, ...]
    keys: tuple[Missing, ...]
    notes: tuple[str, ...]

    @property
    def study(self) -> StudyConfig:
        """That is looked at."""
        return self.site.study

    def only(self, kind: type[R]) -> R:
        """The answer of this kind."""
        return next(a.reply for a in self.answers if isinstance(a.reply, kind))


@contextmanager
def scratch_round(study_file: Path, site_file: Path, progress: Progress | None = None) -> Iterator[Round]:
    """Run the round; its scratch folder lives as long as the block.

    Raises:
        ConfigError: a file is wrong, or the study cannot be answered here whatever the policy says.
        DataError: the hospital's tables are wrong.
    """
    config, study, root = load_config(site_file, SiteConfig), load_study(study_file), site_file.resolve().parent
    with tempfile.TemporaryDirectory(prefix="sarco-preview-") as folder:
        site = scratch_site(config, study, root, Path(folder), progress)
        yield _run(site, config, root)


def scratch_site(
    config: SiteConfig, study: StudyConfig, root: Path, scratch: Path, progress: Progress | None = None
) -> Site:
    """The hospital on another state folder, under a policy and a budget that let every request of this study through.

    Args:
        config: of the hospital.
        study: to be looked at; need not be the one that site.toml names.
        root: folder of site.toml.
        scratch: for the state and the two files; thrown away afterwards.
        progress: of reading images.
    """
    (scratch / "study.json").write_text(study.model_dump_json(), encoding="utf-8")
    auto = at_site(study, config, root).image.auto
    changes = {
        "data": str(root / config.data),
        "cache": str(root / config.cache),
        "state": str(scratch / "state"),
        "study": str(scratch / "study.json"),
        "policy": permitting(config.policy, study).model_dump(),
        "peers": [],
        "segmenter": str(auto.place) if auto and auto.place else "",
        "budget": {"lifetime_epsilon": "unlimited", "study_epsilon": "unlimited"},
    }
    (scratch / "site.json").write_text(json.dumps({**config.model_dump(mode="json"), **changes}), encoding="utf-8")
    return open_site(scratch / "site.json", progress)


def starting_model(study: StudyConfig) -> tuple[Model, tuple[str, ...]]:
    """The network as a run would begin; with random weights, which is said, where the study's cannot be had here."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(study.training.seed)
        try:
            return build_model(study), ()
        except (WeightsError, ConfigError) as error:
            note = (
                f"The starting weights ({study.model.weights}) cannot be had here, so this round began with random "
                f"ones: names, shapes and bytes are the same, metrics are not. {error}"
            )
            return build_model(study, weights="none"), (note,)


def _run(site: Site, config: SiteConfig, root: Path) -> Round:
    study = site.study
    model, notes = starting_model(study)
    lacking = no_approval(Approvals(root / APPROVALS), study, config.policy)
    ask = asker(site, config.policy, lacking)
    described = ask(Describe(study.digest))
    sums = _as(described, Described)
    setup = Setup(study.digest, Parameters.pack(fixed_tensors(model)), sums.moments)
    start = Parameters.pack(trained_tensors(model.net))
    answers = [described, ask(setup)]
    request = Train(study.digest, setup.digest, 1, start)
    if study.federation.secure_aggregation:
        answers += _masked(site, request, sums.training, ask)
        after = expanded(train(site, request), start).parameters
    else:
        answers.append(ask(request))
        reply = answers[-1].reply
        after = expanded(reply if isinstance(reply, Updated) else _as(answers[-1], Trained), start).parameters
    prevalence = min(max(sums.training_positive / sums.training, 1e-3), 1 - 1e-3)  # a noised count may be anything
    about = (study.digest, setup.digest, study.federation.rounds)
    answers.append(ask(Evaluate(*about, prevalence, after)))
    if "Assess" in asked_for(study):
        answers.append(ask(Assess(*about, prevalence, THRESHOLD, after)))
    if study.segments:
        answers.append(ask(Measure(*about, after)))
    answers.append(ask(Probe(*about, after)))
    keys = keys_to_change(site, start.manifest, config, lacking)
    return Round(site, config, root, setup, start, after, tuple(answers), keys, notes)


def _masked(site: Site, request: Train, training: int, ask: Callable[[Request], Answer]) -> list[Answer]:
    """The same round under the masks that this hospital shares with two made-up ones."""
    make_identity(site.state)
    identities = {name: Ed25519PrivateKey.generate() for name in OTHERS}
    site.peers = {name: public_of(key) for name, key in identities.items()}
    about = (request.study, request.setup, request.round)
    keyed = ask(Keys(*about, 1))
    own = _as(keyed, Keyed)
    occasion = Occasion(*about, 1)
    made_up = [signed_key(key, X25519PrivateKey.generate(), occasion, name) for name, key in identities.items()]
    named = sorted([(own.site, own.public, own.signature), *((k.site, k.public, k.signature) for k in made_up)])
    masking = Masking(1, 3 * training, json.dumps(named))
    return [keyed, ask(replace(request, masking=masking)), ask(Reveal(*about, 1))]


def _as(answer: Answer, kind: type[R]) -> R:
    """The asker has refused everything else."""
    assert isinstance(answer.reply, kind)  # noqa: S101
    return answer.reply


def asker(site: Site, policy: Policy, lacking: str) -> Callable[[Request], Answer]:
    """What asks the scratch hospital; ``policy`` is the hospital's own, ``lacking`` why the study is not approved."""
    rounds = site.study.federation.rounds

    def ask(request: Request) -> Answer:
        reply, said = _handled(site, request)
        task = type(request).__name__
        if isinstance(reply, Refused) and not isinstance(request, _MAY_BE_REFUSED):
            why = "; ".join(said) or reply.code
            if reply.code == Code.TOO_FEW_PARTICIPANTS:
                why += ": sarco-site check-data says which people and images cannot be used, and what to do"
            raise ConfigError(f"this hospital cannot answer {task} of {site.study.name}, whatever it allows: {why}")
        return Answer(
            request=task,
            reply=reply,
            pieces=_pieces(reply, policy, site.study),
            times=rounds if isinstance(request, Train | Keys | Reveal) else 1,
            refused=refusal(request, policy, site, lacking),
            absent=tuple(said) if isinstance(reply, Refused) else too_few(reply, policy, site.study),
        )

    return ask


def _handled(site: Site, request: Request) -> tuple[Reply, list[str]]:
    """The reply, and what the hospital's log says of it."""
    said: list[str] = []
    log = logging.getLogger("client")
    shown = log.propagate
    listener = logging.Handler(logging.WARNING)
    listener.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    log.addHandler(listener)
    log.propagate = False  # the page says it; on the terminal it would look like a fault
    try:
        # Noise may send a first round's scores anywhere; what leaves says so.
        with np.errstate(over="ignore"):
            return tasks.handle(site, request), said
    finally:
        log.removeHandler(listener)
        log.propagate = shown


def _pieces(reply: Reply, policy: Policy, study: StudyConfig) -> tuple[Piece, ...]:
    values: dict[str, str] = {}
    for name, value in pieces(reply):
        if isinstance(value, dict):
            values |= {f"{name}.{metric}": f"{v:.6g}" for metric, v in value.items()}
        elif isinstance(value, str | int | float):
            values[name] = f"{value:.6g}" if isinstance(value, float) else str(value)
    parts = [p for p in parts_of(reply) if p.bytes or not study.segments]  # of tables that nobody reads: empty sums
    return tuple(Piece(part, values.get(part.name, ""), stays(part, reply, policy, study)) for part in parts)


def seen_update(run: Round) -> Parameters | None:
    """What a coordinator would take the masked vector for, as parameters after the round; None without masks."""
    masked = next((a.reply for a in run.answers if isinstance(a.reply, Masked)), None)
    if masked is None:
        return None
    signed = masked.update.vector.view("int32")
    step = run.study.federation.update_range / 2**30
    return Parameters(run.start.manifest, (run.start.vector + signed * step).astype("float32"))
