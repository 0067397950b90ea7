"""Flower's arrays, around vectors that are not copied on the way in or out."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray

from sarco_models.errors import ProtocolError


class PackedArray(Array):
    """A Flower Array that keeps the numbers and makes the bytes only when a transport asks for them.

    Flower's own class copies every vector through ``np.save`` and ``np.load`` even when nothing leaves the process.
    """

    __qualname__ = "Array"  # Flower writes the class's name into what it sends, and reads back only its own classes

    def __init__(self, vector: NDArray[Any]) -> None:
        """Wrap a vector without copying it; it must not be changed afterwards."""
        self.dtype = str(vector.dtype)
        self.shape = tuple(vector.shape)
        self.stype = "numpy.ndarray"
        self._vector = vector

    @property
    def data(self) -> bytes:  # type: ignore[override]
        """The vector in NumPy's file format, as Flower sends it."""
        buffer = io.BytesIO()
        np.save(buffer, self._vector, allow_pickle=False)
        return buffer.getvalue()

    def numpy(self) -> NDArray[Any]:
        """The vector itself."""
        return self._vector

    def __reduce__(self) -> tuple[type[Array], tuple[str, tuple[int, ...], str, bytes]]:
        """Between processes it travels as Flower's own Array."""
        return Array, (self.dtype, self.shape, self.stype, self.data)


def array_record(vectors: Mapping[str, NDArray[Any]]) -> ArrayRecord:
    """A record of vectors that are not copied; given arrays at once, Flower's constructor makes its own of them."""
    record = ArrayRecord()
    for name, vector in vectors.items():
        record[name] = PackedArray(vector)
    return record


def vector_of(array: Array) -> NDArray[Any]:
    """The numbers of an array; those that came over a network are read in place, without a copy."""
    if isinstance(array, PackedArray):
        return array.numpy()
    buffer = io.BytesIO(array.data)
    version = np.lib.format.read_magic(buffer)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read_header(buffer)
    if fortran_order or dtype.hasobject:
        raise ProtocolError("an array comes in an order or type that is not sent here")
    return np.frombuffer(array.data, dtype=dtype, offset=buffer.tell()).reshape(shape)
