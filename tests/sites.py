"""Tiny hospitals for tests: two studies on a schema of their own, and folders in the site format.

A study's ``changes`` are laid over it table by table, as a study file has them:
``image_study(model={"trainable": "head"})``.
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset

from sarco_models.cohort import Cohort, open_cohort
from sarco_models.config import Feature, StudyConfig, merged

FEATURES: list[dict[str, Any]] = [
    {"name": "age_years", "group": "clinical", "unit": "years", "low": 18.0, "high": 110.0},
    {"name": "male", "group": "clinical", "kind": "binary"},
    {"name": "smoking", "group": "clinical", "kind": "categorical", "categories": ["never", "former", "now"]},
    {"name": "weight_kg", "group": "clinical", "unit": "kg", "low": 25.0, "high": 200.0},
    {"name": "albumin_g_per_l", "group": "lab", "unit": "g/L", "low": 10.0, "high": 60.0},
    {"name": "hba1c_percent", "group": "lab", "unit": "%", "low": 3.0, "high": 20.0},
]
COLUMNS = ("participant_id", "frail", "walk_speed_m_per_s", *(f["name"] for f in FEATURES))
STUDY: dict[str, Any] = {
    "name": "tiny",
    "title": "A tiny study of frailty",
    "label": {"column": "frail", "rule": "invented2026", "reference_columns": ["walk_speed_m_per_s"]},
    "features": FEATURES,
    "image": {"size": 32, "window_mm": 12.0, "margin_mm": 0.5},
    "augmentation": {"cached_views": 2},
    "model": {
        "modalities": ["clinical", "lab"], "backbone": "convnext_atto", "hidden_units": 8, "modality_dropout": 0.0,
    },
    "training": {"batch_participants": 4, "images_per_participant": 2},
    "federation": {"rounds": 2, "min_participants": 2},
}  # fmt: skip
MM_PER_PIXEL = 0.2
FRAME = (64, 80)
BANNER_ROWS = 10
IMAGE_COLUMNS = ("image", "participant_id", "muscle", "side", "mask", "exam_date")
CALIBRATION_COLUMNS = ("image", "x0", "y0", "x1", "y1", "mm_per_pixel_row", "mm_per_pixel_column")


def study(**changes: Any) -> StudyConfig:
    """The tiny study with changes; checked as a study file is."""
    return StudyConfig.model_validate_json(json.dumps(merged(STUDY, changes)))


def tables_study(**changes: Any) -> StudyConfig:
    """Clinical and laboratory tables, no images."""
    return study(**changes)


def image_study(**changes: Any) -> StudyConfig:
    """Ultrasound and both tables; 32 pixels, convnext_atto."""
    return study(**merged({"model": {"modalities": ["image", "clinical", "lab"]}}, changes))


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """Write rows with the columns of the first."""
    return write_csv(path, list(rows[0]), (row.values() for row in rows))


def tables_site(folder: Path, n: int = 24, seed: int = 1, *, missing: float = 0.1) -> Path:
    """A site of ``n`` participants, a third of them positive, with ``missing`` of the cells empty."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    write_csv(folder / "participants.csv", COLUMNS, (_person(i, rng, missing) for i in range(n)))
    return folder


def _person(i: int, rng: np.random.Generator, missing: float) -> list[str]:
    frail = int(i % 3 == 0)
    cells = [
        f"{rng.normal(60 + 15 * frail, 8):.0f}",
        str(rng.integers(2)),
        str(rng.choice(["never", "former", "now"])),
        f"{rng.normal(70 - 8 * frail, 9):.1f}",
        f"{rng.normal(42 - 4 * frail, 3):.1f}",
        f"{rng.normal(6.5, 0.8):.1f}",
    ]
    cells = ["" if rng.random() < missing else cell for cell in cells]
    return [f"P{i:03d}", str(frail), f"{rng.normal(1.1 - 0.2 * frail, 0.1):.2f}", *cells]


def image_site(folder: Path, n: int = 12, seed: int = 1, *, images: int = 2, without: int = 0) -> Path:
    """A site whose participants have 1 to ``images`` images each, but for the last ``without`` who have none.

    Images are DICOM with a burned-in banner above the tissue region, and PNG calibrated by calibration.csv, by turns;
    masks are PNG. The muscle is a bright ellipse, thinner where the participant is frail.
    """
    tables_site(folder, n, seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(exist_ok=True)
    rng = np.random.default_rng([seed, 1])
    rows, calibration = [], []
    for i in range(n - without):
        for k in range(1 + i % images):
            frame, mask = ultrasound(rng, half_height=7 if i % 3 == 0 else 11)
            stem, suffix = f"{i:03d}_{k}", "dcm" if (i + k) % 2 else "png"
            image = f"images/{stem}.{suffix}"
            if suffix == "dcm":
                write_dicom(folder / image, frame)
            else:
                Image.fromarray(frame).save(folder / image)
                box = (0, BANNER_ROWS, FRAME[1], FRAME[0])
                calibration.append((image, *box, MM_PER_PIXEL, MM_PER_PIXEL))
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"masks/{stem}.png")
            rows.append((image, f"P{i:03d}", "rectus_femoris", "right", f"masks/{stem}.png", "2026-01-01"))
    write_csv(folder / "images.csv", IMAGE_COLUMNS, rows)
    write_csv(folder / "calibration.csv", CALIBRATION_COLUMNS, calibration)
    return folder


def ultrasound(rng: np.random.Generator, half_height: float) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A stored frame of ``FRAME`` with a banner in its first rows, and the mask of its muscle on it."""
    rows, columns = np.mgrid[: FRAME[0], : FRAME[1]] + 0.5
    mask = ((rows - 38) / half_height) ** 2 + ((columns - 40) / 22) ** 2 < 1
    frame = (rng.rayleigh(25, FRAME) + 60 * mask).clip(0, 255).astype(np.uint8)
    frame[:BANNER_ROWS] = 255 * rng.integers(0, 2, (BANNER_ROWS, FRAME[1]))
    return frame, mask


def write_dicom(path: Path, frame: NDArray[np.uint8], mm_per_pixel: float = MM_PER_PIXEL) -> Path:
    """An ultrasound image whose tissue region begins below the banner."""
    region = Dataset()
    region.RegionSpatialFormat = region.RegionDataType = 1
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, BANNER_ROWS
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = frame.shape[1] - 1, frame.shape[0] - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = mm_per_pixel / 10
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = uid.UltrasoundImageStorage, "1.2.3.4"
    image.Manufacturer, image.ManufacturerModelName = "Tiny", "U1"
    image.SequenceOfUltrasoundRegions = [region]
    image.Rows, image.Columns = frame.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit, image.PixelRepresentation = 7, 0
    image.PixelData = frame.tobytes()
    image.save_as(path, enforce_file_format=True)
    return path


def opened(folder: Path, config: StudyConfig) -> Cohort:
    """The site's cohort; the cache lies beside the folder."""
    return open_cohort(folder, config, folder.with_name(f"{folder.name}-cache"))


def site_of(folder: Path, config: StudyConfig, n: int = 24, seed: int = 1, *, rule: str = "") -> Path:
    """A synthetic site of any study, in the study's own words; every third participant is positive.

    Values lie within the plausible range of each feature, higher where positive, and one in ten is missing. Of a study
    that looks at images there are one or two PNG for each participant, their masks and ``calibration.csv``. ``rule`` is
    the site's own way to its labels, where it is not the study's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, 2])
    columns = ("participant_id", config.label.column, *(f.name for f in config.features))
    people = [(f"Q{i:03d}", int(i % 3 == 0)) for i in range(n)]
    rows = [(name, label, *(_cell(f, label, rng) for f in config.features)) for name, label in people]
    write_csv(folder / "participants.csv", columns, rows)
    if config.uses_images:
        _pictures(folder, people, rng)
    about = {"synthetic": True, "label_rule": rule or config.label.rule}
    (folder / "manifest.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


def _cell(feature: Feature, label: int, rng: np.random.Generator) -> str:
    if rng.random() < 0.1:
        return ""
    if feature.kind == "binary":
        return str(int(rng.random() < 0.3 + 0.4 * label))
    if feature.kind == "categorical":
        return str(rng.choice(feature.categories))
    share = np.clip(rng.normal(0.4 + 0.2 * label, 0.12), 0, 1)
    return f"{feature.low + share * (feature.high - feature.low):.3g}"


def _pictures(folder: Path, people: Sequence[tuple[str, int]], rng: np.random.Generator) -> None:
    """The bright ellipse is thinner where the participant is positive."""
    for name in ("images", "masks"):
        (folder / name).mkdir(exist_ok=True)
    rows, calibration = [], []
    for i, (name, label) in enumerate(people):
        for k in range(1 + i % 2):
            frame, mask = ultrasound(rng, half_height=7 if label else 11)
            image = f"images/{i:03d}_{k}.png"
            Image.fromarray(frame).save(folder / image)
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"masks/{i:03d}_{k}.png")
            rows.append((image, name, f"masks/{i:03d}_{k}.png"))
            calibration.append((image, 0, BANNER_ROWS, FRAME[1], FRAME[0], MM_PER_PIXEL, MM_PER_PIXEL))
    write_csv(folder / "images.csv", ("image", "participant_id", "mask"), rows)
    write_csv(folder / "calibration.csv", CALIBRATION_COLUMNS, calibration)
