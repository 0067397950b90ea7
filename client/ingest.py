"""``sarco-site ingest``: a site's data folder from a hospital's own folders and table.

The source is only read. Pixels are copied without names (``intake.copying``), the table is converted as
``mapping.toml`` says (``intake.people``), and what cannot be matched or read is listed. It can be run again: the same
source gives the same folder, what is new or changed is copied, what is gone is removed. Tables are written when
everything that they name lies in place.

Beside the folder lies a private one (``intake.private``) with the mapping, the key of the pseudonyms and the places of
what was left out. It is no part of the study's data.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from collections.abc import Mapping as Readonly
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from client.intake.copying import Job
from client.intake.folders import check_apart, claimed, sweep
from client.intake.leftovers import PLACES_COLUMNS, placed, refusals, unmatched
from client.intake.matching import FRAME_OF, Matching, match, with_muscle
from client.intake.muscle_figures import DRAWN, muscle_figures
from client.intake.muscle_masks import muscle_job
from client.intake.owners import Owners, read_list
from client.intake.people import TABLE, People, convert
from client.intake.private import KEY_FILE, PLACES_FILE, private_folder, pseudonyms, write_private, write_table
from client.intake.proposal import Asked, propose
from client.intake.site_tables import RowRules, Shown, write, write_site_tables
from client.intake.survey import Survey, patterns, survey
from client.intake.transfer import Journal, Progress, Transferred, transfer
from client.mapping import MAPPING_FILE, MASK_FILES, Mapping, check_headers, load_mapping
from sarco_models.config import StudyConfig
from sarco_models.errors import ConfigError, DataError, Finding
from sarco_models.images import read_calibrations
from sarco_models.sheets import read_sheet

REPORT_FILE = "ingest-report.json"
MANIFEST_FILE = "manifest.json"
"""Synthetic hospitals have one, which says that they are."""

_ORDER = {"error": 0, "warning": 1, "note": 2}
_MOST_ROWS = 20  # that are listed
_FEW = 10  # images; fewer may all be gone without a question
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Ingested:
    """What a run of ingest did.

    Attributes:
        data: the site's folder.
        private: the folder that stays with the person who ran it.
        mapping: the file to correct.
        proposed: the mapping is this run's proposal; nobody has looked at it yet.
        counts: people, images, masks and files by what became of them.
        findings: errors first; none names a person, a file of the source or a column of the table.
    """

    data: Path
    private: Path
    mapping: Path
    proposed: bool
    counts: Readonly[str, int]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class _Run:
    """What every step needs."""

    source: Path
    data: Path
    study: StudyConfig
    mapping_file: Path
    mapping: Mapping
    secret: bytes

    @property
    def private(self) -> Path:
        return private_folder(self.data)


def ingest(  # noqa: PLR0913 - all but the first three are options by name
    source: Path,
    data: Path,
    study: StudyConfig,
    *,
    table: Path | None = None,
    sheet: str | None = None,
    mapping: Path | None = None,
    frames: str | None = None,
    progress: Progress | None = None,
    workers: int = 1,
) -> Ingested:
    """Build a site's folder from a hospital's folder, or bring it up to date.

    Args:
        source: folders of images and masks, and a table; only read.
        data: made, or as an earlier run left it.
        study: what the data are for.
        table: the table of participants, below the source or elsewhere; only for a first proposal.
        sheet: of that workbook; likewise.
        mapping: the mapping to use, or to propose; default ``DATA-private/mapping.toml``.
        frames: of a cine: first, middle, each or a number from 0, "middle" if nothing is said; likewise.
        progress: called with images done and images in all.
        workers: processes; 0 = this one.

    Raises:
        ConfigError: a folder lies in the other or is somebody else's, or the mapping is wrong.
        DataError: there is no table of participants, or no column of ids; the mapping says what was found.
    """
    check_apart(source, data)
    try:
        secret = claimed(data)
        path = mapping or private_folder(data) / MAPPING_FILE
        proposed = _proposed(path, source, study, table, sheet, frames)
        run = _Run(source, data, study, path, load_mapping(path, study), secret)
        return _built(run, proposed=proposed, workers=workers, progress=progress)
    except OSError as error:  # its text may hold a path of the source
        why = error.strerror or type(error).__name__
        raise ConfigError(f"{data}: stopped: {why}; mend it and run again: it goes on where it stopped") from None


def _proposed(path: Path, source: Path, study: StudyConfig, *asked: Any) -> bool:
    """Write a mapping where there is none; True when it was written."""
    if path.exists():
        if any(asked):
            raise ConfigError(
                f"{path} says which table, sheet and frames are meant: change it there, and leave the options out"
            )
        return False
    if path.resolve().is_relative_to(source.resolve()):
        raise ConfigError(f"{path} lies in the source, which is only read: name a place outside it")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, propose(source, survey(source, MASK_FILES), study, Asked.of(*asked)))
    return True


def _built(run: _Run, *, proposed: bool, workers: int, progress: Progress | None) -> Ingested:
    rules = run.mapping
    found = survey(run.source, rules.masks.files, rules.images.skip)
    people = _people(run)
    names = _names(run, people)
    listed, absent = read_list(run.source, rules.images, found, run.mapping_file)
    owners = Owners(run.source, people.rows, rules.images, listed, loose=rules.participants.loose)
    by_muscle = run.study.segments
    matching = match(found, owners.person_of, (rules.images, rules.masks), listed, run.source, by_muscle=by_muscle)
    journal = Journal(run.private)
    _check_not_gone(run, journal, found)
    sweep(run.data)
    done = transfer(list(_jobs(run, names, matching)), journal, workers=workers, progress=progress)
    shown = [
        Shown(with_muscle(o, rules.images) if by_muscle else o, done.records[o.key])
        for o in matching.images
        if o.key in done.records
    ]
    first = {"day first": True, "month first": False}.get(rules.table.dates)
    write_site_tables(run.data, people, names, shown, RowRules(rules.images, first, run.secret, annotated=by_muscle))
    _keep_synthetic(run)
    removed = _remove_outdated(run.data, journal, done)
    left = unmatched(_unmatched(run.study, found, matching, owners.contradicted, done), found.images)
    findings, places = placed([*left, *refusals(done.records)])
    write_table(run.private / PLACES_FILE, PLACES_COLUMNS, places)
    muscles, about = muscle_figures(run.private, (s.record.outcome for s in shown), rules.masks, run.study)
    findings += [*people.findings, *_about_people(people, names, shown), *_about_list(absent), *about]
    findings.sort(key=lambda f: (_ORDER[f.severity], f.rule, f.row or 0, f.field))
    counts = _counts(found, people, shown) | muscles
    write(run.data / REPORT_FILE, _report(run.study, counts, findings))
    counts |= {"images new": done.new, "images changed": done.changed, "files removed": removed}
    return Ingested(run.data, run.private, run.mapping_file, proposed, counts, tuple(findings))


def lines(result: Ingested) -> tuple[str, ...]:
    """What a person reads after a run, line by line."""
    c = result.counts
    found = Counter(f.severity for f in result.findings)
    told = ", ".join(f"{n} {severity}{'s' if n > 1 else ''}" for severity, n in found.items())
    muscles = [f"{title.removeprefix(DRAWN)} on {n}" for title, n in c.items() if DRAWN in title]
    columns = f"; {c['columns']} columns of the study" if c["columns"] or not muscles else ""
    text = [
        f"{c['people']} people, {c['people with images']} of them with images{columns}",
        f"{c['images copied']} of {c['images found']} images ({c['images new']} new, {c['images changed']} changed), "
        f"{c['masks copied']} of {c['masks found']} masks copied; {c['files removed']} outdated copies removed",
        f"site data: {result.data}",
        f"private, never to be passed on: {result.private} ({KEY_FILE}: who is who; {PLACES_FILE}: what was left out)",
        f"mapping: {result.mapping}" + (" (proposed now: read it, correct it, run again)" if result.proposed else ""),
    ]
    text[2:2] = [f"drawn: {', '.join(muscles)} images"] if muscles else []
    return (*text, told or "nothing to mend")


# ---- what is gone ----------------------------------------------------------------------------------------------------


def _check_not_gone(run: _Run, journal: Journal, found: Survey) -> None:
    """A drive that is not mounted must not empty the site's data."""
    there = set(found.images)
    records = journal.records.items()
    copied = [path for path, record in records if any((run.data / file).exists() for file in record.files)]
    gone = [path for path in copied if path.partition(FRAME_OF)[0] not in there]
    if len(gone) > max(_FEW, len(copied) / 2):
        seen, expected = f"{len(gone)} of {len(copied)} images are gone", "most of the images of the last run"
        remedy = "mount the folder again; if they are meant to go, delete the folder images in the data and run again"
        raise DataError([Finding("error", "source-gone", "the source folder", seen, expected, remedy)])


def _remove_outdated(data: Path, journal: Journal, done: Transferred) -> int:
    """Remove copies that no table names any more, and forget them."""
    kept = {path: record for path, record in done.records.items()}
    named = {file for record in kept.values() for file in record.files}
    outdated = [data / file for file in sorted(journal.made - named) if (data / file).exists()]
    for file in outdated:
        file.unlink()
    sweep(data)
    journal.keep(kept)
    return len(outdated)


# ---- people and images -----------------------------------------------------------------------------------------------


def _people(run: _Run) -> People:
    rules = run.mapping
    if not (rules.table.file and rules.participants.column):
        table = ("no table of participants", "table.file")
        what, field = table if not rules.table.file else ("no column of ids", "participants.column")
        remedy = f"name it in {run.mapping_file} under {field}: its comments list what was found"
        raise DataError([Finding("error", "table", TABLE, what, "a row and an id for each", remedy, field=field)])
    sheet = read_sheet(run.source / rules.table.file, sheet=rules.table.sheet or None)
    check_headers(rules, sheet.header, run.mapping_file)
    people = convert(sheet, rules, run.study)
    return replace(people, findings=(*(replace(f, file=TABLE) for f in sheet.findings), *people.findings))


def _names(run: _Run, people: People) -> dict[str, str]:
    """Id of the hospital -> participant_id."""
    if run.mapping.participants.pseudonyms:
        return pseudonyms(run.private, people.rows, run.secret)
    unfit = sum(not _FILE_NAME.fullmatch(id_) for id_ in people.rows)
    if unfit:
        raise ConfigError(
            f"{run.mapping_file}: participants.pseudonyms = false: {unfit} ids cannot be names of files: up to 64 "
            "Latin letters, digits, points and hyphens can; for all others set it to true"
        )
    return {id_: id_ for id_ in people.rows}


def _jobs(run: _Run, names: Readonly[str, str], matching: Matching) -> Iterator[Job]:
    rules = run.mapping.images
    calibration_file = run.source / rules.calibration
    calibrations = read_calibrations(calibration_file) if rules.calibration else {}
    is_checked = patterns(rules.checked)
    for owned in matching.images:
        frame = owned.listed.frame
        yield Job(
            source=run.source / owned.path,
            mask=run.source / owned.mask if owned.mask else None,
            folder=run.data,
            name="",
            person=names[owned.person],
            path=owned.key,
            secret=run.secret,
            calibration=calibrations.get(owned.path),
            templates=run.mapping.templates,
            frames=int(frame) if frame.isdecimal() else rules.frames,
            keep_text=rules.text_in_region == "keep",
            keep_colour=rules.colour_in_region == "keep",
            checked=is_checked(owned.path),
            label=run.mapping.masks.label,
            labels=run.mapping.masks.labels,
            muscles=muscle_job(owned, run.mapping, run.study.segmentation, run.source),
        )


def _keep_synthetic(run: _Run) -> None:
    """What was made of synthetic people says so, as its source does."""
    try:
        manifest = json.loads((run.source / MANIFEST_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if isinstance(manifest, dict) and manifest.get("synthetic"):
        write(run.data / MANIFEST_FILE, json.dumps({"synthetic": True}) + "\n")


# ---- what is said ----------------------------------------------------------------------------------------------------


def _unmatched(
    study: StudyConfig, found: Survey, matching: Matching, contradicted: Iterable[str], done: Transferred
) -> dict[str, Iterable[str]]:
    """Paths below the source by what is wrong with them."""
    two = set(contradicted)
    needed = study.uses_images and (study.image.roi == "mask" or study.segments)
    return {
        "another-person": sorted(two),
        "no-person": [path for path in matching.without_person if path not in two],
        "no-mask": [owned.path for owned in matching.images if needed and not owned.mask],
        "mask-alone": matching.without_image,
        "mask-of-another-image": matching.of_another,
        "mask-twice": matching.twice,
        "decoder": done.lost,
        "not-readable": found.not_readable,
        "not-understood": found.not_understood,
        "left-behind": found.left_behind,
    }


def _about_people(people: People, names: Readonly[str, str], shown: Iterable[Shown]) -> Iterator[Finding]:
    with_images = {image.record.person for image in shown if image.record.outcome.copies}
    rows = [people.lines[id_] for id_ in people.rows if names[id_] not in with_images]
    if rows and with_images:
        listed = ", ".join(map(str, rows[:_MOST_ROWS])) + (" and more" if len(rows) > _MOST_ROWS else "")
        seen = f"{len(rows)} of {len(people.rows)} people without an image (row{'s' if len(rows) > 1 else ''} {listed})"
        remedy = "add their images; until then the model does without"
        yield Finding("note", "no-image", TABLE, seen, "at least one image of each", remedy, rows[0])


def _about_list(absent: int) -> Iterator[Finding]:
    if absent:
        seen, remedy = f"{absent} rows that name no image of the source", "correct the paths, or copy the images there"
        yield Finding("warning", "list", "the list of images", seen, "paths below the source", remedy)


def _counts(found: Survey, people: People, shown: Iterable[Shown]) -> dict[str, int]:
    outcomes = [(image.record.person, image.record.outcome) for image in shown]
    return {
        "people": len(people.rows),
        "people with images": len({person for person, outcome in outcomes if outcome.copies}),
        "columns": len(people.columns),
        "images found": len(found.images),
        "images copied": sum(bool(outcome.copies) for _, outcome in outcomes),
        "frames copied": sum(len(outcome.copies) for _, outcome in outcomes),
        "masks found": len(found.masks),
        "masks copied": sum(any(copy.mask for copy in outcome.copies) for _, outcome in outcomes),
    }


def _report(study: StudyConfig, counts: Readonly[str, int], findings: Iterable[Finding]) -> str:
    """What is kept beside the data: no path of the source, no id, no header of a column; the same for the same data."""
    page = {
        "study": study.name,
        "study_digest": study.digest,
        "counts": dict(counts),
        "findings": [asdict(finding) for finding in findings],
    }
    return json.dumps(page, indent=1, ensure_ascii=False) + "\n"
