"""Hand a model out, or say what keeps it from being handed out: there is no way around the gate.

A release is refused unless the run is complete, its privacy statement can be made, hospitals have measured how much the
model betrays of whom it was trained on, and what they found passes the gate of the study file ([release]). What is
missing is said all at once, with the way to get it. The folder is written whole or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from sarco_models.config import StudyConfig
from sarco_models.errors import ChainBroken, ConfigError, RunError
from sarco_models.release_files import ABOUT, FROZEN, MANIFEST, MODEL, STUDY, needs, sha256_of
from sarco_models.release_files import README as CARD
from sarco_models.segmenter_files import says_synthetic
from server.leakage import LEAKAGE, Leakage, read_leakage
from server.measured import FILE as MEASURED
from server.muscle_card import card
from server.page import CSS
from server.privacy_statement import PrivacyStatement, of_run
from server.release_gate import WAY_OUT
from server.release_gate import Gate as Gate
from server.runs import Run
from server.synthetic import is_synthetic as is_synthetic
from server.versions import versions
from server.whole_files import write_json, write_text

COPIED = (MODEL, FROZEN, STUDY, ABOUT, LEAKAGE)
ATTACK = "attack.json"
SYNTHETIC = "SYNTHETIC: trained on computer-made people; of no use for patients."
README = """{title}
{line}
{mark}
A model trained together by {sites} hospitals ({people} training participants) with SARCO-FL. RESEARCH SOFTWARE, NOT A
MEDICAL DEVICE: it must not decide about a patient, alone or beside others. Nobody promises that it works for people of
other hospitals, devices or reference standards than those that it was trained and tested on.

How to load it (Python, SARCO-FL of the version in manifest.json):

    from pathlib import Path
    from sarco_models.cohort import everyone, open_cohort
    from sarco_models.released import open_release

    released = {opening:<47}# checks every file against manifest.json
    people = everyone(open_cohort(Path("a site's folder"), released.study, Path("cache")))
    probability = released.probabilities(people)              # one for each participant
{calling}
{needed}
model.safetensors    what was trained        frozen.safetensors   what was not
study.json           inputs, label, settings model.json           {about_threshold}prevalence, scaling of the tables
privacy.md, .html    what protected the participants, and what did not
leakage.json         how well each hospital could tell its training participants from others by this model
manifest.json        SHA-256 of every file, versions

Probabilities speak of a prevalence of {prevalence:.3f}, that of the training participants{noised}.

Privacy, in short:

{privacy}
"""


@dataclass(frozen=True)
class Release:
    """A model that was handed out."""

    folder: Path
    statement: PrivacyStatement
    gate: Gate

    @property
    def verdict(self) -> str:
        """Released; and how many of those who took part have not measured what the model betrays of their people."""
        silent = sum(s.site not in self.gate.leakage.sites for s in self.statement.sites)
        return f"released, though {silent} of {len(self.statement.sites)} hospitals did not measure" * bool(silent) or (
            "released"
        )


def release(run: Run, out: Path, attack: Path | None = None) -> Release:
    """Write the folder that a receiver gets.

    Args:
        run: complete, and probed by hospitals.
        out: made; must not exist, or be empty.
        attack: attack.json of ``sarco-lab attack`` on the same study, to be handed out with the model.

    Raises:
        RunError: something is missing or the gate is not passed (everything that keeps the model is listed), or ``out``
            is in use; nothing is written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out}: is not empty: name a folder that does not exist yet, so that a release is one release")
    statement, gate = _examined(run, attack)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _fill(partial, run, statement, gate, out=out, attack=attack)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Release(out, statement, gate)


def _examined(run: Run, attack: Path | None) -> tuple[PrivacyStatement, Gate]:
    """The statement and the gate of a run that may be released."""
    faults, statement, leakage = [], None, read_leakage(run.folder)
    if run.released is None:
        faults.append(
            f"{run.folder}: has released no model by its rounds (model.json is absent): run the study to its end"
        )
    try:
        statement = of_run(run, synthetic=is_synthetic(run))
    except (RunError, ConfigError, ChainBroken) as error:
        faults.append(f"there is no privacy statement: {error}")
    if leakage is None:
        faults.append(
            f"{run.folder / LEAKAGE} is absent: no hospital has measured how much the model betrays of whom it was "
            "trained on: run the study's command again; it asks them"
        )
    else:
        faults += _gate(run, leakage).faults()
    faults += _attack_faults(run, attack)
    if faults or statement is None or leakage is None:
        raise RunError("this model is not released:\n" + "\n".join(f"  - {fault}" for fault in faults))
    return statement, _gate(run, leakage)


def _gate(run: Run, leakage: Leakage) -> Gate:
    return Gate(run.study.release, leakage, rounded=run.study.privacy is not None)


def _attack_faults(run: Run, attack: Path | None) -> Iterator[str]:
    """An attack of another study says nothing of this model; one of this study must pass the gate as well."""
    if attack is None:
        return
    try:
        rows = json.loads(attack.read_text(encoding="utf-8"))["rows"]
        own = [row for row in rows if row["study"] == run.study.digest]
        found = [(row["attack"], float(row["auc"]), float(row["tpr"])) for row in own]
    except (OSError, ValueError, TypeError, KeyError) as error:
        yield f"{attack}: cannot be read ({error!r}): name the attack.json that sarco-lab attack wrote"
        return
    if not found:
        yield f"{attack}: holds no attack on study {run.study.digest[:12]}: run sarco-lab attack on this run"
    limits = run.study.release
    for name, auc, tpr in found:
        if auc > limits.max_membership_auc or tpr > limits.max_membership_tpr:
            yield (
                f"{attack}: attack {name} has an AUC of {auc:.3f} (release.max_membership_auc = "
                f"{limits.max_membership_auc:g}) and finds {tpr:.3f} of the members at 1 % false positives "
                f"(release.max_membership_tpr = {limits.max_membership_tpr:g}): {WAY_OUT}"
            )


def _fill(  # noqa: PLR0913 - the parts of a release
    folder: Path, run: Run, statement: PrivacyStatement, gate: Gate, *, out: Path, attack: Path | None
) -> None:
    folder.mkdir(parents=True)
    measured = (MEASURED,) if (run.folder / MEASURED).is_file() else ()
    for name in (*COPIED, *measured):
        shutil.copyfile(run.folder / name, folder / name)
    if attack:
        shutil.copyfile(attack, folder / ATTACK)
    write_text(folder / "privacy.md", statement.to_markdown())
    write_text(folder / "privacy.html", _page(statement))
    write_text(folder / CARD, _readme(run, statement, gate, out))
    files = {p.name: {"sha256": sha256_of(p), "bytes": p.stat().st_size} for p in sorted(folder.iterdir())}
    about: dict[str, Any] = {
        "format": 1,
        "study": run.study.digest,
        "title": run.study.title,
        "synthetic": statement.synthetic,
        "needs": needs(run.study.image.auto),
        "privacy": statement.to_dict()["guarantees"],
        "leakage": list(gate.words()),
        "trained_with": json.loads((run.folder / "run.json").read_text(encoding="utf-8"))["versions"],
        "released_with": versions(),
        "files": files,
    }
    write_json(folder / MANIFEST, about)
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _page(statement: PrivacyStatement) -> str:
    """The statement as a page of its own."""
    banner = (
        f'<div class="banner"><b>SYNTHETIC</b> &nbsp; {escape(SYNTHETIC.partition(": ")[2])}</div>'
        if statement.synthetic
        else ""
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Privacy statement: {escape(statement.title)}</title><style>{CSS}</style></head><body>{banner}<main>"
        f'<h1>Privacy statement</h1><p class="meta">{escape(statement.title)} · study '
        f"<code>{statement.study}</code></p>{statement.to_html()}</main></body></html>"
    )


def _readme(run: Run, statement: PrivacyStatement, gate: Gate, out: Path) -> str:
    about = run.released or {}
    if run.study.segments:
        return card(run, statement, SYNTHETIC * bool(statement.synthetic), list(gate.words()), out.name)
    return README.format(
        title=statement.title,
        line="=" * len(statement.title),
        mark=f"\n{SYNTHETIC}\n" if statement.synthetic else "",
        sites=len(statement.sites),
        people=sum(s.training for s in statement.sites),
        opening=_opening(run.study),
        calling=_calling(about),
        needed=_needed(run),
        about_threshold="threshold, " if about["threshold"] is not None else "",
        prevalence=about["prevalence"],
        noised=" as their hospitals told it, with noise" if _noised(run) else "",
        privacy="\n".join(textwrap.fill(words, 118) for words in (*statement.sentences, *gate.words())),
    )


def _calling(about: Mapping[str, Any]) -> str:
    """The line of the README that calls people, or why there is none: nothing can be compared with no threshold."""
    if about["threshold"] is not None:
        return (
            "    called = probability >= released.threshold                # the threshold frozen before testing: "
            f"{about['threshold']}"
        )
    why = textwrap.fill(f"Why: {about['no_threshold']}.", 110) if about.get("no_threshold") else ""
    comment = ["no threshold was frozen: choose your own on people of your own", *why.splitlines()]
    return "\n".join(f"    # {line}" for line in comment)


def _opening(study: StudyConfig) -> str:
    """The call of the README that opens the release."""
    auto = study.image.auto
    second = "" if auto is None else f", Path({json.dumps(auto.segmenter)})"
    return f'open_release(Path("this folder"){second})  '


def _needed(run: Run) -> str:
    """What the README says of a segmentation model that this one needs, and is no part of the release."""
    auto = run.study.image.auto
    if auto is None:
        return ""
    when = "wherever nobody has drawn it" if auto.masks == "missing" else "on every image"
    words = textwrap.fill(
        f"It sees the muscle of each image through a mask, which a segmentation model has found {when}. That model is "
        "no part of this folder and has a release of its own: get it from who gave you this one, and name its folder "
        "as above, or put it beside this folder under its name. open_release knows it by a SHA-256 over all that its "
        "masks follow from, and refuses any other, for through other masks the probabilities would be others.",
        118,
    )
    place = run.folder / run.coordinator.segmenter if run.coordinator.segmenter else None
    known = place is not None and place.exists() and says_synthetic(place)
    mark = "\n    SYNTHETIC: it was trained on computer-made people." if known else ""
    return (
        f"\nIt needs another model:\n\n{words}\n\n    name       {auto.segmenter}\n    SHA-256    {auto.sha256}{mark}\n"
    )


def _noised(run: Run) -> bool:
    """Whether the number of cases was told with noise."""
    return run.study.privacy is not None and run.study.privacy.statistics != "exact"
