"""What is missing, and what says nothing: empty columns and rows, columns without spread, columns that are copies."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from client.quality.columns import Values, Written, finding, listed, people
from sarco_models.config import Feature, StudyConfig
from sarco_models.errors import Finding, Severity
from sarco_models.schema import ParticipantTable

MISSING_NOTE, MISSING_WARNING = 0.2, 0.5
"""Share of people without a value from which a feature is noted, and from which it is warned of: means are imputed, and
a column that is mostly means carries more of the other sites than of this one."""

PERSON_MISSING = 0.5  # share of the study's features without which a person is listed
BLOCK_PEOPLE = 3  # people in whom several features are missing together before it is noted
FEWEST = 10  # values a column must have before its spread or its likeness to another is judged
COPY = 0.9999  # correlation of a column with a copy of itself in another unit, rounded once
ROUND_DIGITS = 0.6  # share of values that end in 0 or 5, expected .2
FEWEST_FOR_DIGITS = 40


def feature_values(table: ParticipantTable, study: StudyConfig) -> dict[str, Values]:
    """Feature -> (participants,) values; a categorical feature as the position of its category."""
    values: dict[str, Values] = {}
    start = 0
    for feature in study.features:
        width = len(feature.categories) or 1
        block = table.values[:, start : start + width]
        start += width
        coded = np.where(np.isnan(block).any(axis=1), np.nan, block.argmax(axis=1)) if width > 1 else block[:, 0]
        values[feature.name] = coded
    return values


def completeness_findings(table: ParticipantTable, study: StudyConfig, columns: Sequence[Written]) -> Iterator[Finding]:
    """Missing values by feature, by person and in blocks; columns without spread; copies; rounded columns.

    Args:
        table: as read against the study.
        study: whose features are meant.
        columns: number columns as the site wrote them.
    """
    values = {f.name: v for f, v in _present_columns(table, study)}
    if not values or not table.ids:
        return
    absent = {name: np.isnan(v) for name, v in values.items()}
    yield from _missing_features(absent)
    yield from _missing_people(table, study)
    yield from _blocks(absent)
    yield from _constant(values)
    yield from _copies(values, columns)
    for column in columns:
        yield from _round_digits(column)


def _present_columns(table: ParticipantTable, study: StudyConfig) -> Iterator[tuple[Feature, Values]]:
    """Features whose column is in the file; an absent column has been told as such."""
    values = feature_values(table, study)
    yield from ((f, values[f.name]) for f in study.features if f.name in table.sheet.header)


# --- missing ----------------------------------------------------------------------------------------------------------


def _missing_features(absent: Mapping[str, NDArray[np.bool_]]) -> Iterator[Finding]:
    for name, missing in absent.items():
        share = float(missing.mean())
        if share < MISSING_NOTE:
            continue
        if share == 1.0:
            words = ("no value at all", "values, or no such column", "fill it in; until then it counts as missing")
            yield finding("warning", "empty-column", name, words)
            continue
        seen = f"missing in {int(missing.sum())} of {people(missing.size)} ({share:.0%})"
        remedy = "fill in what the record has; what stays empty becomes the mean over all sites"
        severity: Severity = "warning" if share >= MISSING_WARNING else "note"
        yield finding(severity, "missing", name, (seen, f"under {MISSING_NOTE:.0%} missing", remedy))


def _missing_people(table: ParticipantTable, study: StudyConfig) -> list[Finding]:
    """People without most of what the model reads; what nobody here has is not held against them."""
    used = {f.name for f in study.inputs}
    kept = [v for f, v in _present_columns(table, study) if f.name in used and not np.isnan(v).all()]
    if not kept:
        return []
    share = np.isnan(np.stack(kept)).mean(axis=0)
    poor = [int(k) for k in np.argsort(-share, kind="stable") if share[k] > PERSON_MISSING]
    remedy = "fill in what the record has, or leave the person out"
    return listed(
        [
            finding(
                "warning",
                "missing-in-person",
                "",
                (f"{share[k]:.0%} of {len(kept)} features missing", f"at most {PERSON_MISSING:.0%}", remedy),
                table.rows[k],
            )
            for k in poor
        ]
    )


def _blocks(absent: Mapping[str, NDArray[np.bool_]]) -> Iterator[Finding]:
    """Features that are missing in exactly the same people: a panel that was not ordered."""
    for names, missing in same_pattern(absent):
        if len(names) > 1 and BLOCK_PEOPLE <= missing.sum() < missing.size:
            seen = f"missing together with {', '.join(names[1:])} in {people(int(missing.sum()))}"
            remedy = "nothing, if these tests were not done; else a whole panel was lost in the export"
            yield finding("note", "missing-block", names[0], (seen, "values missing one by one", remedy))


def same_pattern(absent: Mapping[str, NDArray[np.bool_]]) -> Iterator[tuple[list[str], NDArray[np.bool_]]]:
    """Columns grouped by the people in whom they are missing; complete columns are left out."""
    groups: dict[bytes, list[str]] = defaultdict(list)
    for name, missing in absent.items():
        if missing.any():
            groups[missing.tobytes()].append(name)
    for names in groups.values():
        yield names, absent[names[0]]


# --- columns that say nothing -----------------------------------------------------------------------------------------


def _constant(values: Mapping[str, Values]) -> Iterator[Finding]:
    for name, column in values.items():
        present = column[~np.isnan(column)]
        if present.size >= FEWEST and np.ptp(present) == 0:
            seen = f"{present[0]:g} in all {people(present.size)}"
            remedy = "nothing, if it is so; else the column was filled with a default"
            yield finding("warning", "constant", name, (seen, "values that differ", remedy))


def _copies(values: Mapping[str, Values], columns: Sequence[Written]) -> Iterator[Finding]:
    """Two features with the same values, or the same values in another unit, and features that hold a label's part."""
    written = {c.name: c for c in columns}
    names = list(values)
    parts = [c for c in columns if not c.feature]
    for k, name in enumerate(names):
        for part in parts:
            if name in written and _is_copy(written[name].values, part.values):
                remedy = "empty the column: what defines the label can never be an input"
                words = (f"a copy of {part.name}, which defines the label", "a measurement of its own", remedy)
                yield finding("error", "label-part", name, words)
        for other in names[k + 1 :]:
            if _is_copy(values[name], values[other]):
                remedy = "fill one of the two from the record, or empty it: one was copied over the other"
                yield finding("warning", "copied-column", other, (f"the same as {name}", "values of its own", remedy))


def _is_copy(one: Values, other: Values) -> bool:
    both = ~(np.isnan(one) | np.isnan(other))
    if both.sum() < FEWEST or np.ptp(one[both]) == 0 or np.ptp(other[both]) == 0:
        return False
    if np.array_equal(one[both], other[both]):
        # Two rare yes/no columns agree by chance; each must have both answers several times.
        return len(np.unique(one[both])) > 2 or min(one[both].sum(), (one[both] == 0).sum()) >= FEWEST
    few = min(len(np.unique(one[both])), len(np.unique(other[both])))
    return few > FEWEST and bool(np.corrcoef(one[both], other[both])[0, 1] > COPY)


def _round_digits(column: Written) -> Iterator[Finding]:
    """Readings rounded by the reader: last digits 0 and 5 far too often."""
    present = column.present
    if present.size < FEWEST_FOR_DIGITS:
        return
    steps = np.rint(present / column.step).astype(np.int64)
    share = float((steps % 5 == 0).mean())
    if len(np.unique(steps)) > FEWEST and share >= ROUND_DIGITS:
        seen = f"{share:.0%} of the values end in 0 or 5"
        remedy = "nothing to mend; enter values as they were measured where the record has them"
        yield finding("note", "rounded", column.name, (seen, "about 20%", remedy))
