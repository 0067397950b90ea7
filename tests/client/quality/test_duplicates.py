"""Copies are found whatever was done to them, and different images of one person are not called copies."""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from client.quality.duplicates import duplicate_findings, perceptual_hash
from client.quality.images import _content, _small, _thumbnail
from client.quality.records import ImageRecord
from sarco_models.errors import Finding
from simulation.devices import DEVICES
from tests.client.quality.looks import phantom, row, rules

Pixels = NDArray[np.uint8]


def record(pixels: Pixels, number: int = 2, participant: str = "P0001", mask: str = "") -> ImageRecord:
    """What a look keeps of an image for the search of copies."""
    small = _small(pixels)
    return ImageRecord(
        row(number, participant),
        (),
        content=_content(pixels),
        phash=perceptual_hash(small),
        mask_content=mask,
        thumbnail=_thumbnail(small, pixels.shape, (), ()),
    )


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    return np.asarray(
        cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE),
        dtype=np.uint8,
    )


def scaled(pixels: Pixels, down: float, across: float) -> Pixels:
    return np.asarray(cv2.resize(pixels, None, fx=across, fy=down, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def gamma(pixels: Pixels, exponent: float) -> Pixels:
    return np.asarray(255 * (pixels / 255.0) ** exponent, dtype=np.uint8)


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "quality 30": lambda p: jpeg(p, 30),
    "half the size": lambda p: scaled(p, 0.5, 0.5),
    "larger": lambda p: scaled(p, 1.4, 1.4),
    "squeezed": lambda p: scaled(p, 0.7, 0.9),
    "brighter": lambda p: np.asarray(cv2.add(p, 40.0), dtype=np.uint8),
    "contrast": lambda p: np.asarray((1.4 * p.astype(float)).clip(0, 255), dtype=np.uint8),
    "gamma": lambda p: gamma(p, 0.7),
    "all of it": lambda p: jpeg(np.asarray(cv2.add(gamma(scaled(p, 0.6, 0.6), 0.8), 20.0), dtype=np.uint8), 50),
    "two pixels cut off": lambda p: p[2:-2, 2:-2],
    "mirrored": lambda p: p[:, ::-1],
    "mirrored and smaller": lambda p: scaled(np.ascontiguousarray(p[:, ::-1]), 0.8, 0.8),
}


def one(*records: ImageRecord) -> Finding:
    (finding,) = duplicate_findings(records)
    return finding


# ---- equal pixels ----------------------------------------------------------------------------------------------------


def test_equal_pixels_are_a_warning_within_and_an_error_between_participants() -> None:
    first, second = record(phantom().pixels, 2), record(phantom().pixels, 3)
    found = one(first, second)
    assert (found.rule, found.severity, found.row) == ("duplicate-image", "warning", 3)
    assert found.seen == "the same pixels as row 2, of the same participant"
    other = replace(second, row=row(3, "P0002"))
    found = one(first, other)
    assert (found.severity, found.seen) == ("error", "the same pixels as row 2, of another participant")
    assert "P000" not in str(found)


def test_every_repetition_is_named_once() -> None:
    three = [record(phantom().pixels, k, person) for k, person in ((2, "P1"), (3, "P1"), (4, "P2"))]
    found = duplicate_findings(three)
    assert [(f.row, f.severity) for f in found] == [(3, "warning"), (4, "error")]


def test_what_could_not_be_read_and_what_is_blank_has_no_copies() -> None:
    unread = [ImageRecord(row(k), ()) for k in (2, 3)]
    assert duplicate_findings(unread) == ()
    empty = Finding("error", "empty-image", "i", "0 grey levels", "24", "export it again")
    blank = [replace(record(np.full((90, 80), k, dtype=np.uint8), k), findings=(empty,)) for k in (2, 3)]
    assert duplicate_findings(blank) == ()


# ---- copies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found(change: str) -> None:
    pixels = phantom().pixels
    copy = record(np.ascontiguousarray(CHANGES[change](pixels)), 3, "P0002")
    found = one(record(pixels), copy)
    assert (found.rule, found.severity, found.row) == ("near-duplicate", "warning", 3)
    assert "of another participant" in found.seen
    assert ("mirrored" in found.seen) == ("mirrored" in change)


def test_a_mirror_turns_half_of_the_bits_and_no_others() -> None:
    pixels = phantom().pixels
    turned = perceptual_hash(np.ascontiguousarray(pixels[:, ::-1])) ^ 0xAAAAAAAAAAAAAAAA
    assert (perceptual_hash(pixels) ^ turned).bit_count() <= 2


def test_two_views_of_one_muscle_are_no_copies() -> None:
    views = [record(phantom(26, view).pixels, 2 + view) for view in range(4)]
    assert duplicate_findings(views) == ()


def test_one_mask_on_two_images_is_named_but_not_on_copies() -> None:
    first, other = record(phantom(26).pixels, 2, mask="same"), record(phantom(27).pixels, 3, mask="same")
    found = one(first, other)
    assert (found.rule, found.severity, found.row, found.field) == ("mask-shared", "warning", 3, "mask")
    copy = record(jpeg(phantom(26).pixels, 60), 3, mask="same")
    assert rules(duplicate_findings([first, copy])) == {"near-duplicate": 1}
    again = record(phantom(26).pixels, 3, mask="same")
    assert rules(duplicate_findings([first, again])) == {"duplicate-image": 1}
    assert duplicate_findings([replace(first, mask_content=""), replace(other, mask_content="")]) == ()


@pytest.mark.slow
def test_rates_on_images_that_set_no_limit() -> None:
    """Measured on 400 SYNTHETIC images, 200 people, four devices: every copy found, no two images called one."""
    people = [(seed, device) for device in DEVICES for seed in range(26, 76)]
    originals = [
        record(phantom(seed, view, device).pixels, 2 + 2 * k + view, f"P{k}")
        for k, (seed, device) in enumerate(people)
        for view in (0, 1)
    ]
    assert duplicate_findings(originals) == ()
    for name, change in CHANGES.items():
        copies = [
            record(np.ascontiguousarray(change(phantom(seed, 0, device).pixels)), 1000 + k, f"P{k}")
            for k, (seed, device) in enumerate(people[::4])
        ]
        found = rules(duplicate_findings([*originals, *copies]))
        assert found["near-duplicate"] >= 0.96 * len(copies), name


@pytest.mark.slow
def test_twenty_thousand_images_are_compared() -> None:
    """All 200 million pairs; a few seconds on one core."""
    rng = np.random.default_rng(1)
    template = record(phantom().pixels)
    records = [
        replace(template, content=str(k), phash=int(value), row=row(2 + k))
        for k, value in enumerate(rng.integers(0, 2**64, 20_000, dtype=np.uint64))
    ]
    records[-1] = replace(records[-1], phash=records[0].phash ^ 0b111)
    found = one(*records)
    assert found.row == records[-1].row.row
