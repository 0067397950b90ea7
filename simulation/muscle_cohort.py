"""Synthetic hospitals of the muscle study: masks of five muscles, body composition and chair rise, as real files.

As ``synthetic`` does for the first study: planned from the seed, drawn image by image, resumable, the same bytes for
the same parameters. Each hospital draws only some of the muscles and says so in the column ``annotated``; images that
show none of them have no mask. The truth lies beside the hospitals.

    make_muscle_cohort(Path("hospitals"), scale="small", seed=1)
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from sarco_models.errors import ConfigError
from simulation import formats
from simulation.anatomy import Subject, Truth
from simulation.frames import Region, framed, mask_in_frame, region_in_frame
from simulation.label_formats import DESCRIPTIONS_FILE, itksnap_descriptions, label_in, mask_bytes
from simulation.muscle_people import DECIMALS, POPULATION, PRINTED_R, Sign
from simulation.muscle_plan import SCALES, MuscleSite, Parameters, PlannedView, plan_muscles
from simulation.phantom import Preview, preview, render
from simulation.resumable import Progress, claim, complete, csv_bytes, in_order, json_bytes, put

NOTICE = (
    "SYNTHETIC: made by SARCO-FL. No patient exists; not clinical evidence. Muscle sizes are tied to body composition "
    "and chair rise so that their correlations are those printed by Zhang et al., Gerontechnology 25(s): calibration."
)
_COLUMNS = (
    "age_years", "male", "height_m", "weight_kg", "fat_free_mass_kg", "muscle_mass_kg", "sit_to_stand_s",
)  # fmt: skip


@dataclass(frozen=True)
class Written:
    """What is known of an image once its files lie in place."""

    planned: PlannedView
    region: Region
    preview: Preview


def make_muscle_cohort(  # noqa: PLR0913 - all but the folder are options by name
    out: Path,
    *,
    scale: str = "small",
    seed: int = 1,
    sites: int = 3,
    central_participants: int | None = None,
    width_px: int = 224,
    device_shift: float = 1.0,
    peroneus: Sign = "physiological",
    annotates: Mapping[str, Sequence[str]] = MappingProxyType({}),
    workers: int = 2,
    progress: Progress | None = None,
) -> dict[str, Path]:
    """Write the hospitals and a central test cohort; run again after an interruption, it completes.

    Args:
        out: gets a folder for each hospital, ``central`` and, apart from them, ``truth``.
        scale: ``full`` is the paper's 94 people, ``small`` half of them, ``tiny`` 18 on one side.
        seed: 0 or more; another seed is another cohort.
        sites: hospitals, 1 to 9; from the fourth on they scan and draw as the first three do.
        central_participants: in the central test cohort, where all muscles are drawn; None follows the scale, 0: none.
        width_px: of the picture inside the frame.
        device_shift: see :func:`simulation.devices.shifted`.
        peroneus: sign of r between peroneus and the time to rise; ``as_printed`` is the paper's, +.748.
        annotates: muscles that a hospital draws, by its name, instead of its own choice.
        workers: processes; 1 draws in this one.
        progress: called with images done and images in all.

    Returns:
        Folder of each site and of ``central``.

    Raises:
        ConfigError: a parameter is out of range, or ``out`` was made with other parameters or holds something else.
    """
    if scale not in SCALES:
        raise ConfigError(f"scale: {scale!r}; expected one of {', '.join(SCALES)}")
    central = SCALES[scale].central if central_participants is None else central_participants
    chosen = tuple((name, tuple(muscles)) for name, muscles in sorted(annotates.items()))
    parameters = Parameters(scale, seed, sites, central, width_px, float(device_shift), peroneus, chosen)
    plans = plan_muscles(parameters)
    if workers < 1:
        raise ConfigError(f"workers: {workers}; at least 1 is needed")
    claim(out, asdict(parameters))
    for site in plans:
        for folder in ("images", "masks"):
            (out / site.name / folder).mkdir(parents=True, exist_ok=True)
    tasks = [(out / site.name, view) for site in plans for view in site.views]
    written = in_order(_write_planned, tasks, workers, progress)
    for site in plans:
        _write_tables(out, site, [next(written) for _ in site.views], parameters)
    return {site.name: out / site.name for site in plans}


def drawn_by(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Hospital -> muscles, from texts such as ``hospital_a=biceps_brachii,rectus_femoris``.

    Raises:
        ConfigError: a text is none of that kind, or a hospital comes twice.
    """
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, equals, muscles = text.partition("=")
        if not equals or name.strip() in found:
            wrong = "comes twice" if equals else "names no muscles"
            raise ConfigError(f"annotates: {text!r} {wrong}; write hospital_a=biceps_brachii,rectus_femoris, each once")
        found[name.strip()] = tuple(m.strip() for m in muscles.split(",") if m.strip())
    return found


def _write_planned(task: tuple[Path, PlannedView]) -> Written:
    return write_view(*task)


def write_view(site: Path, planned: PlannedView) -> Written:
    """Draw one image and put it and its mask, if it has one, into the site's folder, unless they are there."""
    image_file, mask_file, exam = site / planned.image, site / planned.mask, planned.exam
    rng = np.random.default_rng(planned.seeds)
    if complete(image_file) and (not planned.mask or complete(mask_file)):
        seen = preview(planned.scanned, rng, device=planned.machine, width_px=planned.width_px)
        return Written(planned, region_in_frame(exam.device, planned.width_px, seen.height_px), seen)
    image = render(planned.scanned, rng, device=planned.machine, width_px=planned.width_px)
    region = region_in_frame(exam.device, *image.pixels.shape[::-1])
    banner = formats.banner_of(exam) if planned.burned_in else ""
    frame = framed(image.pixels, planned.machine, image.depth_mm, banner)
    if planned.mask:
        masks = [m for m in (image.mask, image.second_mask) if m is not None]
        named = [(name, mask_in_frame(m, exam.device)) for name, m in zip(planned.muscles, masks, strict=True)]
        size = (frame.shape[0], frame.shape[1])
        kind = exam.hospital.mask_format
        put(mask_file, mask_bytes(kind, planned.outlines(named), size, f"../{planned.image}"))
    picture = formats.jpg_bytes(frame) if exam.jpg else formats.dicom_bytes(frame, planned, image.preview, region)
    put(image_file, picture)
    return Written(planned, region, image.preview)


def _write_tables(out: Path, site: MuscleSite, written: Sequence[Written], parameters: Parameters) -> None:
    """The site's tables, then its manifest; the truth goes beside the sites, never into them."""
    folder, truth = out / site.name, out / "truth"
    put(folder / "participants.csv", csv_bytes(("participant_id", "age_group", *_COLUMNS), _people(site)))
    columns = ("image", "participant_id", "muscle", "side", "mask", "exam_date", "mask_label", "annotated")
    put(folder / "images.csv", csv_bytes(columns, (_image_row(view) for view in site.views)))
    headerless = [(w.planned.image, w.region, w.preview.mm_per_pixel) for w in written if w.planned.exam.jpg]
    if headerless:
        put(folder / "calibration.csv", formats.calibration_bytes(headerless))
    if any(view.mask and view.exam.hospital.mask_format == "itksnap" for view in site.views):
        put(folder / "masks" / DESCRIPTIONS_FILE, itksnap_descriptions())
    truth.mkdir(exist_ok=True)
    put(truth / f"{site.name}.csv", _truth_of_images(written))
    put(truth / f"{site.name}_people.csv", _truth_of_people(site))
    put(folder / "manifest.json", json_bytes(_manifest(site, parameters)))


def _people(site: MuscleSite) -> Iterator[list[str]]:
    """Rows of participants.csv, as a hospital's export prints them."""
    for k, id_ in enumerate(site.ids):
        cells = (f"{getattr(site.people, c)[k]:.{DECIMALS.get(c, 0)}f}" for c in _COLUMNS)
        yield [id_, site.people.age_group[k], *cells]


def _image_row(view: PlannedView) -> tuple[str, ...]:
    hospital = view.exam.hospital
    label = label_in(hospital.mask_format, view.muscle) if view.mask else ""
    annotated = ";".join(hospital.called(m) for m in view.exam.annotates) if view.mask else ""
    muscle = hospital.called(view.muscle)
    return (
        view.image,
        view.participant_id,
        muscle,
        view.side,
        view.mask,
        view.exam.day.isoformat(),
        label,
        annotated,
    )


def _truth_of_images(written: Sequence[Written]) -> bytes:
    """One row for each muscle of each image, drawn at the hospital or not.

    ``whole`` is 0 in views of two muscles, where neither mid-belly need be seen: no measurement of the muscle.
    """
    columns = (
        "image", "participant_id", "muscle", "side", "view", "whole", "drawn", "device", "depth_mm", "mm_per_pixel",
        *Truth.__dataclass_fields__,
    )  # fmt: skip
    return csv_bytes(columns, (row for w in written for row in _truth_rows(w)))


def _truth_rows(w: Written) -> Iterator[tuple[object, ...]]:
    view = w.planned
    sides = ("right", "left") if view.view == "midline" else (view.side, view.side)
    truths = [t for t in (w.preview.truth, w.preview.second) if t is not None]
    for muscle, side, truth in zip(view.muscles, sides, truths, strict=False):
        yield (
            view.image,
            view.participant_id,
            muscle,
            side,
            view.view,
            int(view.view == "single"),
            int(muscle in view.drawn),
            view.exam.device,
            w.preview.depth_mm,
            f"{w.preview.mm_per_pixel:.6f}",
            *(f"{v:.4f}" for v in asdict(truth).values()),
        )


def _truth_of_people(site: MuscleSite) -> bytes:
    """What each person was made of: the latent numbers, and each muscle's size before a probe is placed."""
    sizes = [(name, side) for name, side in site.muscles[0]]
    named = [f"{name}_{side}_{what}_mm" for name, side in sizes for what in ("thickness", "width")]
    latents = site.people.latents
    rows = (
        (
            id_,
            *(f"{values[k]:.4f}" for values in latents.values()),
            *(f"{v:.3f}" for key in sizes for v in _size(site.muscles[k][key])),
        )
        for k, id_ in enumerate(site.ids)
    )
    return csv_bytes(("participant_id", *latents, *named), rows)


def _size(muscle: Subject) -> tuple[float, float]:
    return muscle.thickness_mm, muscle.width_mm


def _manifest(site: MuscleSite, parameters: Parameters) -> dict[str, object]:
    views = site.views
    hospital = {} if site.hospital is None else {"mask_format": site.hospital.mask_format}
    inverse = parameters.peroneus == "physiological"
    printed = {m: {"with": c, "r_printed": r} for m, (c, r) in PRINTED_R.items()}
    aimed = {m: -r if inverse and m == "peroneus_longus_brevis" else r for m, (_, r) in PRINTED_R.items()}
    return {
        "notice": NOTICE,
        "synthetic": True,
        "site": site.name,
        **asdict(parameters),
        "participants": len(site.ids),
        "images": len(views),
        "images_with_mask": sum(bool(v.mask) for v in views),
        "images_of_biceps_and_triceps": sum(v.view == "arm" for v in views),
        "images_of_both_recti_abdominis": sum(v.view == "midline" for v in views),
        "masks_with_two_muscles": sum(len(set(v.drawn)) > 1 for v in views),
        "annotates": list(views[0].exam.annotates),
        **hospital,
        "calibration_of_muscle_thickness": {m: {**printed[m], "r_aimed_at": aimed[m]} for m in printed},
        "columns_assumed_mean_and_sd": {c: list(v) for c, v in POPULATION.items()},
    }
