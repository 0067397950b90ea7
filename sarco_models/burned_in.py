"""Text burned into the grey pixels of a picture: names, dates, ids, labels. It is found, never read.

Two steps. Letters are strokes and gaps in quick turn along a row; tissue is smooth along a row, because a beam is wide
and a fascia long. Where strokes and gaps alternate (a few places of a picture, often none), a network of four thousand
weights looks at the place and says whether it is writing. docs/burned-in-text.md says how often it is right, and on
what: an empty answer is no proof that a picture names nobody.
"""

import base64
import math
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sarco_models.frames import Box

LEVELS = 3
"""The picture is looked at in full, half and quarter size: letters of 5 to 15 pixels at one of these."""

CELL = 4
"""Strokes and gaps are counted in cells of this many pixels of a level, both ways."""

STROKE = 7
"""Strokes and gaps narrower than this many pixels of a level are seen."""

WINDOW = (4, 2)
"""Columns and rows of cells over which they are averaged; even: a cell stands for what lies around its first corner."""

PLACE = 9
"""Least alternation of a place that is looked at: grey levels, the smaller one of mean stroke and mean gap."""

MOST = 400
"""Places looked at per level, the strongest: bounds what a chessboard costs."""

PATCH = (24, 40)
"""Rows and columns around a place that the network sees."""

NOISE = 8
"""Grey levels added to a patch's standard deviation before it is divided by it, so that noise stays small."""

STRIDES = (2, 2, 1)
"""Of the network's three convolutions."""

SURE, LIKELY = 1.5, 0.0
"""Logit from which a place is text, and from which it is text when it touches such a place."""

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


class Places(NamedTuple):
    """Where strokes and gaps alternate at one level.

    Attributes:
        alternation: (rows, columns) of cells, in grey levels.
        cells: (places, 2) row and column of the strongest.
    """

    alternation: Pixels
    cells: NDArray[np.intp]


class Weights(NamedTuple):
    """Of the network.

    Attributes:
        kernels: of three convolutions, each (outputs, inputs, size, size).
        biases: of them, each (outputs,).
        sum: (2 outputs,) of the largest, then of the mean answers of the last one.
        offset: added to that sum.
    """

    kernels: tuple[Floats, Floats, Floats]
    biases: tuple[Floats, Floats, Floats]
    sum: Floats
    offset: float


def find_text(pixels: Pixels) -> tuple[Box, ...]:
    """Boxes around suspected text in ``pixels`` (height, width), with some room; () when there is none.

    Level lines of at least two letters, capitals of 5 to 60 pixels, lighter or darker than what lies under them. About
    half a millisecond for 224 by 300 pixels, one for 800 by 700.
    """
    images = pyramid(pixels)
    places = [find_places(image) for image in images]
    counts = [len(place.cells) for place in places]
    if not sum(counts):
        return ()
    seen = np.concatenate([patches(image, place.cells) for image, place in zip(images, places, strict=True)])
    scores = np.split(logits(seen, _weights()), np.cumsum(counts)[:-1])
    found = []
    for level, (image, place, score) in enumerate(zip(images, places, scores, strict=True)):
        found += [_on_picture(_tight(image, box), level, pixels.shape) for box in _boxes(place, score)]
    return _merged(found)


# ---- where strokes and gaps alternate --------------------------------------------------------------------------------


def pyramid(pixels: Pixels) -> list[Pixels]:
    """The picture in its sizes, its last rows and columns repeated to whole cells of the smallest."""
    step = CELL << (LEVELS - 1)
    below, beside = -pixels.shape[0] % step, -pixels.shape[1] % step
    images = [np.asarray(cv2.copyMakeBorder(pixels, 0, below, 0, beside, cv2.BORDER_REPLICATE), dtype=np.uint8)]
    for _ in range(LEVELS - 1):
        images.append(_shrunk(images[-1], 2))
    return images


def _shrunk(image: Pixels, times: int) -> Pixels:
    height, width = image.shape
    small = cv2.resize(image, (width // times, height // times), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)


def find_places(image: Pixels) -> Places:
    """Cells of a level where strokes and gaps alternate most.

    A top-hat along the row does not see lines along the row; a lone line has no gap, an edge neither stroke nor gap.
    """
    strokes, gaps = (cv2.blur(_shrunk(part, CELL), WINDOW) for part in _strokes_and_gaps(image))
    alternation = np.minimum(strokes, gaps)
    peaks = (alternation >= PLACE) & (alternation == cv2.dilate(alternation, np.ones((3, 5), np.uint8)))
    cells = np.argwhere(peaks)
    if len(cells) > MOST:
        cells = cells[np.argsort(alternation[peaks], kind="stable")[-MOST:]]
    return Places(alternation, cells)


def _strokes_and_gaps(image: Pixels) -> tuple[Pixels, Pixels]:
    """What is lighter, and what is darker, than all that lies within ``STROKE`` pixels along the row."""
    row = np.ones((1, STROKE), np.uint8)
    light, dark = (cv2.morphologyEx(image, kind, row) for kind in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT))
    return np.asarray(light, dtype=np.uint8), np.asarray(dark, dtype=np.uint8)


# ---- the network -----------------------------------------------------------------------------------------------------


def patches(image: Pixels, cells: NDArray[np.intp]) -> Pixels:
    """(places, *PATCH) of a level around the first corners of these cells, its edges repeated."""
    rows, columns = PATCH
    wide = cv2.copyMakeBorder(image, rows // 2, rows // 2, columns // 2, columns // 2, cv2.BORDER_REPLICATE)
    y, x = CELL * cells.T
    return np.asarray(sliding_window_view(wide, PATCH)[y, x], dtype=np.uint8)


def weights(table: Iterable[tuple[float, NDArray[np.int8]]]) -> Weights:
    """From the tensors in their order, kernel and bias in turn, each a scale and whole numbers."""
    k1, b1, k2, b2, k3, b3, last, offset = (np.float32(scale) * whole for scale, whole in table)
    return Weights((k1, k2, k3), (b1, b2, b3), last[0], float(offset[0]))


def logits(seen: Pixels, weights: Weights) -> Floats:
    """(places,) of patches (places, *PATCH): above 0, rather text than not. Brightness does not count."""
    maps = seen.astype(np.float32)
    maps -= maps.mean(axis=(1, 2), keepdims=True)
    maps /= maps.std(axis=(1, 2), keepdims=True) + NOISE
    maps = maps[None]
    for kernel, bias, stride in zip(weights.kernels, weights.biases, STRIDES, strict=True):
        maps = _convolved(maps, kernel, bias, stride)
    flat = maps.reshape(*maps.shape[:2], -1)
    scores: Floats = weights.sum @ np.concatenate([flat.max(axis=2), flat.mean(axis=2)]) + weights.offset
    return scores


def _convolved(maps: Floats, kernel: Floats, bias: Floats, stride: int) -> Floats:
    """(inputs, n, rows, columns) to (outputs, n, rows, columns), negative answers cut off."""
    outputs, inputs, size, _ = kernel.shape
    rows, columns = ((side - size) // stride + 1 for side in maps.shape[2:])
    windows = np.empty((inputs, size, size, maps.shape[1], rows, columns), np.float32)
    for y, x in np.ndindex(size, size):
        windows[:, y, x] = maps[:, :, y : y + stride * rows : stride, x : x + stride * columns : stride]
    answers = kernel.reshape(outputs, -1) @ windows.reshape(inputs * size * size, -1)
    answers += bias[:, None]
    return np.maximum(answers, 0, out=answers).reshape(outputs, maps.shape[1], rows, columns)


# ---- boxes -----------------------------------------------------------------------------------------------------------

REST = 0.35
"""A place reaches as far as the alternation stays above this share of it, counted from the level's median."""

REACH = (5, 8)
"""Cells it can reach up or down, and to either side; text that goes on has a next place there."""

HELD = 0.2
"""Rows and columns of a box belong to the text from this share of its strongest one, counted from its faintest."""


def _boxes(places: Places, scores: Floats) -> list[Box]:
    """In cells: what places that are text reach, and likely ones that touch it."""
    ground = float(np.median(places.alternation)) if (scores > SURE).any() else 0.0
    sure = _merged([_reach(places.alternation, ground, cell) for cell in places.cells[scores > SURE]])
    if not sure:
        return []
    between = (scores > LIKELY) & (scores <= SURE)
    likely = [_reach(places.alternation, ground, cell) for cell in places.cells[between]]
    return [box for box in _merged([*sure, *likely]) if any(_touch(box, text) for text in sure)]


def _reach(alternation: Pixels, ground: float, cell: NDArray[np.intp]) -> Box:
    """How far the alternation of a place goes on: first up and down around it, then along these rows."""
    y, x = (int(v) for v in cell)
    least = ground + REST * (alternation[y, x] - ground)
    top, bottom = _run(alternation[:, max(0, x - WINDOW[0]) : x + WINDOW[0] + 1].max(axis=1) >= least, y, REACH[0])
    left, right = _run(alternation[top:bottom].max(axis=0) >= least, x, REACH[1])
    return left - 1, top - 1, right, bottom  # a cell stands for what lies around its first corner


def _run(on: NDArray[np.bool_], at: int, far: int) -> tuple[int, int]:
    """Start and end (exclusive) of the stretch around ``at``, at most ``far`` to each side."""
    before, after = on[max(0, at - far) : at][::-1], on[at + 1 : at + 1 + far]
    return at - int(np.append(before, False).argmin()), at + 1 + int(np.append(after, False).argmin())


def _tight(image: Pixels, cells: Box) -> Box:
    """The box in pixels of its level, cut to the rows and columns that hold strokes, with room for what is fainter."""
    x0, y0, x1, y1 = (max(0, CELL * v) for v in cells)
    strokes = np.maximum(*_strokes_and_gaps(image[y0:y1, x0:x1]))
    top, bottom = _held(strokes.mean(axis=1))
    left, right = _held(strokes[top:bottom].mean(axis=0))
    beside, above = (bottom - top) // 2 + 2, (bottom - top) // 4 + 2  # a letter, and an accent or a tail
    return x0 + left - beside, y0 + top - above, x0 + right + beside, y0 + bottom + above


def _held(profile: NDArray[np.float64]) -> tuple[int, int]:
    """First and last (exclusive) entry that is not faint."""
    least = (1 - HELD) * profile.min() + HELD * profile.max()
    above = np.flatnonzero(profile >= least)
    return int(above[0]), int(above[-1]) + 1


def _on_picture(box: Box, level: int, shape: tuple[int, ...]) -> Box:
    x0, y0, x1, y1 = (v << level for v in box)
    return max(0, x0), max(0, y0), min(shape[1], x1), min(shape[0], y1)


def _touch(a: Box, b: Box) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def _merged(boxes: list[Box]) -> tuple[Box, ...]:
    """Boxes that touch become one, until none do; from top to bottom, then from left to right."""
    merged: list[Box] = []
    for box in boxes:
        while near := [other for other in merged if _touch(box, other)]:
            merged = [other for other in merged if other not in near]
            x0, y0, x1, y1 = zip(box, *near, strict=True)
            box = (min(x0), min(y0), max(x1), max(y1))
        merged.append(box)
    return tuple(sorted(merged, key=lambda b: (b[1], b[0])))


# ---- the table: written by benchmarks/burned_in_fit.py from SYNTHETIC frames -----------------------------------------

_SHAPES = ((8, 1, 5, 5), (8,), (16, 8, 3, 3), (16,), (16, 16, 3, 3), (16,), (1, 32), (1,))


@lru_cache(maxsize=1)
def _weights() -> Weights:
    whole = np.frombuffer(base64.b64decode(_TABLE), np.int8)
    parts = np.split(whole, np.cumsum([math.prod(shape) for shape in _SHAPES])[:-1])
    return weights((scale, part.reshape(shape)) for scale, part, shape in zip(_SCALES, parts, _SHAPES, strict=True))


_SCALES = (0.01195, 0.003666, 0.02333, 0.01423, 0.02069, 0.0137, 0.01044, 0.004544)
_TABLE = (
    "+wUB+AUC9i7KFQD3P4FBCP8jozj9/RPhFA416unuDw/d7BfjyQYvERXmDgvgAgDw4O8A/AD7D+z89gD99QYxIPDx9Dg18+PdByILAgbrAgMCCQ"
    "b7/QQeEAHa+ykU47j1Gwz98f0J9wQA+yq5Ggf7QYJG/QIgqTr2/RLmG/b69OskC+fGzBsgESHdDhMXMizY4fv4PeDc/fwcFPkPFyUUCPmzjrQF"
    "CCwjEhL2DQkU6AD88/XwAvkhJ/UMHCQcEfPAj7n4BC83EhD2gcuN9e/w7BUPEsfM4/XlCgX89Onv//YIBgTy/PLuAwX9EfTq/OLD9BH+EhohEu"
    "Cz1PneDgMEBvHx9vQCAf8P/AESBAYNBAMQCfsSCgEPAR32EhPM5wfx7f8E6PoN/vsW+yTp/AbT9+jlG/8D3vMIBOELICP++hju3AP+BgYL9f8Q"
    "4gIO+A799hX45wH5+g34Ag7u7QP8+uz+/d8GFPUODOr48wYPBgsIBvIGAOkOCPUVD/3+AwwXDwsGCPXyAN73D+cGDPwLBf4bEP0SDAwH8xUS2x"
    "QJ3AsL2RwHzBUA8AgAB+Xm/8XO7gYBAQL9Bezq+hMVB+YBE+Tm/QUK/wUFAgj18v8E+PDl9Ny+5w0IDw4LEvf7EhAKDgkFEwf1AhEUCAUBEPj2"
    "BOLV9+bh+/sKAwkJCRgMBB0X/QABCfwIDQQVDAwMCAoCAQgG9+XQ8vHZ5/cEBwoHAAIFCwYRFAn6BwD2/v0GCAfy/gHzAAwIAvwB+AgCEQgY9+"
    "Xu9u0THdoC/A4K+wogCgEKAe729AUD+uvwBAHo6AQNDAQaCQkRAfgGA+Xn4QsE+RIL0vP73xAC6BAF1eoA9Q8E/w8KBgkfCf7+FQ37/PoCCQcE"
    "9/8OBg8FBPrp7AkR/CcjIBUTCg4N+wQIEMC64L/K9czg57GeCYGpCbDZ8LSeDY2oBsnm+ObW3iEhCSAwFAL7/Ar9CQMEDfvz4hQE8P3v9PTv7v"
    "Ho6+La/uXf3Q4sHxMzHPr+/gH8Bf/26gMG8wQR/AL3Aw4C7w8PAQb4Afbn/QgLC/8EAAQPDBIQExUQAfr7BA4lFQoUDvL1ABQcCBEd/vb39QEE"
    "AwIEBADz/QX9BQkOE+3vAOHeCurzFO3fCObiCP7+CQsPBP7/Bgn+/gz8BiQQAQLk5wYLDfvv/v7x/BQXCgAACPoBCP0EAP8ACwv//g8N/BT/7w"
    "L2BBcA8Ajl0//J0xPu5P7Zu+rIzBcXAB4dCw0g/woC8vT9Cvb7AwEE/vj55BcR//gC8QYAB/wIAQsaDAojDQUcDf34+Pvi5Ar+7gLz+vHR6Qjq"
    "8wL7+PLa7Q/5AAD6BRUYGAUB9+7tDOP3/fkGAvvyBgT7EPb0+/UHA/L1/gIHBAMD9BchHAH2BfTxCfX/CfT7+vkKB/goF/UbDfoXCf4zEPYRAa"
    "uNzvbi8goZFfH+/vv1+AwD9fPuBwQLAAX6AQzr0RH2+P72B8iIivLf+g8YHgD08/n6DAIDBfsD+QYI/QIIC/4AAAIRBRAIASAWDhsUDNWTowL+"
    "DQr99QUC+QP89w8L/AAA7gsKBggQ3PrlvAwfERYnEuezlf/w9BP68xL99+3mC+7yGPD+HenvD/D2H/cFEgkH+Q4j7/kZCO/u6+r5//QIIRPs1P"
    "kM0vAM/vXV8ezQ7vf2/AIC9wcZ/PcdFQMPCg8YGwoZGQH99fcF9+n/CPYA9e4D7vQHAwwO9A3r7f/v6QkL+QwF/w4L/grx6SMY6/8W+xn+9hX8"
    "2goC9g0HAAb18Qv61gEH+hwY/RMH8/oC+QgU9gMP9vsD+Qob+QII/GoLuDk2GlwL9X8HBWQTFBYAC/wO/gz2/O3wFATkDBnz8gzO9BLr8AT0DP"
    "cABRcB8RHy+/36ChMK+fgS7QX/Ax/3Egz6/fkdHBjc6Nzm5LX3AAMBB/Xf5vLgARgE/w0H+P0B//kTDhgIAfr+5/jt+BID+Pb29iEJCP0HEPfs"
    "C83W5+bx6eSsE/0GCRPfzggaDR8KAfYCDf3w1ATw/wMg+g39CgsNDxkKBff36Pr+6vsLF/P03OkE9/XU09/7AvwKBwocEf0B/PMGCQYZBg0BGu"
    "sJ7PP3++4KKSvECAfAz+7+BAv969P5Dg/kBQDZ7PUC9/nv8gwQ9ufV8eHhzc/47ffTvNoGBwHx/foLGBH8AfoVIxb9BBvu9Pjj2OwL8vcC9vbt"
    "6wIkHTEbCwALDQH29fsEHBEFGhDvB/P9COntCAryAADu8Ovv/e/wBS0A9OT/5uMB7fH+EAfz9iH1/BwD9wX4C/YK+yD4CxD+BwkB7wn69wEBA/"
    "4HA/z8/xHp/PfuGin29AP++AUG8+sG4PQRGhT9+BD8DQr0/A0CFBINIAQLCwH1CA/v/d7L+tcH6/EECwsI+ewA+Ar/+AD/Cfjw7SUE/uQULt3b"
    "EBQN9vEB4wj09fgPy8EODeQECfQJ/xIH6fTu9vkW+MT4/e8g/xQU1P4HFgYD9igUAhAY5/MU7RIE9un3AgX76QcZ9Nf+BOQE+svo8vcQAe36Fx"
    "cE5P4cGAL+EgsD5QAD4/QXBP0c9dHT8fjz0uAT9PAi4dbtG9oM9vXe8B0G6PUWAPP9BQ4dGQ0u/yIFyeMa/h8FE/EH9Ofr4uz87+0F9wAN7fIR"
    "6ggSvs4ZABgLBgIO69wR8v/1BRIO8P0HIfry6fPj/CCnECb3ARbbBw/U5832//vr+wbuFAr/GQDyKCPsKfH59+MiDRL8/e0J4wgd7PkX5gQO+g"
    "/r8dn74NsMHCLo7xP9ARLp9wbcCQr29AIVAPwI28kUAAcVDu7l6+sa4gAZ8hgP9fXq5v/99/3qHwvnA/Ed2hETGMj3KR3fByPZ7OkY6SAL8BD2"
    "Gd/4AxUQBf0CGw7+3wD9+gsTDQwCGAwJAgnvKt3j4QLwAAsA9AMTB/n/+gj1IvgW/AQFFBcCDvcLGvgH3NTmD+8K0gIC/CUOBP3q8f4WBef3/P"
    "roAwD95gzmL+7l6Rj//v8sBijm/90GA/f+Df7+AfXr/xH4A/7u7SIA9f4G9fHq++f/BA0EAQ8OAAIS+xH7/Qr7+QkI8/AN/+TRxOQRHBnp+PIT"
    "AQoKDfsBEgoDCfcZBxn+HBD/6vkK9t/yAg0H790QDA4NAgYNFgfg9uz16vH6+wf/CtnM+vnk+NkBEwYGBQMYFf38//4KBBP6FP4C9/oUD/0K8/"
    "EmCgT7D/AV4uvo9ezr+vru6+YRCPUTDv8SEAX5AAoDEwEkFAr9+//8FQ33EgUW7g4F+AwpHCITIiXw2QrX3N33CQDyFv7+FfgHA/cGCAoT+//y"
    "4uEC0OjWzOEIBfXGy+Xm3fTvBBIIDQUGDf0BBuwBBNz+3cUXEhLm1OsK3+QC/wfy5u0E8+UFER7lGfHnAv7p+Ojr6uXk6e4D7gsGBRUF+RD2DA"
    "nGA+7l+OkWAxrm9fzdERAW+iMJ8g0D3gEkA70VDvce+tH2BBEDDRbf6vAK/vUC8OwGAvwU6AsnCRwO3+/14+n2EwsJAQP1AADzGwgDHxQZEBrc"
    "De/fBakdJx/+494ZCw39A/n7+/T0F/j7/fLwAOoFC/wNEgII/PYD+QL/1wMU+NsaCun+EBgT+gggPyff5BAXEfsKKvfi/PXlAAoG/Pvt4e4F1/"
    "/r+O789PUN+Ab3CAzXsNrm8Pjl39H3FgobDPMMH/78HwQdEQEWDBT8/h4IAQD59hD4ERr/+wnv+wcdCPr2A/kAFf4yEQsH9xYQK/8V+eHq8Qzj"
    "9eXtAA0PCvP7DBT8/f///QH+AAL+/v///v//AQP///////8A/Pz9/v37AP79/QD8/f////wAAf4B/gAA/QL8/v39/fwA//z+/wH8/f///wAA/Q"
    "H++/8A/wH9Av/9AgACAAEBAP7++v/7//3/+/0A/AL8/wH+Av79+/r/AP38+gH9/PoA/wD9/AAAAf7+AgH+AP/+APwCAf/9//0C+/78/wAC/AEA"
    "AgH8AP39Av7+AAEA/fv7//78/wAB/v77APwA/fz4/f39/f78/gAB/QH//QH7AAH+/QH/AAD8APz+/P/9//0A/PsA+/sA+vz9/v38/QEA/fz7/f"
    "0AAP7+Afz/Avz+/fv///z////+AP77+v36/foA/////v/+/vwB/QH//vz+/P77APr9/fsP7fX97vQA6/rvKBEKEBYQGhvw7e3qAQbpAwAV4/8S"
    "7gz04fDq7A4J8Q8I/xD//OEA/vv9AgIGAwry7PYtGhrWDwP3Bv/6/+8G6fEM7QgI/PkWBRUKAhMdFSfvB/f0Fgry+AD//+zz/wjsFgXEywn34g"
    "AA5/IJ/vDR5Auz8uf8Gw8MDvoSHwoFFRn0+P/y/Bj3Hd3k/dcuIRHy1xnj7g0BBgQH8NkM0+fgCPzT/uvgB9EuFQ/rzd/sC/YdFPcDBwH17e7k"
    "FfEtFzsSERUN/AcBDhfw4ejx/9AJ+RQK9v378fYdICLs7vmx5OwA+PwSGgbd3NoGAvMCHfXzDOAMBfDN9gMgCv0ZDg8F/O8JAirw8t0DAffzBe"
    "Dx+d/2+N8d/v78BPr06OjR9vwa2yPhAP8L+uUK9PIN/vII49X2CPL4/f0nCfMfD/4c+ffy7QwL6vcTAvnw7f/jBQIS8AzI7xXl5vr1DR0B1sv9"
    "DNUjBgLN/AoHBBAKERQJ/gHt7vj59M3FwoHx+gELDAEI3NwfKhnu8wzz+hPtz/wTGQv7DOkMFh4C+R/8/g8O+usA8fAJAgD6/fb7+vz8/vkB/g"
    "D+/v7+/Pv4+fz39/j59vkHBAD/+/z4+P39BP72/ff++/MD/f36+wH4/Pv8+Pz6//77/f7y+Pn7AgH6/Pv6+//4/AD69voC/wD6/fv3/Pj28vf8"
    "APz5/fv7+fj5+Pr7+v/06fv18vzx7vT8+/cAA/r3+vv3/vr9+/77+v3+AP/5+v7//vpkIVFDCVd/PRCj//p2ISMB9/nu+gfwF/gL8wkI/yH/Bs"
    "HQFLN/Gc/GZTQH9LC3kf+B"
)
