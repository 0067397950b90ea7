"""A contact sheet of a muscle cohort: every kind of view on every device, once bare and once with what was drawn.

It reads the files as a hospital would, so that a sheet that looks right is also read right.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sarco_models.drawn import read_drawn
from sarco_models.image_cache import CALIBRATION_FILE
from sarco_models.images import Calibration, read_calibrations, read_image
from sarco_models.mask_files import colour_of
from sarco_models.schema import IMAGES_FILE
from sarco_models.segmentation import SegmentationConfig
from simulation.anatomy import MUSCLES
from simulation.devices import DEVICES

_MM = 4.2  # pixels of the sheet to a millimetre
_TILE = round(44 * _MM)  # the widest probe
_GAP, _HEAD, _SIDE = 4, 24, 132
_PAPER, _INK = (255, 255, 255), (40, 40, 40)


@dataclass(frozen=True)
class _Shown:
    """One image of the cohort, by what it shows."""

    site: Path
    row: dict[str, str]


def write_muscle_sheet(folder: Path, segmentation: SegmentationConfig, out: Path) -> None:
    """Draw the first drawn image of each kind of view on each device.

    Args:
        folder: of :func:`simulation.muscle_cohort.make_muscle_cohort`.
        segmentation: which labels mean which muscle.
        out: PNG.
    """
    shown = _first_of_each(folder)
    kinds = [k for k in (*MUSCLES, "arm", "midline") if any(kind == k for kind, _ in shown)]
    devices = [d for d in DEVICES if any(device == d for _, device in shown)]
    tiles = {key: _tile(one, segmentation) for key, one in shown.items()}
    heights = [max(tile.height for (of, _), tile in tiles.items() if of == kind) + _GAP for kind in kinds]
    width = 2 * (_TILE + _GAP)
    sheet = Image.new("RGB", (_SIDE + len(devices) * width, sum(heights) + 2 * _HEAD), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, device in enumerate(devices):
        draw.text((_SIDE + column * width, 5), DEVICES[device].model, fill=_INK, font_size=14)
    for line, kind in enumerate(kinds):
        top = _HEAD + sum(heights[:line])
        draw.text((_GAP, top + 4), kind.replace("_", "\n"), fill=_INK, font_size=14)
        for column, device in enumerate(devices):
            if (kind, device) in tiles:
                sheet.paste(tiles[kind, device], (_SIDE + column * width, top))
    draw.text((_GAP, sheet.height - 20), "SYNTHETIC images: no such persons exist", fill=_INK, font_size=14)
    sheet.save(out)


def _first_of_each(folder: Path) -> dict[tuple[str, str], _Shown]:
    """By kind of view and device, of the images where all muscles that are seen were drawn."""
    found: dict[tuple[str, str], _Shown] = {}
    for file in sorted((folder / "truth").glob("*.csv")):
        if file.stem.endswith("_people"):
            continue
        rows = {row["image"]: row for row in _rows(folder / file.stem / IMAGES_FILE)}
        truths = _rows(file)
        partly = {t["image"] for t in truths if t["drawn"] == "0"}
        for truth in truths:
            kind = truth["muscle"] if truth["view"] == "single" else truth["view"]
            if truth["image"] not in partly:
                found.setdefault((kind, truth["device"]), _Shown(folder / file.stem, rows[truth["image"]]))
    return found


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _tile(shown: _Shown, segmentation: SegmentationConfig) -> Image.Image:
    """Bare and outlined, side by side; millimetres are the same in all tiles."""
    row, calibrations = shown.row, _calibrations(shown.site)
    frame = read_image(shown.site / row["image"], calibrations.get(row["image"]))
    annotated = row["annotated"].split(";")
    drawn, _ = read_drawn(
        shown.site / row["mask"],
        frame,
        segmentation,
        muscle=row["muscle"],
        label=row["mask_label"],
        annotated=annotated,
    )
    mm = frame.mm_per_pixel or (0.2, 0.2)
    size = (round(frame.pixels.shape[1] * mm[1] * _MM), round(frame.pixels.shape[0] * mm[0] * _MM))
    grey = np.asarray(cv2.resize(frame.pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    classes = np.asarray(cv2.resize(drawn.classes, size, interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
    tile = Image.new("RGB", (2 * _TILE + _GAP, size[1]), _PAPER)
    bare = np.repeat(grey[:, :, None], 3, axis=2)
    tile.paste(Image.fromarray(bare), (0, 0))
    tile.paste(Image.fromarray(_outlined(bare.copy(), classes)), (_TILE + _GAP // 2, 0))
    return tile


def _calibrations(site: Path) -> dict[str, Calibration]:
    file = site / CALIBRATION_FILE
    return dict(read_calibrations(file)) if file.exists() else {}


def _outlined(colour: NDArray[np.uint8], classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    for number in np.unique(classes[(classes > 0) & (classes < 255)]):
        edges, _ = cv2.findContours((classes == number).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(colour, edges, -1, colour_of(int(number)), 1)
    return colour
