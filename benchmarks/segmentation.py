"""What it costs to find muscles: images a second, and the seconds of a training step.

    python benchmarks/segmentation.py [--sizes 224 128] [--threads 1 2] [--networks unet:convnext_atto nnunet:0.25]

A network is ``unet:ENCODER`` or ``nnunet:WIDTH`` (of nnU-Net's own features). Images are noise, whose content costs
nothing. The networks take turns, several times, and the best of each is told: what else the machine does only adds
to it. ``cpu`` is of this process, over all its threads: on a busy machine it is nearer to the truth than a clock.
"""

import argparse
import os
import time
from collections.abc import Callable

import torch

from sarco_models.architectures import ARCHITECTURES
from sarco_models.config import ImageConfig, ModelConfig
from sarco_models.fingerprint import features_of
from sarco_models.nnunet import build_nnunet
from sarco_models.segmentation import MuscleConfig, PlanConfig, SegmentationConfig
from sarco_models.segmentation_loss import segmentation_loss
from sarco_models.training import count_parameters
from sarco_models.unet import SegmentationNet, build_unet

MUSCLES = 5
TURNS = 5
INFERENCE_ROWS, TRAINING_ROWS = 4, 12


def network(name: str, size: int) -> SegmentationNet:
    kind, _, detail = name.partition(":")
    if kind == "unet":
        norm = "group" if ARCHITECTURES[detail].batch_norm else "none"
        return build_unet(ModelConfig(modalities=("image",), backbone=detail, norm=norm), size, MUSCLES + 1)
    features = features_of(size, float(detail))
    plan = PlanConfig(patch=(size, size), mm_per_pixel=0.25, features=features, grey_mean=60, grey_sd=30)
    muscles = tuple(MuscleConfig(name=f"muscle_{k}") for k in range(MUSCLES))
    image = ImageConfig(size=size, window_mm=0.25 * size, roi="none")
    return build_nnunet(SegmentationConfig(muscles=muscles, network="nnunet", plan=plan), image)


def inference(net: SegmentationNet, size: int) -> Callable[[], None]:
    images = torch.rand(INFERENCE_ROWS, 1, size, size)

    def look() -> None:
        net.eval()
        with torch.inference_mode():
            net(images)

    return look


def training(net: SegmentationNet, size: int) -> Callable[[], None]:
    images = torch.rand(TRAINING_ROWS, 1, size, size)
    targets = torch.randint(0, MUSCLES + 1, (TRAINING_ROWS, size, size))
    annotated, owner = torch.ones(TRAINING_ROWS, MUSCLES, dtype=torch.bool), torch.arange(TRAINING_ROWS)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-4)

    def step() -> None:
        net.train()
        optimizer.zero_grad(set_to_none=True)
        segmentation_loss(net(images), targets, annotated, owner, TRAINING_ROWS).mean().backward()
        optimizer.step()

    return step


def best(run: Callable[[], None], found: tuple[float, float]) -> tuple[float, float]:
    """Least seconds by the clock and of the processor so far."""
    clock, processor = time.perf_counter(), time.process_time()
    run()
    return min(found[0], time.perf_counter() - clock), min(found[1], time.process_time() - processor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 128])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    networks = ["unet:convnext_atto", "unet:efficientnet_lite0", "nnunet:0.25"]
    parser.add_argument("--networks", nargs="+", default=networks)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; {TRAINING_ROWS} images in a training step")
    print("network                  size  threads  parameters   images/s  (cpu)   step s   (cpu)")
    for size in arguments.sizes:
        for threads in arguments.threads:
            torch.set_num_threads(threads)
            nets = {name: network(name, size) for name in arguments.networks}
            looks = {name: inference(net, size) for name, net in nets.items()}
            steps = {name: training(net, size) for name, net in nets.items()}
            never = (float("inf"), float("inf"))
            seen, trained = dict.fromkeys(nets, never), dict.fromkeys(nets, never)
            for turn in range(TURNS + 1):
                for name in nets:
                    for runs, kept in ((looks, seen), (steps, trained)):
                        found = best(runs[name], kept[name])
                        kept[name] = found if turn else never  # the first time warms up
            for name, net in nets.items():
                rate, rate_cpu = (INFERENCE_ROWS / seconds for seconds in seen[name])
                print(
                    f"{name:24} {size:4} {threads:8} {count_parameters(net):11,} {rate:10.1f} {rate_cpu:8.1f}"
                    f" {trained[name][0]:8.2f} {trained[name][1]:8.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
