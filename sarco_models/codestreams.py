"""Compressed pixels, looked at before a decoder sees them.

Decoders are C and C++ that believe what a codestream says of itself: another size than the header's is decoded into
memory nobody counted, and GDCM 3.2 takes the process down over a table that is missing or a colour transform that does
not exist. What cannot be trusted is refused.
"""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from sarco_models.errors import UnreadableImage
from sarco_models.frames import EXPORT, check_scans, refusal

_FRAMES = (0xC0, 0xC1, 0xC2, 0xC3, 0xF7)  # SOF of baseline, extended, progressive, lossless; of JPEG-LS
_LOSSLESS, _HUFFMAN, _SCAN, _ADOBE = 0xC3, 0xC4, 0xDA, 0xEE
_BETWEEN_SCANS = frozenset(b"\xc4\xda\xd9\xf8\xfe\xd0\xd1\xd2\xd3\xd4\xd5\xd6\xd7")  # tables, scans, end, restarts
_GREATEST_TRANSFORM = 2  # of Adobe's marker: none, YCbCr, YCCK (T.872 6.5.3)


class Shape(NamedTuple):
    """What a codestream says that it holds."""

    rows: int
    columns: int
    samples: int
    bits: int


def check_codestream(codestream: bytes, expected: Shape, *, strict: bool) -> None:
    """Refuse a codestream that is no picture of the expected shape.

    Args:
        codestream: JPEG (ITU-T T.81), JPEG-LS (T.87) or JPEG 2000 (T.800).
        expected: as in the header; ``bits`` are those allocated for a sample, 8 or 16.
        strict: look at every table as well, for a decoder that does not.

    Raises:
        UnreadableImage: with one finding without a file.
    """
    found = _shape(codestream)
    if found[:2] != expected[:2]:
        seen = f"compressed pixels of {found.rows} rows and {found.columns} columns"
        raise refusal("size", seen, f"{expected.rows} rows and {expected.columns} columns as in the header", EXPORT)
    if (found.samples, -(-found.bits // 8) * 8) != expected[2:]:
        seen = f"compressed pixels of {found.samples} samples of {found.bits} bits"
        allocated = f"{expected.samples} samples in {expected.bits} bits as in the header"
        raise refusal("bits", seen, allocated, EXPORT)
    check_scans(codestream)
    if strict and not _is_sound(codestream, found):
        raise _damaged("compressed pixels with faulty tables")


def _damaged(seen: str) -> UnreadableImage:
    return refusal("decode", seen, "a complete frame", "copy or export it again")


def _shape(codestream: bytes) -> Shape:
    """From SIZ (T.800 A.5.1) or SOF (T.81 B.2.2, T.87 C.2.2)."""
    siz = re.search(rb"\xff\x4f\xff\x51.{4}(.{16}).{16}(.{2})(.)", codestream[:4096], re.DOTALL)
    if siz:
        right, bottom, left, top = struct.unpack(">4I", siz[1])
        return Shape(bottom - top, right - left, int.from_bytes(siz[2]), 1 + (siz[3][0] & 0x7F))
    for marker, body in _segments(codestream):
        if marker in _FRAMES and len(body) >= 6 and len(body) == 6 + 3 * body[5]:
            bits, rows, columns, samples = struct.unpack_from(">BHHB", body)
            return Shape(rows, columns, samples, bits)
    raise _damaged("compressed pixels without a header")


def _segments(codestream: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and body of each segment up to the first scan (T.81 B.1.1)."""
    at = 2 if codestream[:2] == b"\xff\xd8" else len(codestream)
    while at + 4 <= len(codestream) and codestream[at] == 0xFF:
        marker, length = codestream[at + 1], int.from_bytes(codestream[at + 2 : at + 4])
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        yield marker, codestream[at + 4 : at + 2 + length]
        if marker == _SCAN or length < 2:
            return
        at += 2 + length


def _is_sound(codestream: bytes, shape: Shape) -> bool:
    """Whether the first scan has what it needs, and nothing stands in the rest that belongs before it."""
    segments = list(_segments(codestream))
    frames = [(marker, body) for marker, body in segments if marker in _FRAMES]
    if len(frames) != 1 or segments[-1][0] != _SCAN:
        return False
    (kind, frame), scan = frames[0], segments[-1][1]
    components = {frame[k]: frame[k + 1] for k in range(6, len(frame), 3)}
    tables: set[int] = set()
    for marker, body in segments:
        if marker == _HUFFMAN and not _add_tables(body, tables):
            return False
        if marker == _ADOBE and body.startswith(b"Adobe") and not (len(body) == 12 and body[11] <= _GREATEST_TRANSFORM):
            return False
    if not scan or not 1 <= scan[0] <= shape.samples or len(scan) != 4 + 2 * scan[0]:
        return False
    chosen = {scan[k]: scan[k + 1] for k in range(1, 1 + 2 * scan[0], 2)}
    rest = set(b"".join(re.findall(rb"\xff([\x80-\xfe])", codestream[codestream.index(b"\xff\xda") + 2 :])))
    return (
        len(components) == shape.samples
        and set(components.values()) == {0x11}  # no sampling: each component has every pixel
        and chosen.keys() <= components.keys()
        and (kind != _LOSSLESS or {table >> 4 for table in chosen.values()} <= tables)
        and rest <= _BETWEEN_SCANS
    )


def _add_tables(body: bytes, tables: set[int]) -> bool:
    """Note the Huffman tables of a segment (T.81 B.2.4.2); False where they do not fill it."""
    at = 0
    while at + 17 <= len(body):
        tables.add(body[at])
        at += 17 + sum(body[at + 1 : at + 17])
    return at == len(body)
