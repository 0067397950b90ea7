"""Synthetic images to look at: a phantom written as a file of a site, and the look at it."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset

from client.quality.images import Look
from sarco_models.config import StudyConfig, load_study
from sarco_models.errors import Finding
from sarco_models.frames import Facts, Frame
from sarco_models.schema import ImageRow
from simulation.phantom import Image, random_subject, render

STUDY: StudyConfig = load_study(Path(__file__).parents[3] / "configs/study.toml")
SALT = b"a secret of this site"
PLAIN: Any = {"PatientIdentityRemoved": "YES"}


@lru_cache(maxsize=64)
def phantom(seed: int = 26, view: int = 0, device: str = "aixplorer", muscle: str = "rectus_femoris") -> Image:
    """One SYNTHETIC image; views of one seed show one person's muscle."""
    subject = random_subject(np.random.default_rng([seed, 0]), muscle)
    subject = replace(subject, width_mm=min(subject.width_mm, 30.0))  # inside the field of view
    return render(subject, np.random.default_rng([seed, 1 + view]), device=device)


def frame_of(image: Image, **facts: Any) -> Frame:
    """The phantom as it comes out of a file that says its spacing."""
    mm = (image.mm_per_pixel, image.mm_per_pixel)
    return Frame(image.pixels, mm, "Tiny U1", (0, 0), image.pixels.shape, Facts("DICOM", **facts))


def study(**image: Any) -> StudyConfig:
    """The shipped study with another way of looking at images."""
    return STUDY.model_copy(update={"image": STUDY.image.model_copy(update=image)})


def look(folder: Path, row: ImageRow, config: StudyConfig = STUDY, **more: Any) -> Look:
    return Look(folder, config, row, salt=SALT, **more)


def row(number: int = 2, participant: str = "P0001", mask: str = "m{}.png", **more: Any) -> ImageRow:
    """Row N names the image ``iN.dcm`` and the mask ``mN.png``."""
    return ImageRow(number, f"i{number}.dcm", participant, mask.format(number), muscle="rectus_femoris", **more)


def put(folder: Path, image: Image, number: int = 2, *, participant: str = "P0001", **elements: Any) -> Look:
    """Write a phantom and its mask as row N, and look at it; elements go into the DICOM header."""
    write_dicom(folder / f"i{number}.dcm", image.pixels, image.mm_per_pixel, **PLAIN | elements)
    write_mask(folder / f"m{number}.png", image.mask)
    return look(folder, row(number, participant))


def write_mask(path: Path, mask: NDArray[np.bool_]) -> Path:
    Pillow.fromarray(mask.astype(np.uint8) * 255).save(path)
    return path


def write_labelme(path: Path, points: list[list[float]], size: tuple[int, int], image: str, data: str | None) -> Path:
    shape = {"label": "RF", "points": points, "shape_type": "polygon"}
    page = {"version": "5.5.0", "shapes": [shape], "imagePath": image, "imageData": data}
    path.write_text(json.dumps(page | {"imageHeight": size[0], "imageWidth": size[1]}), encoding="utf-8")
    return path


def write_dicom(path: Path, pixels: NDArray[np.uint8], mm_per_pixel: float | None = None, **elements: Any) -> Path:
    """An ultrasound image that is all tissue, with its spacing in the region."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = uid.UltrasoundImageStorage, "1.2.3.4"
    data.Manufacturer, data.ManufacturerModelName = "Tiny", "U1"
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel, data.PhotometricInterpretation = (3, "RGB") if pixels.ndim == 3 else (1, "MONOCHROME2")
    if pixels.ndim == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.SequenceOfUltrasoundRegions = [_region(pixels, mm_per_pixel)]
    data.PixelData = pixels.tobytes() + b"\0" * (pixels.size % 2)
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    data.save_as(path, enforce_file_format=True)
    return path


def _region(pixels: NDArray[np.uint8], mm_per_pixel: float | None) -> Dataset:
    region = Dataset()
    region.RegionSpatialFormat = region.RegionDataType = 1
    region.RegionLocationMinX0 = region.RegionLocationMinY0 = 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = pixels.shape[1] - 1, pixels.shape[0] - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 0 if mm_per_pixel is None else 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = 1.0 if mm_per_pixel is None else mm_per_pixel / 10
    return region


def rules(findings: Iterable[Finding], *severities: str) -> Counter[str]:
    """How often each rule was found."""
    return Counter(f.rule for f in findings if not severities or f.severity in severities)


def only(findings: Iterable[Finding], rule: str) -> Finding:
    """The one finding of this rule."""
    (found,) = [f for f in findings if f.rule == rule]
    return found
