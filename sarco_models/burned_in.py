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


_SCALES = (0.01244, 0.003999, 0.02694, 0.00844, 0.02042, 0.01405, 0.01089, 0.001324)
_TABLE = (
    "/gED9AUC/RjgFAP6MoFEBAgWl0sBAAXYJQYv5eHu9QTJ8QD+zykd/h31Bffu+Qr65Pn8AO0MD/v4A/vw9e8cGBHx5SBDEufTCzMCAwECA/UBBA"
    "wB+Pf9LQnI+DEo9Lv4EgLzAP8H9QUC/CDCJv0DLYFc9QQStkDsAxToC/0A4P0mBPvOxzAfFyPICAoIIS3V5+oOP9ri/foeIRj/Dg4GBAfbqLno"
    "AQQIAhUBIxIN+fv38dru/QowSSgBBiP5BgUBrcbe/v0OGw7xgYHX5N6w3eCM+pXSBPj0BQgECwHr//0A9wTpBP/yDPj9GBeB+te3DhIcDwam9P"
    "6O/ATL/Pre/vzZC/v/EPQWCP0c+gAQ9gEP/w4c7gsP8y/93Pnl7AQSFxEE9gLx0fAAARv58/7p4gcBBxD+7f334gsBBCMJ7QPx4wofDwQIAfoH"
    "5/b09AQCABH22wjw/g4G/BME3QUE+vQBB/EFCPX9AAcA9vcN+/wFAO0EA/MPCAANAQUEB/8OCfwO//LxBekAC9z6+AQFBAsO+RcUAxYF1RsA1x"
    "kC5g775yDp1xvvzSEjELi+1vP0CwEEBv8PEt/1BQAG/vUAAPv+BAP9A+PY3QP7AxAmH9PT3vjl8gwPCQTu7u/s+AIH/QgP//39AgcM+hEBCQkE"
    "+/Pv8OLe6/j8EwkF7gD18xAMC/sCDPP6/wYTFQkKAwcIAAULDu/W4vLU4/b4Df3+++/x9gD19wUAAAD1/fcEDAn6BPn7/fgAEhsUAvPw+QDyEP"
    "AODwUND/wCEhQYC/gMG/T5FRAZAf0KChACARQRAfj29Ar/BPr8//kGAO/5Aun7EOUBFOX+B+b9As7yCsfuCRESBwcMBQoREQLq5w37/fsPGwsE"
    "/Pv2AgsICAT0AwEFAhEhFgoSDQsICgMMFtu90ea75du45NS30dPY8tfm+d3DANO+2OnW8NLf+gYoIBEnFgH38gcAEfH+DvQDA/wABfj48+Lo/+"
    "z7Ffj8BNzb8AkgLAomJPv5Bu74Cefq8QIR+wUH/Pr58QYI/g4I+/798v0B+f4DCPcABfb08/8cAvsYFwEBABIrE/8PDAMMBQkSBAgWE/Dv9P75"
    "AfwKAv4DAgIFA/0OCAQC8goJ9wn/BAT3+hD5+A4E7RAe8RAR/goLBgMAAvQBA+/l/AsO8PLk4era+voJDvn9/ff9DfkP/woQGAUPBAoFAQAIA/"
    "v9AAAE/fb++PT28v8L9PYD+/ID9w8SBB0Z9hQK8AYA+v/y+Q4HBg0C/AD17w0A9v4BBgET/gsG9QgUEQwlAg8V7/r18vfj5v7n8gXxBPXfC/bv"
    "G/f0CtznE+33GP/z+RUGBPLl6fv/9Qj9CvgNCQD28woMDfn8CAv++AgQAfwB7/36+wwXC/np1gT9AQ8LBQkNAvUIDPoaFwQQBvoKA/scCQkJ/t"
    "jQ2QD38RYOBgX1Bfrz/v0ICOf2+Pf9+xcE/fj75f4E8gn0/tDJ0/bu5xoWEfnp7QcJAhIPBfz7B/z7DAUFC/P/CQIRABATARUWChYhE8yqxQL1"
    "8RcB+v/9BRH38wb9+PgG8xcOChMMBOvCxwMLBh8bHeK+wgH3+hIHAAgL+//w/Pn0BPECEPfzAvjtDvQFFAv1APYRDPYDB/328vnz7wcXHRfg1P"
    "AJBO4PJAzn8PD3DfEAEhHy/QcC/u39GggEAgoYEQgaFf/7+/r1+PT+G/z28vbo+/f+FfYBBPLl+gTn5g4cBA8TAQr5/RIQFfMBEf8B8hID9QME"
    "AfoDBP0U+wfr5PnV7gQFARL66gb08w4V7hf78RHv+AcFCAz7+/3xBlkDqW1/tHP3llzqMXUHpwrt8fHo8/kKBPvbBwXb+icO+QbQ5Ozf9Af88/"
    "sJ9fgC8gX64MoEEgYUAv0J5AIk8v3gDxAA+QkoGhnx+N7t3+Lu8wzpJNnR6+HkBxcDCAsN9QEJCBv2FAcgHPTt+frm+vzq3fft8BXyHwsUBgr2"
    "AP4S/9H79f3pEegDB/jE3Pj/+Rj2+/jsAw8M+AP3/AMF7gQCGSf+Hh/4+P4HAswF1ecBDPPy5eAe/gLm7d0E/w4BAf4VBADvCQf0BRgUDhXw/O"
    "jP8/TntebwDgzI9e4QKAn7+hPixfYKBBQFDgP+7vnt7+0GBwfs//kB9vPhrNz/nYfd6+gUCQgOCwoREiH4CQQACvkEFQwM9unazc0A6uTp6vgD"
    "6QcpDiIR/vP9E/f4++UHGAIAAf71HxzO4uzy+f77IxAE+fz++Q4HFiT2/wPpE+a6690bFzUFEATp//7w69z//QX4Dg37FR8KEQUA9fgEARb19v"
    "gK/hYJBAT+//YBG0Pt+PX4+wIE//P07goO+B0HCRwHAPQDBQ/w7yAXBhgECDMM/CS96d/dCt7z6PX5Ag79/wTxDCD3+fgG+f3k4tb43+IQHc/r"
    "Ec8d5vb0//kP9AQO2uoQEfQE9OT25/PJDenM/AAG+egUAd0SCBIi/O4LBu8C+P387wP/4Pnq/hoR29wD4/cA+90t/t8ECgH/BP4Y+R8NCQsSCg"
    "QG7fkUF+sL9/gY//QBBP0M/PnJHvTPBwHz/O4d4NTfA/37DcwV9uIK1f4XFfIX6gELEv8a/vID/v79Av7+AgP//QL9/v3+/f38///8//z/Av/9"
    "/P0A/gH/AfwAA/z9AP/9AQD//gECAAABAv7+Af0C/AH8AAL+/gD8/Pz7/vz//v39/f/8/v3+/////QH//v0A//////z8/fz//f79/gH//P75+/"
    "j6+v/19/r9/v/7/v78/fwA/v79/AL///4C/f38/AL9/v4hHSIHJhggOQUHCAcUBAL6APb67Bb5IgD1/QcW9AvqK/UQEugJCgoIHNMGDfkE+Cka"
    "HgEBPAbz+gwAAv8U7xICBv4H+Prq8fbx8xQTPO/69AQMD/MKCAnl7P8G+vPxBgX34fED8hsDF+3yAxH1APf1AN76DeQGGgUI+/f3FQsACfgE8/"
    "3nCQ8DEfsHEcLwF/DjDtP8JRXXI8UJ9hMA/xz2FBfwAQLv8wLy8g0ECAPqGgbU7Or17uoJHgX+7eUK+xEHC/j5AvvC2dP8APvjCPYVDNYD6O/9"
    "FgMMDAAGBwD8DQYaIR0e+QAZ/hPo++73F+rhA/ceDQkVCBEhBfwHCvj96/kx+QXn+vIQBgHv/P4J+hEdAggMBR8QDQL79v0E6vzV8vX/AvnyCP"
    "QTNCXR+fca8s718fj1Bvnk7+HhCCwNJCkE9O8BAw0tAQz/FCLvDAryEBYZDvYFAP8H7/YBEgoTCRAS+Nf00OXf6Qf6EBMMJBgBC/zy9/IJ4hMI"
    "+u4G6vfr4e0QFAXz6+jq6PEG+Qft4gXc8ub0+RP9Evwt3uP3DAQD09bb3t/nEhH0CAkm+/bs+BS0L/4UNMkK/AXe5v7/7PoK7/wA7wYBAv/6HR"
    "+kBZwLDAIRBhrdB+n6HtEfEv0EBf347Ooo0a8RCAAo4+X7DwcUHQng9N4P8AP54AX99xPk9v0TIhH7AvIH8u8EEhT0COrnEAXrF+8NHQUICxfW"
    "FuHOAa0WEgsD4t4iBhQA5vH95vj18vPzAP3hAN4G/O0dKSUbAxwjKDwIDgPv9eYl6PwUCBgQGCpBHAMSHQzh8e0LGAz++RDX6/fxDf80+xEP/A"
    "oRBPfuAfsAFSIJFBwE4QLq9PfPzO8eFhERDBIh++4E/v8RBhn37OwRAQH+/P//DBgPDQD/BR8XBewHAhQA8PH79NwxPQwF4wgzFxb++A797fsE"
    "5wIXEekC+wIBCgr8/QD//gL/AAL+/v///v//AQMB//0A//4B/Pz//v77AP/8/fz8////AP0BAf8B/gAA/QD8/v39/fwA//z+/wD9/v8B/wAB/v"
    "//+/wA/gD+/v38AAAB/wABAP7++/v+/vv/+P8A+wD8/gH+Av759PT9/vn39Pr6+vn///3++/0AAP7+AgH+AP7+Af0CAv/+AP39+fz8//4C+/0B"
    "AQH8/P7+AP77AgL8/vz2AP/9/f8C+v39/fn8+fn8+vv+/f78/wH+/gL//gL8/v/+AAD7AP74AP39/AD+AP/7/fz/9/v7+P3/AP75/gL9+/v//v"
    "77AP/5//37Av3//vr8APv2+Pn6+/n59vr3AP3/+wD7+v38/v3+/gIA//z8+/3+//j+/v3o3ur0DSLlIQAEGwL3+Bf1FxPiAvLsBxjYDekb2O7p"
    "8/vO+erf6RkdCB0kHQQa+PXv8wgSEeAbCigC7/4xFTHu4gj/DA0JA/r2+PP3+wYEDOwa8/v89wzuEgYH/AAFAgIQBw0F8u3n/wj4GfbK5xLl7e"
    "4W7+X+Gsb4Ava/+AT1GA30Bfv/AcAY6wf+Fi4IHBX/AgL+/fwBAf/8+vz9/vz9A/78/foA/v///Pz8+vz6+v4A+QL9+AH9Af0CA/v7/v38//z+"
    "+/39/QD9/QADAvn9+fv//PkA/PwC9gH9/f4B/vz7//78/Pn8//r8+QD+//v8/gAB/Pv//vr9/QH1+vr8+vj29/f6+ff5+Pn8+P0AAP8C+/8AAg"
    "IA+QEC///+/f8RFBbx6esE/gPy5dcX9xvn9BUSF/cXEA7p+wEE6gMA6g4XEAMWDw0TAg7q9gHtzrkiG/8DDucNIzAS5uvQw8zh5eQJCP3czssA"
    "+fAPHADyCw8A79P9CwMBCfy/xsblGN+By48D+Qn7/QwC/v0TDwH4AxPs//0IB+cVFiEXHxEV9vEQ7P3A7hAcA/n39g0M/fj8Afz9/QP9/v0B/w"
    "AAAQIAAP/9/wP9/fwA/P4AAQEA/P38/QD/A/38A/wBAPwC/v39/AD8Af4B/gH/AP78//39/P79AgEAAgH8///9/f79//oBAQL+AP/8AP37/fr7"
    "+voA+f79/f78/f7//QH79Pj28Pby9vT8/f0A+gD+/QD9Av4CAAL9/wH8/gH9/wEBA/9/Sf1qArNzOzbI//pQ/QQE/vvv+AXzE/cK9ggIAwgHDZ"
    "q8Oqb6GMq+fzgH9aPyoAiB"
)
