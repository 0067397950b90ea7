"""Reports to look at: a hospital with every kind of fault, one in order, and one whose table cannot be read.

Pixels are phantoms, values are drawn: nothing here is a person's.
"""

import io
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import binary_dilation

from client.quality.records import FeatureSummary, ImageRecord, MaskMeasures, QualityReport
from sarco_models.config import load_study
from sarco_models.errors import Finding, Severity
from sarco_models.images import Facts
from sarco_models.schema import ImageRow
from simulation.devices import DEVICES
from simulation.phantom import random_subject, render

STUDY = load_study(Path(__file__).parents[3] / "configs" / "study.toml")
TYPICAL = {  # mean and standard deviation, about as the paper's Table 1 has them
    "age_years": (71.0, 8.5), "height_m": (1.62, 0.08), "weight_kg": (61.0, 10.5), "bmi_kg_per_m2": (23.4, 3.1),
    "calf_circumference_cm": (33.6, 3.1), "total_cholesterol_mmol_per_l": (4.7, 1.0),
    "triglycerides_mmol_per_l": (1.4, 0.6), "hdl_mmol_per_l": (1.3, 0.3), "ldl_mmol_per_l": (2.9, 0.8),
    "hba1c_percent": (6.4, 1.2), "albumin_g_per_l": (40.5, 3.6), "haemoglobin_g_per_l": (131.0, 16.0),
    "vitd_25oh_ng_per_ml": (21.0, 8.0), "osteocalcin_ng_per_ml": (16.0, 7.0), "ft3_pmol_per_l": (4.6, 0.7),
    "ft4_pmol_per_l": (16.2, 2.6), "tt3_nmol_per_l": (1.7, 0.3), "tt4_nmol_per_l": (102.0, 20.0),
    "tsh_miu_per_l": (2.3, 1.4),
}  # fmt: skip
TRANSDUCERS = {"aixplorer": "SL10-2", "mindray_m9": "L12-4s", "mindray_mx7": "L12-3RCs", "samsung_r10": ""}


@cache
def phantoms(device: str) -> tuple[tuple[NDArray[np.uint8], NDArray[np.bool_], float], ...]:
    """Three pictures of a device: pixels, mask, millimetres per pixel."""
    rng = np.random.default_rng(sorted(DEVICES).index(device))
    drawn = [render(random_subject(rng), rng, device=device) for _ in range(3)]
    return tuple((image.pixels, image.mask, image.mm_per_pixel) for image in drawn)


def thumbnail(pixels: NDArray[np.uint8], mask: NDArray[np.bool_] | None, *, text: bool = False) -> bytes:
    """JPEG, 192 pixels wide, mask outlined, a corner blacked out when there is text."""
    colour = np.repeat(pixels[:, :, None], 3, axis=2)
    if mask is not None:
        colour[binary_dilation(mask, iterations=2) & ~mask] = (255, 200, 0)
    image = Image.fromarray(colour)
    if text:
        ImageDraw.Draw(image).rectangle((8, 6, 110, 22), fill=(0, 0, 0))
    file = io.BytesIO()
    image.resize((192, round(192 * len(pixels) / pixels.shape[1]))).save(file, "JPEG", quality=80)
    return file.getvalue()


@cache
def _pictured(device: str, which: int, fault: str) -> tuple[bytes, NDArray[np.int64]]:
    pixels, mask, _ = phantoms(device)[which]
    if fault == "dark":
        pixels = (pixels // 4).astype(np.uint8)
    shown = None if fault == "no-mask" else np.roll(mask, 55, axis=1) if fault == "shifted" else mask
    grey = np.bincount(pixels.ravel(), minlength=256).astype(np.int64)
    return thumbnail(pixels, shown, text=fault == "text"), grey


def record(number: int, person: int, device: str, fault: str = "", finding: Finding | None = None) -> ImageRecord:
    """One image: ``fault`` is what its picture shows."""
    row = ImageRow(number, f"images/{number:04}.dcm", f"P-{person:04}", f"masks/{number:04}.nii.gz")
    findings = (finding,) if finding else ()
    if fault == "unreadable":
        return ImageRecord(row, findings, left_out=True)
    machine, which = DEVICES[device], number % 3
    jpeg, grey = _pictured(device, which, fault)
    pixels, mask, mm = phantoms(device)[which]
    rng = np.random.default_rng(number)
    area = float(mask.sum() * mm**2 / 100 * rng.normal(1, 0.15))
    thickness = float(np.ptp(np.flatnonzero(mask.any(axis=1))) * mm * rng.normal(1, 0.12))
    measures = MaskMeasures("", area, thickness, float(pixels[mask].mean() + rng.normal(0, 5)), 1)
    jpg = device == "samsung_r10"
    return ImageRecord(
        row,
        findings,
        Facts(
            "JPEG" if jpg else "DICOM", "" if jpg else "US Image", TRANSDUCERS[device], 1, "",
            "found" if jpg else "file", "calibration" if jpg else "file", jpg,
        ),
        device="" if jpg else f"{machine.manufacturer} {machine.model}",
        shape=(len(pixels), pixels.shape[1]),
        stored_shape=(600, 800),
        mm_per_pixel=(mm, mm),
        content=f"{number:064x}",
        measures=None if fault in ("no-mask", "shifted") else measures,
        thumbnail=jpeg,
        grey=grey,
        left_out=fault in ("no-mask", "shifted"),
    )  # fmt: skip


def features(labels: NDArray[np.int8], *, missing: float = 0.0, seed: int = 1) -> tuple[FeatureSummary, ...]:
    """Every feature of the study; laboratory values are absent together, as a blood sample that was not taken."""
    rng = np.random.default_rng(seed)
    people = len(labels)
    no_blood = rng.random(people) < missing / 2
    found = []
    for position, f in enumerate(STUDY.features):
        if f.kind == "binary":
            values = (rng.random(people) < 0.25 + 0.2 * labels).astype(np.float64)
        else:
            mean, deviation = TYPICAL[f.name]
            values = mean + deviation * (rng.standard_normal(people) - 0.5 * labels)
            values = np.round(values, 2 if mean < 10 else 1).clip(f.low, f.high)
        values[rng.random(people) < missing * (position % 4) / 4] = np.nan
        values[no_blood & (f.group == "lab")] = np.nan
        found.append(FeatureSummary(f.name, f.unit, f.low, f.high, f.kind, values))
    return tuple(found)


def faulty(people: int = 88, *, seed: int = 1) -> QualityReport:
    """A hospital with faults of every kind, and three images a person."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(people) < 0.25).astype(np.int8)
    labels[5] = -1
    columns = list(features(labels, missing=0.35, seed=seed + 1))
    names = [f.name for f in columns]
    triglycerides, albumin = names.index("triglycerides_mmol_per_l"), names.index("albumin_g_per_l")
    columns[triglycerides].values[3] = 17.2  # far off, and plausible
    columns[names.index("tt4_nmol_per_l")].values[8:] = np.nan  # too few to draw
    columns[albumin].values[20:35] = np.nan  # refused: g/dL
    records = _faulty_records(people)
    found = [f for r in records for f in r.findings] + _table_findings(people, albumin_rows=range(22, 37))
    order = {"error": 0, "warning": 1, "note": 2}
    found.sort(key=lambda f: (order[f.severity], f.rule, f.file, f.row or 0, f.field))
    return QualityReport(
        STUDY.title, STUDY.digest, "Shanghai", True, tuple(found), people, labels, tuple(range(2, people + 2)),
        tuple(columns), records, np.arange(len(records)) // 3,
        usable=(int((labels == 0).sum()), int((labels == 1).sum())),
        label_rules={"awgs2019": (57, 60), "awgs2025": (51, 60), "ewgsop2": (48, 60)},
        checked={"tables": True, "images": True, "masks": True, "identity": True, "overlap": False},
    )  # fmt: skip


def _finding(severity: Severity, rule: str, row: int, *words: str) -> Finding:
    seen, expected, remedy = words
    return Finding(severity, rule, f"images/{row:04}.dcm", seen, expected, remedy, row)


def _faulty_records(people: int) -> tuple[ImageRecord, ...]:
    made = []
    devices = ["aixplorer", "mindray_m9", "samsung_r10"]
    for k in range(3 * people):
        row, device, fault, finding = k + 2, devices[(k // 3) % 3 if k % 17 else 1], "", None
        if k % 23 == 4:
            fault, finding = "text", _finding(
                "error", "burned-in-text", row, "2 places that look like text", "no text in the tissue region",
                "give the tissue region in calibration.csv, or export the frame without annotations",
            )  # fmt: skip
        elif k % 31 == 7:
            fault, finding = "unreadable", _finding(
                "error", "decode", row, "the pixel data end after 61,440 of 480,000 bytes", "a complete file",
                "copy or export the file again",
            )  # fmt: skip
        elif k % 41 == 9:
            fault, finding = "dark", _finding(
                "warning", "saturated", row, "98 % of the pixels below grey level 40", "a frame with visible tissue",
                "look at it: export it again, or take it out of images.csv",
            )  # fmt: skip
        elif k % 37 == 11:
            fault, finding = "shifted", _finding(
                "warning", "mask-shifted", row, "edges fit 5.2 mm further left", "an outline along the muscle's edge",
                "look at the outline, and draw it again on this very image",
            )  # fmt: skip
        elif k % 53 == 13:
            fault, finding = "no-mask", _finding(
                "warning", "mask-missing", row, "no mask", "a mask of the muscle", "the image is left out: draw one",
            )  # fmt: skip
        made.append(record(row, k // 3, device, fault, finding))
    return tuple(made)


def _table_findings(people: int, albumin_rows: range) -> list[Finding]:
    table = "participants.csv"
    unit = "convert the column to this unit, correct the value, or leave the cell empty"
    found = [
        Finding("error", "range", table, f"{3.2 + 0.1 * (r % 12):.1f}", "10 to 60 g/L", unit, r, "albumin_g_per_l")
        for r in albumin_rows
    ]
    found += [
        Finding("error", "range", table, "168", "1.2 to 2.2 m", unit, 9, "height_m"),
        Finding("error", "range", table, "text of 3 characters", "0.5 to 15 mmol/L", unit, 41,
                "total_cholesterol_mmol_per_l"),
        Finding("error", "label", table, "empty", "0 or 1", "fill it in, or remove the participant", 7, "sarcopenia"),
        Finding("error", "duplicate-id", table, "the same id as row 12", "an id of its own",
                "one row per person: merge the rows or correct the id", 30, "participant_id"),
        Finding("warning", "column", table, "unknown column", "a column of the study", "it is not read", None, "smi"),
        Finding("warning", "column", table, "absent", "a column of the study", "counts as missing for everybody",
                None, "osteocalcin_ng_per_ml"),
        Finding("warning", "bmi", table, "BMI 31.2 beside 1.66 m and 61.0 kg", "22.1 from height and weight",
                "correct whichever of the three is wrong", 18, "bmi_kg_per_m2"),
        Finding("warning", "leakage", table, "ranks people by label with an area of .99 under the curve",
                "no column that gives the label away", "ask who made this column, and from what", None, "male"),
        Finding("warning", "cohort-size", table, "16 positive + 47 negative", "20 or more of each class",
                "add people of the smaller class if you can"),
        Finding("note", "outlier", table, "17.2, 5.1 robust standard deviations above", "near 1.4 mmol/L, the median",
                "look it up in the record", 5, "triglycerides_mmol_per_l"),
    ]  # fmt: skip
    remedy = "add the person's images; until then the model does without"
    found += [
        Finding("note", "one-table-only", table, "no row in images.csv", "at least one image", remedy, r,
                "participant_id")
        for r in range(2, people + 2, 3)
    ]  # fmt: skip
    return found


def clean(people: int = 40) -> QualityReport:
    """A hospital in order: nothing was found."""
    labels = (np.arange(people) % 3 == 0).astype(np.int8)
    records = tuple(record(k + 2, k // 2, ["aixplorer", "mindray_mx7"][k % 2]) for k in range(2 * people))
    return QualityReport(
        STUDY.title, STUDY.digest, "Sichuan", False, (), people, labels, tuple(range(2, people + 2)),
        features(labels), records, np.arange(2 * people) // 2,
        usable=(int((labels == 0).sum()), int((labels == 1).sum())),
        label_rules={"awgs2019": (people, people)},
        checked={"tables": True, "images": True, "masks": True, "identity": True, "overlap": True},
    )  # fmt: skip


def cannot_check() -> QualityReport:
    """A folder whose table of participants cannot be read."""
    found = (
        Finding("error", "cannot-check", "participants.csv", "nothing else was looked at", "a readable table",
                "mend the faults of the table, or let sarco-site ingest write it"),
        Finding("error", "encoding", "participants.csv", "not UTF-8", "UTF-8 text", "save it as 'CSV UTF-8'"),
    )  # fmt: skip
    nobody = np.zeros(0, dtype=np.int8)
    return QualityReport(
        STUDY.title, STUDY.digest, "Zhongshan", False, found, 0, nobody, (), (), (), np.zeros(0, dtype=np.int64), (0, 0)
    )


def large(images: int = 4000) -> QualityReport:
    """A large site: four images a person, and a finding for every third."""
    people = images // 4
    labels = (np.arange(people) % 4 == 0).astype(np.int8)
    devices = sorted(DEVICES)
    finding = _finding(
        "warning", "mask-missing", 2, "no mask", "a mask of the muscle", "the image is left out: draw one"
    )
    records = tuple(
        record(k + 2, k // 4, devices[k % 4], "", None if k % 3 else replace(finding, file=f"{k}.dcm", row=k + 2))
        for k in range(images)
    )
    found = [f for r in records for f in r.findings] + _table_findings(people, albumin_rows=range(2, people))
    return QualityReport(
        STUDY.title, STUDY.digest, "Large", True, tuple(found), people, labels, tuple(range(2, people + 2)),
        features(labels, missing=0.3), records, np.arange(images) // 4,
        usable=(int((labels == 0).sum()), int((labels == 1).sum())),
    )  # fmt: skip
