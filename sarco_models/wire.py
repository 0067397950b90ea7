"""How messages travel, and the only module of the science that knows Flower; what they say is in :mod:`messages`.

Numbers go as arrays of integers or float32, everything else as flat fields; nothing is pickled. A field that is None is
absent. What is not a field of its message is refused, so that nothing travels beside what the protocol says.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from numpy.typing import NDArray

from sarco_models.errors import ProtocolError
from sarco_models.histograms import MergedHistogram
from sarco_models.messages import Assess as Assess
from sarco_models.messages import Assessed as Assessed
from sarco_models.messages import Code as Code
from sarco_models.messages import Describe as Describe
from sarco_models.messages import Described as Described
from sarco_models.messages import Evaluate as Evaluate
from sarco_models.messages import Evaluated as Evaluated
from sarco_models.messages import Ready as Ready
from sarco_models.messages import Refused as Refused
from sarco_models.messages import Reply as Reply
from sarco_models.messages import Request as Request
from sarco_models.messages import Setup as Setup
from sarco_models.messages import Train as Train
from sarco_models.messages import Trained as Trained
from sarco_models.parameters import Manifest, Parameters
from sarco_models.summaries import Moments

MESSAGE_TYPES: Mapping[type, str] = {
    Describe: "query.describe",
    Setup: "query.setup",
    Train: "train",
    Evaluate: "evaluate",
    Assess: "evaluate.assess",
}
_KINDS = {c.__name__: c for c in (*typing.get_args(Request), *typing.get_args(Reply))}
_ARRAYS: Mapping[type, tuple[str, ...]] = {
    Moments: tuple(f.name for f in dataclasses.fields(Moments)),
    MergedHistogram: tuple(f.name for f in dataclasses.fields(MergedHistogram)),
}
_FIELDS, _METRICS, _PACKED = "fields", "metrics", "packed"
T = TypeVar("T")


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


def encode(message: Request | Reply) -> RecordDict:
    """Turn a request or reply into Flower's records."""
    fields: dict[str, str | int | float] = {"kind": type(message).__name__}
    records: dict[str, ArrayRecord | MetricRecord | ConfigRecord] = {}
    for name, value in _parts(message):
        if isinstance(value, Parameters):
            fields[f"{name}.manifest"] = value.manifest.to_json()
            records[name] = array_record({_PACKED: value.vector})
        elif type(value) in _ARRAYS:
            records[name] = array_record({part: getattr(value, part) for part in _ARRAYS[type(value)]})
        elif isinstance(value, Mapping):
            records[_METRICS] = MetricRecord({metric: float(v) for metric, v in value.items()})
        else:
            fields[name] = str(value) if isinstance(value, str) else value
    records[_FIELDS] = ConfigRecord(dict(fields))
    return RecordDict(records)


def _parts(message: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Name and value of every field that is not None; those of a field's own fields as ``field.part``."""
    for field in dataclasses.fields(message):
        value = getattr(message, field.name)
        if _nested(type(value)):
            yield from _parts(value, f"{prefix}{field.name}.")
        elif value is not None:
            yield prefix + field.name, value


def _nested(kind: type) -> bool:
    return dataclasses.is_dataclass(kind) and kind is not Parameters and kind not in _ARRAYS


def decode(content: RecordDict, kind: type[T] | None = None) -> T:
    """Turn Flower's records into the request or reply that was encoded.

    Args:
        content: of a message.
        kind: what is expected; anything else is refused.

    Raises:
        ProtocolError: a field is absent, unknown or has the wrong type, or the kind is unknown or another one.
    """
    fields = content.config_records.get(_FIELDS)
    name = str(fields.get("kind")) if fields else "no kind"
    cls = _KINDS.get(name)
    if fields is None or cls is None or (kind is not None and cls is not kind):
        raise ProtocolError(f"the message is {name!r}; expected {kind.__name__ if kind else 'a known kind'}")
    try:
        message = _whole(content, cls)
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError(
            f"{name}: field {error} is absent or damaged: do both sides run the same version?"
        ) from None
    unknown = sorted(_places(content) - _known_places(cls))
    if unknown:
        raise ProtocolError(f"{name}: {unknown[0]} is not a field of it: do both sides run the same version?")
    return typing.cast(T, message)


def _places(content: RecordDict) -> set[str]:
    """Every record, and every key in it but the names of metrics, which are free."""
    keys = {f"{name}.{key}" for name, record in content.items() if name != _METRICS for key in record}
    return keys | {f"{name}." for name in content}


@functools.cache
def _known_places(cls: type, prefix: str = "") -> frozenset[str]:
    """Where the fields of a request or reply are found in its records."""
    places = {f"{_FIELDS}.", f"{_FIELDS}.kind"}
    for part, (kind, _) in _kinds(cls).items():
        name = prefix + part
        if kind is Parameters:
            places |= {f"{name}.", f"{name}.{_PACKED}", f"{_FIELDS}.{name}.manifest"}
        elif kind in _ARRAYS:
            places |= {f"{name}.", *(f"{name}.{key}" for key in _ARRAYS[kind])}
        elif _nested(kind):
            places |= _known_places(kind, f"{name}.")
        else:
            places.add(f"{_FIELDS}.{name}" if typing.get_origin(kind) is None else f"{_METRICS}.")
    return frozenset(places)


@functools.cache
def _kinds(cls: type) -> Mapping[str, tuple[Any, bool]]:
    """Field -> its type, and whether it may be absent."""
    kinds = {}
    for name, hint in typing.get_type_hints(cls).items():
        optional = typing.get_origin(hint) is types.UnionType
        kinds[name] = (typing.get_args(hint)[0] if optional else hint, optional)
    return kinds


def _whole(content: RecordDict, cls: Any, prefix: str = "") -> Any:
    """A message, or with ``prefix`` a field of one that has fields of its own."""
    found = {}
    for name, (kind, optional) in _kinds(cls).items():
        absent = optional and not _present(content, prefix + name, kind)
        found[name] = None if absent else _field(content, prefix + name, kind)
    return cls(**found)


def _present(content: RecordDict, name: str, kind: Any) -> bool:
    """Whether anything of an optional field was sent."""
    if kind in _ARRAYS:
        return name in content
    fields = content.config_records[_FIELDS]
    return any(key.startswith(f"{name}.") for key in fields) if _nested(kind) else name in fields


def _field(content: RecordDict, name: str, kind: Any) -> Any:
    fields = content.config_records[_FIELDS]
    if kind is Parameters:
        manifest = Manifest.from_json(str(fields[f"{name}.manifest"]))
        return Parameters(manifest, vector_of(content.array_records[name][_PACKED]))
    if kind in _ARRAYS:
        return kind(**_integers({part: vector_of(content.array_records[name][part]) for part in _ARRAYS[kind]}))
    if _nested(kind):
        return _whole(content, kind, f"{name}.")
    if typing.get_origin(kind) is not None:
        return {str(key): float(typing.cast(float, value)) for key, value in content.metric_records[_METRICS].items()}
    return _scalar(fields[name], name, kind)


def _scalar(value: Any, name: str, kind: Any) -> Any:
    if kind is Code:
        return Code(str(value))
    if isinstance(value, bool) or not isinstance(value, int | float if kind is float else kind):
        raise TypeError(name)
    return float(value) if kind is float else value


def _integers(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Counts and sums are vectors of integers, all of one length."""
    for part, array in arrays.items():
        if array.dtype != np.int64 or array.ndim != 1 or len({a.shape for a in arrays.values()}) > 1:
            raise TypeError(part)
    return arrays


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


def payload_bytes(content: RecordDict) -> int:
    """Bytes of numbers and text in a message, without the transport's own framing."""
    numbers = sum(
        int(np.prod(array.shape, dtype=np.int64)) * np.dtype(array.dtype).itemsize
        for record in content.array_records.values()
        for array in record.values()
    )
    texts = sum(len(str(v)) for record in content.config_records.values() for v in record.values())
    return numbers + texts + 8 * sum(len(record) for record in content.metric_records.values())


def ask(request: Request, node_id: int, *, seconds: float, group: str = "") -> Message:
    """A Flower message to one site that expires after ``seconds``, so that nobody works on a round that is over."""
    kind = MESSAGE_TYPES[type(request)]
    return Message(encode(request), node_id, kind, ttl=seconds, group_id=group)


def answer(reply: Reply, request: Message) -> Message:
    """A Flower message that answers ``request``."""
    return Message(encode(reply), reply_to=request)
