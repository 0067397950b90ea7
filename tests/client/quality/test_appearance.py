"""Every fault that one image can show, planted and found; a good image shows none."""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from client.quality.appearance import Picture, appearance_findings, jpeg_coarseness, near_field
from sarco_models.errors import Finding
from sarco_models.frames import Frame
from simulation.anatomy import MUSCLES
from simulation.devices import DEVICES
from tests.client.quality.looks import STUDY, frame_of, phantom, row, study


def findings(frame: Frame, config: Any = STUDY, **more: Any) -> list[Finding]:
    grey = np.bincount(frame.pixels.ravel(), minlength=256)
    return appearance_findings(Picture(frame, grey, frame.pixels, **more), row(), config.image)


def showing(pixels: NDArray[Any], **facts: Any) -> Frame:
    pixels = np.ascontiguousarray(pixels, dtype=np.uint8)
    return replace(frame_of(phantom(), **facts), pixels=pixels, stored_shape=pixels.shape)


def found(frame: Frame, config: Any = STUDY, **more: Any) -> dict[str, str]:
    return {f.rule: f.severity for f in findings(frame, config, **more)}


def test_a_good_image_shows_nothing_wrong() -> None:
    assert findings(frame_of(phantom())) == []


# ---- light -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0, 90, 255])
def test_an_image_without_a_picture_is_an_error(level: int) -> None:
    noise = np.random.default_rng(1).normal(level, 2, (300, 224)).clip(0, 255)
    assert found(showing(noise)) == {"empty-image": "error"}


@pytest.mark.parametrize(("gain", "offset"), [(3.2, 60), (1.0, -90)])
def test_too_much_and_too_little_gain_is_saturated(gain: float, offset: int) -> None:
    pixels = (gain * phantom().pixels.astype(float) + offset).clip(0, 255)
    assert found(showing(pixels))["saturated"] == "warning"


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("muscle", MUSCLES)
def test_upright_images_stand_and_turned_ones_do_not(device: str, muscle: str) -> None:
    for seed in (26, 27):
        pixels = phantom(seed, 0, device, muscle).pixels
        assert "orientation" not in found(showing(pixels))
        assert "orientation" not in found(showing(pixels[:, ::-1])), "a mirror image stands upright"
        assert "at the bottom" in str(findings(showing(pixels[::-1])))
        assert "orientation" in found(showing(np.rot90(pixels)))


def test_the_near_field_of_a_mirror_image_is_the_opposite() -> None:
    square = cv2.resize(phantom().pixels, (64, 64), interpolation=cv2.INTER_AREA).astype(np.float32)
    assert near_field(square) == pytest.approx(-near_field(np.ascontiguousarray(square[::-1])), abs=1e-5)
    assert near_field(np.zeros((64, 64), dtype=np.float32)) == 0


# ---- kind ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "rule", "severity"),
    [
        ({"colour_share": 0.08}, "colour", "warning"),
        ({"colour_share": 0.002}, "coloured-marks", "note"),
        ({"frames": 40}, "cine", "note"),
        ({"kind": "Secondary Capture Image Storage"}, "secondary-capture", "note"),
        ({"region_from": "found"}, "region-found", "note"),
    ],
)
def test_what_the_file_says_is_said_again(facts: dict[str, Any], rule: str, severity: str) -> None:
    assert found(frame_of(phantom(), **facts)) == {rule: severity}


@pytest.mark.parametrize(("quality", "noted"), [(92, False), (60, False), (30, True), (10, True)])
def test_strong_compression_is_noted(quality: int, noted: bool) -> None:
    stream = cv2.imencode(".jpg", phantom().pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    for head in (stream, b"\0" * 500 + stream):
        coarseness = jpeg_coarseness(head)
        rules = found(frame_of(phantom(), lossy=True), coarseness=coarseness)
        assert rules == ({"compression": "note"} if noted else {})
    assert jpeg_coarseness(stream[:30]) == jpeg_coarseness(b"") == jpeg_coarseness(b"\xff\xd8\xff\xff" * 9) == 0


# ---- region and scale ------------------------------------------------------------------------------------------------


def test_a_region_under_half_of_the_frame_is_said() -> None:
    frame = frame_of(phantom())
    rows, columns = frame.pixels.shape
    screen = replace(frame, stored_shape=(2 * rows, 2 * columns))
    assert found(screen) == {"region-small": "note"}
    assert "25%" in findings(screen)[0].seen
    assert found(replace(screen, facts=replace(frame.facts, region_from="found"))) == {"region-small": "warning"}


def test_a_tiny_region_is_said() -> None:
    small = cv2.resize(phantom().pixels, (60, 80), interpolation=cv2.INTER_AREA)
    frame = replace(showing(small), mm_per_pixel=(0.5, 0.64))
    assert found(frame)["region-tiny"] == "warning"
    assert "region-tiny" not in found(frame, study(size=64))


@pytest.mark.parametrize(
    ("mm", "rule"),
    [((0.17, 0.17), None), ((0.01, 0.01), "spacing-untypical"), ((0.5, 0.5), "spacing-untypical"),
     ((0.04, 0.04), "depth-untypical"), ((17.0, 17.0), "spacing"), ((0.17, 0.34), "anisotropic"), (None, "no-spacing")],
)  # fmt: skip
def test_the_scale_is_judged(mm: tuple[float, float] | None, rule: str | None) -> None:
    frame = replace(frame_of(phantom()), mm_per_pixel=mm)
    rules = found(frame)
    assert set(rules) == ({rule} if rule else set())
    if rule == "anisotropic":
        assert rules == {rule: "note"}
        assert found(frame, study(framing="paper")) == {rule: "warning"}
    elif rule == "no-spacing":
        assert rules == {rule: "warning"}
        assert found(frame, study(framing="paper")) == {rule: "note"}
