"""What could not be matched or copied: counted in findings, and listed by path in a table that stays private.

A path below the source may hold a name, so no finding shows one: it says how many files there are and in which rows of
``places.csv`` they stand.
"""

import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from client.intake.matching import FRAME_OF
from client.intake.private import PLACES_FILE
from client.intake.transfer import Record
from sarco_models.errors import Finding

PLACES_COLUMNS = ("rule", "path", "seen", "remedy")
_FIRST_ROW = 2


@dataclass(frozen=True)
class Leftover:
    """Some files of the source that share one fault.

    Attributes:
        finding: what is said of all of them, without place and count.
        places: path below the source, and what was seen there.
    """

    finding: Finding
    places: tuple[tuple[str, str], ...]


def leftover(finding: Finding, paths: Iterable[str]) -> Leftover:
    """The same fault in each of these files."""
    return Leftover(finding, tuple((path, finding.seen) for path in paths))


def refusals(records: Mapping[str, Record]) -> Iterator[Leftover]:
    """What was refused while copying, one for each rule and severity."""
    by_rule: dict[tuple[str, str], list[tuple[str, Finding]]] = {}
    for path, record in records.items():
        for finding in record.outcome.findings:
            by_rule.setdefault((finding.severity, finding.rule), []).append((path, finding))
    for _, found in sorted(by_rule.items()):
        first = found[0][1]
        same = all(finding.seen == first.seen for _, finding in found)
        seen = first.seen if same else f"for instance {first.seen}"
        yield Leftover(replace(first, seen=seen), tuple((path, finding.seen) for path, finding in found))


def placed(leftovers: Iterable[Leftover]) -> tuple[list[Finding], list[Sequence[str]]]:
    """Findings with counts and rows, and the rows of ``places.csv``."""
    findings: list[Finding] = []
    rows: list[Sequence[str]] = []
    for left in leftovers:
        if not left.places:
            continue
        first = _FIRST_ROW + len(rows)
        rows += [
            (left.finding.rule, path.replace(FRAME_OF, " frame "), seen, left.finding.remedy)
            for path, seen in left.places
        ]
        last = _FIRST_ROW + len(rows) - 1
        where = f"row {first}" if first == last else f"rows {first} to {last}"
        seen = f"{len(left.places)} file{'s' if len(left.places) > 1 else ''} ({where}): {left.finding.seen}"
        findings.append(replace(left.finding, file=PLACES_FILE, row=first, seen=seen))
    return findings, rows


_UNMATCHED = {
    "another-person": Finding(
        "error", "another-person", "", "path and DICOM header name two different participants", "one person",
        "find out whose it is, and correct the folder or the list; it is left out",
    ),
    "no-person": Finding(
        "warning", "no-person", "", "no id of the table in the path, the header or the list", "an id of the table",
        "correct images.id in the mapping, the path, or the table; it is left out",
    ),
    "no-mask": Finding(
        "warning", "no-mask", "", "no mask was found for it", "a mask of the muscle",
        "draw one, or correct masks.names in the mapping; training does without the image",
    ),
    "mask-alone": Finding(
        "warning", "mask-alone", "", "a mask that belongs to no image, or to several", "a mask named after its image",
        "correct masks.names in the mapping, or rename it; it is left out",
    ),
    "mask-of-another-image": Finding(
        "warning", "mask-of-another-image", "", "a mask named after one image that says it was drawn on another",
        "one image", "name it after the image that it was drawn on, or save it again on the right one; it is left out",
    ),
    "mask-twice": Finding(
        "warning", "mask-twice", "", "a mask beside others of the same name, in another format", "one of them",
        "leave the one that was corrected last, or name the others in images.skip of the mapping: **/*.nii.gz",
    ),
    "decoder": Finding(
        "warning", "decoder", "", "its decoder stopped or did not come back", "a complete image file",
        "export it again; it is left out",
    ),
    "not-readable": Finding(
        "warning", "not-readable", "", "you may not read it", "a readable file", "ask for the right to read it",
    ),
    "not-understood": Finding(
        "note", "not-understood", "", "no image, mask or table", "images, masks and tables in a known format",
        "export it in one of these formats, if it belongs to the study",
    ),
    "not-labelme": Finding(
        "warning", "not-labelme", "", "named after an image, but cut off, damaged or not LabelMe's",
        "LabelMe JSON with its shapes", "save it again with LabelMe, or rename it if it is no mask; it is left out",
    ),
    "left-behind": Finding(
        "note", "left-behind", "", "left there by a program or the system", "images, masks and tables",
        "nothing needs to be done: it is not read",
    ),
}  # fmt: skip


def unmatched(paths: Mapping[str, Iterable[str]], images: Iterable[str] = ()) -> Iterator[Leftover]:
    """Paths below the source by the rule that they break; the rules are those of this module.

    Args:
        paths: by rule.
        images: of the source; what is named after one and no LabelMe file was meant to be its mask.
    """
    names = {part for path in images for part in (_name(path), posixpath.splitext(_name(path))[0])}
    for rule, found in paths.items():
        rest = list(found)
        if rule == "not-understood":
            meant = [path for path in rest if _name(path).endswith(".json") and _name(path)[:-5] in names]
            yield leftover(_UNMATCHED["not-labelme"], meant)
            rest = [path for path in rest if path not in meant]
        yield leftover(_UNMATCHED[rule], rest)


def _name(path: str) -> str:
    return posixpath.basename(path).casefold()
