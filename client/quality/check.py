"""One pass over a site's data: tables, every image and mask, then what only shows when all are seen together.

Every fault is found in the same pass. Images are looked at in worker processes; what was looked at is kept in the cache
folder, so that an interrupted check goes on, and a second one reads only what has changed. The pixels that a training
run would see are put into the cache of training on the way.
"""

import json
import math
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.quality import found_masks, identity, overlap, tables
from client.quality.cohort import cohort_findings
from client.quality.coverage import coverage
from client.quality.images import Look, compare, examine
from client.quality.journal import Journal, key_of
from client.quality.records import FeatureSummary, ImageRecord, QualityReport
from sarco_models.config import IMAGE, StudyConfig, located
from sarco_models.errors import ConfigError, DataError, Finding
from sarco_models.image_cache import CALIBRATION_FILE, Progress, Seen, Taken, make_cache, open_images
from sarco_models.images import Calibration, Template, read_calibrations
from sarco_models.schema import (
    IMAGES_FILE,
    PARTICIPANTS_FILE,
    ImageRow,
    ParticipantTable,
    design_columns,
    examine_images,
    examine_participants,
)
from sarco_models.workers import each

LOOK_LIMIT_S = 10.0
"""A single image takes milliseconds; one that takes this long hangs in its decoder."""

FINDING_LIMIT_S = 120.0
"""Where its mask is found, a panorama goes through the network window by window."""

_ORDER = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True)
class Comparison:
    """The hospital agrees to be compared with others of the study, through salted hashes.

    Attributes:
        salt: file with the secret that these hospitals share and the coordinator does not know.
        others: files of other hospitals' fingerprints.
        own: where to write this hospital's fingerprints for them; None = nowhere.
    """

    salt: Path
    others: tuple[Path, ...] = ()
    own: Path | None = None


@dataclass(frozen=True)
class Options:
    """What a hospital may say beside its data.

    Attributes:
        site: name of the site, for the report.
        label_rule: how the labels were made; None = by the study's rule.
        templates: where the tissue is on the screens of its devices.
        workers: processes that look at images; 0 = this one.
        comparison: with other hospitals; None = the hospital has not agreed to any.
        segmenter: where the study's segmentation model lies, where it finds masks.
    """

    site: str = ""
    label_rule: str | None = None
    templates: tuple[Template, ...] = ()
    workers: int = 1
    comparison: Comparison | None = None
    segmenter: Path | None = None


def check_site(
    folder: Path,
    study: StudyConfig,
    cache: Path,
    options: Options | None = None,
    progress: Progress | None = None,
) -> QualityReport:
    """Look at everything in a site's folder, and say all that was found.

    Args:
        folder: the site's data: tables, images and masks. Nothing in it is changed.
        study: what the data are for.
        cache: folder for what was looked at already; it will hold pixels of people.
        options: of the hospital.
        progress: called with (images done, images in all).

    Raises:
        ConfigError, RunError, WeightsError: the model that finds masks is not here, is another one, or is damaged.
    """
    options = options or Options()
    study = located(study, options.segmenter)
    report = _blank(folder, study, options)
    try:
        table = _participants(folder, study)
    except DataError as error:
        return replace(report, findings=error.findings)
    rows, findings = _image_rows(folder, study, table)
    calibrations, faults = _calibrations(folder)
    looks = [
        Look(folder, study, row, calibrations.get(row.image), options.templates, _salt(cache) if rows else b"")
        for row in rows
    ]
    records = _records(looks, cache, options.workers, progress)
    owner = _owners(rows, table)
    _keep_views(folder, study, records, owner, cache, options.templates)
    findings = [
        *table.findings, *findings, *faults,
        *identity.id_findings(table.ids, table.rows),
        *tables.table_findings(table, study, options.label_rule),
        *(finding for record in records for finding in record.findings),
        *compare(records, study),
        *cohort_findings(table, rows, records, owner, study),
        *_compared(folder, study, records, options.comparison, cache),
    ]  # fmt: skip
    agreement = tables.label_agreement(table, study)
    return replace(
        report,
        findings=tuple(sorted(findings, key=_place)),
        participants=len(table.ids),
        labels=table.labels,
        rows=table.rows,
        features=_features(table, study),
        records=tuple(replace(record, view=None, target=None) for record in records),
        owner=owner,
        usable=_usable(table, records, owner, study),
        label_rules=agreement,
        checked=_checked(records, study, options) | ({} if study.segments else {"labels": bool(agreement)}),
        muscles=coverage(records, owner, study),
    )


def _place(finding: Finding) -> tuple[int, str, float, str, str]:
    """Errors first; within a rule by row, what is said of no row last."""
    return _ORDER[finding.severity], finding.rule, finding.row or math.inf, finding.field, finding.file


def _checked(records: Sequence[ImageRecord], study: StudyConfig, options: Options) -> dict[str, bool]:
    """Checks by name: whether there was anything to check."""
    of_tables = dict.fromkeys(("tables", "values", "missing", "leakage", "identity", "cohort"), True)
    if study.segments:
        del of_tables["leakage"]
    of_images = dict.fromkeys(("images", "text", "duplicates"), bool(records)) if study.uses_images else {}
    return {
        **of_tables,
        **of_images,
        **({"masks": any(record.row.mask or record.origin for record in records)} if study.uses_images else {}),
        "overlap": bool(options.comparison and options.comparison.others),
    }


def _compared(
    folder: Path, study: StudyConfig, records: Sequence[ImageRecord], comparison: Comparison | None, cache: Path
) -> tuple[Finding, ...]:
    """Images and people that other hospitals have, too, where this hospital agreed to look for them."""
    if comparison is None:
        return ()
    linkage = folder / overlap.LINKAGE_FILE
    try:
        shared = comparison.salt.read_bytes()
    except OSError as error:
        remedy = "name the file with the salt that the hospitals agreed upon"
        raise ConfigError(f"{comparison.salt}: {error.strerror}; {remedy}") from None
    own = overlap.fingerprints(records, study.digest, shared, linkage if linkage.exists() else None)
    if comparison.own:
        overlap.write_fingerprints(comparison.own, own, _salt(cache))
    return overlap.overlap_findings(own, [overlap.read_fingerprints(path, own) for path in comparison.others])


def _blank(folder: Path, study: StudyConfig, options: Options) -> QualityReport:
    return QualityReport(
        title=study.title,
        study_digest=study.digest,
        site=options.site or folder.resolve().name,
        synthetic=says_synthetic(folder),
        findings=(),
        participants=0,
        labels=np.zeros(0, dtype=np.int8),
        rows=(),
        features=(),
        records=(),
        owner=np.zeros(0, dtype=np.int64),
        usable=(0, 0),
    )


def says_synthetic(folder: Path) -> bool:
    """Whether a hospital's people do not exist: their maker says so in a manifest beside the tables."""
    try:
        return bool(json.loads((folder / "manifest.json").read_text(encoding="utf-8")).get("synthetic"))
    except (OSError, ValueError, AttributeError):
        return False


def _participants(folder: Path, study: StudyConfig) -> ParticipantTable:
    """The table of participants, with its faults; without one nothing can be checked."""
    if not folder.is_dir():
        expected, remedy = f"a folder with {PARTICIPANTS_FILE}", "name the folder of your data"
        raise DataError([Finding("error", "cannot-check", folder.name, "no such folder", expected, remedy)])
    try:
        return examine_participants(folder / PARTICIPANTS_FILE, study)
    except DataError as error:
        expected, remedy = "a readable table", "mend the faults of the table, or let sarco-site ingest write it"
        halt = Finding("error", "cannot-check", PARTICIPANTS_FILE, "nothing else was looked at", expected, remedy)
        raise DataError([halt, *error.findings]) from None


def _image_rows(
    folder: Path, study: StudyConfig, table: ParticipantTable
) -> tuple[tuple[ImageRow, ...], list[Finding]]:
    if not study.uses_images:
        return (), []
    try:
        rows, findings = examine_images(folder / IMAGES_FILE, table.ids)
    except DataError as error:
        return (), list(error.findings)
    return rows, [*findings, *(found_masks.about_model(study, folder) if rows and study.image.auto else ())]


def _calibrations(folder: Path) -> tuple[dict[str, Calibration], list[Finding]]:
    path = folder / CALIBRATION_FILE
    if not path.exists():
        return {}, []
    try:
        return read_calibrations(path), []
    except DataError as error:
        return {}, list(error.findings)


def _salt(cache: Path) -> bytes:
    """A secret of this folder, so that digests of identifiers mean nothing elsewhere and stay equal from run to run."""
    path = cache / "salt"
    if not path.exists():
        make_cache(cache)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(32))
    return path.read_bytes()


def _records(looks: Sequence[Look], cache: Path, workers: int, progress: Progress | None) -> tuple[ImageRecord, ...]:
    """A record of every image, from the journal or looked at now."""
    if not looks:
        return ()
    keys = [key_of(look) for look in looks]
    limit_s = FINDING_LIMIT_S if looks[0].study.image.auto else LOOK_LIMIT_S
    with Journal(cache / "looks.sqlite") as journal:
        found = {k: record for k, look in enumerate(looks) if (record := journal.get(keys[k], look))}
        left = [k for k in range(len(looks)) if k not in found]
        for position, record in each(examine, [looks[k] for k in left], workers=workers, limit_s=limit_s):
            k = left[position]
            record = record or _lost(looks[k].row)
            found[k] = record
            if not _unfinished(record):
                journal.put([(keys[k], record)])
            if progress:
                progress(len(found), len(looks))
        journal.forget_all_but(keys)
    return tuple(found[k] for k in range(len(looks)))


def _unfinished(record: ImageRecord) -> bool:
    """A check failed: the fault is ours, and nothing may be concluded from it for the next time or for training."""
    return any(finding.rule == "check-failed" for finding in record.findings)


def _lost(row: ImageRow) -> ImageRecord:
    """An image whose decoder never came back."""
    remedy = "copy or export it again: it is damaged, and is left out until then"
    seen, expected = "decoding ended or blocked its process", f"an image within {LOOK_LIMIT_S:g} s"
    finding = Finding("warning", "decode", identity.shown_name(row), seen, expected, remedy, row.row)
    return ImageRecord(row, (finding,), left_out=True)


def _owners(rows: Sequence[ImageRow], table: ParticipantTable) -> NDArray[np.int64]:
    position = {participant_id: k for k, participant_id in enumerate(table.ids)}
    return np.array([position.get(row.participant_id, -1) for row in rows], dtype=np.int64)


def _keep_views(  # noqa: PLR0913, PLR0917 - everything that a training run's cache depends on
    folder: Path,
    study: StudyConfig,
    records: Sequence[ImageRecord],
    owner: NDArray[np.int64],
    cache: Path,
    templates: tuple[Template, ...],
) -> None:
    """Put what the network would see into the cache of training, under the key that training will ask for."""
    order = sorted((k for k in range(len(records)) if owner[k] >= 0), key=lambda k: (owner[k], records[k].row.image))
    by_row = {records[k].row.row: records[k] for k in order}

    def take(row: ImageRow) -> Taken:
        record = by_row[row.row]
        if record.view is None:
            raise DataError(record.findings)
        return Taken(record.view, record.device, record.target, record.origin)

    digests = {record.row.image: bytes.fromhex(record.file_digest) for record in records if record.file_digest}
    if order and not any(map(_unfinished, records)):
        rows = [records[k].row for k in order]
        open_images(folder, study, rows, cache, None, templates=templates, seen=Seen(take, digests))


def _features(table: ParticipantTable, study: StudyConfig) -> tuple[FeatureSummary, ...]:
    of_column = [feature for feature in study.features for _ in (feature.categories or ("",))]
    return tuple(
        FeatureSummary(column.name, feature.unit, column.low, column.high, feature.kind, table.values[:, k])
        for k, (column, feature) in enumerate(zip(design_columns(study.features), of_column, strict=True))
    )


def _usable(
    table: ParticipantTable, records: Sequence[ImageRecord], owner: NDArray[np.int64], study: StudyConfig
) -> tuple[int, int]:
    """People by class whom a training run would see: with nothing but images, those who have one."""
    seen = np.ones(len(table.ids), dtype=np.bool_)
    if set(study.model.modalities) == {IMAGE}:
        seen[:] = False
        seen[[owner[k] for k, record in enumerate(records) if record.usable and owner[k] >= 0]] = True
    return int((seen & (table.labels == 0)).sum()), int((seen & (table.labels == 1)).sum())
