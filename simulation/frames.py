"""The machine's screen around the picture: banner, rulers, grey bar. What a preprocessing must cut away.

A tenth of the frames carry an invented patient's name and the date in the banner, to try the cleaning on.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from simulation.devices import Device, machine_of

Pixels = NDArray[np.uint8]

INK, PALE, LINE_PX = 190, 120, 11
TICK_MM = 5


class Region(NamedTuple):
    """The picture inside the frame, in pixels; ``x1`` and ``y1`` are the first outside."""

    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True)
class Screen:
    """A machine's layout: margins in pixels, where the ruler stands, and the grey of what is not picture."""

    top: int
    left: int
    right: int
    bottom: int
    ruler_left: bool
    background: int


SCREENS = {
    "aixplorer": Screen(top=38, left=14, right=24, bottom=16, ruler_left=False, background=0),
    "mindray_m9": Screen(top=38, left=24, right=16, bottom=22, ruler_left=True, background=8),
    "mindray_mx7": Screen(top=38, left=20, right=26, bottom=14, ruler_left=False, background=0),
    "samsung_r10": Screen(top=40, left=26, right=26, bottom=18, ruler_left=True, background=16),
}


def region_in_frame(device: str, width_px: int, height_px: int) -> Region:
    """Where a device puts a picture of this size on its screen."""
    screen = SCREENS[device]
    return Region(screen.left, screen.top, screen.left + width_px, screen.top + height_px)


def framed(pixels: Pixels, device: str | Device, depth_mm: int, banner: str) -> Pixels:
    """The whole screen (rows, columns) with the picture in its region; ``banner`` is burned in, empty = none."""
    height, width = pixels.shape
    machine = machine_of(device)
    frame = _empty_screen(machine, width, height, depth_mm).copy()
    if banner:
        _burn_in(frame, banner)
    region = region_in_frame(machine.key, width, height)
    frame[region.y0 : region.y1, region.x0 : region.x1] = pixels
    return frame


def mask_in_frame(mask: NDArray[np.bool_], device: str) -> NDArray[np.bool_]:
    """The mask (height, width) on the whole screen."""
    screen = SCREENS[device]
    return np.pad(mask, ((screen.top, screen.bottom), (screen.left, screen.right)))


@lru_cache(maxsize=128)
def _empty_screen(machine: Device, width: int, height: int, depth_mm: int) -> Pixels:
    """The screen before the exam: machine, settings, ruler and grey bar."""
    screen, region = SCREENS[machine.key], region_in_frame(machine.key, width, height)
    image = Pillow.new("L", (region.x1 + screen.right, region.y1 + screen.bottom), screen.background)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default_imagefont()
    draw.text((4, 1), f"{machine.model}  {machine.transducer}  MSK", fill=INK, font=font)
    settings = f"D {depth_mm / 10:.1f}cm  DR {machine.dynamic_range_db:.0f}  F {machine.frequency_mhz:.1f}MHz  MI 0.9"
    draw.text((4, 1 + LINE_PX), settings, fill=PALE, font=font)
    draw.text((region.x0, region.y1 + 2), "SYNTHETIC PHANTOM", fill=PALE, font=font)
    _draw_ruler(draw, region, machine.width_mm / width, screen.ruler_left)
    return _with_grey_bar(np.array(image, dtype=np.uint8), region, screen)


def _draw_ruler(draw: ImageDraw.ImageDraw, region: Region, mm_per_pixel: float, left: bool) -> None:
    """Ticks every 5 mm of depth beside the picture and of width below it; every second one long."""
    for k in range(int((region.y1 - region.y0) * mm_per_pixel / TICK_MM) + 1):
        y, length = region.y0 + round(k * TICK_MM / mm_per_pixel), 6 if k % 2 == 0 else 3
        x = (region.x0 - 2 - length, region.x0 - 3) if left else (region.x1 + 2, region.x1 + 1 + length)
        draw.line([(x[0], y), (x[1], y)], fill=INK)
    for k in range(int((region.x1 - region.x0) * mm_per_pixel / TICK_MM) + 1):
        x0 = region.x0 + round(k * TICK_MM / mm_per_pixel)
        draw.line([(x0, region.y1 + 1), (x0, region.y1 + (3 if k % 2 == 0 else 2))], fill=PALE)


def _with_grey_bar(frame: Pixels, region: Region, screen: Screen) -> Pixels:
    """White above, black below, on the side without ruler."""
    length = min(96, (region.y1 - region.y0) // 2)
    x = region.x1 + 4 if screen.ruler_left else 3
    frame[region.y0 : region.y0 + length, x : x + 6] = np.linspace(255, 0, length, dtype=np.uint8)[:, None]
    return frame


def _burn_in(frame: Pixels, banner: str) -> None:
    """Write a line below the settings."""
    strip = Pillow.fromarray(frame[2 * LINE_PX : 3 * LINE_PX + 4])
    ImageDraw.Draw(strip).text((4, 1), banner, fill=INK, font=ImageFont.load_default_imagefont())
    frame[2 * LINE_PX : 3 * LINE_PX + 4] = np.asarray(strip)
