"""A segmentation model on real frames of other people's: what it finds, and small pictures for the documents.

    python benchmarks/real_frames.py --model RUN_OR_FILE [--data ../shared/data/muscle_us] [--out docs/pictures]

Says of every frame how the reader opened it, what was found and with which score. Pictures of --shown frames are
written as JPEG of at most 300 kB, each with the source and the licence of its frame. There are no drawn masks of these
frames: nothing here says how good a model is, only what it does where it was never meant to work.
"""

import argparse
import csv
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from sarco_models.errors import SarcoError  # noqa: E402
from sarco_models.hints import Calibration  # noqa: E402
from sarco_models.images import Frame, read_image  # noqa: E402
from sarco_models.muscle import measure  # noqa: E402
from sarco_models.overlays import Drawn, overlay  # noqa: E402
from sarco_models.plausible import judge, largest_pieces  # noqa: E402
from sarco_models.released_segmenter import ReleasedSegmenter, open_segmenter  # noqa: E402
from sarco_models.segmenter import Found, Segmenter  # noqa: E402

LARGEST, WIDTH = 300_000, 960
SHOWN = ("SUB01_img1", "SUB03_img3", "rectus_img_55", "rectus_img_57")


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


def drawn(model: ReleasedSegmenter, segmenter: Segmenter, frame: Frame, found: Found) -> list[Drawn]:
    """What was found, with values where there is a spacing."""
    muscles = []
    for number, name in enumerate(segmenter.muscles, start=1):
        mask = found.mask(number)
        if not mask.any():
            continue
        shapes, threshold = model.about.shapes.get(name), model.about.threshold
        quality = judge(found, number, frame.mm_per_pixel, drawn=shapes, threshold=threshold)
        measured = measure(mask, frame.pixels, frame.mm_per_pixel) if frame.mm_per_pixel else None
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
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "muscle_us")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures")
    parser.add_argument("--shown", nargs="*", default=SHOWN)
    asked = parser.parse_args()
    model = open_segmenter(asked.model)
    segmenter = model.segmenter()
    for source, path, said in frames(asked.data):
        frame = read_image(path, said)
        rows, columns = frame.pixels.shape
        opened = f"{path.stem:15} {columns:4} x {rows:3} pixels, region {frame.facts.region_from}, "
        opened += f"{frame.mm_per_pixel[0]:.3f} mm" if frame.mm_per_pixel else "no spacing"
        try:
            found = segmenter.find(frame, path.name)
        except SarcoError as error:
            print(f"{opened}: {error}", flush=True)
            continue
        classes = largest_pieces(found.classes).classes
        kept = Found(classes, found.probabilities, found.view, found.windows, found.agreement, found.blank)
        muscles = drawn(model, segmenter, frame, kept)
        said_of = "; ".join(f"{m.title}: {m.words}" + ("" if m.accepted else " (not accepted)") for m in muscles)
        print(f"{opened}, {found.windows} windows: {said_of or 'nothing found'}", flush=True)
        if path.stem in asked.shown:
            note = f"Shown: {source.shows}. {source.credit}"
            picture = overlay(frame, muscles, synthetic=model.about.synthetic is True, note=note)
            asked.out.mkdir(parents=True, exist_ok=True)
            written = asked.out / f"muscles-{path.stem.lower().replace('_', '-')}.jpg"
            written.write_bytes(small(picture))
            print(f"    written: {written} ({written.stat().st_size // 1000} kB)", flush=True)


if __name__ == "__main__":
    main()
