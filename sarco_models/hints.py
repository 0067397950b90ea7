"""What a hospital says about frames that do not say it themselves: calibration.csv, and a template per device.

Who is believed: the file's own word, then calibration.csv, then a template, then what is found in the pixels.
"""

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from sarco_models.config import Config
from sarco_models.errors import DataError, Finding
from sarco_models.frames import Box, RegionFrom, SpacingFrom, fits, refusal
from sarco_models.screens import Picture, find_picture, whole_blocks

Compressed = Literal["", "smoothly", "blocks"]
"""Without loss; with some loss; in JPEG's blocks."""


@dataclass(frozen=True)
class Calibration:
    """What the hospital says about one image; the file's own word comes first.

    Attributes:
        region: tissue region as x0, y0, x1, y1 in stored pixels, x1 and y1 exclusive; None = not said.
        mm_per_pixel: millimetres per pixel along (row, column); None = unknown.
        device: manufacturer and model, "" = not said.
    """

    region: Box | None
    mm_per_pixel: tuple[float, float] | None
    device: str = ""


class Template(Config):
    """A device's screen, in site.toml: where the tissue is on every frame of one size."""

    device: str = Field(min_length=1, max_length=64, description="Manufacturer and model.")
    files: str = Field(
        default="*",
        min_length=1,
        description="Which images, as a pattern over the path in images.csv such as images/ward2/*.png. It is compared "
        "from the right, and * does not cross a /.",
    )
    columns: int = Field(ge=1, le=100_000, description="Width of the stored frame in pixels.")
    rows: int = Field(ge=1, le=100_000, description="Height of the stored frame in pixels.")
    region: Box = Field(description="x0, y0, x1, y1 of the tissue in stored pixels; x1 and y1 are the first outside.")
    mm_per_pixel: tuple[float, float] | None = Field(
        default=None, description="(row, column), only where the depth setting never changes; else calibration.csv."
    )

    @field_validator("files")
    @classmethod
    def _relative(cls, files: str) -> str:
        if files.startswith("/") or "\\" in files or {"..", "**"} & set(files.split("/")):
            raise ValueError("a pattern like images/*.png: relative, with / between folders, without .. or **")
        return files

    @model_validator(mode="after")
    def _possible(self) -> Self:
        x0, y0, x1, y1 = self.region
        if not (0 <= x0 < x1 <= self.columns and 0 <= y0 < y1 <= self.rows):
            raise ValueError(
                f"region {list(self.region)} must be x0, y0, x1, y1 with x0 < x1 <= columns ({self.columns}) and "
                f"y0 < y1 <= rows ({self.rows})"
            )
        if self.mm_per_pixel and min(self.mm_per_pixel) <= 0:
            raise ValueError(f"mm_per_pixel {list(self.mm_per_pixel)} must be two positive numbers: row, column")
        return self

    def is_for(self, path: Path, shape: tuple[int, int]) -> bool:
        """Whether an image of (rows, columns) comes from this device."""
        return shape == (self.rows, self.columns) and path.match(self.files)


@dataclass(frozen=True)
class Own:
    """The file's own word.

    Attributes:
        region: tissue region; None = not said.
        spacings: (row, column) mm per pixel, best first.
        device: "" = not said.
    """

    region: Box | None = None
    spacings: Sequence[tuple[float, float]] = ()
    device: str = ""


@dataclass(frozen=True, eq=False)
class Place:
    """Where the tissue of one frame is, how large its pixels are, whose they are, and who said so."""

    picture: Picture
    region_from: RegionFrom
    mm_per_pixel: tuple[float, float] | None
    spacing_from: SpacingFrom
    device: str


@dataclass(frozen=True)
class Hints:
    """Everything that a hospital says about one file."""

    path: Path
    calibration: Calibration | None = None
    templates: tuple[Template, ...] = ()

    def place(
        self, own: Own, shape: tuple[int, int], whole: Callable[[], NDArray[np.uint8]], *, compressed: Compressed
    ) -> Place:
        """Whoever speaks first, for each of region, spacing and device.

        Args:
            own: what the file says.
            shape: rows and columns of the stored frame.
            whole: the grey pixels of the stored frame, called only where nobody says where the tissue is.
            compressed: what the pixels have been through.

        Raises:
            UnreadableImage: the stated region or spacing is impossible, or the region cannot be found.
        """
        template = next((t for t in self.templates if t.is_for(self.path, shape)), None)
        said = self.calibration or Calibration(None, None)
        picture, region_from = _region(
            (own.region, "file"),
            (said.region, "calibration"),
            (template.region if template else None, "template"),
            shape=shape,
        ) or _found(whole(), lossy=compressed != "")
        if compressed == "blocks" and region_from in ("template", "found"):
            picture = _in_whole_blocks(picture, shape)
        mm_per_pixel, spacing_from = _spacing(
            *((mm, "file") for mm in own.spacings),
            (said.mm_per_pixel, "calibration"),
            (template.mm_per_pixel if template else None, "template"),
        )
        device = own.device or said.device or (template.device if template else "")
        return Place(picture, region_from, mm_per_pixel, spacing_from, device)

    def has_region(self, shape: tuple[int, int]) -> bool:
        """Whether the hospital says where the tissue of a frame of (rows, columns) is."""
        stated = self.calibration is not None and self.calibration.region is not None
        return stated or any(t.is_for(self.path, shape) for t in self.templates)


def _region(*stated: tuple[Box | None, RegionFrom], shape: tuple[int, int]) -> tuple[Picture, RegionFrom] | None:
    """First stated region, inside the frame."""
    rows, columns = shape
    for box, source in stated:
        if box is None:
            continue
        if not fits(box, shape):
            seen = "region x {0} to {2}, y {1} to {3}".format(*box)
            remedy = "export the frame as the scanner made it, or give its region and spacing in calibration.csv"
            raise refusal("region", seen, f"a region inside {columns} x {rows} pixels", remedy)
        x0, y0, x1, y1 = box
        return Picture((x0, y0, min(x1, columns), min(y1, rows))), source
    return None


def _found(pixels: NDArray[np.uint8], *, lossy: bool) -> tuple[Picture, RegionFrom]:
    """Where the scanner's picture lies on its screen; never a guess."""
    rows, columns = pixels.shape
    picture = find_picture(pixels, lossy=lossy)
    if picture is None:
        remedy = f"give its region in calibration.csv, or a template for {columns} x {rows} pixels in site.toml"
        raise refusal("screen", "no clear border between picture and screen", "a known tissue region", remedy)
    return picture, "whole" if picture.box == (0, 0, columns, rows) and picture.inside is None else "found"


def _in_whole_blocks(picture: Picture, shape: tuple[int, int]) -> Picture:
    inner = whole_blocks(picture, shape)
    if inner is None:
        seen = "region x {0} to {2}, y {1} to {3}".format(*picture.box)
        remedy = "correct it in site.toml, or export the frame without loss"
        raise refusal("region", seen, "a region of whole JPEG blocks of 8 pixels", remedy)
    return inner


def _spacing(
    *stated: tuple[tuple[float, float] | None, SpacingFrom],
) -> tuple[tuple[float, float] | None, SpacingFrom]:
    """First possible of the stated (row, column) spacings in mm; None when nothing was stated."""
    given = [(mm, source) for mm, source in stated if mm is not None]
    for mm, source in given:
        if all(math.isfinite(side) and side > 0 for side in mm):
            return mm, source
    if given:
        remedy = "give mm_per_pixel_row and mm_per_pixel_column in calibration.csv"
        raise refusal("spacing", f"{given[0][0]} mm per pixel", "positive, finite spacings", remedy)
    return None, ""


# ---- calibration.csv -------------------------------------------------------------------------------------------------

_REGION = ("x0", "y0", "x1", "y1")
_SPACING = ("mm_per_pixel_row", "mm_per_pixel_column")
_MAX_DEVICE = 64


def read_calibrations(path: Path) -> dict[str, Calibration]:
    """Rows of calibration.csv by image; an empty cell means "not said".

    Its columns are image,x0,y0,x1,y1,mm_per_pixel_row,mm_per_pixel_column and, if you like, device.

    Raises:
        DataError: with every faulty row.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        delimiter = ";" if lines and ";" in lines[0] else ","
        rows = csv.DictReader(lines, delimiter=delimiter, restkey="", restval="")
        return _calibrations(rows.fieldnames or [], rows, path.name)
    except (OSError, UnicodeDecodeError, csv.Error):
        remedy = "save the table as CSV in UTF-8"
        raise DataError([Finding("error", "file", path.name, "not readable", "a UTF-8 text file", remedy)]) from None


def _calibrations(header: Sequence[str], rows: Iterable[dict[str, str]], name: str) -> dict[str, Calibration]:
    missing = [c for c in ("image", *_REGION, *_SPACING) if c not in header]
    if missing:
        seen = f"no column {', '.join(missing)}"
        raise DataError([Finding("error", "column", name, seen, "all seven columns", "add it; its cells may be empty")])
    calibrations: dict[str, Calibration] = {}
    findings = []
    for line, row in enumerate(rows, start=2):
        image = row["image"].strip()
        try:
            if not image or image in calibrations:
                raise _Cell("image", "a name that another row has" if image else "empty", "a file name, once")
            calibrations[image] = _calibration(row)
        except _Cell as cell:
            field, seen, expected = cell.args
            remedy = "correct the cell, or empty all cells of this kind"
            findings.append(Finding("error", "calibration", name, seen, expected, remedy, line, field))
    if findings:
        raise DataError(findings)
    return calibrations


class _Cell(Exception):
    """Field, description and expectation of a faulty cell; never leaves this module."""


def _calibration(row: dict[str, str]) -> Calibration:
    region = _cells(row, _REGION, "whole numbers with x0 < x1 and y0 < y1, or four empty cells")
    spacing = _cells(row, _SPACING, "positive millimetres, or two empty cells")
    if spacing and min(spacing) <= 0:
        raise _Cell("mm_per_pixel_row", f"{spacing[0]:g}, {spacing[1]:g}", "positive millimetres")
    device = " ".join(row.get("device", "").split())
    if len(device) > _MAX_DEVICE:
        raise _Cell("device", f"text of {len(device)} characters", f"manufacturer and model, up to {_MAX_DEVICE}")
    return Calibration(_whole_box(region) if region else None, (spacing[0], spacing[1]) if spacing else None, device)


def _whole_box(region: list[float]) -> Box:
    x0, y0, x1, y1 = region
    if not (all(v.is_integer() for v in region) and 0 <= x0 < x1 and 0 <= y0 < y1):
        raise _Cell("x0", ", ".join(f"{v:g}" for v in region), "whole numbers with x0 < x1 and y0 < y1")
    return int(x0), int(y0), int(x1), int(y1)


def _cells(row: dict[str, str], fields: tuple[str, ...], expected: str) -> list[float]:
    """Finite numbers of these cells (decimal comma or point); [] when all are empty."""
    texts = [row[field].strip() for field in fields]
    values = []
    for field, text in zip(fields, texts, strict=True):
        try:
            values.append(float(text.replace(",", ".")))
        except ValueError:
            values.append(math.nan)
        if any(texts) and not math.isfinite(values[-1]):
            raise _Cell(field, f"text of {len(text)} characters" if text else "empty", expected)
    return values if any(texts) else []
