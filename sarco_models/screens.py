"""Where a scanner's picture lies on its screen, so that banners, rulers, logos and menus are cut away unread.

A screen is flat: text and lines are thin strokes on one grey level. A picture is textured all over. The largest
textured area is the picture; its border is found by its sides if it is a rectangle (``sides``), else by its outline
(``outlines``). What is written outside the picture moves neither. Where the border is not clear there is no answer.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from sarco_models.frames import Box
from sarco_models.outlines import outline
from sarco_models.sides import BLOCK, FAINT, TEXTURE, Inside, Pixels, Screen, flat_levels, rectangle

_MIN_SIDE = 48  # pixels; no picture of muscle is smaller
_MIN_SHARE = 0.05  # of the frame
_SECOND = 0.4  # of the largest area; another one of this size is a second picture
_LEVEL_SHARE = 0.002  # of the frame; a screen has more of each of its levels in flat areas


@dataclass(frozen=True, eq=False)
class Picture:
    """A scanner's picture on its screen.

    Attributes:
        box: the rectangle around it.
        inside: (height, width) of the box, False where the box shows the screen; None = nowhere.
    """

    box: Box
    inside: Inside | None = None

    def cut(self, pixels: Pixels) -> Pixels:
        """The picture's pixels of a frame's (height, width) box, black where the box shows the screen."""
        if self.inside is not None:
            pixels = np.where(self.inside, pixels, np.uint8(0))
        return np.array(pixels, dtype=np.uint8, order="C")


def find_picture(pixels: Pixels, *, lossy: bool = False) -> Picture | None:
    """The scanner's picture inside its screen; the whole frame where there is no screen; None when it is not clear.

    Args:
        pixels: (rows, columns) grey.
        lossy: the screen has been through JPEG, so that it is not quite flat around strokes and borders.
    """
    rows, columns = pixels.shape
    screen = Screen.of(pixels, lossy=lossy)
    if not _has_screen(screen) or int(pixels.max()) - int(pixels.min()) <= FAINT:  # no screen, or an empty frame
        return Picture((0, 0, columns, rows))
    core = _core(screen)
    if core is None:
        return None
    for attempt in (screen,) if lossy else (screen, Screen(pixels, screen.span, lossy=True)):  # resized, or once a JPEG
        box = rectangle(attempt, core)
        if box is not None and _is_filled(screen, box):
            return Picture(_without_black_rest(pixels, box))
    found = outline(screen, core)
    return Picture(*found) if found and _is_large(found[0], pixels) else None


def whole_blocks(picture: Picture, shape: tuple[int, int]) -> Picture | None:
    """The picture without the JPEG blocks that it only partly covers; None when nothing is left.

    A block is coded as one: what is written into its part outside the picture shows, faintly, in its part inside. At
    the frame's own edges nothing lies outside.

    Args:
        picture: on a frame that was stored as JPEG.
        shape: rows and columns of the frame.
    """
    (x0, y0, x1, y1), (rows, columns) = picture.box, shape
    box = (
        -(-x0 // BLOCK) * BLOCK,
        -(-y0 // BLOCK) * BLOCK,
        x1 if x1 == columns else x1 // BLOCK * BLOCK,
        y1 if y1 == rows else y1 // BLOCK * BLOCK,
    )
    if box[0] >= box[2] or box[1] >= box[3]:
        return None
    if picture.inside is None:
        return Picture(box)
    inside = picture.inside[box[1] - y0 : box[3] - y0, box[0] - x0 : box[2] - x0]
    height, width = inside.shape
    padded = np.pad(inside, ((0, -height % BLOCK), (0, -width % BLOCK)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // BLOCK, BLOCK, -1, BLOCK).all(axis=(1, 3))
    return Picture(box, blocks.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)[:height, :width])


def _has_screen(screen: Screen) -> bool:
    """Whether some grey level fills flat areas of the frame."""
    return bool((flat_levels(screen.pixels, screen.span) >= _LEVEL_SHARE * screen.pixels.size).any())


def _core(screen: Screen) -> Box | None:
    """The box around the largest textured area; strokes and lines of text are too thin to count."""
    textured = screen.span[BLOCK // 2 :: BLOCK, BLOCK // 2 :: BLOCK] >= TEXTURE
    cells = cv2.morphologyEx(textured.astype(np.uint8), cv2.MORPH_OPEN, np.ones((4, 4), dtype=np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(cells, connectivity=4)
    if count < 2:
        return None
    order = np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable") + 1
    x, y, width, height, area = (int(v) for v in stats[order[0]])
    if count > 2 and stats[order[1], cv2.CC_STAT_AREA] > _SECOND * area:
        return None
    rows, columns = screen.span.shape
    box = x * BLOCK, y * BLOCK, min((x + width) * BLOCK, columns), min((y + height) * BLOCK, rows)
    return box if _is_large(box, screen.pixels) else None


def _is_large(box: Box, pixels: Pixels) -> bool:
    width, height = box[2] - box[0], box[3] - box[1]
    return min(width, height) >= _MIN_SIDE and width * height >= _MIN_SHARE * pixels.size


def _is_filled(screen: Screen, box: Box) -> bool:
    """Whether the rectangle is picture up to its upper corners; the deep ones may be dark."""
    x0, y0, x1, y1 = box
    textured = screen.span[y0:y1, x0:x1] >= TEXTURE
    upper = textured[: max(1, int(0.6 * (y1 - y0)))]
    strips = (textured[:BLOCK], upper[:, :BLOCK], upper[:, -BLOCK:])
    return _is_large(box, screen.pixels) and bool(min(strip.mean() for strip in strips) >= 0.9)


def _without_black_rest(pixels: Pixels, box: Box) -> Box:
    """A picture that fills its file but for an empty rest along one side has dark tissue there: the whole frame."""
    rows, columns = pixels.shape
    whole = (0, 0, columns, rows)
    if sum(a == b for a, b in zip(box, whole, strict=True)) < 3:
        return box
    x0, y0, x1, y1 = box
    rest = np.concatenate([pixels[:y0].ravel(), pixels[y1:].ravel(), pixels[:, :x0].ravel(), pixels[:, x1:].ravel()])
    return whole if rest.size and rest.max() - rest.min() <= FAINT else box
