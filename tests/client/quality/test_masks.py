"""A mask is judged by its outline: there, whole, of a muscle's size, and on its image."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image as Pillow

from client.quality.masks import SIZES, MaskLook, look_at_mask, muscle_size
from sarco_models.frames import Frame
from sarco_models.schema import ImageRow
from simulation.anatomy import MUSCLES
from tests.client.quality.looks import STUDY, frame_of, only, phantom, row, rules, study, write_labelme, write_mask


def looked(folder: Path, mask: NDArray[Any], frame: Frame | None = None, entry: ImageRow | None = None) -> MaskLook:
    """A look at a mask on a phantom."""
    frame = frame or frame_of(phantom())
    entry = entry or row()
    write_mask(folder / entry.mask, mask > 0)
    return look_at_mask(folder, entry, frame, frame.pixels, STUDY.image)


def ellipse(shape: tuple[int, int], centre: tuple[float, float], half: tuple[float, float]) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    inside: NDArray[np.bool_] = ((rows - centre[0]) / half[0]) ** 2 + ((columns - centre[1]) / half[1]) ** 2 < 1
    return inside


@pytest.fixture
def flat() -> Frame:
    """No fasciae at all, 0.2 mm per pixel: what is found here is found by shape and size alone."""
    noise = np.random.default_rng(1).rayleigh(30, (200, 220)).clip(0, 255).astype(np.uint8)
    return replace(frame_of(phantom()), pixels=noise, stored_shape=noise.shape, mm_per_pixel=(0.2, 0.2))


def shape_rules(looked: MaskLook) -> set[str]:
    return set(rules(looked.findings)) - {"mask-shifted", "mask-elsewhere"}


# ---- shape -----------------------------------------------------------------------------------------------------------


def test_a_true_mask_has_no_findings_and_known_measures(tmp_path: Path) -> None:
    image = phantom()
    found = looked(tmp_path, image.mask)
    assert found.findings == ()
    assert found.mask is not None
    assert (found.mask == image.mask).all()
    assert found.measures is not None
    assert found.measures.thickness_mm == pytest.approx(image.truth.thickness_mm, rel=0.06)
    assert found.measures.area_cm2 == pytest.approx(image.truth.csa_cm2, rel=0.04)


def test_a_rectangle_measures_what_was_drawn(tmp_path: Path, flat: Frame) -> None:
    mask = np.zeros(flat.pixels.shape, dtype=bool)
    mask[50:100, 60:160] = True
    found = looked(tmp_path, mask, flat)
    assert found.measures is not None
    assert found.measures.thickness_mm == pytest.approx(10)
    assert found.measures.area_cm2 == pytest.approx(2)
    assert found.measures.echo_intensity == pytest.approx(flat.pixels[50:100, 60:160].mean())
    assert shape_rules(found) == set()


@pytest.mark.parametrize(
    ("box", "rule", "severity"),
    [
        ((slice(0, 60), slice(60, 160)), "mask-border", "warning"),
        ((slice(150, 200), slice(60, 160)), "mask-border", "warning"),
        ((slice(50, 100), slice(0, 160)), "mask-border", "note"),
        ((slice(50, 150), slice(140, 220)), "mask-border", "warning"),
    ],
)
def test_a_mask_on_the_border_is_named(
    tmp_path: Path, flat: Frame, box: tuple[slice, slice], rule: str, severity: str
) -> None:
    mask = np.zeros(flat.pixels.shape, dtype=bool)
    mask[box] = True
    assert only(looked(tmp_path, mask, flat).findings, rule).severity == severity


def test_pieces_specks_and_holes_are_told_apart(tmp_path: Path, flat: Frame) -> None:
    shape = flat.pixels.shape
    muscle = ellipse(shape, (80, 80), (25, 60))
    second = muscle | ellipse(shape, (160, 160), (15, 30))
    assert only(looked(tmp_path, second, flat).findings, "mask-pieces").seen == "2 pieces"
    speck = muscle.copy()
    speck[180:183, 180:183] = True
    found = looked(tmp_path, speck, flat)
    assert only(found.findings, "mask-pieces").severity == "note"
    assert found.measures is not None
    assert found.measures.pieces == 2
    assert found.measures.thickness_mm < 11, "a speck far below adds no thickness"
    hollow = muscle & ~ellipse(shape, (80, 80), (10, 20))
    assert "holes of 13%" in only(looked(tmp_path, hollow, flat).findings, "mask-holes").seen
    pinhole = muscle.copy()
    pinhole[80, 80] = False
    assert shape_rules(looked(tmp_path, pinhole, flat)) == set()


def test_a_muscle_of_two_heads_may_be_drawn_in_two(tmp_path: Path, flat: Frame) -> None:
    two = ellipse(flat.pixels.shape, (80, 60), (20, 40)) | ellipse(flat.pixels.shape, (80, 155), (20, 40))
    assert shape_rules(looked(tmp_path, two, flat)) == {"mask-pieces"}
    assert shape_rules(looked(tmp_path, two, flat, replace(row(), muscle="peroneus_longus_brevis"))) == set()


# ---- size ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("muscle", MUSCLES)
def test_every_muscle_of_the_phantom_is_known_and_within_its_size(muscle: str) -> None:
    name, size = muscle_size(muscle)
    assert name in SIZES
    low, high = size.thickness_mm
    assert low <= MUSCLES[muscle].thickness_mm[0]
    assert MUSCLES[muscle].thickness_mm[1] <= high


@pytest.mark.parametrize(
    ("written", "name"),
    [("RF", "rectus femoris"), ("Rectus-Femoris", "rectus femoris"), ("股直肌", "rectus femoris"),
     ("m. rectus femoris", "rectus femoris"), ("biceps femoris", "a muscle"), ("", "a muscle")],
)  # fmt: skip
def test_muscles_are_known_by_their_usual_names(written: str, name: str) -> None:
    assert muscle_size(written)[0] == name


@pytest.mark.parametrize(
    ("half", "mm", "seen"),
    [((4, 40), 0.2, "mm thick"), ((90, 20), 0.2, "mm thick"), ((25, 60), 0.02, "cm²"), ((25, 60), 1.2, "cm²")],
)
def test_an_implausible_size_is_said_in_numbers(
    tmp_path: Path, flat: Frame, half: tuple[int, int], mm: float, seen: str
) -> None:
    found = looked(tmp_path, ellipse(flat.pixels.shape, (100, 110), half), replace(flat, mm_per_pixel=(mm, mm)))
    said = [f for f in found.findings if f.rule == "mask-size-implausible"]
    assert any(seen in f.seen and "for rectus femoris" in f.expected for f in said)
    assert all(f.severity == "warning" for f in said)


def test_without_spacing_no_size_is_judged_but_the_whole_region_is(tmp_path: Path, flat: Frame) -> None:
    blind = replace(flat, mm_per_pixel=None)
    assert shape_rules(looked(tmp_path, ellipse(flat.pixels.shape, (100, 110), (3, 30)), blind)) == set()
    everything = np.zeros(flat.pixels.shape, dtype=bool)
    everything[5:-5, 5:-5] = True
    assert "of the tissue region" in only(looked(tmp_path, everything, blind).findings, "mask-size-implausible").seen


# ---- place -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [True, False])
def test_a_shifted_mask_is_named_with_the_way_back(tmp_path: Path, spacing: bool) -> None:
    image = phantom()
    moved = cv2.warpAffine(
        image.mask.astype(np.uint8), np.array([[1, 0, 0], [0, 1, 5 / image.mm_per_pixel]]), image.mask.shape[::-1]
    )
    frame = frame_of(image)
    found = only(
        looked(tmp_path, moved, frame if spacing else replace(frame, mm_per_pixel=None)).findings, "mask-shifted"
    )
    assert found.severity == "warning"
    number = float(found.seen.split(" times better ")[1].split()[0])
    assert ("mm up" if spacing else "pixels up") in found.seen
    assert number == pytest.approx(5 if spacing else 5 / image.mm_per_pixel, rel=0.25)


def test_an_outline_on_empty_tissue_agrees_with_nothing(tmp_path: Path, flat: Frame) -> None:
    even = replace(flat, pixels=np.full(flat.pixels.shape, 60, dtype=np.uint8))
    found = looked(tmp_path, ellipse(flat.pixels.shape, (80, 100), (25, 60)), even)
    assert set(rules(found.findings)) == {"mask-elsewhere"}


def test_labelme_says_on_which_image_it_was_drawn(tmp_path: Path) -> None:
    image, entry = phantom(), replace(row(), mask="m2.json")
    size = image.pixels.shape
    points = [[60.0, 60.0], [160.0, 60.0], [160.0, 110.0], [60.0, 110.0]]
    (tmp_path / "i2.dcm").write_bytes(b"this image")
    (tmp_path / "i3.dcm").write_bytes(b"another image")

    def severities(source: str, data: str | None = None) -> dict[str, str]:
        write_labelme(tmp_path / "m2.json", points, size, source, data)
        found = look_at_mask(tmp_path, entry, frame_of(image), image.pixels, STUDY.image).findings
        assert all("i3" not in str(f) and "Muster" not in str(f) for f in found)
        return {f.rule: f.severity for f in found if f.rule in ("mask-of-another-image", "identity-mask")}

    assert severities("i2.dcm") == {}
    assert severities("..\\export\\I2.JPG") == {}, "the same frame, exported as a picture"
    assert severities("i3.dcm") == {"mask-of-another-image": "warning"}
    assert severities("frame_0815.png") == {"mask-of-another-image": "note"}
    assert severities("i2.dcm", "iVBORw0KGgo=") == {"identity-mask": "note"}
    assert severities("Anna_Muster.png") == {"mask-of-another-image": "note", "identity-mask": "warning"}
    assert severities("\0" * 5000) == {"mask-of-another-image": "note"}


# ---- refused ---------------------------------------------------------------------------------------------------------


def itk(path: Path, values: NDArray[Any], spacing: tuple[float, float] = (1.0, 1.0)) -> Path:
    image: Any = sitk.GetImageFromArray(values)
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))
    return path


def test_masks_that_do_not_fit_are_refused_with_the_numbers(tmp_path: Path) -> None:
    image, entry = phantom(), replace(row(), mask="m2.nii.gz")
    mask, mm = image.mask.astype(np.uint8), image.mm_per_pixel

    def refused(values: NDArray[Any], spacing: float = 1.0) -> tuple[str, str, str]:
        itk(tmp_path / "m2.nii.gz", values, (spacing, spacing))
        found = look_at_mask(tmp_path, entry, frame_of(image), image.pixels, STUDY.image)
        assert found.mask is None
        assert found.measures is None
        (finding,) = found.findings
        assert (finding.file, finding.row, finding.field) == ("m2.nii.gz", 2, "mask")
        assert "left out" in finding.remedy
        return finding.rule, finding.severity, finding.seen

    assert refused(np.zeros_like(mask)) == ("empty-mask", "warning", "no labelled pixel")
    rule, _, seen = refused(mask * np.float32(0.5))
    assert rule == "float-mask"
    assert "0.5" in seen
    rule, _, seen = refused(mask[1:])
    assert rule == "mask-size"
    assert f"{mask.shape[0] - 1} x {mask.shape[1]}" in seen
    rule, _, seen = refused(mask, spacing=2 * mm)
    assert rule == "mask-spacing"
    assert f"{2 * mm:.4g}" in seen


def test_labels_are_named_only_where_their_names_are_harmless(tmp_path: Path) -> None:
    image = phantom()
    frame = frame_of(image)
    labels = image.mask.astype(np.uint8)
    labels[:10, :10] = 2
    Pillow.fromarray(labels).save(tmp_path / "m2.png")
    several = only(look_at_mask(tmp_path, row(), frame, image.pixels, STUDY.image).findings, "several-labels")
    assert several.seen == "labels 1, 2"
    chosen = look_at_mask(tmp_path, replace(row(), mask_label="1"), frame, image.pixels, STUDY.image).mask
    assert chosen is not None
    np.testing.assert_array_equal(chosen, labels == 1)
    entry = replace(row(), mask="m2.json")
    for name, seen in (("rectus_femoris", "labels rectus_femoris, bb"), ("Anna Muster", "2 labels")):
        write_labelme(tmp_path / "m2.json", [[1, 1], [9, 1], [9, 9]], image.pixels.shape, "i2.dcm", None)
        page = json.loads((tmp_path / "m2.json").read_text())
        page["shapes"] = [page["shapes"][0] | {"label": name}, page["shapes"][0] | {"label": "bb"}]
        (tmp_path / "m2.json").write_text(json.dumps(page))
        found = look_at_mask(tmp_path, entry, frame, image.pixels, STUDY.image)
        assert only(found.findings, "several-labels").seen == seen


def test_where_no_masks_are_needed_a_bad_one_is_a_note(tmp_path: Path) -> None:
    image = phantom()
    write_mask(tmp_path / "m2.png", image.mask[1:])
    found = look_at_mask(tmp_path, row(), frame_of(image), image.pixels, study(roi="none").image)
    (finding,) = found.findings
    assert finding.severity == "note"
    assert "left out" not in finding.remedy


def test_equal_masks_have_equal_digests(tmp_path: Path) -> None:
    one, two = phantom(26).mask, phantom(27).mask
    contents = [
        looked(tmp_path, mask, frame_of(phantom(seed))).content for seed, mask in ((26, one), (26, one), (27, two))
    ]
    assert contents[0] == contents[1] != contents[2]
