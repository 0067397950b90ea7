"""How messages travel in Flower's records; what they say is in :mod:`messages`.

Numbers go as arrays of integers or float32, everything else as flat fields; nothing is pickled. A field that is None is
absent. What is not a field of its message is refused, so that nothing travels beside what the protocol says. One thing
may come beside a reply: the head of the hospital's audit chain, a number and a hash.
"""

from __future__ import annotations

import functools
import json
import re
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from numpy.typing import NDArray

from sarco_models.encoding import EncodedUpdate
from sarco_models.errors import ProtocolError
from sarco_models.framing import Buffer, Framed, framed, unframed
from sarco_models.histograms import MergedHistogram
from sarco_models.messages import Assess as Assess
from sarco_models.messages import Assessed as Assessed
from sarco_models.messages import Code as Code
from sarco_models.messages import Describe as Describe
from sarco_models.messages import Described as Described
from sarco_models.messages import Evaluate as Evaluate
from sarco_models.messages import Evaluated as Evaluated
from sarco_models.messages import Keyed as Keyed
from sarco_models.messages import Keys as Keys
from sarco_models.messages import Masked as Masked
from sarco_models.messages import MaskedVector as MaskedVector
from sarco_models.messages import Masking as Masking
from sarco_models.messages import Measure as Measure
from sarco_models.messages import Measured as Measured
from sarco_models.messages import Probe as Probe
from sarco_models.messages import Probed as Probed
from sarco_models.messages import Ready as Ready
from sarco_models.messages import Refused as Refused
from sarco_models.messages import Reply as Reply
from sarco_models.messages import Request as Request
from sarco_models.messages import Reveal as Reveal
from sarco_models.messages import Revealed as Revealed
from sarco_models.messages import Setup as Setup
from sarco_models.messages import Train as Train
from sarco_models.messages import Trained as Trained
from sarco_models.messages import TrainOn as TrainOn
from sarco_models.messages import Updated as Updated
from sarco_models.messages import expanded as expanded
from sarco_models.packed import PackedArray as PackedArray
from sarco_models.packed import array_record as array_record
from sarco_models.packed import vector_of as vector_of
from sarco_models.parameters import Manifest, Parameters
from sarco_models.payload import ARRAYS, kinds_of, nested, pieces
from sarco_models.payload import Part as Part
from sarco_models.payload import digest_of as digest_of
from sarco_models.payload import parts_of as parts_of
from sarco_models.summaries import Moments

MESSAGE_TYPES: Mapping[type, str] = {
    Describe: "query.describe",
    Setup: "query.setup",
    Train: "train",
    TrainOn: "train",
    Evaluate: "evaluate",
    Assess: "evaluate.assess",
    Measure: "evaluate.measure",
    Probe: "evaluate.probe",
    Keys: "query.keys",
    Reveal: "query.reveal",
}
_KINDS = {c.__name__: c for c in (*typing.get_args(Request), *typing.get_args(Reply))}
_DTYPES: Mapping[type, type[np.generic]] = {Moments: np.int64, MergedHistogram: np.int64, MaskedVector: np.uint32}
_FIELDS, _METRICS, _PACKED, _AUDIT, _HEAD = "fields", "metrics", "packed", "audit", "head"
_A_HEAD = re.compile(r"(\d{1,12}[:-])?[0-9a-f]{64}")
T = TypeVar("T")


def encode(message: Request | Reply) -> RecordDict:
    """Turn a request or reply into Flower's records."""
    fields: dict[str, str | int | float] = {"kind": type(message).__name__}
    records: dict[str, ArrayRecord | MetricRecord | ConfigRecord] = {}
    for name, value in pieces(message):
        if isinstance(value, Parameters):
            fields[f"{name}.manifest"] = value.manifest.to_json()
            records[name] = array_record({_PACKED: value.vector})
        elif isinstance(value, EncodedUpdate):
            told = {
                "manifest": value.manifest.to_json(),
                "encoding": value.encoding,
                "lengths": json.dumps(value.lengths),
            }
            fields |= {f"{name}.{key}": text for key, text in told.items()}
            records[name] = array_record({_PACKED: value.body})
        elif type(value) in ARRAYS:
            records[name] = array_record({part: getattr(value, part) for part in ARRAYS[type(value)]})
        elif isinstance(value, Mapping):
            records[_METRICS] = MetricRecord({metric: float(v) for metric, v in value.items()})
        else:
            fields[name] = str(value) if isinstance(value, str) else value
    records[_FIELDS] = ConfigRecord(dict(fields))
    return RecordDict(records)


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
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ProtocolError(
            f"{name}: field {error} is absent or damaged: do both sides run the same version?"
        ) from None
    beside = set()
    if cls in typing.get_args(Reply) and head_of(content):
        beside = {f"{_AUDIT}.", f"{_AUDIT}.{_HEAD}"}
    unknown = sorted(_places(content) - _known_places(cls) - beside)
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
    for part, (kind, _) in kinds_of(cls).items():
        name = prefix + part
        if kind is Parameters:
            places |= {f"{name}.", f"{name}.{_PACKED}", f"{_FIELDS}.{name}.manifest"}
        elif kind is EncodedUpdate:
            told = (f"{_FIELDS}.{name}.{key}" for key in ("manifest", "encoding", "lengths"))
            places |= {f"{name}.", f"{name}.{_PACKED}", *told}
        elif kind in ARRAYS:
            places |= {f"{name}.", *(f"{name}.{key}" for key in ARRAYS[kind])}
        elif nested(kind):
            places |= _known_places(kind, f"{name}.")
        else:
            places.add(f"{_FIELDS}.{name}" if typing.get_origin(kind) is None else f"{_METRICS}.")
    return frozenset(places)


def _whole(content: RecordDict, cls: Any, prefix: str = "") -> Any:
    """A message, or with ``prefix`` a field of one that has fields of its own."""
    found = {}
    for name, (kind, optional) in kinds_of(cls).items():
        absent = optional and not _present(content, prefix + name, kind)
        found[name] = None if absent else _field(content, prefix + name, kind)
    return cls(**found)


def _present(content: RecordDict, name: str, kind: Any) -> bool:
    """Whether anything of an optional field was sent."""
    if kind in ARRAYS:
        return name in content
    fields = content.config_records[_FIELDS]
    return any(key.startswith(f"{name}.") for key in fields) if nested(kind) else name in fields


def _field(content: RecordDict, name: str, kind: Any) -> Any:
    fields = content.config_records[_FIELDS]
    if kind is Parameters:
        manifest = Manifest.from_json(str(fields[f"{name}.manifest"]))
        return Parameters(manifest, vector_of(content.array_records[name][_PACKED]))
    if kind is EncodedUpdate:
        return _update(content, name)
    if kind in ARRAYS:
        arrays = {part: vector_of(content.array_records[name][part]) for part in ARRAYS[kind]}
        return kind(**_integers(arrays, _DTYPES[kind]))
    if nested(kind):
        return _whole(content, kind, f"{name}.")
    if typing.get_origin(kind) is not None:
        return {str(key): float(typing.cast(float, value)) for key, value in content.metric_records[_METRICS].items()}
    return _scalar(fields[name], name, kind)


def _update(content: RecordDict, name: str) -> EncodedUpdate:
    fields = content.config_records[_FIELDS]
    manifest = Manifest.from_json(str(fields[f"{name}.manifest"]))
    lengths = json.loads(str(fields[f"{name}.lengths"]))
    if not isinstance(lengths, list) or not all(type(length) is int for length in lengths):
        raise TypeError(f"{name}.lengths")
    body = vector_of(content.array_records[name][_PACKED])
    return EncodedUpdate(manifest, str(fields[f"{name}.encoding"]), tuple(lengths), body)


def _scalar(value: Any, name: str, kind: Any) -> Any:
    if kind is Code:
        return Code(str(value))
    if isinstance(value, bool) or not isinstance(value, int | float if kind is float else kind):
        raise TypeError(name)
    return float(value) if kind is float else value


def _integers(arrays: dict[str, NDArray[Any]], dtype: type[np.generic]) -> dict[str, NDArray[Any]]:
    """Counts and sums are vectors of integers, all of one length."""
    for part, array in arrays.items():
        if array.dtype != dtype or array.ndim != 1 or len({a.shape for a in arrays.values()}) > 1:
            raise TypeError(part)
    return arrays


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


def answer(reply: Reply, request: Message, head: str = "") -> Message:
    """A Flower message that answers ``request``; ``head`` is that of the hospital's audit chain, if it keeps one."""
    content = encode(reply)
    if head:
        content[_AUDIT] = ConfigRecord({_HEAD: head})
        head_of(content)
    return Message(content, reply_to=request)


def head_of(content: RecordDict) -> str:
    """The head of the hospital's audit chain that came beside a reply; empty if none did.

    Raises:
        ProtocolError: it is something else than a SHA-256, with a number before it or without.
    """
    record = content.config_records.get(_AUDIT)
    if record is None:
        return ""
    head = record.get(_HEAD)
    if not isinstance(head, str) or not _A_HEAD.fullmatch(head):
        raise ProtocolError(
            "what came as the head of an audit chain is no SHA-256: do both sides run the same version?"
        )
    return head


def to_bytes(message: Request | Reply) -> bytes:
    """A message as bytes, for a file of this machine; see :mod:`sarco_models.framing`.

    A message of 114 MB is copied once; Flower's own form, by way of protobuf, takes five times as long.
    """
    return b"".join(to_buffers(message))


def to_buffers(message: Request | Reply, head: str = "") -> list[Buffer]:
    """The same bytes for a socket, in pieces and not copied; ``head`` is that of an audit chain, beside a reply."""
    content = encode(message)
    arrays = {name: {key: vector_of(a) for key, a in of.items()} for name, of in content.array_records.items()}
    metrics = dict(content.metric_records[_METRICS]) if _METRICS in content else None
    return framed(Framed(dict(content.config_records[_FIELDS]), metrics, arrays, head))


def from_bytes(data: Buffer, kind: type[T] | None = None) -> T:
    """Inverse of :func:`to_bytes`, without a copy; raises ProtocolError where the bytes are something else."""
    return decode(_content(unframed(data)), kind)


def reply_from_bytes(data: Buffer) -> tuple[Reply, str]:
    """A reply, and the head of the audit chain that came beside it; empty if none did.

    Raises:
        ProtocolError: the bytes are something else, be it a request.
    """
    content = _content(unframed(data))
    reply: Reply = decode(content)
    if not isinstance(reply, Reply):
        raise ProtocolError(f"{type(reply).__name__} comes as an answer: do both sides run the same version?")
    return reply, head_of(content)


def _content(found: Framed) -> RecordDict:
    try:
        records: dict[str, Any] = {_FIELDS: ConfigRecord(found.fields)}
        if found.metrics is not None:
            records[_METRICS] = MetricRecord(found.metrics)
        if found.head:
            records[_AUDIT] = ConfigRecord({_HEAD: found.head})
        return RecordDict(records | {record: array_record(of) for record, of in found.arrays.items()})
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise ProtocolError("a message whose fields are none: do both sides run the same version?") from None
