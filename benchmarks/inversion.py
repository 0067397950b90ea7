"""Gradient inversion of one image from one participant's update: what a plain update shows, and a protected one.

    python benchmarks/inversion.py --out /tmp/inversion --images 1 2 3 4 5

Muscles are rendered; everything is SYNTHETIC. The client of the attack has one participant with one image and takes one
step on convnext_atto with the shipped weights: all layers, the last stage, or the head. Then, of the same gradient:

* ``plain``: as it is; ``clipped``: scaled to ``max_grad_norm`` = 1, without noise;
* ``epsilon 8 | 3 | 1``: clipped, and noise as a study of 60 rounds with one step on everybody calibrates it
  (delta 1e-5): what leaves a hospital whose only participant this is;
* ``masked``: what the coordinator sees of it under secure aggregation.

SSIM and PSNR with 95 % t-intervals over the images. ``flat`` is a picture of one grey value, the mean of the true one:
a muscle's square is mostly black, so that even this has some similarity. Images that were done before are not done
again; the table and the picture are of all images in the folder. With ``--sizes`` the plain update of other sizes.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import t as student
from torch import Tensor

from sarco_models.accounting import plan
from sarco_models.config import ImageConfig, StudyConfig, load_study, merged
from sarco_models.fusion import Model
from sarco_models.images import Frame
from sarco_models.inversion import Inversion, Picture, gradient, invert, psnr, ssim
from sarco_models.masking import Mask, masked_update
from sarco_models.parameters import Parameters
from sarco_models.preprocess import model_input
from sarco_models.secret import Secret
from server.runs import start_model
from simulation.anatomy import random_subject
from simulation.phantom import render

STUDY = Path(__file__).resolve().parent.parent / "configs" / "study.toml"
EPSILONS = (8.0, 3.0, 1.0)
CLIP = 1.0
PARTS = {"all": 250, "last_stage": 250, "head": 250}
"""What trains, and the steps of the attack on a plain update of it."""

PRIVATE_STEPS = 30
"""Of the attacks that find nothing."""

Sent = Mapping[str, Tensor]


def study(trainable: str, size: int, epsilon: float | None = None) -> StudyConfig:
    """The default study on images alone; with ``epsilon``, private."""
    changes: dict[str, Any] = {
        "model": {"modalities": ["image"], "trainable": trainable},
        "image": {"size": size},
    }
    if epsilon is not None:
        changes |= {
            "federation": {"rounds": 60},
            "privacy": {"epsilon": epsilon, "delta": 1e-5, "max_grad_norm": CLIP},
            "training": {"balance_classes": False, "local_steps": 1, "optimizer": "sgd"},
        }
    text = load_study(STUDY).model_dump_json(exclude_none=True)
    return StudyConfig.model_validate_json(json.dumps(merged(json.loads(text), changes)))


def phantom(number: int, size: int) -> Picture:
    """A rendered muscle as the network sees it."""
    rng = np.random.default_rng([5, number])
    image = render(random_subject(rng), rng)
    frame = Frame(image.pixels, (image.mm_per_pixel,) * 2, image.device, (0, 0), image.pixels.shape)
    return np.asarray(model_input(frame, image.mask, ImageConfig(size=size)) / 255.0)


def clipped(observed: Sent) -> dict[str, Tensor]:
    """Scaled to the clipping norm as one vector."""
    length = float(torch.stack([(g * g).sum() for g in observed.values()]).sum().sqrt())
    return {name: g * min(1.0, CLIP / length) for name, g in observed.items()}


def noised(observed: Sent, trainable: str, epsilon: float, seed: int) -> dict[str, Tensor]:
    """As it leaves a hospital with one participant: clipped, with the noise of the whole study's epsilon."""
    noise = plan(study(trainable, 64, epsilon)).training.noise_multiplier * CLIP
    rng = Secret(seed=seed).torch()
    return {name: g + noise * torch.randn(g.shape, generator=rng) for name, g in clipped(observed).items()}


def masked(observed: Sent, seed: int) -> dict[str, Tensor]:
    """The masked vector, taken for an update."""
    packed = Parameters.pack(observed)
    mask = Mask(np.random.default_rng([seed, 3]).bytes(32))
    seen = masked_update(np.zeros_like(packed.vector), packed.vector, share=1.0, update_range=8.0, masks=[mask])
    found = {name: torch.empty_like(g) for name, g in observed.items()}
    Parameters(packed.manifest, seen.view(np.int32).astype(np.float32)).load_into(found)
    return found


def forms(trainable: str, number: int) -> dict[str, Callable[[Sent], Sent]]:
    """Everything that may leave, by name."""
    private = {f"epsilon {e:g}": lambda g, e=e: noised(g, trainable, e, 100 * number + round(e)) for e in EPSILONS}
    return {"plain": lambda g: g, "clipped": clipped, **private, "masked": lambda g: masked(g, number)}


def attack_image(number: int, size: int, folder: Path, only: tuple[str, ...] = ()) -> None:
    """All attacks on one image; what is found is kept in the folder."""
    truth = phantom(number, size)
    for trainable, steps in PARTS.items():
        model = start_model(study(trainable, size))
        observed = gradient(model, truth, 1.0)
        for name, form in forms(trainable, number).items():
            path = folder / f"{size}-{number}-{trainable}-{name.replace(' ', '')}.npz"
            wanted = (not only or name in only) and (number == 1 or name != "clipped")
            if path.exists() or not wanted:
                continue
            found = _invert(model, form(observed), truth, steps if name in ("plain", "clipped") else PRIVATE_STEPS)
            np.savez(path, image=found.image, truth=truth, distance=found.distance, seconds=found.seconds)
            print(path.stem, f"SSIM {ssim(found.image, truth):.3f}", f"{found.seconds:.0f} s", flush=True)


def _invert(model: Model, sent: Sent, truth: Picture, steps: int) -> Inversion:
    height, width = truth.shape
    return invert(model, sent, 1.0, (height, width), steps=steps)


def with_interval(values: list[float], digits: int) -> str:
    """Mean with its 95 % t-interval."""
    mean, n = float(np.mean(values)), len(values)
    half = float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return f"{mean:.{digits}f} ({mean - half:.{digits}f} to {mean + half:.{digits}f})"


def table(folder: Path) -> None:
    """Print what is in the folder."""
    groups: dict[tuple[str, ...], list[Path]] = {}
    for path in sorted(folder.glob("*-*-*-*.npz")):
        size, _, trainable, form = path.stem.split("-")
        groups.setdefault((size, trainable, form), []).append(path)
    print(f"\nSYNTHETIC. convnext_atto, {torch.get_num_threads()} thread\n")
    print("| pixels | trains | what is sent | n | SSIM | PSNR, dB | SSIM of flat | distance | s |\n|" + "---|" * 9)
    for (size, trainable, form), paths in sorted(groups.items(), key=lambda g: (int(g[0][0]), g[0][1:])):
        read = [np.load(path) for path in paths]
        near = [ssim(r["image"], r["truth"]) for r in read]
        ratio = [psnr(r["image"], r["truth"]) for r in read]
        flat = float(np.mean([ssim(np.full_like(r["truth"], r["truth"].mean()), r["truth"]) for r in read]))
        left = float(np.median([r["distance"] for r in read]))
        took = float(np.median([r["seconds"] for r in read]))
        cells = [size, trainable, form, str(len(read)), with_interval(near, 2), with_interval(ratio, 1)]
        print("| " + " | ".join([*cells, f"{flat:.2f}", f"{left:.1e}", f"{took:.0f}"]) + " |")


def picture(folder: Path, size: int, most: int) -> Path:
    """Truth and what was found, side by side, for an image in each row."""
    columns = {
        "the image": "",
        "plain update": "all-plain",
        "clipped only": "all-clipped",
        "epsilon 8": "all-epsilon8",
        "epsilon 1": "all-epsilon1",
        "masked": "all-masked",
        "plain, last stage": "last_stage-plain",
        "plain, head": "head-plain",
        "epsilon 8, head": "head-epsilon8",
    }
    numbers = sorted({int(path.stem.split("-")[1]) for path in folder.glob(f"{size}-*-all-plain.npz")})[:most]
    figure = Figure(figsize=(1.15 * len(columns), 1.2 * len(numbers) + 0.6), layout="constrained")
    grid = figure.subplots(len(numbers), len(columns), squeeze=False)
    for row, number in zip(grid, numbers, strict=True):
        for axes, (title, name) in zip(row, columns.items(), strict=True):
            axes.set_axis_off()
            if number == numbers[0]:
                axes.set_title(title, fontsize=8)
            path = folder / f"{size}-{number}-{name or 'all-plain'}.npz"
            if not path.is_file():
                continue
            found = np.load(path)
            axes.imshow(found["image"] if name else found["truth"], cmap="gray", vmin=0, vmax=found["truth"].max())
            said = f"SSIM {ssim(found['image'], found['truth']):.2f}" if name else "SYNTHETIC"
            axes.text(0.5, -0.03, said, transform=axes.transAxes, ha="center", va="top", fontsize=6.5)
    figure.suptitle(
        "SYNTHETIC muscles: one image computed back from one participant's update, all layers unless said",
        fontsize=8.5, x=0.005, ha="left", weight="bold",
    )  # fmt: skip
    path = folder / "inversion.png"
    figure.savefig(path, dpi=96, facecolor="white")
    with Image.open(path) as drawn:
        few = drawn.convert("L").quantize(16)  # noise does not compress; with 16 greys the file is a fifth
    few.save(path, optimize=True)
    return path


def main() -> None:
    """Attack the images that were not attacked yet; print the table, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, nargs="*", default=[1, 2, 3, 4, 5])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument(
        "--sizes", type=int, nargs="*", default=[], help="plain updates of the first image, these sizes"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for number in args.images:
        attack_image(number, args.size, args.out)
    for size in args.sizes:
        attack_image(args.images[0], size, args.out, only=("plain",))
    table(args.out)
    print(picture(args.out, args.size, most=3))


if __name__ == "__main__":
    main()
