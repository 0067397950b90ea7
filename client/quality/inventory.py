"""What a site has, ready to be shown: its features and their gaps, its devices, and a choice of its images."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from client.quality import pictures
from client.quality.groups import Picture
from client.quality.pictures import CLASSES, FEWEST, Album, by_class, percent, written
from client.quality.records import FeatureSummary, ImageRecord, MaskMeasures, QualityReport

DEVICES = 40
"""Devices that have a line of their own; names that carry serial numbers would fill the page."""

CONTACTS = 36
"""Images on the contact sheet."""

RANGE_RULE = "range"
"""Rule whose findings are values that were not taken over."""

_REGION = {
    "file": "the file",
    "calibration": "calibration.csv",
    "template": "device template",
    "found": "found in the picture",
    "whole": "whole frame",
}
_SPACING = {"file": "the file", "calibration": "calibration.csv", "template": "device template", "": "unknown"}
_MEASURES = (
    ("muscle thickness", "mm", "thickness_mm"),
    ("muscle area", "cm²", "area_cm2"),
    ("echo intensity", "grey level", "echo_intensity"),
)


@dataclass(frozen=True)
class Distribution:
    """A continuous feature: its drawing ("" = too few values), the words beneath, and how many values were refused."""

    name: str
    unit: str
    drawing: Markup
    words: str
    refused: int


@dataclass(frozen=True)
class Share:
    """A yes/no feature or a category: for each class a bar and its words."""

    name: str
    bars: tuple[tuple[Markup, str], ...]
    missing: str


@dataclass(frozen=True)
class Gap:
    """One row of the missingness map."""

    name: str
    strip: Markup
    missing: str
    of_class: tuple[str, ...]


@dataclass(frozen=True)
class DeviceRow:
    """One line of the device table, as words; ``curve`` is the grey-level distribution."""

    name: str
    transducer: str
    format: str
    images: str
    people: str
    spacing: str
    spacing_from: str
    region_from: str
    grey: str
    curve: Markup


@dataclass(frozen=True)
class Sheet:
    """Images of one device on the contact sheet, and how many it has."""

    device: str
    images: int
    pictures: tuple[Picture, ...]


# ---- tables ----------------------------------------------------------------------------------------------------------


def distributions(report: QualityReport) -> tuple[Distribution, ...]:
    """Every continuous feature against its plausible range."""
    refused = Counter(f.field for f in report.findings if f.rule == RANGE_RULE and f.severity == "error")
    return tuple(_distribution(f, report.labels, refused[f.name]) for f in report.features if f.kind == "continuous")


def muscles(report: QualityReport) -> tuple[Distribution, ...]:
    """What the masks measure; one value per person, the mean of his or her images. No range is drawn."""
    found = []
    for muscle in dict.fromkeys(m.label for record in report.records for m in _measured(record)):
        for name, unit, attribute in _MEASURES:
            values = _mean_by_person(report, attribute, muscle)
            if np.isfinite(values).any():
                # Where the study is about one muscle nobody need say which it is.
                called = f"{_title(report, muscle)}: {name.removeprefix('muscle ')}" if report.muscles else name
                own = FeatureSummary(called, unit, math.nan, math.nan, "continuous", values)
                found.append(_distribution(own, report.labels, 0))
    return tuple(found)


def _measured(record: ImageRecord) -> tuple[MaskMeasures, ...]:
    return record.drawn or ((record.measures,) if record.measures else ())


def _mean_by_person(report: QualityReport, attribute: str, muscle: str) -> NDArray[np.float64]:
    seen: dict[int, list[float]] = defaultdict(list)
    for record, owner in zip(report.records, report.owner, strict=True):
        for measures in _measured(record):
            value = float(getattr(measures, attribute))
            if measures.label == muscle and owner >= 0 and math.isfinite(value):
                seen[int(owner)].append(value)
    return np.array([float(np.mean(v)) if (v := seen.get(k)) else math.nan for k in range(report.participants)])


def _distribution(feature: FeatureSummary, labels: NDArray[np.int8], refused: int) -> Distribution:
    groups = by_class(feature.values, labels)
    low, high = feature.low, feature.high
    drawing = pictures.distribution(groups, low, high, name=feature.name, unit=feature.unit)
    present = int(np.isfinite(feature.values).sum())
    words = [f"{percent(len(feature.values) - present, len(feature.values))} missing"]
    if not drawing:
        words = [f"{present} values: too few to draw", *words]
        words += [f"plausible {written(low)} to {written(high)}"] if math.isfinite(low + high) else []
    return Distribution(feature.name, feature.unit, drawing, " · ".join(words), refused)


def shares(report: QualityReport) -> tuple[Share, ...]:
    """Yes/no features and categories, as the share of each class that has them."""
    return tuple(_share(f, report.labels) for f in report.features if f.kind != "continuous")


def _share(feature: FeatureSummary, labels: NDArray[np.int8]) -> Share:
    groups = by_class(feature.values, labels)
    missing = int(np.isnan(feature.values).sum())
    return Share(feature.name, tuple(_bar(k, v) for k, v in groups.items()), percent(missing, len(feature.values)))


def _bar(label: str, values: NDArray[np.float64]) -> tuple[Markup, str]:
    yes, present = int((values > 0.5).sum()), len(values)
    if present < FEWEST:
        return Markup(""), f"{present} values: too few to show"
    return pictures.share_bar(yes, present, label), f"{label}: {percent(yes, present)} of {present}"


def gaps(report: QualityReport) -> tuple[Gap, ...]:
    """The missingness map: images first when the study has any, then the features; people who miss most on the left."""
    missing = _missing(report)
    if not missing or not report.participants:
        return ()
    order = pictures.missing_order(np.array(list(missing.values())))
    labelled = len(report.labels) == report.participants and not report.muscles
    classes = [report.labels == k for k in CLASSES.values()] if labelled else []
    return tuple(
        Gap(
            name,
            pictures.missing_strip(absent[order], name),
            percent(int(absent.sum()), len(absent)),
            tuple(percent(int(absent[of].sum()), int(of.sum())) for of in classes),
        )
        for name, absent in missing.items()
    )


def _missing(report: QualityReport) -> dict[str, NDArray[np.bool_]]:
    """Name -> (participants,) absent; the categories of one feature are one row."""
    found: dict[str, NDArray[np.bool_]] = {}
    if report.records:
        without = np.ones(report.participants, dtype=np.bool_)
        without[[int(k) for k, r in zip(report.owner, report.records, strict=True) if k >= 0 and r.usable]] = False
        found["usable image"] = without
    for feature in report.features:
        name = feature.name.partition("=")[0] if feature.kind == "categorical" else feature.name
        found.setdefault(name, np.isnan(feature.values))
    return found


def emptiest(report: QualityReport, most: int = 8) -> str:
    """Rows of the people of whom most is missing, at least half of the features, in one sentence; "" without any."""
    rows = [absent for name, absent in _missing(report).items() if name != "usable image"]
    if not rows or len(report.rows) != report.participants:
        return ""
    counts = np.array(rows).sum(axis=0)
    order = [k for k in np.argsort(-counts, kind="stable") if 2 * counts[k] >= len(rows)]
    if not order:
        return ""
    named = ", ".join(f"{report.rows[k]} ({counts[k]})" for k in order[:most])
    more = f" and {len(order) - most} more" if len(order) > most else ""
    return f"At least half of the {len(rows)} features are missing in these rows (and how many): {named}{more}."


# ---- images ----------------------------------------------------------------------------------------------------------


def devices(report: QualityReport) -> tuple[tuple[DeviceRow, ...], int]:
    """A line for each device, transducer and format, the most used first; and how many more there are."""
    found: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for k, record in enumerate(report.records):
        if record.facts is not None:
            found[record.device, record.facts.transducer, record.facts.format].append(k)
    order = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(_device(key, members, report) for key, members in order[:DEVICES]), max(len(order) - DEVICES, 0)


def _device(key: tuple[str, str, str], members: Sequence[int], report: QualityReport) -> DeviceRow:
    name, transducer, kind = key
    name = name or "unnamed device"
    records = [report.records[k] for k in members]
    facts = [r.facts for r in records if r.facts is not None]
    grey = np.sum([r.grey for r in records], axis=0)
    return DeviceRow(
        name,
        transducer or "–",
        kind,
        f"{len(records):,}",
        f"{len({int(report.owner[k]) for k in members} - {-1}):,}",
        _spacings(records),
        _counted(_SPACING[f.spacing_from] for f in facts),
        _counted(_REGION[f.region_from] for f in facts),
        written(pictures.median_grey(grey)),
        pictures.grey_curve(grey, name),
    )


def _spacings(records: Iterable[ImageRecord]) -> str:
    known = [value for r in records if r.mm_per_pixel for value in r.mm_per_pixel]
    if not known:
        return "–"
    low, high = f"{min(known):.3f}", f"{max(known):.3f}"
    return low if low == high else f"{low} to {high}"


def _counted(words: Iterable[str]) -> str:
    """One word alone; several with their numbers, the most frequent first."""
    counts = Counter(words).most_common()
    return counts[0][0] if len(counts) == 1 else ", ".join(f"{word} ({n})" for word, n in counts)


def contact_sheet(report: QualityReport, album: Album) -> tuple[tuple[Sheet, ...], int]:
    """A bounded choice of images, equal shares of every device and class; and how many images are not shown."""
    strata: dict[str, dict[int | str, list[int]]] = defaultdict(lambda: defaultdict(list))
    names: dict[int | str, str] = {k: name for name, k in CLASSES.items()}
    labels = [_label(report, k) for k in range(len(report.records))]
    for k, record in enumerate(report.records):
        if record.thumbnail:
            strata[record.device][labels[k]].append(k)
    of_device = [_in_turn([_spread(of[c]) for c in sorted(of, key=str)]) for _, of in sorted(strata.items())]
    chosen = _in_turn(of_device)[:CONTACTS]
    sources = dict(zip(chosen, album.take([report.records[k].thumbnail for k in chosen], CONTACTS), strict=True))
    shown: dict[str, list[Picture]] = defaultdict(list)
    for k in sorted(k for k in chosen if sources[k]):
        record = report.records[k]
        words = _drawn_words(report, record) if report.muscles else names.get(labels[k], "no label")
        shown[record.device].append(Picture(sources[k], f"row {record.row.row}, {words}"))
    images = Counter(r.device for r in report.records if r.thumbnail)
    sheets = tuple(
        Sheet(name or "unnamed device", images[name], tuple(shown[name]))
        for name in sorted(shown, key=lambda n: (-images[n], n))
    )
    return sheets, sum(images.values()) - sum(len(sheet.pictures) for sheet in sheets)


def _drawn_words(report: QualityReport, record: ImageRecord) -> str:
    return " and ".join(_title(report, m.label) for m in record.drawn) or "nothing drawn"


def _title(report: QualityReport, muscle: str) -> str:
    return next(m.title for m in report.muscles if m.name == muscle)


def _label(report: QualityReport, k: int) -> int | str:
    """Class of the person whose image it is, -1 = unknown; in a study of muscles what is drawn on it."""
    if report.muscles:
        return _drawn_words(report, report.records[k])
    owner = int(report.owner[k])
    return int(report.labels[owner]) if 0 <= owner < len(report.labels) else -1


def _in_turn(lists: Iterable[Sequence[int]]) -> list[int]:
    """The first of each, then the second of each, and so on."""
    return [k for k in chain.from_iterable(zip_longest(*lists)) if k is not None]


def _spread(members: Sequence[int]) -> list[int]:
    """The same members, so ordered that the first few lie far apart: neighbours are often the same person."""
    count = len(members)
    step = next(s for s in range(max(1, round(count * 0.618)), count + 1) if math.gcd(s, count) == 1)
    return [members[k * step % count] for k in range(count)]
