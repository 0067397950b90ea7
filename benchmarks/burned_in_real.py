"""Burned-in text on real frames: false alarms in tissue, text drawn into tissue, and what the screen says around it.

    python benchmarks/burned_in_real.py FOLDER [--sheet FILE]

FOLDER holds the 13 whole screens that the project may use: three of the rectus femoris (Siemens; DeepACSA, Apache-2.0)
and ten of the vastus lateralis (GE, three people; White et al. 2025, MIT), all panoramas without a name. Regions and
lines of text below were read off the screens by eye. The search was tried on three of them (TRIED) while it was made;
nothing was fitted to any.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from burned_in import FOUND, _filled, _tile, compared, print_frames, save_sheet, share
from numpy.typing import NDArray
from PIL import Image

from sarco_models.burned_in import find_text
from sarco_models.frames import Box
from simulation.lettering import UNSEEN, write

Pixels = NDArray[np.uint8]

TRIED = ("rectus_img_55", "SUB01_img1", "SUB01_img2")
REGIONS: dict[str, Box] = {
    "rectus_img_55": (184, 116, 972, 729),
    "rectus_img_56": (188, 95, 962, 729),
    "rectus_img_57": (162, 95, 988, 763),
    "SUB01_img1": (72, 144, 1281, 729),
    "SUB01_img2": (120, 144, 1234, 748),
    "SUB02_img1": (75, 182, 1268, 685),
    "SUB02_img2": (77, 176, 1283, 679),
    "SUB02_img3": (72, 175, 1283, 680),
    "SUB02_img4": (71, 195, 1282, 663),
    "SUB03_img1": (142, 122, 1217, 744),
    "SUB03_img2": (118, 133, 1246, 748),
    "SUB03_img3": (73, 158, 1279, 720),
    "SUB03_img4": (71, 156, 1281, 716),
}
SIZES = (1.0, 0.7, 0.5, 0.35)


@dataclass(frozen=True)
class Said:
    """A line on a screen: around its ink with some room, and whether it has five characters or more."""

    box: Box
    long: bool


def screen_lines(name: str) -> list[Said]:
    """Settings stand one below the other, on GE's screens in two columns of one to four characters."""
    if name.startswith("rectus"):
        settings = [Said((0, 96 + 21 * k, 150, 114 + 21 * k), k not in (0, 1, 6, 10)) for k in range(12)]
        hospital = [] if name.endswith("57") else [Said((570, 28, 798, 56), True)]
        return [*settings, *hospital, Said((958, 30, 1152, 56), True)]
    rows = [(1350, 72, 1400, 91), *((1350, 146 + 25 * k, 1400, 166 + 25 * k) for k in range(9))]
    settings = [Said(box, False) for x0, y0, x1, y1 in rows for box in ((x0, y0, x1, y1), (1410, y0, 1456, y1))]
    header = ((433, 8, 738, 28), (433, 38, 642, 60), (1128, 8, 1189, 28), (1216, 8, 1283, 28), (1304, 8, 1380, 28))
    label = (26, 96, 422, 123)
    longer = [Said(box, True) for box in (*header, (1304, 38, 1416, 60), label)]
    return [*settings, *longer, Said((684, 38, 735, 58), False)]


def said_and_found(screen: Pixels, said: Said) -> bool:
    """More than half of the bright pixels of a line lie in boxes."""
    x0, y0, x1, y1 = said.box
    part = screen[y0:y1, x0:x1]
    ink = part > (int(part.min()) + int(part.max())) // 2
    return bool(_filled(find_text(screen), screen.shape)[y0:y1, x0:x1][ink].mean() >= FOUND)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sheet", type=Path)
    asked = parser.parse_args()
    screens = {p.stem: np.asarray(Image.open(p).convert("L")) for p in sorted(asked.folder.rglob("*.tif"))}
    tissues = {name: np.ascontiguousarray(screens[name][b[1] : b[3], b[0] : b[2]]) for name, b in REGIONS.items()}
    tiles = []
    for title, names in (
        ("tried while the search was made", TRIED),
        ("not tried before", tuple(set(REGIONS) - set(TRIED))),
    ):
        print(f"\n{len(names)} real frames, {title}")
        for size in SIZES:
            small = {n: cv2.resize(tissues[n], None, fx=size, fy=size, interpolation=cv2.INTER_AREA) for n in names}
            alarms = {n: boxes for n, pixels in small.items() if (boxes := find_text(pixels))}
            tiles += [_tile(small[n], boxes, boxes[0]) for n, boxes in alarms.items()]
            print(f"  tissue at {size:g} of its size: {len(alarms)} of {len(names)} with a false alarm")
        seen = []
        for number, name in enumerate(sorted(names)):
            for k in range(8):
                rng = np.random.default_rng([2500, number, k])
                found, tile = compared(write(rng, tissues[name], UNSEEN), 8 * number + k)
                seen += found
                tiles += [] if tile is None else [tile]
        print_frames("  tissue with text drawn in, eight times each", seen)
        for long, kind in ((True, "of five characters and more"), (False, "of one to four characters")):
            lines = [(screens[n], said) for n in names for said in screen_lines(n) if said.long == long]
            found = sum(said_and_found(screen, said) for screen, said in lines)
            print(f"  lines on the screen {kind}: found {share(found, len(lines))}")
    if asked.sheet:
        save_sheet(tiles, asked.sheet)


if __name__ == "__main__":
    main()
