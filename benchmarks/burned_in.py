"""How often text burned into a picture is found, and how often tissue is taken for it (sarco_models.burned_in).

    python benchmarks/burned_in.py [--n 600] [--seed 2000] [--workers 2] [--sheet FILE]
    python benchmarks/burned_in.py --frames FOLDER [--sheet FILE]

Tables over SYNTHETIC frames: phantoms that nothing was fitted to, faces and words held out (lettering.UNSEEN). A line
of text is found when half of its ink lies in boxes, covered when 95 % does; a frame when one of its lines is found.
``--frames`` runs on the images of any folder instead. ``--sheet`` saves a picture of lines that were not covered and of
false alarms. burned_in_real.py does the same for the real frames that the project holds.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from sarco_models.burned_in import find_text
from sarco_models.errors import DataError
from sarco_models.frames import Box
from sarco_models.images import read_image
from sarco_models.intervals import wilson
from sarco_models.workers import pool
from simulation.lettering import CONTRAST, UNSEEN, UNSEEN_CHINESE, Line, Script, Written, write
from simulation.overlays import callipers, doppler, exported, rough, ruler, shadow, tissue

Pixels = NDArray[np.uint8]
Rng = np.random.Generator

FOUND, COVERED = 0.5, 0.95


class Kind(NamedTuple):
    """Lines of one kind."""

    name: str
    script: Script = UNSEEN
    texts: tuple[str, ...] = ()
    contrast: tuple[int, int] = CONTRAST


MAIN = Kind("3 to 40 characters, contrast 50 and more")
APART = (
    Kind("contrast 40 to 50", contrast=(40, 50)),
    Kind("contrast 30 to 40", contrast=(30, 40)),
    Kind("contrast 20 to 30", contrast=(20, 30)),
    Kind("1 character", texts=("1", "4", "R", "L", "A", "x", "B")),
    Kind("2 characters", texts=("RF", "VL", "L3", "12", "Rt", "A1", "BB")),
    Kind("3 characters", texts=("VMO", "L15", "d12", "Kim", "7.4")),
    Kind("Chinese (face seen, characters not)", script=UNSEEN_CHINESE),
)
WITHOUT: dict[str, Callable[[Rng, Pixels], Pixels]] = {
    "phantoms, three in ten fibrotic": lambda _, pixels: pixels,
    "with shadows": shadow,
    "black and white exchanged": lambda _, pixels: np.invert(pixels),
    "with colour Doppler": doppler,
    "with a ruler inside": ruler,
    "with callipers, rings, dotted lines": callipers,
    "rough tissue instead of a phantom": lambda rng, _: rough(rng),
}


class Seen(NamedTuple):
    """What became of a line: its frame, the share of its ink in boxes, area of the boxes by area of the lines."""

    line: Line
    frame: int
    share: float
    excess: float


Result = tuple[list[Seen], Pixels | None]


# ---- one frame -------------------------------------------------------------------------------------------------------


def with_text(kind: Kind, seed: int, number: int) -> Result:
    """Its lines, and a picture when one was not covered."""
    rng = np.random.default_rng([seed, number])
    text = str(rng.choice(kind.texts)) if kind.texts else ""
    return compared(exported(rng, *write(rng, tissue(rng), kind.script, text=text, contrast=kind.contrast)), number)


def compared(written: Written, number: int) -> Result:
    boxes = find_text(written.pixels)
    inside, lines = (_filled(b, written.pixels.shape) for b in (boxes, [line.box for line in written.lines]))
    excess, seen = float(inside.sum() / lines.sum()), []
    for line in written.lines:
        x0, y0, x1, y1 = line.box
        seen.append(Seen(line, number, float(inside[y0:y1, x0:x1][line.ink].mean()), excess))
    missed = [s.line.box for s in seen if s.share < COVERED]
    return seen, _tile(written.pixels, boxes, missed[0]) if missed else None


def without_text(name: str, seed: int, number: int) -> Pixels | None:
    """A picture when there was a false alarm."""
    rng = np.random.default_rng([seed, number])
    pixels = exported(rng, WITHOUT[name](rng, tissue(rng))).pixels
    boxes = find_text(pixels)
    return _tile(pixels, boxes, boxes[0]) if boxes else None


def _filled(boxes: Iterable[Box], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    inside = np.zeros(shape, np.bool_)
    for x0, y0, x1, y1 in boxes:
        inside[y0:y1, x0:x1] = True
    return inside


def _tile(pixels: Pixels, boxes: Iterable[Box], around: Box, size: tuple[int, int] = (320, 200)) -> Pixels:
    """(height, width, 3) around a place, boxes drawn."""
    colour = np.repeat(pixels[:, :, None], 3, axis=2)
    for x0, y0, x1, y1 in boxes:
        cv2.rectangle(colour, (x0, y0), (x1 - 1, y1 - 1), (0, 220, 255), 1)
    part = colour[max(0, around[1] - 30) : around[3] + 30, max(0, around[0] - 30) : around[2] + 30]
    times = min(3.0, size[0] / part.shape[1], size[1] / part.shape[0])
    part = cv2.resize(part, None, fx=times, fy=times, interpolation=cv2.INTER_AREA if times < 1 else cv2.INTER_NEAREST)
    tile = np.zeros((size[1], size[0], 3), np.uint8)
    tile[: part.shape[0], : part.shape[1]] = part[: size[1], : size[0]]
    return tile


def save_sheet(tiles: list[Pixels], path: Path, columns: int = 5) -> None:
    if tiles:
        tiles = tiles[: 8 * columns]
        tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
        rows = [np.hstack(tiles[k : k + columns]) for k in range(0, len(tiles), columns)]
        cv2.imwrite(str(path), np.vstack(rows))


# ---- tables ----------------------------------------------------------------------------------------------------------


def share(successes: int, n: int) -> str:
    """Share with its Wilson interval."""
    if not n:
        return "-"
    estimate = wilson(successes, n)
    return f"{estimate.value:.3f} ({estimate.low:.3f}-{estimate.high:.3f})  n = {n}"


def print_lines(name: str, seen: list[Seen]) -> None:
    found, covered = (sum(s.share >= limit for s in seen) for limit in (FOUND, COVERED))
    print(f"  {name:38} found {share(found, len(seen)):32} covered {covered / max(1, len(seen)):.3f}")


def print_frames(name: str, seen: list[Seen]) -> None:
    frames = {s.frame for s in seen}
    found = {s.frame for s in seen if s.share >= FOUND}
    ink, excess = np.mean([s.share for s in seen]), np.percentile([s.excess for s in seen if s.share], (50, 90))
    print(f"{name}\n  frames found {share(len(found), len(frames))}")
    print_lines("lines", seen)
    print(
        f"  ink in boxes, mean over lines {ink:.4f}; boxes are {excess[0]:.1f} times the lines (90 %: {excess[1]:.1f})"
    )


def print_classes(seen: list[Seen]) -> None:
    """By size, contrast, length, manner and face."""
    for unit, limits, value in (
        ("px capitals", (0, 7, 9, 13, 20, 30, 61), lambda line: line.cap_px),
        ("grey levels", (50, 70, 100, 150, 256), lambda line: line.contrast),
        ("characters", (3, 6, 10, 20, 41), lambda line: len(line.text)),
    ):
        for low, high in pairwise(limits):
            print_lines(f"{low} to {high} {unit}", [s for s in seen if low <= value(s.line) < high])
    for dark, style in product((False, True), ("bare", "plate", "rim")):
        chosen = [s for s in seen if (s.line.dark, s.line.style) == (dark, style)]
        print_lines(f"{'darker' if dark else 'lighter'} than the tissue, {style}", chosen)
    for face in sorted({s.line.face for s in seen}):
        print_lines(face, [s for s in seen if s.line.face == face])


def print_times() -> None:
    """Processor time on one core, of frames without text."""
    cv2.setNumThreads(1)
    for width, height in ((224, 300), (800, 700)):
        rng = np.random.default_rng(0)
        frames = [tissue(rng, width) for _ in range(16)]
        frames = [np.ascontiguousarray(np.vstack([f, f[::-1]])[:height]) for f in frames]
        times = []
        for pixels in frames * 8:
            start = time.thread_time()
            find_text(pixels)
            times.append(1e3 * (time.thread_time() - start))
        middle, most = np.percentile(times, (50, 95))
        print(f"{width} x {height}: {middle:.2f} ms (95 %: {most:.2f}) of processor time")


# ---- commands --------------------------------------------------------------------------------------------------------


def measure(n: int, seed: int, workers: int) -> list[Pixels]:
    """Print all SYNTHETIC tables; pictures of what went wrong."""
    tiles: list[Pixels] = []
    with pool(workers) as running:

        def lines(kind: Kind, count: int, first: int) -> list[Seen]:
            results = list(running.map(partial(with_text, kind, seed + first), range(count), chunksize=10))
            tiles.extend(tile for _, tile in results if tile is not None)
            return [s for seen, _ in results for s in seen]

        print(f"SYNTHETIC frames, seeds {seed} and following; 95 % Wilson intervals\n")
        seen = lines(MAIN, n, 0)
        print_frames(MAIN.name, seen)
        print_classes(seen)
        for k, kind in enumerate(APART, start=1):
            print_frames(f"\napart: {kind.name}", lines(kind, n // 5, k))
        print("\nframes without text in which some was suspected")
        for k, name in enumerate(WITHOUT, start=len(APART) + 1):
            count = n if name.startswith("phantoms") else n // 2
            alarms = list(running.map(partial(without_text, name, seed + k), range(count), chunksize=10))
            tiles.extend(tile for tile in alarms if tile is not None)
            print(f"  {name:38} {share(sum(tile is not None for tile in alarms), count)}")
    print()
    print_times()
    return tiles


def run_on(folder: Path) -> list[Pixels]:
    """Print what is suspected in the tissue region of every image below a folder, by its place in sorted order."""
    tiles, told = [], Counter[str]()
    for number, path in enumerate(sorted(p for p in folder.rglob("*") if p.is_file()), start=1):
        try:
            frame = read_image(path)
        except DataError:
            told["not readable as an ultrasound frame"] += 1
            continue
        boxes = find_text(frame.pixels)
        told["with suspected text" if boxes else "without"] += 1
        if boxes:
            height, width = frame.pixels.shape
            print(f"file {number}: region {width} x {height} ({frame.facts.region_from}), {len(boxes)} boxes: {boxes}")
            tiles.append(_tile(frame.pixels, boxes, (0, 0, width, height)))
    print(", ".join(f"{count} {what}" for what, count in told.items()) or "no files")
    return tiles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=600)
    parser.add_argument("--seed", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--frames", type=Path)
    parser.add_argument("--sheet", type=Path)
    asked = parser.parse_args()
    tiles = run_on(asked.frames) if asked.frames else measure(asked.n, asked.seed, asked.workers)
    if asked.sheet:
        save_sheet(tiles, asked.sheet)


if __name__ == "__main__":
    main()
