"""A message as bytes: its length of text, the text (JSON, padded to 64 bytes), then its vectors as they are.

For files and sockets of one machine. Nothing is pickled, nothing is copied that need not be: writing hands out the
vectors' own memory, reading looks into the bytes where they lie.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarco_models.errors import ProtocolError

Buffer = bytes | memoryview

_NUMBERS: Mapping[str, type[np.generic]] = {
    "float32": np.float32,
    "int64": np.int64,
    "uint32": np.uint32,
    "uint16": np.uint16,
    "uint8": np.uint8,
    "int8": np.int8,
}


@dataclass(frozen=True)
class Framed:
    """What a message is made of.

    Attributes:
        fields: flat, of numbers and texts.
        metrics: None where the message has none.
        arrays: record -> key -> numbers.
        head: of an audit chain, beside a reply; empty where there is none.
    """

    fields: dict[str, Any]
    metrics: dict[str, Any] | None
    arrays: dict[str, dict[str, NDArray[Any]]]
    head: str = ""


def framed(content: Framed) -> list[Buffer]:
    """The bytes, in pieces that share the vectors' memory: it must not be changed before they were sent."""
    vectors = [(record, key, vector) for record, of in content.arrays.items() for key, vector in of.items()]
    top = {
        "fields": content.fields,
        "metrics": content.metrics,
        "arrays": [[record, key, str(vector.dtype), vector.shape] for record, key, vector in vectors],
    }
    text = json.dumps(top | ({"head": content.head} if content.head else {})).encode()
    text += b" " * (-(len(text) + 8) % 64)
    numbers = (np.ascontiguousarray(vector.reshape(-1)).view(np.uint8).data for _, _, vector in vectors)
    return [struct.pack("<Q", len(text)) + text, *numbers]


def unframed(data: Buffer) -> Framed:
    """Inverse of :func:`framed`, without a copy.

    Raises:
        ProtocolError: the bytes are something else.
    """
    try:
        at = 8 + struct.unpack_from("<Q", data)[0]
        top = json.loads(bytes(data[8:at]))
        arrays: dict[str, dict[str, NDArray[Any]]] = {}
        for record, key, dtype, shape in top["arrays"]:
            number = _NUMBERS[dtype]
            vector = np.frombuffer(data, number, count=int(np.prod(shape, dtype=np.int64)), offset=at).reshape(shape)
            arrays.setdefault(record, {})[key] = vector
            at += vector.nbytes
        if at != len(data):
            raise ValueError
        return Framed(dict(top["fields"]), top["metrics"], arrays, str(top.get("head", "")))
    except (struct.error, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        raise ProtocolError(f"{len(data)} bytes that are no message: the file or the connection is damaged") from None
