"""Three synthetic hospitals and a central test cohort, as folders in the formats real hospitals have.

Everything is planned first from the seed (``plan.py``), then drawn image by image, each from a generator of its own:
the bytes depend on the parameters only, not on order, workers or interruptions. An image is written under a temporary
name and renamed; a run that was killed goes on where it stopped. Tables and manifests come last.

    make_cohort(Path("hospitals"), scale="small", seed=1)
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sarco_models.errors import ConfigError
from simulation import formats
from simulation.centers import CENTERS, SHANGHAI
from simulation.frames import Region, framed, mask_in_frame, region_in_frame
from simulation.phantom import Preview, preview, render
from simulation.plan import (
    CENTRAL_PARTICIPANTS,
    CENTRAL_PARTICIPANTS_TINY,
    Parameters,
    PlannedImage,
    PlannedSite,
    plan_sites,
)
from simulation.resumable import Progress, claim, complete, csv_bytes, in_order, json_bytes, put
from simulation.table1 import median_deviation
from simulation.tables import DECIMALS

NOTICE = "SYNTHETIC: made by SARCO-FL from published summary statistics. No patient exists; not clinical evidence."


@dataclass(frozen=True)
class Written:
    """What is known of an image once its files lie in place."""

    planned: PlannedImage
    region: Region
    preview: Preview


def make_cohort(  # noqa: PLR0913 - all but the folder are options by name
    out: Path,
    *,
    scale: str = "small",
    seed: int = 1,
    preset: str = "paper_matched",
    central_participants: int | None = None,
    width_px: int = 224,
    device_shift: float = 1.0,
    prevalence_shift: float = 1.0,
    workers: int = 2,
    progress: Progress | None = None,
) -> dict[str, Path]:
    """Write the three hospitals and the central test cohort; run again after an interruption, it completes.

    Args:
        out: gets the folders ``shanghai``, ``sichuan``, ``zhongshan``, ``central`` and, apart from them, ``truth``.
        scale: ``full`` is the paper's size, ``small`` a quarter, ``tiny`` 48 people.
        seed: 0 or more; another seed is another cohort.
        preset: a key of ``centers.PRESETS``.
        central_participants: None is 300, at scale ``tiny`` 24.
        width_px: of the picture inside the frame.
        device_shift: how far each machine lies from centre A's in what its pictures depend on (``devices.shifted``);
            0 = all scan as centre A does, 1 = as the machines are, 4 at most.
        prevalence_shift: how far each centre's prevalence lies from that of all, on the logit scale
            (``centers.counts_at``); 0 = the same everywhere, 1 = the paper's, 4 at most.
        workers: processes; 1 draws in this one.
        progress: called with images done and images in all.

    Returns:
        Folder of each site and of ``central``.

    Raises:
        ConfigError: a parameter is out of range, or ``out`` was made with other parameters or holds something else.
    """
    if central_participants is None:
        central_participants = CENTRAL_PARTICIPANTS_TINY if scale == "tiny" else CENTRAL_PARTICIPANTS
    parameters = Parameters(
        scale, seed, preset, central_participants, width_px, float(device_shift), float(prevalence_shift)
    )
    sites = plan_sites(parameters)
    if workers < 1:
        raise ConfigError(f"workers: {workers}; at least 1 is needed")
    claim(out, asdict(parameters))
    tasks = [(out / site.name, image) for site in sites for image in site.images]
    for folder in sorted({(site / path).parent for site, image in tasks for path in (image.image, image.mask)}):
        folder.mkdir(parents=True, exist_ok=True)
    written = in_order(_write_planned, tasks, workers, progress)
    for site in sites:
        _write_tables(out, site, [next(written) for _ in site.images], parameters)
    return {site.name: out / site.name for site in sites}


def _write_planned(task: tuple[Path, PlannedImage]) -> Written:
    return write_image(*task)


def write_image(site: Path, planned: PlannedImage) -> Written:
    """Draw one image and put it and its mask into the site's folder, unless both are there."""
    image_file, mask_file, exam = site / planned.image, site / planned.mask, planned.exam
    rng = np.random.default_rng(planned.seeds)
    if complete(image_file) and complete(mask_file):
        seen = preview(exam.subject, rng, device=planned.machine, width_px=planned.width_px)
        return Written(planned, region_in_frame(exam.device, planned.width_px, seen.height_px), seen)
    image = render(exam.subject, rng, device=planned.machine, width_px=planned.width_px)
    region = region_in_frame(exam.device, *image.pixels.shape[::-1])
    banner = formats.banner_of(exam) if planned.burned_in else ""
    frame = framed(image.pixels, planned.machine, image.depth_mm, banner)
    put(mask_file, _mask_bytes(mask_in_frame(image.mask, exam.device), planned))
    picture = formats.jpg_bytes(frame) if exam.jpg else formats.dicom_bytes(frame, planned, image.preview, region)
    put(image_file, picture)
    return Written(planned, region, image.preview)


def _mask_bytes(mask: NDArray[np.bool_], planned: PlannedImage) -> bytes:
    match CENTERS[planned.exam.center].mask_format:
        case "nifti":
            return formats.nifti_mask_bytes(mask)
        case "png":
            return formats.png_mask_bytes(mask)
        case "labelme":
            return formats.labelme_mask_bytes(mask, f"../{planned.image}")


def _write_tables(out: Path, site: PlannedSite, written: Sequence[Written], parameters: Parameters) -> None:
    """The site's tables, then its manifest; the truth goes beside the sites, never into them."""
    folder = out / site.name
    put(folder / "participants.csv", csv_bytes(site.table.columns, _rows(site.table)))
    columns = ("image", "participant_id", "muscle", "side", "mask", "exam_date")
    images = (
        (i.image, i.participant_id, i.exam.subject.muscle, i.side, i.mask, i.exam.day.isoformat()) for i in site.images
    )
    put(folder / "images.csv", csv_bytes(columns, images))
    _write_calibration(folder, written)
    (out / "truth").mkdir(exist_ok=True)
    put(out / "truth" / f"{site.name}.csv", _truth(written))
    manifest = {"notice": NOTICE, "synthetic": True, "site": site.name, **asdict(parameters)}
    manifest |= {"participants": len(site.table), "images": len(site.images)}
    if site.name in CENTERS:
        manifest["label_rule"] = CENTERS[site.name].label_rule
    if site.name == SHANGHAI.name:
        manifest["median_deviation_from_table_1"] = median_deviation(site.table)
    put(folder / "manifest.json", json_bytes(manifest))


def _write_calibration(folder: Path, written: Sequence[Written]) -> None:
    """Region and spacing of the frames that cannot say it themselves; no file where all can."""
    rows = [(w.planned.image, w.region, w.preview.mm_per_pixel) for w in written if w.planned.exam.jpg]
    if rows:
        put(folder / "calibration.csv", formats.calibration_bytes(rows))


def _truth(written: Sequence[Written]) -> bytes:
    measures = list(asdict(written[0].preview.truth))
    columns = ("image", "participant_id", "center", "device", "depth_mm", "mm_per_pixel", *measures)
    rows = (
        (
            w.planned.image,
            w.planned.participant_id,
            w.planned.exam.center,
            w.planned.exam.device,
            w.preview.depth_mm,
            f"{w.preview.mm_per_pixel:.6f}",
            *(f"{v:.4f}" for v in asdict(w.preview.truth).values()),
        )
        for w in written
    )
    return csv_bytes(columns, rows)


def _rows(table: pd.DataFrame) -> Iterator[list[str]]:
    """Cells as a hospital's export prints them; empty = missing."""
    texts = [_texts(table[column], DECIMALS.get(str(column))) for column in table.columns]
    yield from (list(row) for row in zip(*texts, strict=True))


def _texts(values: "pd.Series[Any]", decimals: int | None) -> list[str]:
    if decimals is None:
        return ["" if pd.isna(v) else str(v) for v in values]
    return ["" if pd.isna(v) else f"{v:.{decimals}f}" for v in values]
