"""How often the scanner's picture is found on its screen when nobody says where it is, and how well.

    python benchmarks/find_picture.py [--count 200] [--seed 1] [--real FOLDER]

Two families of SYNTHETIC screens around phantoms: those of our four devices, whose layouts the search was tuned on, and
screens that are drawn at random: size, background, panels, menus, rulers, grey bars, logos, text as close as two
pixels, the picture enlarged by any method. Each is stored without loss, as JPEG, as PNG that was once a JPEG, and
enlarged as a whole. ``leaks``: the region holds pixels from outside the picture (more than 3 where the screen was
enlarged, 8 where it was once a JPEG). ``cut``: less than .97 of the picture is kept.

With ``--real`` every TIFF below the folder is searched, and what was found is written to be looked at.
"""

import argparse
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sarco_models.frames import Box
from sarco_models.screens import Picture, find_picture, whole_blocks
from simulation.devices import DEVICES
from simulation.frames import SCREENS, framed, region_in_frame
from simulation.phantom import random_subject, render

Pixels = NDArray[np.uint8]
FONTS = [ImageFont.load_default_imagefont(), *(ImageFont.load_default(size=s) for s in (10, 12, 15, 20, 28))]
WORDS = (
    "DOE",
    "JOHN",
    "F",
    "1950-01-01",
    "ID",
    "000123",
    "GENERAL",
    "HOSPITAL",
    "MI",
    "0.9",
    "FR",
    "24",
    "Map",
    "Freq",
)
SIZES = ((640, 480), (800, 600), (960, 720), (1024, 768), (1136, 868), (1280, 960), (1456, 819))
ENLARGED = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)


def phantom(rng: np.random.Generator, width: int) -> tuple[Pixels, str, int]:
    device = str(rng.choice(list(SCREENS)))
    low, high = DEVICES[device].depth_mm
    depth = 5 * int(rng.integers(low // 5, high // 5 + 1))
    image = render(random_subject(rng), rng, device=device, width_px=width, depth_mm=depth)
    return image.pixels, device, depth


def device_screen(rng: np.random.Generator) -> tuple[Pixels, Box]:
    picture, device, depth = phantom(rng, int(rng.choice([160, 224, 320, 512])))
    frame = framed(picture, device, depth, words(rng) if rng.random() < 0.5 else "")
    return frame, tuple(region_in_frame(device, *picture.shape[::-1]))  # type: ignore[return-value]


def random_screen(rng: np.random.Generator) -> tuple[Pixels, Box]:
    columns, rows = SIZES[int(rng.integers(len(SIZES)))]
    picture, _, _ = phantom(rng, int(rng.choice([224, 320])))
    scale = min(rng.uniform(0.5, 0.88) * rows / len(picture), 0.8 * columns / picture.shape[1])
    method = int(rng.choice(ENLARGED)) if scale > 1 else cv2.INTER_AREA
    picture = np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=method), dtype=np.uint8)
    height, width = picture.shape
    x, y = (int(rng.integers(0.03 * free, 0.97 * free)) for free in (columns - width, rows - height))
    image = Image.new("L", (columns, rows), int(rng.choice([0, 0, 0, 3, 8, 12, 20, 34, 50])))
    decorate(ImageDraw.Draw(image), rng, (x, y, x + width, y + height), (columns, rows))
    frame = np.array(image)
    frame[y : y + height, x : x + width] = picture
    return frame, (x, y, x + width, y + height)


def words(rng: np.random.Generator) -> str:
    return " ".join(rng.choice(WORDS, int(rng.integers(1, 7))))


def decorate(draw: ImageDraw.ImageDraw, rng: np.random.Generator, box: Box, size: tuple[int, int]) -> None:
    """Panels, text, ruler, grey bar and logo anywhere outside a picture, some pixels from it."""
    gap = int(rng.integers(2, 9))
    x0, y0, x1, y1 = box
    for strip in ((0, 0, size[0], y0 - gap), (0, y1 + gap, *size), (0, 0, x0 - gap, size[1]), (x1 + gap, 0, *size)):
        if rng.random() < 0.35 and strip[2] - strip[0] > 4 and strip[3] - strip[1] > 4:
            draw.rectangle((strip[0], strip[1], strip[2] - 1, strip[3] - 1), fill=int(rng.integers(5, 90)))
    write(draw, rng, (x0 - gap, y0 - gap, x1 + gap, y1 + gap), size)
    if rng.random() < 0.8:
        right, step = rng.random() < 0.5, rng.uniform(12, 60)
        for k in range(int((y1 - y0) / step) + 1):
            y, length = y0 + round(k * step), 9 if k % 2 else 4
            start = x1 + gap if right else x0 - gap - length
            draw.line([(start, y), (start + length, y)], fill=200)
    if rng.random() < 0.6:
        bar, length = (x1 + gap + 12 if rng.random() < 0.5 else x0 - gap - 24), min(y1 - y0, 220)
        for k in range(length):
            draw.line([(bar, y0 + k), (bar + 11, y0 + k)], fill=255 - 255 * k // length)


def write(draw: ImageDraw.ImageDraw, rng: np.random.Generator, free_of: Box, size: tuple[int, int]) -> None:
    """Texts of all sizes, and a logo, that leave a box free."""

    def apart(left: float, top: float, right: float, bottom: float) -> bool:
        return right <= free_of[0] or left >= free_of[2] or bottom <= free_of[1] or top >= free_of[3]

    for _ in range(int(rng.integers(3, 40))):
        font, place = FONTS[int(rng.integers(len(FONTS)))], tuple(int(rng.integers(side)) for side in size)
        text = words(rng)
        if apart(*draw.textbbox(place, text, font=font)):
            draw.text(place, text, fill=int(rng.integers(70, 256)), font=font)
    logo = (int(rng.integers(size[0] - 60)), int(rng.integers(size[1] - 40)))
    if apart(*logo, logo[0] + 60, logo[1] + 40):
        draw.ellipse((*logo, logo[0] + 60, logo[1] + 40), fill=int(rng.integers(100, 230)))


def jpeg(frame: Pixels, quality: int) -> Pixels:
    stream = BytesIO()
    Image.fromarray(frame).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def verdict(found: Picture | None, box: Box, tolerance: int) -> tuple[str, float]:
    """What was found, and its intersection over union with the truth."""
    if found is None:
        return "refused", 0.0
    inner = (
        max(0, min(found.box[2], box[2]) - max(found.box[0], box[0])),
        max(0, min(found.box[3], box[3]) - max(found.box[1], box[1])),
    )
    shared, size = inner[0] * inner[1], (box[2] - box[0]) * (box[3] - box[1])
    taken = (found.box[2] - found.box[0]) * (found.box[3] - found.box[1])
    out = max(box[0] - found.box[0], box[1] - found.box[1], found.box[2] - box[2], found.box[3] - box[3])
    share = shared / (size + taken - shared)
    return ("leaks" if out > tolerance else "right" if shared > 0.97 * size else "cut"), share


def as_jpeg(frame: Pixels, box: Box, quality: int) -> tuple[str, float]:
    """As a reader uses it: whole blocks of what was found, against whole blocks of the truth."""
    found = find_picture(jpeg(frame, quality), lossy=True)
    inner = whole_blocks(Picture(box), frame.shape)
    assert inner is not None
    return verdict(whole_blocks(found, frame.shape) if found else None, inner.box, 0)


def enlarged(frame: Pixels, box: Box, rng: np.random.Generator) -> tuple[str, float]:
    scale = rng.uniform(1.1, 1.8)
    method = int(rng.choice(ENLARGED[1:]))
    grown = np.asarray(cv2.resize(frame, None, fx=scale, fy=scale, interpolation=method), dtype=np.uint8)
    x0, y0, x1, y1 = (round(scale * side) for side in box)
    return verdict(find_picture(grown), (x0, y0, x1, y1), 3)


STORED: dict[str, Callable[[Pixels, Box, np.random.Generator], tuple[str, float]]] = {
    "without loss": lambda frame, box, rng: verdict(find_picture(frame), box, 0),
    "JPEG 95": lambda frame, box, rng: as_jpeg(frame, box, 95),
    "JPEG 85": lambda frame, box, rng: as_jpeg(frame, box, 85),
    "JPEG 75": lambda frame, box, rng: as_jpeg(frame, box, 75),
    "JPEG 50": lambda frame, box, rng: as_jpeg(frame, box, 50),
    "PNG of a JPEG": lambda frame, box, rng: verdict(find_picture(jpeg(frame, int(rng.integers(70, 96)))), box, 8),
    "enlarged": enlarged,
}


def measure(name: str, screen: Callable[[np.random.Generator], tuple[Pixels, Box]], count: int, seed: int) -> None:
    for way, look in STORED.items():
        verdicts, shares = Counter[str](), []
        for number in range(count):
            rng = np.random.default_rng([seed, number])
            what, share = look(*screen(rng), rng)
            verdicts[what] += 1
            if what != "refused":
                shares.append(share)
        told = ", ".join(f"{verdicts[k]} {k}" for k in ("right", "refused", "cut", "leaks"))
        print(f"{name:8} {way:14} {told}; IoU of what was found: mean {np.mean(shares):.4f}, least {min(shares):.3f}")


def look_at_real(folder: Path) -> None:
    for path in sorted(folder.rglob("*.tif")):
        pixels = np.asarray(Image.open(path).convert("L"))
        found = find_picture(pixels)
        if found is None:
            print(f"{path.name}: refused")
            continue
        x0, y0, x1, y1 = found.box
        shown = np.stack([pixels[y0:y1, x0:x1]] * 3, axis=-1)
        if found.inside is not None:
            shown[~found.inside] = (0, 90, 0)
        Image.fromarray(shown).save(f"found-{path.stem}.png")
        covered = 1.0 if found.inside is None else found.inside.mean()
        print(f"{path.name}: {found.box} of {pixels.shape[1]} x {pixels.shape[0]}, {covered:.2f} of it picture")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", type=Path)
    args = parser.parse_args()
    if args.real:
        look_at_real(args.real)
        return
    measure("devices", device_screen, args.count, args.seed)
    measure("random", random_screen, args.count, args.seed)


if __name__ == "__main__":
    main()
