"""The site's people as a cohort: enough of each class, everybody once, with images alike for both classes.

Nothing here looks into a single image or cell; it is what only shows when tables and images are seen together.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import date

import numpy as np
from numpy.typing import NDArray
from scipy.stats import fisher_exact

from client.quality.columns import finding, in_table, people, row_list
from client.quality.coverage import coverage_findings
from client.quality.persons import person_findings
from client.quality.planned import planned_findings
from client.quality.records import ImageRecord
from sarco_models.config import IMAGE, StudyConfig
from sarco_models.errors import Finding, Severity
from sarco_models.metrics import auc_interval
from sarco_models.schema import IMAGES_FILE, PARTICIPANTS_FILE, ImageRow, ParticipantTable

FEWEST_POSITIVE_TO_TRAIN = 10  # of the smaller class; below it a site's own updates are mostly noise
RARE = 0.05  # prevalence below which, or above one minus which, the split's parts are too poor to score
FEWEST_PER_CLASS = 8  # people of each class before counts of images are compared between classes
COUNT_AUC_NOTE, COUNT_AUC_WARNING = 0.65, 0.9
ABSENCE_GAP, ABSENCE_P = 0.3, 1e-3
ONE_DAY_PEOPLE = 5  # people examined on one single day, from which the date is a default
EARLIEST = date(1990, 1, 1)  # digital B-mode in clinical archives; 1900-01-01 and 1970-01-01 are defaults of programs
REPEAT_DAYS = 180  # between a person's first and last image, from which these are two visits
STRAY = 0.1  # share of images up to which another muscle is a stray, not a protocol

MUSCLES = {
    "rectus femoris": ("rf", "rectus_femoris", "m_rectus_femoris", "股直肌"),
    "vastus intermedius": ("vi", "vastus_intermedius", "股中间肌"),
    "vastus lateralis": ("vl", "vastus_lateralis", "股外侧肌"),
    "quadriceps": ("quadriceps", "quadriceps_femoris", "股四头肌"),
    "biceps brachii": ("biceps", "biceps_brachii", "bb", "肱二头肌"),
    "triceps brachii": ("triceps", "triceps_brachii", "tb", "肱三头肌"),
    "rectus abdominis": ("ra", "rectus_abdominis", "腹直肌"),
    "gastrocnemius": ("gastrocnemius", "medial_gastrocnemius", "gm", "腓肠肌"),
    "tibialis anterior": ("ta", "tibialis_anterior", "胫骨前肌"),
    "peroneus longus + brevis": ("plpb", "peroneus", "peroneus_longus_brevis", "peroneus_longus", "腓骨长短肌"),
}
"""Muscles by the names that hospitals write; a name outside this list is never shown, it may be anything."""


def cohort_findings(
    table: ParticipantTable,
    rows: Sequence[ImageRow],
    records: Sequence[ImageRecord],
    owner: NDArray[np.int64],
    study: StudyConfig,
) -> tuple[Finding, ...]:
    """Everything that the site's people show when they are seen together.

    Args:
        table: participants.
        rows: of images.csv, those of unknown people too.
        records: one per row, in the same order.
        owner: for each row the position of its participant, -1 when unknown.
        study: that the data are for.
    """
    usable = np.array([k for k, r in enumerate(records) if r.usable and owner[k] >= 0], dtype=np.int64)
    counts = np.bincount(owner[usable], minlength=len(table.ids))
    if study.segments:
        findings = [*coverage_findings(table, records, owner, study), *person_findings(table, records, owner)]
        findings += planned_findings(records, study)
    else:
        findings = [*_class_sizes(table, counts, study), *person_findings(table, records, owner)]
    if study.uses_images:
        findings += [
            *_people_without_images(table, counts, study),
            *_counts_by_class(table, counts),
            *_exam_dates(rows, owner, table),
            *(() if study.segments else _muscles(rows)),
        ]
    return in_table(table, findings)


# --- enough of each class ---------------------------------------------------------------------------------------------


def _class_sizes(table: ParticipantTable, counts: NDArray[np.int64], study: StudyConfig) -> Iterator[Finding]:
    """People of each class, as the study's split would divide them."""
    seen = counts > 0 if set(study.model.modalities) == {IMAGE} else np.ones(len(table.ids), dtype=np.bool_)
    sizes = [int((seen & (table.labels == label)).sum()) for label in (1, 0)]
    parts = [_parts(size, study) for size in sizes]
    column, required = study.label.column, study.federation.min_participants
    words = "training {} + {}, validation {} + {}, test {} + {}".format(*np.transpose(parts).ravel())
    split = f"{sizes[0]} positive + {sizes[1]} negative: {words}"
    unlabelled = int((table.labels < 0).sum())
    split += f"; {unlabelled} without a label" if unlabelled else ""
    training, smaller = parts[0][0] + parts[1][0], min(parts[0][0], parts[1][0])
    if training < required:
        remedy = "add people; the study does not let a smaller site take part"
        yield finding("error", "cohort-size", column, (split, f"{required} or more in training", remedy))
    elif not smaller:
        remedy = "add people of the other class: a site with one class cannot take part"
        yield finding("error", "cohort-size", column, (split, "both classes in training", remedy))
    elif smaller < FEWEST_POSITIVE_TO_TRAIN:
        expected = f"{FEWEST_POSITIVE_TO_TRAIN} or more of each class in training"
        yield finding("warning", "cohort-size", column, (split, expected, "add people of the smaller class if you can"))
    elif not all(np.ravel(parts)):
        remedy = "add people of the smaller class: without them this site cannot be scored"
        yield finding("warning", "cohort-size", column, (split, "both classes in every part of the split", remedy))
    else:
        yield finding("note", "cohort-size", column, (split, f"{required} or more in training", "nothing to do"))
    share = sizes[0] / max(sum(sizes), 1)
    if min(sizes) and not RARE <= share <= 1 - RARE:
        remedy = "check that the label is what the study means"
        expected = f"{RARE:.0%} to {1 - RARE:.0%}"
        yield finding("warning", "class-balance", column, (f"{share:.1%} positive", expected, remedy))


def _parts(size: int, study: StudyConfig) -> tuple[int, int, int]:
    """People of a class in training, validation and test; as :func:`sarco_models.cohort.split` rounds."""
    train, validation = round(study.split.train * size), round(study.split.validation * size)
    return train, validation, size - train - validation


# --- images and people ------------------------------------------------------------------------------------------------


def _people_without_images(table: ParticipantTable, counts: NDArray[np.int64], study: StudyConfig) -> Iterator[Finding]:
    """People of the table of whom no image can be used, and whether that depends on the class."""
    without = counts == 0
    if not without.any():
        return
    only_images = set(study.model.modalities) == {IMAGE}
    meanwhile = "they are left out" if only_images else "the model does without until then"
    remedy = f"add or mend their images; {meanwhile}"
    rows = [table.rows[k] for k in np.flatnonzero(without)]
    seen = f"no usable image of {people(len(rows))} of {len(table.ids)}: {row_list(rows)}"
    yield Finding("warning" if only_images else "note", "no-image", PARTICIPANTS_FILE, seen, "an image each", remedy)
    positive, negative = table.labels == 1, table.labels == 0
    if not (positive.any() and negative.any()):
        return
    cells = np.array([[(without & c).sum(), (~without & c).sum()] for c in (positive, negative)])
    shares = cells[:, 0] / cells.sum(axis=1)
    if abs(shares[0] - shares[1]) >= ABSENCE_GAP and float(fisher_exact(cells).pvalue) <= ABSENCE_P:
        words = f"no image of {shares[0]:.0%} of the positive and {shares[1]:.0%} of the negative people"
        remedy = "add the missing images: whether there is one gives the label away"
        yield Finding("warning", "missing-by-class", IMAGES_FILE, words, "images of both classes alike", remedy)


def _counts_by_class(table: ParticipantTable, counts: NDArray[np.int64]) -> Iterator[Finding]:
    """Whether the number of images tells the class. The model averages them, so that it cannot see their number."""
    kept = (counts > 0) & (table.labels >= 0)
    positive, number = table.labels[kept] == 1, counts[kept].astype(np.float64)
    if min(positive.sum(), (~positive).sum()) < FEWEST_PER_CLASS or np.ptp(number) == 0:
        return
    area = auc_interval(number, positive)
    strength = max(area.value, 1 - area.value)
    if strength < COUNT_AUC_NOTE or area.low <= 0.5 <= area.high:
        return
    seen = (
        f"{number[positive].mean():.1f} images of a positive and {number[~positive].mean():.1f} of a negative person "
        f"(AUC of the number alone {area.value:.2f})"
    )
    severity: Severity = "note"
    remedy = "nothing to mend: images are averaged within a person; never count them in an analysis"
    if strength >= COUNT_AUC_WARNING:
        severity, remedy = "warning", "find out why: images may have been chosen by diagnosis, and differ in more ways"
    yield Finding(severity, "image-count", IMAGES_FILE, seen, "about the same number in both classes", remedy)


# --- dates and muscles ------------------------------------------------------------------------------------------------


def _exam_dates(rows: Sequence[ImageRow], owner: NDArray[np.int64], table: ParticipantTable) -> Iterator[Finding]:
    """Dates that are defaults of a program, and people who were examined twice."""
    days = {k: date.fromisoformat(row.exam_date) for k, row in enumerate(rows) if row.exam_date}
    if not days:
        return
    early = [rows[k].row for k, day in days.items() if day < EARLIEST]
    if early:
        seen = f"a date before {EARLIEST.year}: {row_list(early)}"
        remedy = "empty the cell or correct it: this is the default of a program"
        yield _of_images("warning", "exam-date", "exam_date", (seen, "the day of the examination", remedy))
    of_person: dict[int, list[date]] = defaultdict(list)
    for k, day in days.items():
        of_person[int(owner[k])].append(day)
    of_person.pop(-1, None)
    if len(set(days.values())) == 1 and len(of_person) >= ONE_DAY_PEOPLE:
        seen, remedy = (
            f"one date for {people(len(of_person))}",
            "nothing, if they came on one day; else it is a default",
        )
        yield _of_images("note", "exam-date", "exam_date", (seen, "dates of examinations", remedy))
    yield from _two_visits(table, of_person)


def _two_visits(table: ParticipantTable, of_person: Mapping[int, Sequence[date]]) -> Iterator[Finding]:
    true = {person: [day for day in found if day >= EARLIEST] for person, found in of_person.items()}
    repeated = sorted(table.rows[p] for p, d in true.items() if d and (max(d) - min(d)).days > REPEAT_DAYS)
    if repeated:
        seen = f"images over {REPEAT_DAYS} days apart in {people(len(repeated))}: {row_list(repeated)}"
        remedy = "keep the visit that the label and the table belong to"
        yield Finding("warning", "two-visits", PARTICIPANTS_FILE, seen, "one visit for each person", remedy)


def _of_images(severity: Severity, rule: str, field: str, words: tuple[str, str, str]) -> Finding:
    return Finding(severity, rule, IMAGES_FILE, *words, field=field)


def _muscles(rows: Sequence[ImageRow]) -> Iterator[Finding]:
    """Which muscles are shown, on which side; strays among them."""
    names = [muscle_name(row.muscle) for row in rows]
    counts = Counter(name for name in names if name)
    if not counts:
        return
    sides = Counter(row.side or "no side" for row in rows)
    seen = ", ".join(f"{n} of {name}" for name, n in counts.most_common())
    seen += "; " + ", ".join(f"{n} {side}" for side, n in sides.most_common())
    yield _of_images("note", "muscle", "muscle", (seen, "the muscle that the study is about", "nothing to do"))
    usual = counts.most_common(1)[0][0]
    for name, n in counts.items():
        if name != usual and n <= STRAY * len(rows):
            where = row_list(row.row for row, own in zip(rows, names, strict=True) if own == name)
            remedy = "check these images: another muscle, or its name misspelt"
            words = (f"{name} in {where}", f"{usual}, as in the others", remedy)
            yield _of_images("warning", "muscle", "muscle", words)
    spellings = {row.muscle.strip() for row, name in zip(rows, names, strict=True) if name == usual}
    if len(spellings) > 1:
        words = (f"{usual} written in {len(spellings)} ways", "one name for one muscle", "use one name throughout")
        yield _of_images("note", "muscle", "muscle", words)


def muscle_name(text: str) -> str:
    """A muscle by its usual name; a text that is no known muscle is described by its length; "" when it is empty."""
    word = text.strip().lower().replace(" ", "_").replace("-", "_").replace(".", "")
    if not word:
        return ""
    known = next((name for name, words in MUSCLES.items() if word in words or word == name.replace(" ", "_")), "")
    return known or f"a text of {len(text.strip())} characters"
