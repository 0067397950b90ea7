"""Text burned into a picture, as scanners and operators do it, with the ink's place for free.

Made to try the search for burned-in text on (``sarco_models.burned_in``). Faces and words come in two sets: one to fit
and to look at, one held out. All chance comes from ``rng``: equal generators give equal pixels.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]
Rng = np.random.Generator
Style = Literal["bare", "plate", "rim"]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

CONTRAST = (50, 256)
"""Grey levels between ink and the mean of what lies under a line: from, and below."""

CAP_PX = (7, 40)
"""Height of capitals as drawn, in pixels; sizes are drawn evenly on a logarithmic scale."""


@dataclass(frozen=True)
class Script:
    """Faces, and words to write in them: parts of invented names, what screens say, forms (# = digit, @ = letter)."""

    faces: tuple[str, ...]
    given: tuple[str, ...]
    family: tuple[str, ...]
    screen: tuple[str, ...]
    forms: tuple[str, ...]


# faces: Pillow's two, files of matplotlib, and those inside OpenCV 5 with their weight: its "Hershey" numbers now draw
# the same letters, and its "uni" is the only face here with Chinese characters

SEEN = Script(
    faces=(
        "Aileron", "DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono.ttf", "STIXGeneral.ttf", "cmtt10.ttf",
        "OpenCV sans 400", "OpenCV sans 700",
    ),
    given=("Anna", "BEN", "Chloe", "david", "Emil", "FATIMA", "George", "Hui", "IRIS", "Jan", "Keiko", "Lin", "Mehmet"),
    family=("ABEL", "Bianchi", "CHEN", "Dubois", "Evans", "FISCHER", "Garcia", "Huang", "Ivanov", "JANSEN", "Kim"),
    screen=("RT RECTUS FEM", "Left thigh", "MI 0.9", "12L3", "D 4.5cm", "Gain 56", "Frq 10.0 MHz", "MSK", "AO% 100"),
    forms=("##.##.####", "####-##-##", "##/##/##", "ID ######", "@@######", "##:##:##", "P-####", "#.## cm"),
)  # fmt: skip
UNSEEN = Script(
    faces=(
        "bitmap", "DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf", "DejaVuSansMono-Bold.ttf", "DejaVuSans-Oblique.ttf",
        "STIXGeneralBol.ttf", "cmss10.ttf", "cmr10.ttf", "OpenCV italic 300", "OpenCV italic 600",
    ),
    given=("Olga", "PETER", "Quentin", "rosa", "STEFAN", "Thi", "Ulrike", "VIKTOR", "Wei", "Xavier", "YUKI", "Zoe"),
    family=("Moreau", "NOWAK", "Okafor", "PARK", "Quiroga", "ROSSI", "Schmidt", "TANAKA", "Usman", "VOGEL", "Yilmaz"),
    screen=("VASTUS LAT", "Biceps left", "TIs 0.4", "L15-4", "Depth 50mm", "DR 70", "9 fps", "General", "Zoom x2"),
    forms=("####/##/##", "##-@@@-####", "########", "MRN: #######", "@#-###-##", "##:## PM", "*19##.##.##", "##Y M"),
)  # fmt: skip
SEEN_CHINESE = Script(
    faces=("OpenCV uni 400",),
    given=("小明", "丽华", "建国", "秀英", "志强", "桂兰"),
    family=("王", "李", "张", "刘", "陈", "杨"),
    screen=("右股直肌", "左侧", "仰卧", "横切面", "上海医院", "男性"),
    forms=("19##年#月", "####-##-##", "##岁", "病案号######"),
)
UNSEEN_CHINESE = Script(
    faces=("OpenCV uni 400",),
    given=("伟东", "雪梅", "海燕", "俊杰", "淑珍", "宇航"),
    family=("赵", "黄", "周", "吴", "徐", "孙"),
    screen=("肱二头肌", "女性", "坐位", "纵断图", "四川省门诊", "超声科"),
    forms=("20##/##/##", "住院编码########", "检查:##:##", "龄##"),
)


@dataclass(frozen=True, eq=False)
class Line:
    """One line of text as it stands in a picture.

    Attributes:
        text: what it says.
        face: of its script.
        cap_px: height of its capitals.
        box: x0, y0, x1, y1 around its ink, exclusive ends.
        ink: (height, width) of the box, where the ink is.
        contrast: grey levels between the ink and the mean of what lies under the line, as drawn.
        style: bare; on a plate of one grey level; or with a rim of one pixel around its letters.
        dark: the ink is darker than what lies under it.
    """

    text: str
    face: str
    cap_px: float
    box: tuple[int, int, int, int]
    ink: NDArray[np.bool_]
    contrast: float
    style: Style
    dark: bool


class Written(NamedTuple):
    """A picture with its lines of text."""

    pixels: Pixels
    lines: tuple[Line, ...]


class Stamp(NamedTuple):
    """A line of text before it is burned in: (height, width) coverage 0 to 1, its words, its face and real capitals."""

    alpha: NDArray[np.float32]
    text: str
    face: str
    cap_px: float


class _Ink(NamedTuple):
    """Grey level of the letters, and of the plate under them or of their rim."""

    level: int
    style: Style
    ground: int


def write(
    rng: Rng, pixels: Pixels, script: Script = SEEN, *, text: str = "", contrast: tuple[float, float] = CONTRAST
) -> Written:
    """Burn one to three lines of 3 to 40 characters into a copy of ``pixels``, all in one face, size and ink.

    White, grey or dark ink (15 %), a quarter on a plate, a tenth with a rim, three in ten not antialiased, anywhere.

    Args:
        rng: all the chance.
        pixels: (height, width) tissue.
        script: faces and words.
        text: this one line instead.
        contrast: grey levels between ink and the mean of what lies under each line: from, and below.
    """
    pixels = pixels.copy()
    while True:
        face, cap = str(rng.choice(script.faces)), float(np.exp(rng.uniform(*np.log(CAP_PX))))
        crisp, ink = bool(rng.random() < 0.3), _random_ink(rng)
        texts = [text] if text else [_words(rng, script) for _ in range(int(rng.choice([1, 1, 2, 3])))]
        stamps = [stamp(words, face, cap, crisp=crisp) for words in texts]
        places = _places(rng, pixels, stamps)
        if places and contrast[1] < CONTRAST[1]:
            ink = ink._replace(level=_level(rng, pixels, places[0], ink, contrast))
        if places and all(contrast[0] <= _contrast(pixels, *s, ink) < contrast[1] for s in places):
            return _burn(rng, pixels, places, ink)


def _random_ink(rng: Rng) -> _Ink:
    dark, style = rng.random() < 0.15, rng.choice(["bare", "plate", "rim"], p=[0.65, 0.25, 0.1])
    if dark:
        return _Ink(int(rng.integers(0, 30)), style, int(rng.integers(170, 256)))
    return _Ink(int(rng.integers(int(rng.choice([90, 215, 255])), 256)), style, int(rng.integers(0, 40)))


def _words(rng: Rng, script: Script) -> str:
    """A name, a date, an id, what a screen says, or several of these."""
    parts = []
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        given, family = str(rng.choice(script.given)), str(rng.choice(script.family))
        name = str(rng.choice([f"{family}, {given}", f"{family}^{given}", f"{given} {family}", f"{family}{given}"]))
        form = "".join(_drawn(rng, character) for character in str(rng.choice(script.forms)))
        parts.append(str(rng.choice([name, form, str(rng.choice(script.screen))])))
    return str(rng.choice([" ", "  ", ", "])).join(parts)[:40].strip()


def _drawn(rng: Rng, character: str) -> str:
    choices = {"#": "0123456789", "@": "ABCDEFGHJKLMNPRSTUVWXYZ"}.get(character, character)
    return choices[int(rng.integers(len(choices)))]


# ---- letters ---------------------------------------------------------------------------------------------------------


def stamp(text: str, face: str, cap_px: float, *, crisp: bool = False) -> Stamp:
    """Draw ``text`` with capitals of about ``cap_px`` pixels; ``crisp`` = not antialiased."""
    if face == "bitmap":
        times = max(1, round(cap_px / 6))
        alpha = np.kron(_pillow(text, ImageFont.load_default_imagefont(), crisp), np.ones((times, times), np.float32))
        cap_px = 6.0 * times
    elif face.startswith("OpenCV"):
        size = round(cap_px / 0.75)
        alpha, cap_px = _opencv(text, face, size, crisp), 0.75 * size
    else:
        alpha = _pillow(text, _font(face, cap_px), crisp)
    x0, y0, x1, y1 = around(alpha > 0.1)
    return Stamp(alpha[y0:y1, x0:x1], text, face, cap_px)


@lru_cache(maxsize=256)
def _font(face: str, cap_px: float) -> Font:
    top, bottom = _sized(face, 200).getbbox("H")[1::2]
    return _sized(face, 200 * cap_px / (bottom - top))


def _sized(face: str, size: float) -> Font:
    """A file of matplotlib's, any other file by its absolute path, or Pillow's own."""
    if face == "Aileron":
        return ImageFont.load_default(size)
    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / face, size)


def _pillow(text: str, font: Font, crisp: bool) -> NDArray[np.float32]:
    right, bottom = font.getbbox(text)[2:]
    image = Image.new("L", (int(right) + 8, int(bottom) + 8))
    draw = ImageDraw.Draw(image)
    draw.fontmode = "1" if crisp else "L"
    draw.text((4, 4), text, fill=255, font=font)
    return np.asarray(image, dtype=np.float32) / np.float32(255)


def _opencv(text: str, face: str, size: int, crisp: bool) -> NDArray[np.float32]:
    _, name, weight = face.split()
    image = np.zeros((3 * size, (len(text) + 3) * 2 * size), np.uint8)
    cv2.putText(image, text, (size, 2 * size), (255,), cv2.FontFace(name), size, int(weight))
    alpha = image.astype(np.float32) / np.float32(255)
    return np.rint(alpha, out=alpha) if crisp else alpha


def around(ink: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of what is True, exclusive ends."""
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


# ---- burning in ------------------------------------------------------------------------------------------------------


def _places(rng: Rng, pixels: Pixels, stamps: list[Stamp]) -> list[tuple[Stamp, int, int]]:
    """Each line with its left and top, below each other; [] when they do not fit."""
    step = round(stamps[0].alpha.shape[0] * float(rng.uniform(1.15, 1.6))) + 2
    height = step * (len(stamps) - 1) + stamps[-1].alpha.shape[0]
    width = max(s.alpha.shape[1] for s in stamps)
    if height + 4 >= pixels.shape[0] or width + 4 >= pixels.shape[1]:
        return []
    x = int(rng.integers(2, pixels.shape[1] - width - 1))
    y = int(rng.integers(2, pixels.shape[0] - height - 1))
    return [(s, x, y + k * step) for k, s in enumerate(stamps)]


def _under(pixels: Pixels, mark: Stamp, x: int, y: int) -> Pixels:
    height, width = mark.alpha.shape
    return pixels[y : y + height, x : x + width]


def _ground(pixels: Pixels, mark: Stamp, x: int, y: int, ink: _Ink) -> float:
    return ink.ground if ink.style == "plate" else float(_under(pixels, mark, x, y).mean())


def _contrast(pixels: Pixels, mark: Stamp, x: int, y: int, ink: _Ink) -> float:
    return abs(ink.level - _ground(pixels, mark, x, y, ink)) if 0 <= ink.level <= 255 else -1.0


def _level(rng: Rng, pixels: Pixels, place: tuple[Stamp, int, int], ink: _Ink, contrast: tuple[float, float]) -> int:
    """Of ink with this contrast here; may lie outside of 0 to 255."""
    ground, apart = _ground(pixels, *place, ink), float(rng.uniform(*contrast))
    return round(ground + (apart if ink.level > ground else -apart))


def _burn(rng: Rng, pixels: Pixels, places: list[tuple[Stamp, int, int]], ink: _Ink) -> Written:
    """The plate, then the lines; changes ``pixels``."""
    if ink.style == "plate":
        pad = int(rng.integers(1, 6))
        (_, x, top), (last, _, bottom) = places[0], places[-1]
        right = x + max(s.alpha.shape[1] for s, _, _ in places)
        plate = (slice(max(0, top - pad), bottom + last.alpha.shape[0] + pad), slice(max(0, x - pad), right + pad))
        pixels[plate] = ink.ground
    lines = []
    for mark, x, y in places:
        here = _under(pixels, mark, x, y)
        mean = float(here.mean())
        if ink.style == "rim":
            rim = cv2.dilate(mark.alpha, np.ones((3, 3), np.uint8))
            _blend(here, rim.astype(np.float32), ink.ground)
        _blend(here, mark.alpha, ink.level)
        box = (x, y, x + mark.alpha.shape[1], y + mark.alpha.shape[0])
        seen = (mark.text, mark.face, mark.cap_px, box, mark.alpha > 0.35, abs(ink.level - mean))
        lines.append(Line(*seen, style=ink.style, dark=ink.level < mean))
    return Written(pixels, tuple(lines))


def _blend(here: Pixels, alpha: NDArray[np.float32], level: int) -> None:
    here[:] = np.rint(here * (1 - alpha) + level * alpha).astype(np.uint8)
