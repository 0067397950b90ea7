"""Tiny hospitals that have drawn muscles, for tests: two kinds of images, two formats of masks, partial labels."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image

from sarco_models.config import StudyConfig, merged
from tests.sites import CALIBRATION_COLUMNS, write_csv

STUDY: dict[str, Any] = {
    "name": "tiny_muscles",
    "title": "A tiny study of muscles",
    "segmentation": {
        "muscles": [
            {"name": "biceps", "labels": ["1", "BB"], "words": "biceps brachii"},
            {"name": "triceps", "labels": ["2"]},
            {"name": "rectus_femoris", "labels": ["RF", "3"]},
        ]
    },
    "image": {"size": 32, "window_mm": 35.0, "roi": "none"},
    "model": {"modalities": ["image"], "backbone": "convnext_atto"},
    "split": {"train": 0.7, "validation": 0.1},
    "training": {"batch_participants": 4, "images_per_participant": 2, "balance_classes": False},
    "federation": {"rounds": 2, "min_participants": 2},
}
FRAME = (64, 80)
MM_PER_PIXEL = 0.5
COLUMNS = ("image", "participant_id", "muscle", "side", "mask", "exam_date", "mask_label", "annotated")
Ellipse = tuple[float, float, float, float]
"""Centre row and column, half height and half width, in pixels."""


def muscle_study(**changes: Any) -> StudyConfig:
    """The tiny study with changes; checked as a study file is."""
    return StudyConfig.model_validate_json(json.dumps(merged(STUDY, changes)))


def muscle_site(folder: Path, n: int = 8, seed: int = 1, *, without: int = 0) -> Path:
    """A site of ``n`` participants, each with an arm (biceps and triceps, NIfTI) and a thigh (LabelMe, one label).

    The last ``without`` thighs have no mask.
    """
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, 7])
    people = [(f"M{i:03d}", ("young", "middle", "elderly")[i % 3], 30 + 3 * i) for i in range(n)]
    write_csv(folder / "participants.csv", ("participant_id", "age_group", "age_years"), people)
    rows, calibration = [], []
    for i, (person, _, _) in enumerate(people):
        arm, thigh = arm_of(i), {1: thigh_of(i)}
        picture(folder / f"images/{i:03d}_arm.png", arm, rng)
        picture(folder / f"images/{i:03d}_thigh.png", thigh, rng)
        write_labels(folder / f"masks/{i:03d}_arm.nii.gz", label_map(arm))
        write_labelme(folder / f"masks/{i:03d}_thigh.json", {"outline": [polygon(thigh[1])]})
        mask = f"masks/{i:03d}_thigh.json" if i < n - without else ""
        rows.append((f"images/{i:03d}_arm.png", person, "biceps", "left", f"masks/{i:03d}_arm.nii.gz", "", "", ""))
        rows.append((f"images/{i:03d}_thigh.png", person, "RF", "right", mask, "", "", ""))
        calibration += [
            (f"images/{i:03d}_{part}.png", 0, 0, FRAME[1], FRAME[0], MM_PER_PIXEL, MM_PER_PIXEL)
            for part in ("arm", "thigh")
        ]
    write_csv(folder / "images.csv", COLUMNS, rows)
    write_csv(folder / "calibration.csv", CALIBRATION_COLUMNS, calibration)
    return folder


def arm_of(i: int) -> dict[int, Ellipse]:
    """Biceps and triceps of a participant."""
    return {1: (22.0, 40.0, 9.0 + i % 3, 22.0 + i / 2), 2: (48.0, 40.0, 8.0, 26.0 + i / 2)}


def thigh_of(i: int) -> Ellipse:
    """Rectus femoris of a participant."""
    return 34.0, 38.0 + i % 5, 12.0, 22.0 + i / 2


def picture(path: Path, muscles: Mapping[int, Ellipse], rng: np.random.Generator) -> None:
    """Speckle, brighter at the skin and in muscles; not so sharp that it looks like writing."""
    shown = label_map(muscles) > 0
    bright = 25 + 50 * shown + 90 * np.exp(-np.arange(FRAME[0]) / 4)[:, None]
    speckle = cv2.GaussianBlur(rng.rayleigh(1, FRAME), (0, 0), 0.8)
    Image.fromarray((bright * speckle).clip(1, 255).astype(np.uint8)).save(path)


def label_map(muscles: Mapping[int, Ellipse]) -> NDArray[np.uint8]:
    """(rows, columns) numbers of the ellipses; a later one lies on top."""
    rows, columns = np.mgrid[: FRAME[0], : FRAME[1]] + 0.5
    values = np.zeros(FRAME, dtype=np.uint8)
    for number, (row, column, height, width) in muscles.items():
        values[((rows - row) / height) ** 2 + ((columns - column) / width) ** 2 < 1] = number
    return values


def polygon(ellipse: Ellipse, points: int = 40) -> list[list[float]]:
    """x, y of an ellipse's outline."""
    row, column, height, width = ellipse
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return [[float(column + width * np.cos(a)), float(row + height * np.sin(a))] for a in angle]


def write_labels(path: Path, values: NDArray[np.uint8]) -> Path:
    """A label map as ITK-SNAP writes it; its file is the same whenever it is written."""
    sitk.WriteImage(sitk.GetImageFromArray(values), str(path))
    return path


def write_labelme(
    path: Path,
    outlines: Mapping[str, Sequence[Any]],
    *,
    size: tuple[int, int] = FRAME,
    kind: str = "polygon",
) -> Path:
    """LabelMe 5's JSON: label -> outlines, each a list of x, y."""
    shapes = [
        {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}}
        for label, several in outlines.items()
        for points in several
    ]
    page = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": "", "imageData": None}
    path.write_text(json.dumps(page | {"imageHeight": size[0], "imageWidth": size[1]}), encoding="utf-8")
    return path
