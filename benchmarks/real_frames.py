"""A segmentation model on real frames of other people's: what it finds, and small pictures for the documents.

    python benchmarks/real_frames.py --model RUN_OR_FILE --data FRAMES [--unroll] [--assume-mm .08] [--shown FRAME ...]

Says of every frame how the reader opened it, what was found and with which score. Pictures of --shown frames are
written as JPEG of at most 75 kB, each with the source and the licence of its frame. There are no masks of these frames:
``real_frames.json`` holds rough outlines of three of them, drawn by an engineer. Nothing here says how good a model is,
only what it does where it was never meant to work.

--unroll makes a panorama straight before the model sees it, as if the probe had moved over a plane: depth stays depth,
and what lies below the skin is stretched sideways as far as the skin is. --assume-mm is the spacing of frames that say
none: a guess, so that a model that looks at millimetres can look at all. Nothing is measured with it.
"""

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from sarco_models.errors import SarcoError  # noqa: E402
from sarco_models.hints import Calibration  # noqa: E402
from sarco_models.images import Frame, read_image  # noqa: E402
from sarco_models.labelme import inside_polygon  # noqa: E402
from sarco_models.muscle import measure  # noqa: E402
from sarco_models.overlays import Drawn, overlay  # noqa: E402
from sarco_models.plausible import judge, largest_pieces  # noqa: E402
from sarco_models.released_segmenter import ReleasedSegmenter, open_segmenter  # noqa: E402
from sarco_models.segmenter import Found, Segmenter  # noqa: E402

LARGEST, WIDTH = 75_000, 800
SHOWN = ("SUB01_img1", "SUB03_img1", "rectus_img_56", "rectus_img_57")
OUTLINES = Path(__file__).with_suffix(".json")


@dataclass(frozen=True)
class Source:
    """A folder of frames, whose they are, and what they show."""

    folder: str
    credit: str
    shows: str


SOURCES = (
    Source(
        "vastus_lateralis_white2025",
        "Frame: White et al., Ultrasound Med Biol 2025, doi 10.1016/j.ultrasmedbio.2025.08.008, "
        "github.com/kenziew/ultrasound_vl_csa_and_ei, MIT licence, Copyright (c) 2025 McKenzie White; outlines added.",
        "vastus lateralis, panorama",
    ),
    Source(
        "rectus_femoris_deepacsa",
        "Frame: DeepACSA, github.com/PaulRitsche/DeepACSA, Apache License 2.0; outlines added.",
        "rectus femoris, panorama",
    ),
)


ASKED = "rectus_femoris"
"""What a model is asked for that has to be: the muscle of the thigh that it knows, on frames of the other one, too."""


def _asking(segmenter: Segmenter) -> Segmenter:
    return segmenter.asking(ASKED) if segmenter.segmentation.classes == "asked" else segmenter


def _question(model: ReleasedSegmenter, source: Source) -> str:
    """What the model was asked for, and what the frame shows."""
    if not model.study.segmentation or model.study.segmentation.classes != "asked":
        return f"Shown: {source.shows}."
    shown = source.shows.partition(",")[0]
    unknown = "" if shown == model.title(ASKED) else f" and knows no {shown}"
    return f"Shown: {source.shows}. The model was asked for the {model.title(ASKED)}{unknown}."


def frames(data: Path) -> Iterator[tuple[Source, Path, Calibration | None]]:
    """Every frame with what its folder says of its pixels."""
    for source in SOURCES:
        table = data / source.folder / "pixel_spacing.csv"
        spacing = {}
        if table.is_file():
            with table.open(newline="", encoding="utf-8") as file:
                spacing = {row["file"]: row for row in csv.DictReader(file)}
        for path in sorted((data / source.folder).glob("*.tif")):
            row = spacing.get(path.name)
            mm = (10 * float(row["cm_per_px_y"]), 10 * float(row["cm_per_px_x"])) if row else None
            yield source, path, Calibration(None, mm) if mm else None


@dataclass(frozen=True, eq=False)
class Unrolled:
    """A panorama made straight.

    Attributes:
        pixels: depth below the skin, down, and way along the skin, to the right; in the panorama's pixels.
        to: for every pixel of the panorama its column and row there.
        degrees: of the arc.
        radius: of the skin, in pixels.
    """

    pixels: NDArray[np.uint8]
    to: tuple[NDArray[np.float32], NDArray[np.float32]]
    degrees: float
    radius: float

    def back(self, classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Classes of the straight picture on the panorama."""
        return np.asarray(cv2.remap(classes, *self.to, cv2.INTER_NEAREST, borderValue=0), dtype=np.uint8)


def unrolled(pixels: NDArray[np.uint8]) -> Unrolled:
    """The panorama along a circle that is laid through the upper edge of the tissue (least squares, Kasa 1976)."""
    tissue = cv2.morphologyEx((pixels > 3).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8)) > 0
    columns = np.flatnonzero(tissue.any(axis=0))
    columns = columns[len(columns) // 20 : -len(columns) // 20]
    x, y = columns.astype(np.float64), tissue.argmax(axis=0)[columns].astype(np.float64)
    (a, b, c), *_ = np.linalg.lstsq(np.stack([2 * x, 2 * y, np.ones_like(x)], axis=1), x**2 + y**2, rcond=None)
    radius = float(np.sqrt(c + a**2 + b**2))
    rows, cols = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    angle, depth = np.arctan2(cols - a, b - rows), radius - np.hypot(cols - a, rows - b)
    low, high = np.percentile(angle[pixels > 3], [0.2, 99.8])
    along = low + (np.arange(int((high - low) * radius)) + 0.5) / radius
    away = radius - (np.arange(int(np.percentile(depth[pixels > 3], 99.8)) + 4) - 4)[:, None]
    place = (a + away * np.sin(along)).astype(np.float32), (b - away * np.cos(along)).astype(np.float32)
    straight = np.asarray(cv2.remap(pixels, *place, cv2.INTER_LINEAR), dtype=np.uint8)
    to = (((angle - low) * radius - 0.5).astype(np.float32), (depth + 4).astype(np.float32))
    return Unrolled(straight, to, float(np.degrees(high - low)), radius)


def find(segmenter: Segmenter, frame: Frame, name: str, *, unroll: bool) -> tuple[Found, NDArray[np.uint8], str]:
    """What the model finds, the same on the frame, and what to say of the frame's shape."""
    if not unroll:
        found = segmenter.find(frame, name)
        return found, largest_pieces(found.classes).classes, ""
    straight = unrolled(frame.pixels)
    plane = replace(frame, pixels=straight.pixels, origin=(0, 0), stored_shape=straight.pixels.shape)
    found = segmenter.find(plane, name)
    row_mm = (frame.mm_per_pixel or (0.0, 0.0))[0]
    words = f", unrolled from an arc of {straight.degrees:.0f} degrees and {straight.radius * row_mm:.0f} mm"
    return found, straight.back(largest_pieces(found.classes).classes), words


def agreement(classes: NDArray[np.uint8], name: str) -> str:
    """Dice with a rough outline, where there is one."""
    outlines: dict[str, Any] = json.loads(OUTLINES.read_text(encoding="utf-8"))["outlines"]
    if name not in outlines:
        return ""
    rough = inside_polygon(np.array(outlines[name], dtype=np.float64), (classes.shape[0], classes.shape[1]))
    mask = classes > 0
    return f"; Dice with a rough outline {2 * (mask & rough).sum() / (mask.sum() + rough.sum()):.2f}"


def drawn(
    model: ReleasedSegmenter, frame: Frame, found: Found, classes: NDArray[np.uint8], *, known: bool
) -> list[Drawn]:
    """What was found, with values where the spacing is known; the score is of the picture that the model saw."""
    segmenter = _asking(model.segmenter())
    muscles = []
    for number, name in enumerate(segmenter.muscles, start=1):
        mask = classes == number
        if not mask.any():
            continue
        shapes, threshold = model.about.shapes.get(name), model.about.threshold
        quality = judge(found, number, frame.mm_per_pixel, drawn=shapes, threshold=threshold)
        measured = measure(mask, frame.pixels, frame.mm_per_pixel) if frame.mm_per_pixel and known else None
        values = [f"score {quality.score:.2f}"]
        if measured:
            values += [f"thickness {measured.thickness_mm:.1f} mm", f"area {measured.csa_cm2:.2f} cm²"]
        line = measured.thickness_line if measured else None
        muscles.append(Drawn(model.title(name), number, mask, line, "  ·  ".join(values), quality.accepted))
    return muscles


def small(picture: Image.Image) -> bytes:
    """JPEG of at most :data:`LARGEST` bytes."""
    if picture.width > WIDTH:
        picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    for quality in (88, 80, 70, 60):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality, subsampling=0)
        if buffer.tell() <= LARGEST:
            break
    return buffer.getvalue()


def main() -> None:
    """Go through all frames."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="the two sets of frames, a folder each")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures")
    parser.add_argument("--shown", nargs="*", default=SHOWN)
    parser.add_argument("--unroll", action="store_true")
    parser.add_argument("--assume-mm", type=float)
    asked = parser.parse_args()
    model = open_segmenter(asked.model)
    segmenter, question = _asking(model.segmenter()), ""
    for source, path, said in frames(asked.data):
        if question != (question := _question(model, source)):
            print(question, flush=True)
        assumed = Calibration(None, (asked.assume_mm, asked.assume_mm)) if asked.assume_mm and not said else None
        frame = read_image(path, said or assumed)
        rows, columns = frame.pixels.shape
        opened = f"{path.stem:15} {columns:4} x {rows:3} pixels, region {frame.facts.region_from}, "
        opened += f"{frame.mm_per_pixel[0]:.3f} mm" if frame.mm_per_pixel else "no spacing"
        opened += " (assumed)" if assumed else ""
        try:
            found, classes, shape = find(segmenter, frame, path.name, unroll=asked.unroll)
        except SarcoError as error:
            print(f"{opened}: {error}", flush=True)
            continue
        kept = replace(found, classes=largest_pieces(found.classes).classes)
        muscles = drawn(model, frame, kept, classes, known=not assumed)
        said_of = "; ".join(f"{m.title}: {m.words}" + ("" if m.accepted else " (not accepted)") for m in muscles)
        said_of = (said_of or "nothing found") + agreement(classes, path.stem)
        print(f"{opened}{shape}, {found.windows} windows: {said_of}", flush=True)
        if path.stem in asked.shown:
            note = f"{_question(model, source)} {source.credit}"
            note += " Its millimetres are a guess." if assumed else ""
            note += " Made straight before the model saw it." if asked.unroll else ""
            shown = replace(frame, mm_per_pixel=None) if assumed else frame
            picture = overlay(shown, muscles, synthetic=model.about.synthetic is True, note=note)
            asked.out.mkdir(parents=True, exist_ok=True)
            written = asked.out / f"real-{path.stem.lower().replace('_', '-')}.jpg"
            written.write_bytes(small(picture))
            print(f"    written: {written} ({written.stat().st_size // 1000} kB)", flush=True)


if __name__ == "__main__":
    main()
