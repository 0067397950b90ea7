"""The card of a released model that finds muscles: what it is, on whom it was trained and measured, how it is used."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from sarco_models.plausible import THRESHOLD
from server.measured import read_measured
from server.muscle_table import SENTENCES, lines, untold
from server.privacy_statement import PrivacyStatement
from server.runs import Run

_WIDTH = 118
_CARD = """{title}
{line}
{mark}
{what}

How to use it:

    sarco-site segment IMAGES --model {folder} --out RESULTS

It writes masks (NIfTI, PNG, LabelMe), thickness, area and echo intensity (measures.csv), and a page to look through.

{accepted}

How well it found the muscles of test participants, whom it was not trained on:

{table}

{trained}

model.safetensors    what was trained        frozen.safetensors   what was not
study.json           muscles, settings       model.json           threshold, shapes of drawn muscles, Dice
measured.json        each hospital's figures on its own test participants
privacy.md, .html    what protected the participants, and what did not
leakage.json         how well each hospital could tell its training participants from others by this model
manifest.json        SHA-256 of every file, versions

Privacy, in short:

{privacy}
"""


_WHAT = (
    "A model trained together by {sites} hospitals ({people} training participants) with SARCO-FL. It draws muscles on "
    "ultrasound images: {muscles}. RESEARCH SOFTWARE, NOT A MEDICAL DEVICE: it must not decide about a patient, alone "
    "or beside others. Nobody promises that it works for people of other hospitals, devices or views than those that "
    "it was trained and measured on. Whatever it draws has to be looked at."
)


def card(run: Run, statement: PrivacyStatement, mark: str, gate: Sequence[str], folder: str) -> str:
    """README.txt of a release.

    Args:
        run: complete.
        statement: of its privacy.
        mark: that it is synthetic; empty where it is not known to be.
        gate: what hospitals measured of its leakage, in sentences.
        folder: of the release, as people would type it.
    """
    cfg, about = run.study.segmentation, run.released or {}
    titles = [m.title for m in cfg.muscles] if cfg else []
    return _CARD.format(
        title=statement.title,
        line="=" * len(statement.title),
        mark=f"\n{mark}\n" if mark else "",
        what=_fill(
            _WHAT.format(
                sites=len(statement.sites),
                people=sum(s.training for s in statement.sites),
                muscles=", ".join(titles),
            )
        ),
        folder=folder,
        accepted=_fill(_accepted(about)),
        table="\n".join(_table(run)),
        trained=_fill(_trained(run, statement)),
        privacy="\n".join(_fill(words) for words in (*statement.sentences, *gate)),
    )


def _fill(words: str) -> str:
    return textwrap.fill(words, _WIDTH)


def _accepted(about: dict[str, Any]) -> str:
    """From which score on a muscle is accepted, and how that came about."""
    meaning = "Each muscle gets a quality score from 0 to 1: how far its outline is to be believed."
    if about.get("threshold") is None:
        why = f" ({about['no_threshold']})" if about.get("no_threshold") else ""
        return f"{meaning} Accepted are scores of {THRESHOLD:g} or more; no score was frozen for this model{why}."
    origin = about["threshold_from"]
    return (
        f"{meaning} Accepted are scores of {about['threshold']:.2f} or more: frozen on {origin['participants']} "
        f"validation participants of {', '.join(origin['sites'])}, of whom {origin['found_well']} were found well."
    )


def _table(run: Run) -> Iterator[str]:
    """What hospitals measured; or that nobody knows."""
    measured = read_measured(run.folder)
    found = lines(measured, run.study)
    if not found:
        yield "    No hospital has measured it: nobody knows how well it finds muscles."
        return
    yield from (f"    {line}" for line in found)
    yield ""
    yield from (f"    {sentence}" for sentence in SENTENCES)
    if missing := untold(measured, run.study):
        yield f"    NOT MEASURED, by any hospital: {', '.join(missing)}."


def _trained(run: Run, statement: PrivacyStatement) -> str:
    own = "; ".join(f"{s.site} {s.training} of {s.participants}" for s in statement.sites)
    rounds = run.study.federation.rounds
    return f"Trained in {rounds} round{'' if rounds == 1 else 's'} on participants of: {own}."
