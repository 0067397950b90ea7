"""A hospital's folder as it comes off the scanner and out of the ward's spreadsheet: for tests and demonstrations of
``sarco-site ingest``. Everything is invented, and everything that could name somebody is listed.

Chinese headers, a semicolon table with decimal commas, g/dL and mg/dL, dates with points; DICOM folders without
suffixes with names, private elements and banners; photographs of the screen with EXIF; masks of three kinds; and what
does not belong there.
"""

import base64
import csv
import datetime
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO, StringIO
from pathlib import Path

import cv2
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread, uid
from pydicom.dataset import FileMetaDataset

MM = 0.2
FRAME = (96, 128)
BANNER = 16  # rows
REGION = (8, BANNER, 120, 88)
"""x0, y0, x1, y1 of the tissue in stored pixels: whole blocks of JPEG, so that nothing bleeds into it."""

NAMES = ("王小明", "李秀英", "张建国", "刘桂兰", "陈志强", "杨丽华", "赵德海", "黄玉梅")
PINYIN = ("Wang^Xiaoming", "Li^Xiuying", "Zhang^Jianguo", "Liu^Guilan", "Chen^Zhiqiang", "Yang^Lihua", "Zhao^Dehai",
          "Huang^Yumei")  # fmt: skip
INSTITUTION = "Hospital Number Nine of Nowhere"
OPERATOR = "Qian^Operator"
PRIVATE = "PRIVATE NOTE ON THE LADY IN BED 12"
COMMENT = "seen by Dr Unmistakable"

HEADER = (
    "住院号", "姓名", "性别", "出生日期", "检查日期", "身高(cm)", "体重 kg", "小腿围（cm）", "糖尿病史", "骨质疏松",
    "白蛋白(g/dL)", "血红蛋白 g/dL", "HbA1c[%]", "总胆固醇(TC) mg/dL", "甘油三酯", "HDL-C mmol/L", "LDL-C mmol/L",
    "25(OH)D (nmol/L)", "骨钙素 ng/mL", "FT3 pmol/L", "FT4 pmol/L", "TT3 nmol/L", "TT4 nmol/L", "TSH (µIU/mL)",
    "肌少症", "握力(kg)", "6米步速 m/s", "备注",
)  # fmt: skip


@dataclass
class Export:
    """What was written.

    Attributes:
        folder: the source.
        ids: hospital numbers, as the table writes them.
        frames: path of an image below the folder -> its stored pixels.
        masks: path of an image -> path of its mask.
        drawn: path of an image -> what was drawn, on the stored frame; LabelMe's outline is a pixel narrower.
        identifying: texts and bytes that name somebody; none may be found in what ingest writes.
        truth: hospital number -> column of the study -> value in the study's unit, NaN where missing.
    """

    folder: Path
    ids: tuple[str, ...] = ()
    frames: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    masks: dict[str, str] = field(default_factory=dict)
    drawn: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    identifying: set[bytes] = field(default_factory=set)
    truth: dict[str, dict[str, float]] = field(default_factory=dict)

    def names(self, *texts: str) -> None:
        """Remember texts that name somebody, in the encodings that a hospital uses."""
        for text in texts:
            self.identifying |= {text.encode(), text.encode("gb18030"), text.encode("utf-16-le")}


def make_export(folder: Path, people: int = 6, seed: int = 1) -> Export:
    """Write the folder: ``people`` persons, the last without an image, and some files of nobody."""
    rng = np.random.default_rng(seed)
    # Ten digits: six would, once in some hundred runs, stand by chance within the digits of a new UID.
    export = Export(folder, tuple(f"00{73104418 + 1300013 * k}" for k in range(people)))
    export.names(INSTITUTION, OPERATOR, PRIVATE, COMMENT)
    (folder / "数据").mkdir(parents=True)
    rows = [_person(export, k, rng) for k in range(people)]
    write_sheet(folder / "数据" / "患者信息.csv", HEADER, rows)
    calibrations = []
    for k, id_ in enumerate(export.ids[:-1]):
        day = f"202311{10 + k}"
        for number in (1, 2):
            path = f"超声/{id_}_{NAMES[k]}/{day}/SER0001/IM_{number:04d}"
            _dicom_and_mask(export, path, k, rng, mask=f"分割/{id_}/IM_{number:04d}.nii.gz" if number == 1 else "")
        path = f"照片/{id_}_RF_L_1.jpg"
        _photograph(export, path, k, rng)
        calibrations.append(path)
        export.names(id_, NAMES[k], PINYIN[k], PINYIN[k].replace("^", " "), day)
    export.names(export.ids[-1], NAMES[people - 1])
    lines = [f"{path},{','.join(map(str, REGION))},{MM},{MM}" for path in calibrations]
    head = "image,x0,y0,x1,y1,mm_per_pixel_row,mm_per_pixel_column"
    (folder / "calibration.csv").write_text("\n".join([head, *lines, ""]), encoding="utf-8")
    (folder / "manifest.json").write_text('{"synthetic": true, "notice": "SYNTHETIC: no such hospital exists"}\n')
    _of_nobody(export, rng)
    return export


def write_sheet(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]], encoding: str = "gb18030") -> Path:
    """Semicolons, GB 18030, Windows' line ends: what a Chinese Excel with European settings exports."""
    buffer = StringIO()
    csv.writer(buffer, delimiter=";", lineterminator="\r\n").writerows([header, *rows])
    path.write_bytes(buffer.getvalue().encode(encoding))
    return path


def _person(export: Export, k: int, rng: np.random.Generator) -> list[str]:
    """Cells of one person; what they mean in the study goes into the truth."""
    id_, male, sick, frail = export.ids[k], k % 2 == 0, k % 3 == 0, k % 3 != 1
    born, seen = datetime.date(1941 + k, 5, 3 + k), datetime.date(2023, 11, 10 + k)
    height, weight = float(rng.integers(150, 180)), round(float(rng.uniform(45, 80)), 1)
    labs = {name: round(float(rng.uniform(low, high)), 2) for name, low, high in _LABS}
    export.names(born.strftime("%d.%m.%Y"), born.strftime("%Y%m%d"), seen.strftime("%d.%m.%Y"))
    age = seen.year - born.year - ((seen.month, seen.day) < (born.month, born.day))
    export.truth[id_] = {
        "age_years": age, "male": male, "height_m": height / 100, "weight_kg": weight,
        "bmi_kg_per_m2": weight / (height / 100) ** 2, "diabetes": sick, "osteoporosis": not sick, "sarcopenia": frail,
        "albumin_g_per_l": labs["alb"] * 10, "haemoglobin_g_per_l": labs["hb"] * 10, "hba1c_percent": labs["a1c"],
        "total_cholesterol_mmol_per_l": labs["tc"] / 38.666, "triglycerides_mmol_per_l": labs["tg"],
        "vitd_25oh_ng_per_ml": labs["vitd"] * 0.400647, "tsh_miu_per_l": labs["tsh"],
        "ft3_pmol_per_l": labs["ft3"], "grip_kg": labs["grip"], "gait_speed_m_per_s": labs["gait"],
        "calf_circumference_cm": labs["calf"],
    }  # fmt: skip
    cells = [id_, NAMES[k], "男" if male else "女", born.strftime("%d.%m.%Y"), seen.strftime("%d.%m.%Y"), f"{height:g}",
             f"{weight:g}", f"{labs['calf']:g}", "有" if sick else "无", "否" if sick else "是", f"{labs['alb']:g}",
             f"{labs['hb']:g}", f"{labs['a1c']:g}", f"{labs['tc']:g}", f"{labs['tg']:g}", f"{labs['hdl']:g}",
             f"{labs['ldl']:g}", f"{labs['vitd']:g}", f"{labs['oc']:g}", f"{labs['ft3']:g}", f"{labs['ft4']:g}",
             f"{labs['tt3']:g}", f"{labs['tt4']:g}", f"{labs['tsh']:g}", "是" if frail else "否", f"{labs['grip']:g}",
             f"{labs['gait']:g}", COMMENT]  # fmt: skip
    cells = [cell.replace(".", ",") if cell.replace(".", "", 1).isdigit() else cell for cell in cells]
    if k == 1:
        cells[HEADER.index("血红蛋白 g/dL")] = "未查"
        cells[HEADER.index("TSH (µIU/mL)")] = "<0,01"
        export.truth[id_] |= {"haemoglobin_g_per_l": np.nan, "tsh_miu_per_l": np.nan}
    return cells


_LABS = (
    ("alb", 3.2, 4.8), ("hb", 10.5, 15.5), ("a1c", 5.1, 9.5), ("tc", 130, 240), ("tg", 0.7, 2.5), ("hdl", 0.9, 1.8),
    ("ldl", 1.6, 3.9), ("vitd", 30, 90), ("oc", 8, 20), ("ft3", 4, 6), ("ft4", 12, 18), ("tt3", 1.2, 2.0),
    ("tt4", 80, 120), ("tsh", 0.8, 4), ("grip", 15, 40), ("gait", 0.6, 1.3), ("calf", 29, 38),
)  # fmt: skip


# ---- images ----------------------------------------------------------------------------------------------------------


def screen(rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A stored frame: noise like writing above and beside the tissue, and the muscle's mask."""
    rows, columns = np.mgrid[: FRAME[0], : FRAME[1]] + 0.5
    middle, half = rng.uniform(50, 60), rng.uniform(10, 16)
    mask = ((rows - middle) / half) ** 2 + ((columns - 64) / (2 * half)) ** 2 < 1
    speckle = cv2.GaussianBlur(rng.rayleigh(40, FRAME), (0, 0), 1.2)  # a beam is wider than a pixel
    frame = (speckle + 50 * mask).clip(0, 250).astype(np.uint8)
    x0, y0, x1, y1 = REGION
    around = np.ones(FRAME, dtype=bool)
    around[y0:y1, x0:x1] = False
    frame[around] = 255 * rng.integers(0, 2, int(around.sum()))
    return frame, mask


def _dicom_and_mask(export: Export, path: str, k: int, rng: np.random.Generator, mask: str) -> None:
    frame, drawn = screen(rng)
    export.frames[path] = frame
    export.identifying.add(frame[:BANNER].tobytes()[:64])
    written = dcmread(write_named_dicom(export.folder / path, frame, export.ids[k], PINYIN[k], f"202311{10 + k}"))
    export.names(written.SOPInstanceUID, written.StudyInstanceUID, written.SeriesInstanceUID, written.AccessionNumber)
    if mask:
        export.masks[path], export.drawn[path] = mask, drawn
        write_nifti(export.folder / mask, drawn)


def write_named_dicom(path: Path, frame: NDArray[np.uint8], id_: str, name: str, day: str) -> Path:
    """An ultrasound image full of names: header, sequence, private element, and bytes behind the pixels."""
    data = Dataset()
    data.SpecificCharacterSet = "GB18030"
    data.SOPClassUID, data.SOPInstanceUID = uid.UltrasoundImageStorage, uid.generate_uid(entropy_srcs=[str(path)])
    data.StudyInstanceUID = uid.generate_uid(entropy_srcs=[id_, day])
    data.SeriesInstanceUID = uid.generate_uid(entropy_srcs=[id_, day, "1"])
    data.PatientName, data.PatientID, data.PatientBirthDate = name, id_, "19410503"
    data.StudyDate = data.SeriesDate = data.ContentDate = day
    data.StudyTime, data.AccessionNumber = "101500", f"ACC{id_}"
    data.InstitutionName, data.OperatorsName, data.ReferringPhysicianName = INSTITUTION, OPERATOR, "Sun^Doctor"
    data.StudyDescription, data.ImageComments = f"thigh of {name}", COMMENT
    data.Modality, data.Manufacturer, data.ManufacturerModelName = "US", "Tiny", "U1"
    data.TransducerData, data.DepthOfScanField = "L10-2", 40
    data.Laterality, data.BurnedInAnnotation = "R", "YES"
    request = Dataset()
    request.RequestedProcedureDescription, request.ScheduledProcedureStepID = f"for {name}", id_
    data.RequestAttributesSequence = [request]
    block = data.private_block(0x0019, "TINY PRIVATE", create=True)
    block.add_new(0x01, "LO", PRIVATE)
    data.SequenceOfUltrasoundRegions = [_region()]
    data.Rows, data.Columns = frame.shape[:2]
    colour = frame.ndim == 3
    data.SamplesPerPixel, data.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.PixelData = frame.tobytes()
    data["PixelData"].VR = "OB"
    data.add_new(0xFFFCFFFC, "OB", PRIVATE.encode())  # data set trailing padding
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def _region() -> Dataset:
    region = Dataset()
    region.RegionSpatialFormat = region.RegionDataType = 1
    region.RegionLocationMinX0, region.RegionLocationMinY0 = REGION[0], REGION[1]
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = REGION[2] - 1, REGION[3] - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = MM / 10
    return region


def _photograph(export: Export, path: str, k: int, rng: np.random.Generator) -> None:
    """A JPG of the screen with EXIF and a comment, and a LabelMe file that holds the picture once more."""
    frame, drawn = screen(rng)
    export.frames[path], export.drawn[path] = frame, drawn
    export.masks[path] = path.replace(".jpg", ".json")
    picture = Image.fromarray(frame)
    exif = picture.getexif()
    exif[0x010E], exif[0x013B] = PINYIN[k], OPERATOR  # description, artist
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=95, exif=exif, comment=PRIVATE.encode())
    content = buffer.getvalue() + b"\n" + PRIVATE.encode()
    target = export.folder / path
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(content)
    embedded = base64.b64encode(content).decode()
    export.identifying.add(embedded[:400].encode())
    write_labelme(target.with_suffix(".json"), drawn, target.name, embedded, COMMENT)


def write_nifti(path: Path, mask: NDArray[np.bool_], label: int = 1) -> Path:
    """A mask as ITK-SNAP saves it, with a text in its header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray((mask[None] * label).astype(np.uint16))
    image.SetMetaData("descrip", "drawn by Unmistakable")
    sitk.WriteImage(image, str(path), useCompression=True)
    return path


def write_labelme(path: Path, mask: NDArray[np.bool_], image: str, embedded: str, comment: str) -> Path:
    """The mask's outline, one stretch per column, with the image inside the file."""
    columns = np.flatnonzero(mask.any(axis=0))
    top = mask.argmax(axis=0)[columns]
    below = len(mask) - mask[::-1].argmax(axis=0)[columns]
    points = [[float(x) + 0.5, float(y)] for x, y in zip(columns, top, strict=True)]
    points += [[float(x) + 0.5, float(y)] for x, y in zip(columns[::-1], below[::-1], strict=True)]
    page = {
        "version": "5.5.0",
        "shapes": [{"label": "rectus_femoris", "points": points, "shape_type": "polygon", "description": comment}],
        "imagePath": image,
        "imageData": embedded,
        "imageHeight": mask.shape[0],
        "imageWidth": mask.shape[1],
    }
    path.write_text(json.dumps(page, ensure_ascii=False), encoding="utf-8")
    return path


# ---- what does not belong there --------------------------------------------------------------------------------------


def _of_nobody(export: Export, rng: np.random.Generator) -> None:
    """An image of an unknown person, a mask without an image, a damaged file, and what programs leave behind."""
    folder = export.folder
    frame, drawn = screen(rng)
    export.names("0099999", "Nobody^Known")
    write_named_dicom(
        folder / "超声/0099999_某某/20231201/SER0001/IM_0001", frame, "0099999", "Nobody^Known", "20231201"
    )
    write_nifti(folder / "分割/0099999/IM_0007.nii.gz", drawn)
    whole = next(iter(export.frames))
    damaged = f"{whole.rsplit('/', 1)[0]}/IM_0009"
    (folder / damaged).write_bytes((folder / whole).read_bytes()[: -FRAME[0] * FRAME[1] // 2])
    (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + b"1.2.840.10008.1.3.10")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._IM_0001").write_bytes(struct.pack(">I", 0x00051607))
    (folder / "照片" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (folder / "报告.pdf").write_bytes(b"%PDF-1.4 " + COMMENT.encode())
