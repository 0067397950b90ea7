"""One person under two ids, two persons under one: told by rows that agree too well, and by the images' own headers.

Two rows of one person would stand on both sides of a split. Rows are compared as in record linkage (Fellegi & Sunter
1969): each value two people share counts the bits of how rarely people share it, each that differs counts against it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from client.quality.columns import finding, listed, people, row_list
from client.quality.records import ImageRecord
from sarco_models.errors import Finding, Severity
from sarco_models.schema import IMAGES_FILE, ParticipantTable

FALSE_ALARM_BITS = 7.0  # evidence beyond the number of pairs: below one false pair in a hundred tables
DIFFERS_BITS = 3.3  # against a pair, for each value that differs: a person's own values differ in one of ten
FEWEST_SHARED = 4  # values that differ between people, which two rows must share
ALIKE = 0.6  # share of the values present in both rows that must be equal
MOST_PEOPLE = 20_000  # beyond it pairs are not compared: a minute or more

PLACEHOLDER_PEOPLE = 3  # people with one id in the headers of their images, from which it is no person's id
RENEWED = 0.5  # share of people with several ids in their headers, from which ids are made anew for every export


def person_findings(
    table: ParticipantTable, records: Sequence[ImageRecord], owner: NDArray[np.int64]
) -> Iterator[Finding]:
    """One person under two ids, or two under one.

    Args:
        table: participants.
        records: images.
        owner: position of each image's participant, -1 when unknown.
    """
    yield from _twin_rows(table)
    yield from _header_ids(table, records, owner)


# --- by the table -----------------------------------------------------------------------------------------------------


def _twin_rows(table: ParticipantTable) -> list[Finding]:
    findings = []
    for first, second, equal, compared in twins(table.values):
        seen = f"the same values as row {table.rows[first]} in {equal} of {compared} columns"
        severity: Severity = "warning"
        remedy = "one row per person: look up whether these are two visits of one person, and keep one"
        if equal == compared:
            severity = "error"
            remedy = "one row per person: remove one row and give its images the other's id"
        words = (seen, "two people differ in most values", remedy)
        findings.append(finding(severity, "same-person", "", words, table.rows[second]))
    return listed(findings)


def twins(values: NDArray[np.float64]) -> list[tuple[int, int, int, int]]:
    """Pairs of rows that agree too well for two people: (first, second, equal values, values present in both).

    Args:
        values: (participants, columns), NaN where missing.
    """
    n = len(values)
    if not 2 <= n <= MOST_PEOPLE:
        return []
    bits = _bits_of_agreement(values)
    needed = np.log2(n * (n - 1) / 2) + FALSE_ALARM_BITS
    found = []
    for k in range(n - 1):
        both = ~np.isnan(values[k]) & ~np.isnan(values[k + 1 :])
        equal = both & (values[k + 1 :] == values[k])
        evidence = np.where(equal, bits, np.where(both, -DIFFERS_BITS, 0.0)).sum(axis=1)
        telling = (equal & (bits >= 2.0)).sum(axis=1)
        alike = equal.sum(axis=1) >= ALIKE * both.sum(axis=1)
        for j in np.flatnonzero((evidence >= needed) & (telling >= FEWEST_SHARED) & alike):
            found.append((k, k + 1 + int(j), int(equal[j].sum()), int(both[j].sum())))
    return found


def _bits_of_agreement(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(columns,) -log2 of the chance that two people of this table share a value; 0 where hardly anybody has one."""
    bits = np.zeros(values.shape[1])
    for c, column in enumerate(values.T):
        present = column[~np.isnan(column)]
        if present.size < 2:
            continue
        counts = np.unique(present, return_counts=True)[1].astype(np.float64)
        # One more pair than was seen, so that a column where all differ does not count for infinity.
        pairs = present.size * (present.size - 1) / 2
        bits[c] = -np.log2(((counts * (counts - 1) / 2).sum() + 1) / (pairs + 1))
    return bits


# --- by the headers of the images -------------------------------------------------------------------------------------


def _header_ids(table: ParticipantTable, records: Sequence[ImageRecord], owner: NDArray[np.int64]) -> Iterator[Finding]:
    """Participants against the keyed digests of the ids in their images' headers."""
    known = [(int(owner[k]), record) for k, record in enumerate(records) if owner[k] >= 0 and record.header_id]
    people_of: dict[str, set[int]] = defaultdict(set)
    ids_of: dict[int, list[str]] = defaultdict(list)
    for person, record in known:
        people_of[record.header_id].add(person)
        ids_of[person].append(record.header_id)
    yield from _shared_ids(table, people_of)
    yield from _several_ids(known, ids_of)


def _shared_ids(table: ParticipantTable, people_of: dict[str, set[int]]) -> Iterator[Finding]:
    for persons in people_of.values():
        rows = sorted(table.rows[p] for p in persons)
        if len(rows) >= PLACEHOLDER_PEOPLE:
            seen = f"the same id in the headers of {people(len(rows))}'s images"
            words = (seen, "an id for each person", "nothing, if it is the placeholder of an anonymisation")
            yield Finding("note", "header-id", IMAGES_FILE, *words)
        elif len(rows) == 2:
            seen = f"the id in the headers of its images is that of row {rows[0]}'s images"
            remedy = "one row per person: merge the two rows, or move the images to the person they show"
            yield finding("error", "same-person", "participant_id", (seen, "an id of its own", remedy), rows[1])


def _several_ids(known: Sequence[tuple[int, ImageRecord]], ids_of: dict[int, list[str]]) -> Iterator[Finding]:
    several = [person for person, ids in ids_of.items() if len(ids) > 1]
    mixed = {person for person in several if len(set(ids_of[person])) > 1}
    if len(mixed) >= PLACEHOLDER_PEOPLE and len(mixed) > RENEWED * len(several):
        seen = f"several ids in the headers of one person's images, for {people(len(mixed))} of {len(several)}"
        remedy = "nothing, if the export gave every image a new id; else look the images up"
        yield Finding("note", "header-id", IMAGES_FILE, seen, "one id for each person", remedy)
        return
    for person in sorted(mixed):
        usual = Counter(ids_of[person]).most_common(1)[0][0]
        odd = [record.row.row for who, record in known if who == person and record.header_id != usual]
        seen = f"another id in the header than in this person's other images: {row_list(odd)}"
        remedy = "look up whom these images show, and correct participant_id"
        yield Finding(
            "warning", "two-persons", IMAGES_FILE, seen, "one person's images", remedy, odd[0], "participant_id"
        )
