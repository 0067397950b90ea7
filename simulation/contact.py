"""A contact sheet of a hospital's images: the region that is read, with the outline of its mask."""

import csv
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sarco_models.errors import DataError
from sarco_models.image_cache import CALIBRATION_FILE
from sarco_models.images import read_calibrations, read_image
from sarco_models.masks import read_mask
from sarco_models.schema import IMAGES_FILE, PARTICIPANTS_FILE

_TILE, _COLUMNS, _PER_CLASS, _GAP = 200, 6, 6, 4
_OUTLINE = (86, 180, 233)  # Okabe-Ito sky blue: seen on grey by everybody
_PAPER, _INK = (255, 255, 255), (40, 40, 40)


def write_contact_sheet(folder: Path, out: Path, label: str) -> None:
    """Draw six people of each class of a synthetic hospital, one image each; ``label`` is the column of the class."""
    tiles = {0: [], 1: []}  # type: dict[int, list[Image.Image]]
    calibration_file = folder / CALIBRATION_FILE
    calibrations = read_calibrations(calibration_file) if calibration_file.exists() else {}
    labels = {r["participant_id"]: int(float(r[label])) for r in _rows(folder / PARTICIPANTS_FILE)}
    seen: set[str] = set()
    for row in _rows(folder / IMAGES_FILE):
        person = row["participant_id"]
        if person in seen or person not in labels or len(tiles[labels[person]]) == _PER_CLASS:
            continue
        seen.add(person)
        try:
            frame = read_image(folder / row["image"], calibrations.get(row["image"]))
            mask = read_mask(folder / row["mask"], frame) if row.get("mask") else np.zeros(frame.pixels.shape, np.bool_)
        except DataError:
            continue
        tiles[labels[person]].append(_tile(frame.pixels, mask))
    _sheet(tiles).save(out)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def _tile(pixels: NDArray[np.uint8], mask: NDArray[np.bool_]) -> Image.Image:
    colour = np.repeat(pixels[:, :, None], 3, axis=2)
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(colour, outlines, -1, _OUTLINE, 1)
    tile = Image.fromarray(colour)
    tile.thumbnail((_TILE, _TILE), Image.Resampling.LANCZOS)
    return tile


def _sheet(tiles: dict[int, list[Image.Image]]) -> Image.Image:
    height = _TILE + 26
    sheet = Image.new("RGB", (_COLUMNS * (_TILE + _GAP) + _GAP, 2 * height + 26), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for line, (label, name) in enumerate(((0, "Negative"), (1, "Positive"))):
        draw.text((_GAP, line * height + 6), name, fill=_INK, font_size=15)
        for column, tile in enumerate(tiles[label][:_COLUMNS]):
            x = _GAP + column * (_TILE + _GAP)
            sheet.paste(tile, (x + (_TILE - tile.width) // 2, line * height + 26))
    draw.text((_GAP, 2 * height + 4), "SYNTHETIC images: no such persons exist", fill=_INK, font_size=15)
    return sheet
