"""A frame as the files a hospital has: DICOM, JPG; its mask with one label as NIfTI, PNG, LabelMe.

Bytes depend on content only. ``label_formats`` writes masks with several muscles.
"""

import os
from collections.abc import Iterable
from datetime import date
from io import BytesIO
from pathlib import Path
from tempfile import mkstemp
from typing import Protocol

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from simulation.devices import DEVICES
from simulation.frames import Pixels, Region
from simulation.phantom import Preview
from simulation.resumable import csv_bytes, json_bytes

ULTRASOUND_IMAGE_STORAGE = UID("1.2.840.10008.5.1.4.1.1.6.1")
JPG_QUALITY = 92
MUSCLE_LABEL = "rectus_femoris"


class Exam(Protocol):
    """What a DICOM header says of a visit."""

    @property
    def participant_id(self) -> str:
        """An invented identifier."""

    @property
    def male(self) -> bool:
        """For PatientSex."""

    @property
    def age_years(self) -> int:
        """For PatientAge."""

    @property
    def day(self) -> date:
        """Of the visit."""

    @property
    def device(self) -> str:
        """A key of ``DEVICES``."""

    @property
    def rgb(self) -> bool:
        """Whether the grey picture is stored in colour."""


class Planned(Protocol):
    """What a DICOM file says of an image; its fields are those of :class:`simulation.plan.PlannedImage`."""

    @property
    def exam(self) -> Exam:
        """The visit."""

    @property
    def number(self) -> int:
        """Within the visit, from 1."""

    @property
    def burned_in(self) -> bool:
        """Whether the banner shows an invented name."""

    @property
    def grey_bar_region(self) -> bool:
        """Whether the grey bar is listed as a region, before the tissue."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the image's generator; the last one is its number."""


def dicom_bytes(frame: Pixels, planned: Planned, seen: Preview, region: Region) -> bytes:
    """Uncompressed 8-bit US Image, with spacing only in the Sequence of Ultrasound Regions, as in real exports."""
    rgb = planned.exam.rgb
    data = _header(planned)
    data.DepthOfScanField = seen.depth_mm
    data.SamplesPerPixel = 3 if rgb else 1
    data.PhotometricInterpretation = "RGB" if rgb else "MONOCHROME2"
    if rgb:
        data.PlanarConfiguration = 0
    data.Rows, data.Columns = frame.shape
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    raw = (np.repeat(frame[..., None], 3, axis=2) if rgb else frame).tobytes()
    data.PixelData = raw + b"\0" * (len(raw) % 2)
    data["PixelData"].VR = "OB"
    tissue = _tissue_region(region, seen.mm_per_pixel)
    data.SequenceOfUltrasoundRegions = [_grey_bar_region(region), tissue] if planned.grey_bar_region else [tissue]
    data.file_meta = _file_meta(str(data.SOPInstanceUID))
    buffer = BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def jpg_bytes(frame: Pixels) -> bytes:
    """Grey JPG without any header data."""
    return _encoded(Pillow.fromarray(frame), "JPEG", quality=JPG_QUALITY)


def calibration_bytes(rows: Iterable[tuple[str, Region, float]]) -> bytes:
    """calibration.csv: path, region and millimetres per pixel of frames that cannot say it themselves."""
    columns = ("image", "x0", "y0", "x1", "y1", "mm_per_pixel_row", "mm_per_pixel_column")
    return csv_bytes(columns, ((image, *place, f"{mm:.6f}", f"{mm:.6f}") for image, place, mm in rows))


def banner_of(exam: Exam) -> str:
    """What a machine burns into a frame: an invented name, identifier and date."""
    return f"{fake_name(exam.participant_id)}  {exam.participant_id}  {exam.day:%Y-%m-%d}"


def png_mask_bytes(mask: NDArray[np.bool_]) -> bytes:
    """Whole frame, muscle 255, rest 0."""
    return _encoded(Pillow.fromarray(mask.astype(np.uint8) * np.uint8(255)), "PNG", compress_level=4)


def nifti_mask_bytes(mask: NDArray[np.bool_] | NDArray[np.uint8]) -> bytes:
    """Whole frame as ITK-SNAP saves a segmentation of a flat image: one slice of uint16 through ITK, labels from 1."""
    image = sitk.GetImageFromArray(mask[None].astype(np.uint16))
    descriptor, name = mkstemp(suffix=".nii.gz")  # ITK writes to paths only
    os.close(descriptor)
    path = Path(name)
    try:
        sitk.WriteImage(image, name, useCompression=True, compressionLevel=4)
        return path.read_bytes()
    finally:
        path.unlink()


def labelme_mask_bytes(mask: NDArray[np.bool_], image_path: str) -> bytes:
    """Polygon along the muscle's outline."""
    return labelme_bytes([labelme_shape(MUSCLE_LABEL, mask)], mask.shape, image_path, {})


def labelme_shape(label: str, mask: NDArray[np.bool_], group: int | None = None) -> dict[str, object]:
    """One outline as LabelMe 5.5 writes it; outlines of one ``group`` belong together."""
    return {
        "label": label,
        "points": outline(mask),
        "group_id": group,
        "description": "",
        "shape_type": "polygon",
        "flags": {},
        "mask": None,
    }


def labelme_bytes(
    shapes: list[dict[str, object]], size: tuple[int, ...], image_path: str, flags: dict[str, bool]
) -> bytes:
    """An annotation without the image's own bytes; ``size`` is (height, width)."""
    return json_bytes(
        {
            "version": "5.5.0",
            "flags": flags,
            "shapes": shapes,
            "imagePath": image_path,
            "imageData": None,
            "imageHeight": size[0],
            "imageWidth": size[1],
        }
    )


def outline(mask: NDArray[np.bool_]) -> list[list[float]]:
    """Clockwise [x, y] vertices around a region without holes, one stretch per column; every second column has two.

    LabelMe's origin is the corner of the first pixel, so pixel (row, column) reaches from (column, row) to
    (column + 1, row + 1).
    """
    columns = np.flatnonzero(mask.any(axis=0))
    kept = np.unique(np.append(columns[::2], columns[-1]))
    top = mask.argmax(axis=0)[kept]
    below = len(mask) - mask[::-1].argmax(axis=0)[kept]
    x = kept + 0.5
    x[0], x[-1] = kept[0], kept[-1] + 1
    vertices = np.concatenate([np.stack([x, top], axis=1), np.stack([x, below], axis=1)[::-1]])
    return [[float(a), float(b)] for a, b in vertices]


def _encoded(image: Pillow.Image, kind: str, **options: int) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _file_meta(instance_uid: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ULTRASOUND_IMAGE_STORAGE
    meta.MediaStorageSOPInstanceUID = UID(instance_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = generate_uid(entropy_srcs=["SARCO-FL"])
    meta.ImplementationVersionName = "SARCO-FL"
    return meta


def _header(planned: Planned) -> Dataset:
    """Patient, study and machine; says SYNTHETIC wherever a person would look."""
    exam, machine = planned.exam, DEVICES[planned.exam.device]
    source = f"SARCO-FL synthetic {planned.seeds[:-1]} {exam.participant_id}"
    data = Dataset()
    data.SpecificCharacterSet = "ISO_IR 192"
    data.ImageType = ["ORIGINAL", "PRIMARY", "SMALL PARTS"]
    data.SOPClassUID = ULTRASOUND_IMAGE_STORAGE
    data.SOPInstanceUID = generate_uid(entropy_srcs=[source, str(planned.number)])
    data.StudyInstanceUID = generate_uid(entropy_srcs=[source, "study"])
    data.SeriesInstanceUID = generate_uid(entropy_srcs=[source, "series"])
    data.StudyDate = data.ContentDate = exam.day.strftime("%Y%m%d")
    data.StudyTime, data.ContentTime = "100000", f"10{planned.number:02d}00"
    data.StudyID, data.AccessionNumber, data.ReferringPhysicianName = "1", "", ""
    data.SeriesNumber, data.InstanceNumber = 1, planned.number
    data.Modality, data.Manufacturer, data.ManufacturerModelName = "US", machine.manufacturer, machine.model
    data.InstitutionName = "SYNTHETIC"
    data.PatientID = exam.participant_id
    data.PatientName = fake_name(exam.participant_id)
    data.PatientSex, data.PatientAge = ("M" if exam.male else "F"), f"{exam.age_years:03d}Y"
    data.PatientBirthDate = ""
    data.PatientIdentityRemoved = "YES"
    data.DeidentificationMethod = "SYNTHETIC PHANTOM, NO PATIENT EXISTS"
    data.ImageComments = "SYNTHETIC PHANTOM"
    data.TransducerData = machine.transducer
    data.BurnedInAnnotation = "YES" if planned.burned_in else "NO"
    data.LossyImageCompression = "00"
    return data


def fake_name(participant_id: str) -> str:
    """An obviously invented patient name."""
    return f"SYN^PATIENT {participant_id.rsplit('-', 1)[-1]}"


def _tissue_region(place: Region, mm_per_pixel: float) -> Dataset:
    """2-D tissue, square pixels in cm."""
    region = _region(place, spatial_format=1, data_type=1, unit=3)
    region.PhysicalDeltaX = region.PhysicalDeltaY = mm_per_pixel / 10
    return region


def _grey_bar_region(tissue: Region) -> Dataset:
    """Graphics without unit, beside the picture."""
    place = Region(0, tissue.y0, max(tissue.x0 - 1, 1), tissue.y0 + 40)
    region = _region(place, spatial_format=5, data_type=0x0D, unit=0)
    region.PhysicalDeltaX = region.PhysicalDeltaY = 1.0
    return region


def _region(place: Region, *, spatial_format: int, data_type: int, unit: int) -> Dataset:
    """DICOM's last column and row are inside (PS3.3 C.8.5.5)."""
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = spatial_format, data_type, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = place.x0, place.y0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = place.x1 - 1, place.y1 - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = unit
    return region
