"""What it costs to find the masks of a hospital's images while they are read: once, before training.

    python benchmarks/auto_masks.py DATA FINDER [--study configs/study.toml] [--images 32]

``DATA`` is a hospital's folder whose images have masks, ``FINDER`` the folder of a segmentation model. The same images
are read with drawn masks, whole, and with masks that are found, on one thread; turns alternate, and the best of each is
told. ``cpu`` is of this process, and says more on a busy machine. ``check-data`` does the same in several processes.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import torch

from sarco_models.auto_masks import Finder
from sarco_models.config import StudyConfig, load_study
from sarco_models.image_cache import open_images
from sarco_models.schema import IMAGES_FILE, PARTICIPANTS_FILE, ImageRow, read_images, read_participants

TURNS = 3


def seconds(folder: Path, study: StudyConfig, rows: tuple[ImageRow, ...]) -> tuple[float, float]:
    """By the clock, and of the processor."""
    cache = Path(tempfile.mkdtemp(prefix="sarco-benchmark-"))
    clock, processor = time.perf_counter(), time.process_time()
    open_images(folder, study, rows, cache, None)
    took = time.perf_counter() - clock, time.process_time() - processor
    shutil.rmtree(cache)
    return took


def main() -> None:
    """Measure, and print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("finder", type=Path)
    parser.add_argument("--study", type=Path, default=Path("configs/study.toml"))
    parser.add_argument("--images", type=int, default=32)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    auto = {"segmenter": str(asked.finder.resolve()), "masks": "all"}
    changes = {
        "drawn": {},
        "whole": {"image": {"roi": "none"}},
        "found": {"image": {"roi": "auto", "auto": auto}},
    }
    studies = {name: load_study(asked.study, change) for name, change in changes.items()}
    ids = read_participants(asked.data / PARTICIPANTS_FILE, studies["drawn"]).ids
    rows = read_images(asked.data / IMAGES_FILE, ids)[0][: asked.images]
    Finder.of(studies["found"])
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in studies}
    for _ in range(TURNS):
        for name, study in studies.items():
            took[name].append(seconds(asked.data, study, rows))
    for name, turns in took.items():
        clock, processor = (min(turn[k] for turn in turns) for k in (0, 1))
        print(f"{name:6} {len(rows) / clock:6.1f} images/s   cpu {1000 * processor / len(rows):6.1f} ms an image")


if __name__ == "__main__":
    main()
