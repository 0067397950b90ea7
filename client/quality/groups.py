"""Findings as a person mends them: one group per severity and rule, in it the remedy once and then the places.

A place is a file of the site and a row. The names of images and masks are shown only when they cannot name a person.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from client.quality import summary
from client.quality.identity import safe_name, shown_mask, shown_name
from client.quality.pictures import Album
from client.quality.records import ImageRecord, QualityReport
from client.quality.titles import title_of, why_of
from sarco_models.errors import Finding, Severity
from sarco_models.schema import IMAGES_FILE, PARTICIPANTS_FILE, ImageRow

SHOWN = 10
"""Places of a part that stand open; the others are folded."""

SHOWN_ROWS = 40
"""The same, of places that are nothing but rows."""

MOST_FOLDED = 500
"""Places that are folded; a page need not hold what nobody reads. The JSON file has them all."""

PICTURES = 8
"""Thumbnails in a group."""

_HEAD = ("File", "Row", "Column", "Seen", "Expected")
_MOST_REMEDIES = 3  # more in one group stand beside their places
_NOT_SEEN = ("identity-header", "identity-mask", "identity-name")  # what they are about is not in the pixels
_OF_FILE = ("image", "mask")  # columns of images.csv that the name of the file says already
_ORDER: dict[Severity, int] = {"error": 0, "warning": 1, "note": 2}

Cells = tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """Places of a group with the same remedy.

    Attributes:
        remedy: what to do; "" when it stands in the last column.
        lifted: what is the same in all places, as (name of the column, value).
        head: names of the columns that are left.
        rows: cells of each place, as many as ``head``.
        left_out: further places, which only the JSON file has.
    """

    remedy: str
    lifted: tuple[tuple[str, str], ...]
    head: Cells
    rows: tuple[Cells, ...]
    left_out: int

    @property
    def listed(self) -> bool:
        """Nothing but file and row differ, so that the places need no table."""
        return set(self.head) <= {"File", "Row"}

    @property
    def open(self) -> int:
        """Places that are not folded: plain rows fit into a line or two."""
        return SHOWN_ROWS if self.head == ("Row",) else SHOWN


@dataclass(frozen=True)
class Picture:
    """A thumbnail: address of its data, and what stands beneath it."""

    source: str
    words: str


@dataclass(frozen=True)
class Group:
    """All findings of one rule and severity.

    Attributes:
        severity: of all of them.
        rule: short stable name.
        title: the rule in words.
        why: why it matters, in one sentence; may be "".
        places: number of findings.
        where: the columns or files that are named most, in few words.
        parts: the places by remedy.
        pictures: thumbnails of the first images concerned.
        more_pictures: further images concerned.
    """

    severity: Severity
    rule: str
    title: str
    why: str
    places: int
    where: str
    parts: tuple[Part, ...]
    pictures: tuple[Picture, ...]
    more_pictures: int


def groups(report: QualityReport, album: Album) -> tuple[Group, ...]:
    """Every finding in its group, errors first, within a severity the largest group first."""
    places = _Places(report.records)
    found = sorted(
        (findings for _, _, findings in summary.groups(report.findings)),
        key=lambda group: (_ORDER[group[0].severity], -len(group), group[0].rule),
    )
    return tuple(_group(findings, places, album) for findings in found)


def _group(findings: Sequence[Finding], places: "_Places", album: Album) -> Group:
    severity, rule, findings = findings[0].severity, findings[0].rule, sorted(findings, key=places.order)
    concerned = list(dict.fromkeys(k for f in findings if (k := places.record_of(f)) is not None))
    records = [places.records[k] for k in concerned]
    sources = album.take([r.thumbnail for r in records], 0 if rule in _NOT_SEEN else PICTURES)
    pictures = tuple(
        Picture(source, f"row {record.row.row}") for source, record in zip(sources, records, strict=True) if source
    )
    images = f"{len(records):,} image{'' if len(records) == 1 else 's'}" if records else ""
    remedies = list(dict.fromkeys(f.remedy for f in findings))
    if len(remedies) > _MOST_REMEDIES:
        parts: tuple[Part, ...] = (_part("", [(*places.cells(f), f.remedy) for f in findings]),)
    else:
        parts = tuple(_part(r, [places.cells(f) for f in findings if f.remedy == r]) for r in remedies)
    return Group(
        severity, rule, title_of(rule), why_of(rule), len(findings), images or places.where(findings), parts, pictures,
        len([r for r in records if r.thumbnail]) - len(pictures) if pictures else 0,
    )  # fmt: skip


def _part(remedy: str, rows: Sequence[Cells]) -> Part:
    """A table without empty columns; what never changes is said once above it."""
    head = _HEAD if remedy else (*_HEAD, "What to do")
    values = list(zip(*rows, strict=True))
    same = [
        len(rows) > 1 and len(set(column)) == 1 and name != "Row" for name, column in zip(head, values, strict=True)
    ]
    lifted = tuple((head[k], values[k][0]) for k, once in enumerate(same) if once and values[k][0])
    kept = [k for k, once in enumerate(same) if not once and any(values[k])]
    cut = rows[: SHOWN + MOST_FOLDED]
    cells = tuple(tuple(row[k] for k in kept) for row in cut)
    return Part(remedy, lifted, tuple(head[k] for k in kept), cells, len(rows) - len(cut))


class _Places:
    """Which image a finding is about, and how its place may be written."""

    def __init__(self, records: Sequence[ImageRecord]) -> None:
        self.records = records
        self._of_finding = {f: k for k, record in reversed(list(enumerate(records))) for f in record.findings}
        self._of_row = {record.row.row: k for k, record in enumerate(records)}
        self._names = [_Names.of(record.row) for record in records]
        self._of_name = _unique(self._names)

    def record_of(self, finding: Finding) -> int | None:
        """Position of the record, None when the finding is not about one image."""
        if finding in self._of_finding:
            return self._of_finding[finding]
        if finding.file in self._of_name:
            return self._of_name[finding.file]
        return None if finding.file == PARTICIPANTS_FILE else self._by_row(finding)

    def _by_row(self, finding: Finding) -> int | None:
        k = self._of_row.get(finding.row or 0)
        return k if k is not None and finding.file in (IMAGES_FILE, *self._names[k].all) else None

    def cells(self, finding: Finding) -> Cells:
        """File, row, column, seen, expected."""
        row = "" if finding.row is None else str(finding.row)
        k = self.record_of(finding)
        if k is None or finding.file == IMAGES_FILE:
            file = finding.file if safe_name(finding.file) else "a file of the site"
            column = "" if finding.row is None and finding.field in _OF_FILE else finding.field
            return file, row, column, finding.seen, finding.expected
        entry, names = self.records[k].row, self._names[k]
        of_mask = finding.file in names.of_mask
        file = names.of_mask[0] if of_mask else names.of_image[0]
        column = "" if finding.field in _OF_FILE else finding.field
        if file not in (entry.image, entry.mask):
            file, column = IMAGES_FILE, column or ("mask" if of_mask else "image")
        return file, str(entry.row), column, finding.seen, finding.expected

    def order(self, finding: Finding) -> tuple[bool, int]:
        """Images by their row; findings of tables stay as they came, those that count further rows last."""
        k = self.record_of(finding)
        return finding.row is None and k is None, 0 if k is None else self.records[k].row.row

    def where(self, findings: Iterable[Finding]) -> str:
        """The three columns that are named most, or else the files; what is left is counted."""
        listed = list(findings)
        cells = [self.cells(f) for f in listed]
        named = Counter(column for _, _, column, *_ in cells if column) or Counter(file for file, *_ in cells)
        first = [name for name, _ in sorted(named.items(), key=lambda item: (-item[1], item[0]))[:3]]
        return ", ".join(first) + (f" and {len(named) - len(first)} more" if len(named) > len(first) else "")


@dataclass(frozen=True)
class _Names:
    """By what a finding may call an image or its mask; the first may be shown."""

    of_image: tuple[str, ...]
    of_mask: tuple[str, ...]

    @classmethod
    def of(cls, row: ImageRow) -> "_Names":
        mask = (row.mask, PurePosixPath(row.mask).name) if row.mask else ()
        return cls((shown_name(row), row.image, PurePosixPath(row.image).name), (shown_mask(row), *mask))

    @property
    def all(self) -> tuple[str, ...]:
        return self.of_image + self.of_mask


def _unique(names: Iterable[_Names]) -> dict[str, int]:
    """Position of the only image that is called so."""
    held: dict[str, set[int]] = {}
    for k, of in enumerate(names):
        for name in of.all:
            held.setdefault(name, set()).add(k)
    return {name: min(positions) for name, positions in held.items() if len(positions) == 1}
