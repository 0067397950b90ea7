"""What would leave this hospital if it joined a study: one real round, looked at and attacked, and nothing sent.

``sarco-site preview`` shows it before anybody approves anything: every name, shape, byte and number of every reply,
what the hospital's policy keeps, what the study would cost in privacy, and how far two attacks get on that payload. The
hospital's own ledger, audit log and kept answers are read at most.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from client.preview.attacks import INSIDE, LEAVES, PLAIN, Membership, membership, unprotected
from client.preview.cost import Cost, cost
from client.preview.inversion import Inverted, inverted
from client.preview.one_round import Answer, Round, scratch_round, seen_update
from client.quality.check import says_synthetic
from client.study_words import Missing
from client.workspace import SiteConfig
from sarco_models.config import StudyConfig
from sarco_models.image_cache import Progress
from sarco_models.messages import Described, Evaluated
from sarco_models.parameters import Parameters


@dataclass(frozen=True, eq=False)
class Preview:
    """Everything that the page shows.

    Attributes:
        config: the hospital's site.toml.
        study: that was previewed.
        synthetic: whether the hospital's people do not exist.
        answers: every reply of a run, in its order.
        keys: what would have to be changed for the study to run here; empty where nothing has to.
        notes: what was done otherwise than in a run.
        described: the counts and sums.
        evaluated: the metrics and the score histogram.
        cost: in privacy.
        membership: by form of the update.
        inverted: one participant's image and row, computed back; None where it was left out.
        held_out: test participants, whom the attack takes for strangers.
        seconds: all this took.
        numbers: parameters that every round trains and sends, plain or under masks.
        rounds_left: rounds that the ledger would let the study train today.
    """

    config: SiteConfig
    study: StudyConfig
    synthetic: bool
    answers: tuple[Answer, ...]
    keys: tuple[Missing, ...]
    notes: tuple[str, ...]
    described: Described
    evaluated: Evaluated
    cost: Cost
    membership: tuple[Membership, ...]
    inverted: Inverted | None
    held_out: int
    seconds: float
    numbers: int
    rounds_left: int

    @property
    def bytes_a_round(self) -> int:
        """That would leave in every round."""
        return sum(a.num_bytes for a in self.answers if a.request in ("Keys", "Train", "Reveal"))

    @property
    def bytes_in_all(self) -> int:
        """That would leave over the whole study."""
        return sum(a.num_bytes * a.times for a in self.answers)


def preview(study_file: Path, site_file: Path, *, image: bool = True, progress: Progress | None = None) -> Preview:
    """Run one round of a study here and look at it.

    Args:
        study_file: of the study; need not be the one that site.toml names.
        site_file: the hospital's site.toml.
        image: whether one participant's image and row are attacked and shown.
        progress: of reading images.

    Raises:
        ConfigError: a file is wrong, or the study cannot be answered here whatever the policy says.
        DataError: the hospital's tables are wrong.
        ChainBroken: the hospital's ledger was tampered with.
    """
    started = time.monotonic()
    with scratch_round(study_file, site_file, progress) as run:
        forms = _forms(run)
        leaving = [form for form in forms if form[0] != PLAIN]
        price = cost(run)
        return Preview(
            config=run.config,
            study=run.study,
            synthetic=says_synthetic(run.root / run.config.data),
            answers=tuple(_with_ledger(a, price) for a in run.answers),
            keys=run.keys,
            notes=run.notes,
            described=run.only(Described),
            evaluated=run.only(Evaluated),
            cost=price,
            membership=membership(run, forms),
            inverted=inverted(run, leaving) if image else None,
            held_out=len(run.site.split.test),
            seconds=time.monotonic() - started,
            numbers=sum(run.start.manifest.sizes),
            rounds_left=price.refused.get("Train", (run.study.federation.rounds, ""))[0],
        )


def _with_ledger(answer: Answer, price: Cost) -> Answer:
    """The answer, refused where the hospital's ledger refuses it from the first time on."""
    before, why = price.refused.get(answer.request, (1, ""))
    return answer if answer.refused or before or not why else replace(answer, refused=why)


def _forms(run: Round) -> list[tuple[str, Parameters]]:
    """The parameters after the round, with and without what protects them."""
    seen = seen_update(run)
    forms = [(LEAVES, run.after)] if seen is None else [(INSIDE, run.after), (LEAVES, seen)]
    if run.study.privacy:
        with TemporaryDirectory(prefix="sarco-preview-") as folder:
            forms.insert(0, (PLAIN, unprotected(run, Path(folder))))
    return forms
