"""How fast `sarco-site check-data` reads, checks and caches images, against a plain loop that only reads and resizes.

    python benchmarks/check_data.py [--images 120] [--pairs 5] [--width 640]

Both run on the same files in the same process, in turns. The plain loop is what anybody would write: pydicom's
``pixel_array`` or Pillow's ``convert("L")``, then OpenCV's resize to 224 pixels. Ours also hashes, looks for colour,
text, identifiers, faults and duplicates, lays the mask on, draws the thumbnail, and writes the journal and the cache of
training. With two workers their start (Python and its libraries, once) is timed apart. All images are SYNTHETIC.
"""

import argparse
import csv
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread

from client.quality.check import Options, check_site
from sarco_models.config import StudyConfig, load_study
from sarco_models.images import read_image
from simulation.synthetic import make_cohort

STUDY = Path(__file__).parents[1] / "configs" / "study.toml"
SIDE = 224


def plain_dicom(path: Path) -> NDArray[np.uint8]:
    pixels = dcmread(path).pixel_array
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.ndim == 3 else pixels
    return np.asarray(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA))


def plain_picture(path: Path) -> NDArray[np.uint8]:
    grey = np.asarray(Image.open(path).convert("L"))
    return np.asarray(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA))


def site_of(kind: str, source: Path, out: Path, count: int) -> Path:
    """The first images of a synthetic hospital, as DICOM in grey or colour, or as colour JPG."""
    with (source / "images.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:count]
    (out / "images").mkdir(parents=True)
    (out / "masks").symlink_to((source / "masks").resolve())
    (out / "participants.csv").write_bytes((source / "participants.csv").read_bytes())
    places = []
    for row in rows:
        old, frame = source / row["image"], read_image(source / row["image"])
        row["image"] = str(Path("images", old.with_suffix(".jpg" if kind == "jpg" else ".dcm").name))
        _write_frame(kind, old, out / row["image"])
        (y0, x0), (height, width) = frame.origin, frame.pixels.shape
        mm = (0.1, 0.1) if frame.mm_per_pixel is None else frame.mm_per_pixel
        places.append((row["image"], x0, y0, x0 + width, y0 + height, *mm))
    _write_csv(out / "images.csv", list(rows[0]), [list(row.values()) for row in rows])
    if kind == "jpg":
        header = ["image", "x0", "y0", "x1", "y1", "mm_per_pixel_row", "mm_per_pixel_column"]
        _write_csv(out / "calibration.csv", header, [list(place) for place in places])
    return out


def _write_frame(kind: str, old: Path, new: Path) -> None:
    data = dcmread(old)
    rgb = np.repeat(data.pixel_array[..., None], 3, axis=2)
    if kind == "jpg":
        Image.fromarray(rgb).save(new, quality=90)
        return
    if kind == "dicom colour":
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
        data.PixelData = rgb.tobytes()
    data.save_as(new)


def _write_csv(path: Path, header: list[str], rows: list[list[object]] | list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def checked(folder: Path, study: StudyConfig, workers: int) -> float:
    """Seconds of a check to which nothing is known beforehand; with workers, from the first image's answer on."""
    answers: list[float] = []

    def told(_done: int, _total: int) -> None:
        answers.append(time.perf_counter())

    with TemporaryDirectory() as cache:
        total = seconds(lambda: check_site(folder, study, Path(cache), Options(workers=workers), told))
        return total if workers == 0 else answers[-1] - answers[0]


def measure(name: str, folder: Path, study: StudyConfig, pairs: int) -> None:
    files = sorted((folder / "images").iterdir())
    plain = plain_picture if name.endswith("jpg") else plain_dicom
    checked(folder, study, 0)  # fills the disk's cache, imports what is imported late
    loops, alone, one, two = [], [], [], []
    for _ in range(pairs):
        loops.append(seconds(lambda: [plain(file) for file in files]))
        alone.append(checked(folder, study, 0))
        one.append(checked(folder, study, 1))
        two.append(checked(folder, study, 2))
    ratio = [loop / ours for loop, ours in zip(loops, alone, strict=True)]
    speedup = [a / b for a, b in zip(one, two, strict=True)]
    print(
        f"{name:22} {len(files):5}  plain {len(files) / statistics.median(loops):6.0f}/s"
        f"   ours / plain {statistics.median(ratio):.2f} ({min(ratio):.2f}-{max(ratio):.2f})"
        f"   two workers / one {statistics.median(speedup):.2f} ({min(speedup):.2f}-{max(speedup):.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--width", type=int, default=640, help="of the tissue region, in pixels")
    arguments = parser.parse_args()
    study = load_study(STUDY)
    with TemporaryDirectory() as scratch:
        made = make_cohort(Path(scratch, "cohort"), scale="small", seed=1, width_px=arguments.width, workers=2)
        print(f"SYNTHETIC frames, tissue {arguments.width} pixels wide; throughput, median (range) of pairs")
        for kind in ("dicom grey", "dicom colour", "jpg"):
            folder = site_of(kind, made["shanghai"], Path(scratch, kind.replace(" ", "-")), arguments.images)
            measure(kind, folder, study, arguments.pairs)


if __name__ == "__main__":
    main()
