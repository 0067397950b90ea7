"""What a message is made of, piece by piece: what is written down before it leaves, and checked after it came.

Both sides compute the same digest from the message itself, so that a hospital's audit and the coordinator's record can
be held against each other. Pieces are named and measured; their values are in the hashes only.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import struct
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sarco_models.encoding import EncodedUpdate
from sarco_models.histograms import MergedHistogram
from sarco_models.messages import MaskedVector, Reply, Request
from sarco_models.parameters import Parameters
from sarco_models.summaries import Moments

ARRAYS: Mapping[type, tuple[str, ...]] = {
    Moments: tuple(f.name for f in dataclasses.fields(Moments)),
    MergedHistogram: tuple(f.name for f in dataclasses.fields(MergedHistogram)),
    MaskedVector: ("vector",),
}
"""Fields that travel as vectors, and the names of those vectors."""


@dataclass(frozen=True)
class Part:
    """One piece of a message.

    Attributes:
        name: field, or field and piece: ``round``, ``metrics.auc``, ``parameters.head.weight``, ``moments.count``.
        kind: ``field`` (a number or a short text), ``metric``, ``parameter`` (or what training has changed of one),
            ``sums`` (integers that add up).
        shape: of numbers; () of fields and metrics.
        dtype: ``float32``, ``int64``, ``uint32``, ``float64``, ``int``, ``float`` or ``str``; of an encoded update its
            encoding, with ``+zstd`` where the piece is compressed.
        bytes: numbers at their size, text in UTF-8, without the transport's framing; an encoded piece as it travels.
        sha256: of these bytes (little-endian, C order).
    """

    name: str
    kind: Literal["field", "metric", "parameter", "sums"]
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    sha256: str


def parts_of(message: Request | Reply) -> tuple[Part, ...]:
    """Every piece of a message, in the order of its fields; what is absent is not among them."""
    return tuple(part for name, value in pieces(message) for part in _parts(name, value))


def digest_of(message: Request | Reply) -> str:
    """SHA-256 over kind and pieces: names, shapes, dtypes and content; the same before and after the journey."""
    return digest_of_parts(type(message).__name__, parts_of(message))


def digest_of_parts(kind: str, parts: Iterable[Part]) -> str:
    """The digest of a message of this kind whose pieces are at hand already: hashing a large one costs time."""
    rows = sorted((part.name, part.kind, part.shape, part.dtype, part.bytes, part.sha256) for part in parts)
    return hashlib.sha256(json.dumps([kind, rows]).encode()).hexdigest()


def pieces(message: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Name and value of every field that is not None; those of a field's own fields as ``field.part``."""
    for name, (kind, _) in kinds_of(message.__class__).items():
        value = getattr(message, name)
        if nested(type(value)):
            yield from pieces(value, f"{prefix}{name}.")
        elif value is not None:
            yield prefix + name, float(value) if kind is float else value


def nested(kind: type) -> bool:
    """Whether a field of this type travels as fields of its own."""
    return dataclasses.is_dataclass(kind) and kind not in (Parameters, EncodedUpdate) and kind not in ARRAYS


@functools.cache
def kinds_of(cls: type) -> Mapping[str, tuple[Any, bool]]:
    """Field -> its type, and whether it may be absent."""
    kinds = {}
    for name, hint in typing.get_type_hints(cls).items():
        optional = typing.get_origin(hint) is types.UnionType
        kinds[name] = (typing.get_args(hint)[0] if optional else hint, optional)
    return kinds


def _parts(name: str, value: Any) -> Iterator[Part]:
    if isinstance(value, Parameters):
        yield from _parameters(name, value)
    elif isinstance(value, EncodedUpdate):
        yield from _encoded(name, value)
    elif type(value) in ARRAYS:
        for part in ARRAYS[type(value)]:
            yield _array(f"{name}.{part}", "sums", getattr(value, part))
    elif isinstance(value, Mapping):
        for metric in sorted(value):
            yield _of_bytes(f"{name}.{metric}", "metric", "float64", struct.pack("<d", float(value[metric])))
    else:
        yield _field(name, value)


def _parameters(name: str, value: Parameters) -> Iterator[Part]:
    start = 0
    for tensor, shape, size in zip(value.manifest.names, value.manifest.shapes, value.manifest.sizes, strict=True):
        yield _array(f"{name}.{tensor}", "parameter", value.vector[start : start + size].reshape(shape))
        start += size


def _encoded(name: str, value: EncodedUpdate) -> Iterator[Part]:
    manifest, pieces_, compressed = value.manifest, value.pieces(), value.compressed
    for tensor, shape, piece, short in zip(manifest.names, manifest.shapes, pieces_, compressed, strict=True):
        form = value.encoding + "+zstd" * short
        yield Part(f"{name}.{tensor}", "parameter", shape, form, len(piece), hashlib.sha256(piece.data).hexdigest())


def _array(name: str, kind: Literal["parameter", "sums"], array: NDArray[Any]) -> Part:
    little = np.ascontiguousarray(array.reshape(-1), dtype=array.dtype.newbyteorder("<"))
    digest = hashlib.sha256(little.view(np.uint8).data).hexdigest()
    return Part(name, kind, tuple(array.shape), str(array.dtype), int(array.nbytes), digest)


def _field(name: str, value: str | int | float) -> Part:
    if isinstance(value, str):
        return _of_bytes(name, "field", "str", value.encode())
    if isinstance(value, float):
        return _of_bytes(name, "field", "float", struct.pack("<d", value))
    return _of_bytes(name, "field", "int", struct.pack("<q", value))


def _of_bytes(name: str, kind: Literal["field", "metric"], dtype: str, content: bytes) -> Part:
    return Part(name, kind, (), dtype, len(content), hashlib.sha256(content).hexdigest())
