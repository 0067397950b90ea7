"""Three synthetic hospitals and a central test cohort, as folders in the formats real hospitals have.

Everything is planned first from the seed (``plan.py``), then drawn image by image, each from a generator of its own:
the bytes depend on the parameters only, not on order, workers or interruptions. An image is written under a temporary
name and renamed; a run that was killed goes on where it stopped. Tables and manifests come last.

    make_cohort(Path("hospitals"), scale="small", seed=1)
"""

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sarco_models.errors import ConfigError
from sarco_models.workers import pool as worker_pool
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
from simulation.table1 import median_deviation
from simulation.tables import DECIMALS

BATCH = 16  # images per message to a worker
NOTICE = "SYNTHETIC: made by SARCO-FL from published summary statistics. No patient exists; not clinical evidence."


@dataclass(frozen=True)
class Written:
    """What is known of an image once its files lie in place."""

    planned: PlannedImage
    region: Region
    preview: Preview


Progress = Callable[[int, int], None]


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
    _claim(out, parameters)
    tasks = [(out / site.name, image) for site in sites for image in site.images]
    written = iter(_write_images(tasks, workers, progress or (lambda done, total: None)))
    for site in sites:
        _write_tables(out, site, [next(written) for _ in site.images], parameters)
    return {site.name: out / site.name for site in sites}


def _claim(out: Path, parameters: Parameters) -> None:
    """Mark ``out`` as this cohort's, or find that it is."""
    plan = out / "plan.json"
    wanted = asdict(parameters)
    if plan.exists():
        found = json.loads(plan.read_text(encoding="utf-8"))
        other = [f"{k} = {found.get(k)!r} there, {v!r} asked" for k, v in wanted.items() if found.get(k) != v]
        if other:
            raise ConfigError(
                f"{out} holds a cohort made with other parameters ({'; '.join(other)}): "
                "choose another folder, or ask for the same parameters to complete it"
            )
        return
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty and holds no plan.json of a synthetic cohort: choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    _write(plan, _json(wanted))


Task = tuple[Path, PlannedImage]


def _write_images(tasks: Sequence[Task], workers: int, progress: Progress) -> Iterator[Written]:
    """Draw and write all images, in order."""
    for folder in sorted({(site / path).parent for site, image in tasks for path in (image.image, image.mask)}):
        folder.mkdir(parents=True, exist_ok=True)
    batches = [tasks[k : k + BATCH] for k in range(0, len(tasks), BATCH)]
    done = 0
    for batch in _in_order(batches, workers):
        done += len(batch)
        progress(done, len(tasks))
        yield from batch


def _in_order(batches: Sequence[Sequence[Task]], workers: int) -> Iterator[list[Written]]:
    if workers == 1:
        yield from map(_write_batch, batches)
        return
    with worker_pool(min(workers, len(batches))) as pool:
        yield from pool.map(_write_batch, batches)


def _write_batch(tasks: Sequence[Task]) -> list[Written]:
    return [write_image(site, image) for site, image in tasks]


def write_image(site: Path, planned: PlannedImage) -> Written:
    """Draw one image and put it and its mask into the site's folder, unless both are there."""
    image_file, mask_file, exam = site / planned.image, site / planned.mask, planned.exam
    rng = np.random.default_rng(planned.seeds)
    if _complete(image_file) and _complete(mask_file):
        seen = preview(exam.subject, rng, device=planned.machine, width_px=planned.width_px)
        return Written(planned, region_in_frame(exam.device, planned.width_px, seen.height_px), seen)
    image = render(exam.subject, rng, device=planned.machine, width_px=planned.width_px)
    region = region_in_frame(exam.device, *image.pixels.shape[::-1])
    banner = f"{formats.fake_name(exam.participant_id)}  {exam.participant_id}  {exam.day:%Y-%m-%d}"
    frame = framed(image.pixels, planned.machine, image.depth_mm, banner if planned.burned_in else "")
    _write(mask_file, _mask_bytes(mask_in_frame(image.mask, exam.device), planned))
    picture = formats.jpg_bytes(frame) if exam.jpg else formats.dicom_bytes(frame, planned, image.preview, region)
    _write(image_file, picture)
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
    _write(folder / "participants.csv", _csv(site.table.columns, _rows(site.table)))
    columns = ("image", "participant_id", "muscle", "side", "mask", "exam_date")
    images = (
        (i.image, i.participant_id, i.exam.subject.muscle, i.side, i.mask, i.exam.day.isoformat()) for i in site.images
    )
    _write(folder / "images.csv", _csv(columns, images))
    _write_calibration(folder, written)
    (out / "truth").mkdir(exist_ok=True)
    _write(out / "truth" / f"{site.name}.csv", _truth(written))
    manifest = {"notice": NOTICE, "synthetic": True, "site": site.name, **asdict(parameters)}
    manifest |= {"participants": len(site.table), "images": len(site.images)}
    if site.name in CENTERS:
        manifest["label_rule"] = CENTERS[site.name].label_rule
    if site.name == SHANGHAI.name:
        manifest["median_deviation_from_table_1"] = median_deviation(site.table)
    _write(folder / "manifest.json", _json(manifest))


def _write_calibration(folder: Path, written: Sequence[Written]) -> None:
    """Region and spacing of the frames that cannot say it themselves; no file where all can."""
    columns = ("image", "x0", "y0", "x1", "y1", "mm_per_pixel_row", "mm_per_pixel_column")
    rows = [
        (w.planned.image, *w.region, f"{w.preview.mm_per_pixel:.6f}", f"{w.preview.mm_per_pixel:.6f}")
        for w in written
        if w.planned.exam.jpg
    ]
    if rows:
        _write(folder / "calibration.csv", _csv(columns, rows))


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
    return _csv(columns, rows)


def _rows(table: pd.DataFrame) -> Iterator[list[str]]:
    """Cells as a hospital's export prints them; empty = missing."""
    texts = [_texts(table[column], DECIMALS.get(str(column))) for column in table.columns]
    yield from (list(row) for row in zip(*texts, strict=True))


def _texts(values: "pd.Series[Any]", decimals: int | None) -> list[str]:
    if decimals is None:
        return ["" if pd.isna(v) else str(v) for v in values]
    return ["" if pd.isna(v) else f"{v:.{decimals}f}" for v in values]


def _csv(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> bytes:
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def _complete(path: Path) -> bool:
    """A file under its own name was renamed into place; empty, it was lost by the disk and counts as absent."""
    return path.exists() and path.stat().st_size > 0


def _write(path: Path, content: bytes) -> None:
    """Put a file in place, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)  # noqa: PTH105 - one call, atomic on every platform
