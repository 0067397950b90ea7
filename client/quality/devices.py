"""Which devices a site's images come from, and whether one of them stands apart: notes for a reader of the results."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from client.quality.identity import text_is_plain
from client.quality.records import ImageRecord
from sarco_models.errors import Finding
from sarco_models.schema import IMAGES_FILE

APART = 20.0
"""Grey levels between a device's median brightness and that of the site's main device; the same muscle differs by 11
between the SYNTHETIC devices."""

MIXED = 3.0
"""Ratio of the largest to the smallest millimetres per pixel of one device; depths of 30 to 90 mm explain no more."""

FEWEST = 5
"""Images of a device for its brightness to be judged."""

LONGEST = 64
"""Letters of a device's name (DICOM's LO); more is some other text."""


def shown_device(name: str) -> str:
    """A device's name as a report may show it; one that looks like anything else is not shown."""
    return name if len(name) <= LONGEST and text_is_plain(name) else "a device whose name is not shown"


def device_findings(records: Sequence[ImageRecord]) -> tuple[Finding, ...]:
    """An inventory of devices, and notes on those whose brightness or spacing stands apart."""
    by_device: dict[str, list[ImageRecord]] = defaultdict(list)
    for record in records:
        if record.content:
            by_device[record.device or "unknown device"].append(record)
    if not by_device:
        return ()
    listed = [f"{device}: {len(images)}" for device, images in _largest_first(by_device)]
    expected, remedy = "the devices you know of", "nothing to do if this is right; name unknown ones in calibration.csv"
    inventory = Finding("note", "devices", IMAGES_FILE, "; ".join(listed), expected, remedy, field="image")
    return (inventory, *_brightness(by_device), *_spacing(by_device))


def _largest_first(by_device: Mapping[str, list[ImageRecord]]) -> list[tuple[str, list[ImageRecord]]]:
    return sorted(by_device.items(), key=lambda item: (-len(item[1]), item[0]))


def _brightness(by_device: Mapping[str, list[ImageRecord]]) -> Iterator[Finding]:
    """The median image of a device against that of the site's main one."""
    judged = [(device, images) for device, images in _largest_first(by_device) if len(images) >= FEWEST]
    medians = [(device, float(np.median(_mean_levels(images)))) for device, images in judged]
    for device, level in medians[1:]:
        main, usual = medians[0]
        if abs(level - usual) > APART:
            seen = f"{device}: median brightness {level:.0f}, {main}: {usual:.0f}"
            expected = f"a difference of at most {APART:.0f} grey levels"
            remedy = "know that the model sees it; use one preset and gain where you can"
            yield Finding("note", "device-brightness", IMAGES_FILE, seen, expected, remedy, field="image")


def _mean_levels(images: Sequence[ImageRecord]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    grey = np.array([record.grey for record in images], dtype=np.float64)
    levels: np.ndarray[tuple[int], np.dtype[np.float64]] = grey @ np.arange(256) / np.maximum(grey.sum(axis=1), 1)
    return levels


def _spacing(by_device: Mapping[str, list[ImageRecord]]) -> Iterator[Finding]:
    """Very different scales, and scales that only some images have."""
    for device, images in _largest_first(by_device):
        known = [max(record.mm_per_pixel) for record in images if record.mm_per_pixel]
        if not known:
            continue
        if max(known) > MIXED * min(known):
            seen = f"{device}: {min(known):.3g} to {max(known):.3g} mm per pixel"
            expected, remedy = f"at most {MIXED:g} times the smallest", "check the unit of the spacings"
            yield Finding("note", "device-spacing", IMAGES_FILE, seen, expected, remedy, field="image")
        if len(known) < len(images):
            seen = f"{device}: {len(images) - len(known)} of {len(images)} images without spacing"
            remedy = "give the spacing of the others in calibration.csv or in a template"
            yield Finding("note", "device-spacing", IMAGES_FILE, seen, "a spacing for all", remedy, field="image")
