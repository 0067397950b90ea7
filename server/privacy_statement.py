"""The privacy statement of a run: what protected its participants, recomputed from what the run did.

Nothing is copied from what the study promises: the noise is calibrated anew, and epsilon is composed of the rounds that
the run holds, with those that a hospital may have had to repeat. Beside every epsilon stands what it does not cover. A
run without protection says so just as plainly. What a hospital has really spent stands in its own ledger.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from sarco_models.accounting import Spend, epsilon, plan
from sarco_models.chain import read
from sarco_models.config import PrivacyConfig, StudyConfig
from sarco_models.errors import RunError
from sarco_models.uncovered import odds, uncovered
from server.guarantees import UNIT_WORDS, Guarantee, Mechanism, UnitTable, number, tables
from server.heads import FILE as HEADS
from server.leakage import read_leakage
from server.runs import Run

TRAINING = "training: clipped and noised gradients of participants (DP-SGD)"
STATISTICS = "statistics: clipped and noised sums, counts and score histogram"
CASES = "statistics: the noised number of cases"


@dataclass(frozen=True)
class SitePeople:
    """A hospital of the run, and how many people it has; the counts are sent as they are."""

    site: str
    participants: int
    training: int


@dataclass(frozen=True)
class PrivacyStatement:
    """What may be said of a run's privacy.

    Attributes:
        title: of the study.
        study: its digest.
        synthetic: whether the people do not exist; None where nobody knows.
        guarantees: none where the run was not private.
        sites: who took part.
        sentences: in plain words.
        uncovered: what no epsilon of this run covers, each in a sentence.
    """

    title: str
    study: str
    synthetic: bool | None
    guarantees: tuple[Guarantee, ...]
    sites: tuple[SitePeople, ...]
    sentences: tuple[str, ...]
    uncovered: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it; an epsilon without limit is None."""
        return {**asdict(self), "guarantees": [g.to_dict() for g in self.guarantees]}

    def to_markdown(self) -> str:
        """Words, a table for each unit, and what is not covered, for people who read text."""
        mark = ["**SYNTHETIC: every person, image and value is computer-made.**"] if self.synthetic else []
        parts = [f"# Privacy statement: {self.title}", *mark, f"Digest of the study: `{self.study}`", *self.sentences]
        for table in self._tables():
            parts += [f"## {UNIT_WORDS[table.unit]}", _markdown_table(UnitTable.HEAD, table.cells())]
        parts += [f"## {self._heading()}", "\n".join(f"* {line}" for line in self.uncovered)]
        parts += ["## Hospitals", _markdown_table(_PEOPLE, self._people())]
        return "\n\n".join(parts) + "\n"

    def to_html(self) -> str:
        """The same as a fragment of a page."""
        parts = [f"<p>{escape(sentence)}</p>" for sentence in self.sentences]
        for table in self._tables():
            parts += [f"<h3>{escape(UNIT_WORDS[table.unit])}</h3>", _html_table(UnitTable.HEAD, table.cells(), text=1)]
        bullets = "".join(f"<li>{escape(line)}</li>" for line in self.uncovered)
        parts += [f"<h3>{escape(self._heading())}</h3><ul>{bullets}</ul><h3>Hospitals</h3>"]
        return "\n".join([*parts, _html_table(_PEOPLE, self._people())])

    def _tables(self) -> tuple[UnitTable, ...]:
        return tables(("This run", g) for g in self.guarantees)

    def _heading(self) -> str:
        return "What this epsilon does not cover" if self.guarantees else "What left the hospitals as it is"

    def _people(self) -> list[list[str]]:
        return [[s.site, str(s.participants), str(s.training)] for s in self.sites]


_PEOPLE = ("Hospital", "Participants", "In training")


def of_run(run: Run, *, synthetic: bool | None = None) -> PrivacyStatement:
    """The statement of a run, from its study, its records and the audit heads that the hospitals sent along.

    Args:
        run: complete or not; of an incomplete one the statement is of the rounds so far.
        synthetic: whether its people are computer-made, where that is known.

    Raises:
        RunError: the run has no record of its start: it cannot be said who took part.
        ConfigError: no noise fits the study.
        ChainBroken: the coordinator's list of heads was edited.
    """
    records = run.records()
    if not records:
        raise RunError(
            f"{run.folder}: has no record of its start (rounds/0000.json), so there is nothing to state: run the study"
        )
    people = sorted(records[0]["sites"].items())
    sites = tuple(SitePeople(name, int(s["participants"]), int(s["training"])) for name, s in people)
    guarantees = tuple(_guarantees(run, len(records) - 1))
    sentences = (*_opening(guarantees, sites), _secure(run.study))
    return PrivacyStatement(
        run.study.title, run.study.digest, synthetic, guarantees, sites, sentences, uncovered(run.study)
    )


def facts(run: Run) -> dict[str, Any]:
    """What results.json keeps of a complete run's privacy: ``privacy``, and what hospitals measured, ``leakage``."""
    statement, measured = of_run(run), read_leakage(run.folder)
    found, study = statement.to_dict(), run.study
    return {
        "privacy": {
            "guarantees": found["guarantees"],
            "uncovered": list(found["uncovered"]),
            "modalities": list(study.model.modalities),
            "statistics": study.privacy.statistics if study.privacy else "exact",
            "secure_aggregation": study.federation.secure_aggregation,
            "private": study.privacy is not None,
        },
        "leakage": {name: asdict(site) for name, site in measured.sites.items()} if measured else {},
    }


def _guarantees(run: Run, rounds: int) -> Iterator[Guarantee]:
    cfg = run.study.privacy
    if cfg is None:
        return
    again = repeated_rounds(run.folder)
    # Beyond the study's rounds and spare ones a hospital's ledger refuses: what was answered again then was kept.
    spent = _spent(run.study, cfg, max(rounds, min(rounds + again, plan(run.study).rounds)))
    yield Guarantee(
        unit="participant",
        epsilon=epsilon([spend for _, spend in spent], cfg.delta, cfg.accountant),
        delta=cfg.delta,
        accountant=cfg.accountant,
        promised=cfg.epsilon,
        mechanisms=tuple(mechanism for mechanism, _ in spent),
        rounds=rounds,
        spare_rounds=cfg.spare_rounds,
        repeated_rounds=again,
    )


def _spent(study: StudyConfig, cfg: PrivacyConfig, rounds: int) -> list[tuple[Mechanism, Spend]]:
    """What was released in so many rounds, with the noise that the sites must have used."""
    planned = plan(study)
    kinds: list[tuple[str, float | None, Spend, int]] = [(TRAINING, cfg.max_grad_norm, planned.training, rounds)]
    if planned.statistics:
        kinds.append((STATISTICS if cfg.statistics == "private" else CASES, None, planned.statistics, planned.releases))
    found = []
    for name, clip, one, times in kinds:
        if times:
            spend = Spend(one.noise_multiplier, one.sample_rate, one.steps * times)
            alone = epsilon([spend], cfg.delta, cfg.accountant)
            found.append((Mechanism(name, one.noise_multiplier, clip, one.sample_rate, one.steps, times, alone), spend))
    return found


def repeated_rounds(folder: Path) -> int:
    """Rounds that a hospital answered again, the most of any, from the heads of their audit logs.

    Asked the very same again, a hospital sends what it has kept and spends nothing; so this is the most that can have
    been trained anew. An answer that was lost on its way is not seen here; it is in that hospital's ledger.

    Raises:
        ChainBroken: the list of heads was edited.
    """
    path = folder / HEADS
    if not path.is_file():
        return 0
    answers = Counter((e.facts["site"], e.facts["round"]) for e in read(path) if e.facts.get("task") == "Train")
    by_site: Counter[str] = Counter()
    for (site, _), times in answers.items():
        by_site[site] += times - 1
    return max(by_site.values(), default=0)


# --- words ------------------------------------------------------------------------------------------------------------


def _opening(guarantees: Sequence[Guarantee], sites: Sequence[SitePeople]) -> Iterator[str]:
    people = f"{sum(s.training for s in sites)} training participants of {_several(len(sites), 'hospital')}"
    if not guarantees:
        yield (
            f"There was NO differential privacy in this run ({people}). No mathematical limit says how much the model "
            "betrays of a person whom it was trained on: no epsilon can be given, and none is."
        )
    for g in guarantees:
        yield (
            f"Each {g.unit} of this run ({people}) is protected by differential privacy with epsilon "
            f"{number(g.epsilon)} at delta {g.delta:g} ({g.accountant.upper()} accountant), recomputed from the rounds "
            f"that were run. {odds(g.epsilon, g.delta, 'one person' if g.unit == 'participant' else 'one hospital')}"
        )
        if g.repeated_rounds:
            yield (
                f"{_several(g.repeated_rounds, 'answer')} to a round came a second time: from what the hospital had "
                "kept, which costs nothing, or trained anew, which its ledger allows up to the promise; epsilon "
                "counts the worse of the two."
            )
        if not g.kept:
            yield (
                f"THE PROMISE WAS NOT KEPT: the study had promised epsilon {number(g.promised)}, and the run trained "
                "more rounds than its noise was made for."
            )


def _secure(study: StudyConfig) -> str:
    if study.federation.secure_aggregation:
        return (
            "Secure aggregation: in each round the coordinator saw the sum of the hospitals' updates only, not a "
            "single one of them. It hides a hospital among the others; it is no part of epsilon."
        )
    return "There was no secure aggregation: the coordinator saw each hospital's own update in every round."


def _several(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def _html_table(head: Sequence[str], rows: Iterable[Sequence[str]], text: int = 0) -> str:
    """``text`` is the last of the columns that hold words."""
    words = ['class="text"' if k <= text else "" for k in range(len(head))]
    heads = "".join(f'<th scope="col" {kind}>{escape(name)}</th>' for name, kind in zip(head, words, strict=True))
    lines = ["".join(f"<td {kind}>{escape(cell)}</td>" for cell, kind in zip(row, words, strict=True)) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'
