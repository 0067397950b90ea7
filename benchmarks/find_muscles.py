"""What it costs to find muscles on frames as they are read: view, network, the way back to the frame, score.

    python benchmarks/find_muscles.py [--size 224] [--frame 480 640] [--backbone convnext_atto] [--threads 1 2]

Frames are phantoms on a canvas of the scanner's size, 0.1 mm per pixel; the network was never trained, which costs the
same. ``mirrored`` looks twice at every frame. Turns alternate, and the best of each is told: what else the machine does
only adds to it. ``cpu`` is of this process over all its threads.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from sarco_models.config import ImageConfig, ModelConfig, StudyConfig, TrainingConfig
from sarco_models.frames import Frame
from sarco_models.plausible import judge
from sarco_models.segmentation import MuscleConfig, SegmentationConfig
from sarco_models.segmenter import Segmenter
from sarco_models.unet import build_segmenter
from simulation.phantom import random_subject, render

FRAMES, TURNS, MM = 16, 4, 0.1


def study(size: int, backbone: str) -> StudyConfig:
    return StudyConfig(
        name="speed",
        title="Speed",
        segmentation=SegmentationConfig(muscles=tuple(MuscleConfig(name=f"muscle_{k}") for k in range(5))),
        image=ImageConfig(size=size, roi="none", framing="letterbox"),
        model=ModelConfig(modalities=("image",), backbone=backbone),
        training=TrainingConfig(balance_classes=False),
    )


def frames(shape: tuple[int, int]) -> list[tuple[Frame, str]]:
    rng = np.random.default_rng(0)
    made = []
    for _ in range(FRAMES):
        tissue = render(random_subject(rng), rng, width_px=320).pixels
        pixels = np.zeros(shape, np.uint8)
        rows, columns = min(shape[0], tissue.shape[0]), min(shape[1], tissue.shape[1])
        pixels[:rows, :columns] = tissue[:rows, :columns]
        made.append((Frame(pixels, (MM, MM), "", (0, 0), shape), ""))
    return made


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds by the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def main() -> None:
    """Measure, and print a line for each way and number of threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--frame", type=int, nargs=2, default=(480, 640))
    parser.add_argument("--backbone", default="convnext_atto")
    parser.add_argument("--threads", type=int, nargs="+", default=(1, 2))
    asked = parser.parse_args()
    made, config = frames(tuple(asked.frame)), study(asked.size, asked.backbone)
    net = build_segmenter(config, weights="none")
    plain, mirrored = Segmenter(config, net), Segmenter(config, net, mirror=True)

    def judged() -> None:
        for (frame, _), found in zip(made, mirrored.find_all(made), strict=True):
            judge(found, 1, frame.mm_per_pixel)

    ways: dict[str, Callable[[], None]] = {
        "found": lambda: list(plain.find_all(made)).clear(),
        "found, mirrored": lambda: list(mirrored.find_all(made)).clear(),
        "found, mirrored, judged": judged,
    }
    for threads in asked.threads:
        torch.set_num_threads(threads)
        times = {name: [timed(work) for _ in range(TURNS)] for name, work in ways.items()}
        for name, found in times.items():
            clock, processor = (min(column) / FRAMES for column in zip(*found, strict=True))
            print(
                f"{name:24} {threads} threads  {1 / clock:6.1f} images/s  {1000 * processor:6.1f} ms cpu  "
                f"({asked.size} px, {asked.frame[0]} x {asked.frame[1]}, {asked.backbone})",
                flush=True,
            )


if __name__ == "__main__":
    main()
