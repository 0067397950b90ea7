"""How a site's update travels up in fewer bytes: exact or rounded, in pieces of one tensor each, and back again.

An update is what training has changed: parameters after it minus those that came down. A study chooses one form:

* float32: the difference of the two bit patterns, an integer modulo 2**32 with its sign in the lowest bit (0, -1, 1, -2
  as 0, 1, 2, 3): small where the change is small, and exact to the last bit. 4 bytes a number.
* bf16: the upper 16 bits, rounded to nearest, ties to even: an error of at most 2**-8 of each number. 2 bytes.
* int8: a whole number of steps from -127 to 127; the step is a 127th of the row's largest number and travels beside it
  as float32: an error of at most half a step. 1 byte a number and 4 a row.

A row of int8 is an entry of a tensor's first axis (an output channel, a neuron). Tensors of one axis, and those whose
rows have fewer than 16 numbers, are cut into rows of 256 and a shorter last one. One step for a whole tensor would let
a few outliers ruin all the rest. A row whose largest number is below 2**-100 travels as zeros.

With zstd the bytes of equal weight of a tensor's numbers lie side by side before they are compressed (the upper ones
repeat themselves, the lower ones are noise). A piece that does not become shorter travels as it was, so that none is
ever longer; its length says which it is.

Rounding that is forgotten adds up over the rounds. What it leaves is therefore kept at the site and added to the next
update before that is rounded (error feedback: Seide et al. 2014; Karimireddy et al. 2019): over the rounds all of an
update arrives. Of an update with a NaN or an infinity nothing is made a number: its row, or the number itself, is a NaN
or an infinity on the other side, where it is refused.

All of this is computed from two vectors that may leave, and from what earlier ones of them have left: with differential
privacy it is post-processing of noised updates, and costs no epsilon (Dwork & Roth 2014, proposition 2.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarco_models.errors import ProtocolError
from sarco_models.parameters import Manifest, Parameters

ENCODINGS = ("float32", "bf16", "int8")

BLOCK = 256
"""Numbers in a row of int8 where the tensor has no rows of its own."""

SHORTEST_ROW = 16
"""Numbers; a step for fewer would cost more than a quarter of what they do."""

TINIEST_ROW = np.float32(2.0**-100)
"""Its step, and one divided by its step, are still ordinary float32 numbers."""

_LIMIT = np.float32(127)
_AT_ONCE = 1 << 16
"""Numbers: what is computed of them on the way stays in the processor's cache."""

_STORED: dict[str, np.dtype[Any]] = {"float32": np.dtype("<u4"), "bf16": np.dtype("<u2"), "int8": np.dtype("<i1")}
_STEP = np.dtype("<f4")
_NAN_BF16 = np.uint16(0x7FC0)
_LEVEL = 1
"""Of zstd: 3 takes a fifth longer on updates and saves 1 % at most (benchmarks/wire_encodings.py)."""

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Numbers = NDArray[Any]


@dataclass(frozen=True, eq=False)
class EncodedUpdate:
    """An update as it travels.

    Attributes:
        manifest: names and shapes of the tensors.
        encoding: one of :data:`ENCODINGS`.
        lengths: bytes of each tensor's piece; one shorter than its numbers is compressed.
        body: (bytes,) uint8; the pieces in the order of the manifest.
    """

    manifest: Manifest
    encoding: str
    lengths: tuple[int, ...]
    body: Bytes

    def __post_init__(self) -> None:
        """Pieces that cannot be of these tensors cannot be made."""
        if self.encoding not in ENCODINGS:
            raise ProtocolError(f"an update in {self.encoding[:20]!r}; known are {', '.join(ENCODINGS)}")
        if self.body.ndim != 1 or self.body.dtype != np.uint8:
            raise ProtocolError(f"the body of an update is {self.body.dtype} of shape {self.body.shape}; bytes it is")
        most = _piece_sizes(self.manifest, self.encoding)
        if len(self.lengths) != len(most) or sum(self.lengths) != len(self.body):
            raise ProtocolError(
                f"an update of {len(most)} tensors in {len(self.lengths)} pieces of {sum(self.lengths)} bytes, and "
                f"{len(self.body)} came: the message is damaged"
            )
        for name, length, limit in zip(self.manifest.names, self.lengths, most, strict=True):
            if not (length == limit or 0 < length < limit):
                raise ProtocolError(f"{name} in {self.encoding} has {limit} bytes at most, and {length} came")

    @property
    def compressed(self) -> tuple[bool, ...]:
        """Of each tensor, whether its piece is compressed."""
        most = _piece_sizes(self.manifest, self.encoding)
        return tuple(length < limit for length, limit in zip(self.lengths, most, strict=True))

    def pieces(self) -> Iterator[Bytes]:
        """What travels of each tensor, without a copy."""
        at = 0
        for length in self.lengths:
            yield self.body[at : at + length]
            at += length


@dataclass(frozen=True, eq=False)
class Shortened:
    """An update as it travels, and what rounding has left of it.

    Attributes:
        update: travels.
        left: (numbers,) to be added to the next update; None where nothing can be left (float32), or where the update
            is not finite.
    """

    update: EncodedUpdate
    left: Floats | None


def most_bytes(manifest: Manifest, encoding: str) -> int:
    """Bytes of the longest body that an update of these tensors can have: what it has without compression."""
    return sum(_piece_sizes(manifest, encoding))


def shorten(
    after: Parameters, before: Parameters, owed: Floats | None = None, *, encoding: str, compress: bool = False
) -> Shortened:
    """Write down an update.

    Args:
        after: training.
        before: it, as they came down; the same tensors.
        owed: what earlier updates have left.
        encoding: one of :data:`ENCODINGS`.
        compress: with zstd, where that makes a piece shorter.
    """
    written, left = [], None
    # A NaN in the update is passed on, without a warning on the terminal; the other side refuses it by its name.
    with np.errstate(invalid="ignore", over="ignore"):
        if encoding != "float32":
            left = after.vector - before.vector
            left += np.float32(0) if owed is None else owed
        for place, shape in _places(after.manifest):
            if left is None:
                numbers, steps = _exact(after.vector[place], before.vector[place]), np.empty(0, _STEP)
            else:
                numbers, steps = _rounded(left[place], shape, encoding)
            written.append(_piece(numbers, steps, compress=compress))
        sound = left is not None and bool(np.isfinite(np.dot(left, left)))
    body = np.concatenate(written) if written else np.empty(0, np.uint8)
    update = EncodedUpdate(after.manifest, encoding, tuple(len(piece) for piece in written), body)
    return Shortened(update, left if sound else None)


def lengthen(update: EncodedUpdate, before: Parameters) -> Parameters:
    """The parameters after training, as far as the update tells them; the inverse of :func:`shorten`.

    Raises:
        ProtocolError: the update is of other tensors than ``before``, or a piece cannot be read. No more memory is
            taken than the tensors need, whatever a piece says of itself.
    """
    if update.manifest != before.manifest:
        raise ProtocolError("an update of other tensors than those that went down: another study or version?")
    vector = np.empty_like(before.vector)
    with np.errstate(invalid="ignore", over="ignore"):
        for (place, shape), piece in zip(_places(before.manifest), update.pieces(), strict=True):
            numbers, steps = _read(piece, shape, update.encoding)
            _add(vector[place], before.vector[place], shape, numbers, steps)
    return Parameters(before.manifest, vector)


def _exact(after: Floats, before: Floats) -> Numbers:
    """Of float32 numbers of one sign it counts the numbers in between."""
    numbers = np.empty(len(after), _STORED["float32"])
    for part, _, _ in _parts(after.shape):
        steps = after[part].view("<i4") - before[part].view("<i4")
        np.bitwise_xor(steps << 1, steps >> 31, out=numbers[part].view("<i4"))
    return numbers


def _rounded(update: Floats, shape: tuple[int, ...], encoding: str) -> tuple[Numbers, Floats]:
    """Numbers and steps; what is left in ``update`` is what rounding leaves."""
    numbers = np.empty(len(update), _STORED[encoding])
    steps = np.empty(_num_steps(shape, encoding), _STEP)
    row = 0
    for part, rows, width in _parts(shape):
        if encoding == "bf16":
            numbers[part] = _to_bf16(update[part])
            update[part] -= _from_bf16(numbers[part])
            continue
        scaled, steps[row : row + rows] = _to_int8(update[part].reshape(rows, width))
        numbers[part] = scaled.reshape(-1)
        scaled *= steps[row : row + rows, None]
        update[part] -= scaled.reshape(-1)
        row += rows
    return numbers, steps


def _to_bf16(update: Floats) -> NDArray[np.uint16]:
    """Half of the last place that stays is added, less a bit where that place is even, and the rest is cut off."""
    bits = update.view(np.uint32)
    rounded = (((bits >> 16) & 1) + np.uint32(0x7FFF) + bits) >> 16
    numbers = rounded.astype(np.uint16)
    if not np.isfinite(np.dot(update, update)):  # a NaN whose lower bits carry over would become a number
        numbers[np.isnan(update)] = _NAN_BF16
    return numbers


def _from_bf16(numbers: Numbers) -> Floats:
    bits = numbers.astype(np.uint32)
    bits <<= 16
    return bits.view(np.float32)


def _to_int8(table: Floats) -> tuple[Floats, Floats]:
    """Whole steps of each number, as float32, and the step of each row; of a row that is not finite it is a NaN."""
    top = np.maximum(table.max(axis=1), -table.min(axis=1))
    shown = top >= TINIEST_ROW
    per_step = np.divide(_LIMIT, top, out=np.zeros_like(top), where=shown)
    scaled = table * per_step[:, None]
    np.rint(scaled, out=scaled)
    steps = np.where(shown, top / _LIMIT, np.float32(0))
    finite = np.isfinite(top)
    if not finite.all():
        scaled[~finite], steps[~finite] = 0, np.nan
    return scaled, steps


def _add(out: Floats, before: Floats, shape: tuple[int, ...], numbers: Numbers, steps: Floats) -> None:
    """Write ``before`` plus an update into ``out``."""
    row = 0
    for part, rows, width in _parts(shape):
        if numbers.dtype == _STORED["float32"]:
            coded = numbers[part].astype(np.uint32, copy=False)
            moved = (coded >> 1) ^ (np.uint32(0) - (coded & 1))
            np.add(moved, before[part].view(np.uint32), out=out[part].view(np.uint32))
        elif numbers.dtype == _STORED["bf16"]:
            np.add(_from_bf16(numbers[part]), before[part], out=out[part])
        else:
            update = numbers[part].astype(np.float32).reshape(rows, width)
            update *= steps[row : row + rows, None]
            np.add(update.reshape(-1), before[part], out=out[part])
            row += rows


def _piece(numbers: Numbers, steps: Floats, *, compress: bool) -> Bytes:
    """Steps and numbers as bytes."""
    plain = np.concatenate((steps.view(np.uint8), numbers.view(np.uint8))) if len(steps) else numbers.view(np.uint8)
    if not compress or not len(plain):
        return plain
    import zstandard  # here, so that what only passes messages on does without

    shuffled = _by_weight(numbers) if numbers.dtype.itemsize > 1 else plain
    short = zstandard.ZstdCompressor(level=_LEVEL).compress(shuffled.data)
    return np.frombuffer(short, np.uint8) if len(short) < len(plain) else plain


def _read(piece: Bytes, shape: tuple[int, ...], encoding: str) -> tuple[Numbers, Floats]:
    """Numbers and steps of a piece, whose length fits these tensors."""
    size, stored = _size(shape), _STORED[encoding]
    steps = _num_steps(shape, encoding) * _STEP.itemsize
    whole = steps + size * stored.itemsize
    if len(piece) == whole:
        # A vector of bytes may begin anywhere; numbers are read from where numbers may begin.
        return np.frombuffer(piece[steps:].tobytes(), stored), np.frombuffer(piece[:steps].tobytes(), _STEP)
    plain = _decompressed(piece, whole)
    if stored.itemsize > 1:
        return _from_weights(plain, stored), np.empty(0, _STEP)
    return plain[steps:].view(stored), plain[:steps].view(_STEP)


def _decompressed(piece: Bytes, whole: int) -> Bytes:
    """``whole`` bytes; what says that it is more, or less, is not even begun with."""
    import zstandard  # here, so that what only passes messages on does without

    try:
        claimed = zstandard.frame_content_size(piece.data)
        if claimed != whole:
            raise ProtocolError(f"a piece of an update says that it holds {claimed} bytes; {whole} it should be")
        plain = zstandard.ZstdDecompressor().decompress(piece.data, max_output_size=whole, allow_extra_data=False)
    except zstandard.ZstdError:
        raise ProtocolError(f"a piece of {len(piece)} bytes is no zstd: the message is damaged") from None
    return np.frombuffer(plain, np.uint8)


def _by_weight(numbers: Numbers) -> Bytes:
    """The lowest bytes of all numbers, then the next ones, up to the highest."""
    planes = np.empty((numbers.dtype.itemsize, len(numbers)), np.uint8)
    for part, _, _ in _parts((len(numbers),)):
        for weight, plane in enumerate(planes):
            plane[part] = (numbers[part] >> (8 * weight)) & 0xFF
    return planes.reshape(-1)


def _from_weights(plain: Bytes, stored: np.dtype[Any]) -> Numbers:
    planes = plain.reshape(stored.itemsize, -1)
    numbers = np.zeros(planes.shape[1], stored)
    for part, _, _ in _parts((len(numbers),)):
        for plane in planes[::-1]:
            numbers[part] <<= 8
            numbers[part] |= plane[part]
    return numbers


def _places(manifest: Manifest) -> Iterator[tuple[slice, tuple[int, ...]]]:
    """Of each tensor its place in the vector, and its shape."""
    at = 0
    for size, shape in zip(manifest.sizes, manifest.shapes, strict=True):
        yield slice(at, at + size), shape
        at += size


def _parts(shape: tuple[int, ...]) -> Iterator[tuple[slice, int, int]]:
    """A tensor in rows, a cacheful at once: place within it, rows, numbers in each."""
    size, width = _size(shape), _width(shape)
    whole, some = size // width, max(1, _AT_ONCE // width)
    for row in range(0, whole, some):
        rows = min(some, whole - row)
        yield slice(row * width, (row + rows) * width), rows, width
    if size % width:
        yield slice(whole * width, size), 1, size % width


def _width(shape: tuple[int, ...]) -> int:
    width = _size(shape[1:]) if len(shape) > 1 else 0
    return width if width >= SHORTEST_ROW else BLOCK


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _num_steps(shape: tuple[int, ...], encoding: str) -> int:
    return -(-_size(shape) // _width(shape)) if encoding == "int8" else 0


def _piece_sizes(manifest: Manifest, encoding: str) -> list[int]:
    """Bytes of each tensor's numbers and steps, without compression."""
    bytes_each = _STORED[encoding].itemsize
    return [bytes_each * _size(s) + _STEP.itemsize * _num_steps(s, encoding) for s in manifest.shapes]
