"""The whole protocol between coordinator and site on one page, and the only module of the science that knows Flower.

The coordinator asks, the site answers; nothing else ever moves:

    Describe   -> Described   how many participants, and the sums that the tables' scaling is agreed from
    Setup      -> Ready       frozen layers and agreed sums, sent once
    Train      -> Trained     parameters down, parameters up, with the evaluation of the model that came down
    Evaluate   -> Evaluated   metrics and score histograms of the final model
    anything   -> Refused     a code of a closed set; never a text, a path or a name

Every request carries the digest of the study, so that a site answers only for a study that it has approved.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from numpy.typing import NDArray

from sarco_models.decisions import ScoreHistogram
from sarco_models.errors import ProtocolError
from sarco_models.parameters import Manifest, Parameters
from sarco_models.summaries import Moments


class Code(StrEnum):
    """Why a site refuses or fails. The hospital's own log says more; the coordinator learns only this."""

    STUDY_NOT_APPROVED = "study_not_approved"
    TASK_NOT_ALLOWED = "task_not_allowed"
    TOO_FEW_PARTICIPANTS = "too_few_participants"
    ONE_CLASS_ONLY = "one_class_only"
    DATA_FAULT = "data_fault"
    SETUP_NEEDED = "setup_needed"
    BAD_REQUEST = "bad_request"
    INTERNAL = "internal"


@dataclass(frozen=True)
class Describe:
    """Ask for counts and sums."""

    study: str


@dataclass(frozen=True, eq=False)
class Described:
    """Counts of the site's participants and moments of its training participants."""

    site: str
    label_rule: str
    participants: int
    training: int
    training_positive: int
    images: int
    moments: Moments


@dataclass(frozen=True, eq=False)
class Setup:
    """Frozen layers (an empty vector where there are none) and the moments of all sites together."""

    study: str
    frozen: Parameters
    moments: Moments

    @property
    def digest(self) -> str:
        """Names this setup in later requests."""
        sums = [getattr(self.moments, f.name).tolist() for f in dataclasses.fields(self.moments)]
        words = json.dumps([self.study, self.frozen.digest, sums])
        return hashlib.sha256(words.encode()).hexdigest()


@dataclass(frozen=True)
class Ready:
    """The site has kept the setup."""

    site: str
    setup: str


@dataclass(frozen=True, eq=False)
class Train:
    """Train one round from these parameters."""

    study: str
    setup: str
    round: int
    parameters: Parameters


@dataclass(frozen=True, eq=False)
class Trained:
    """Parameters after training, and the metrics of the parameters that came down."""

    site: str
    round: int
    participants: int
    parameters: Parameters
    metrics: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Evaluate:
    """Score these parameters; probabilities are corrected to ``prevalence``, that of all training participants."""

    study: str
    setup: str
    round: int
    prevalence: float
    parameters: Parameters


@dataclass(frozen=True, eq=False)
class Evaluated:
    """Metrics on validation participants, and the score histogram of training participants for the threshold."""

    site: str
    round: int
    participants: int
    metrics: Mapping[str, float]
    histogram: ScoreHistogram


@dataclass(frozen=True)
class Refused:
    """No answer, and why."""

    site: str
    code: Code

    def __post_init__(self) -> None:
        """Nothing but a code of the closed set can be put in."""
        if self.code not in list(Code):
            raise ProtocolError("a refusal is a code of a closed set, never a text")


Request = Describe | Setup | Train | Evaluate
Reply = Described | Ready | Trained | Evaluated | Refused

MESSAGE_TYPES: Mapping[type, str] = {
    Describe: "query.describe",
    Setup: "query.setup",
    Train: "train",
    Evaluate: "evaluate",
}
_KINDS = {c.__name__: c for c in (*typing.get_args(Request), *typing.get_args(Reply))}
_ARRAYS: Mapping[type, tuple[str, ...]] = {
    Moments: tuple(f.name for f in dataclasses.fields(Moments)),
    ScoreHistogram: tuple(f.name for f in dataclasses.fields(ScoreHistogram)),
}
_HINTS = {cls: typing.get_type_hints(cls) for cls in _KINDS.values()}
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
    for field in dataclasses.fields(message):
        value = getattr(message, field.name)
        if isinstance(value, Parameters):
            fields[f"{field.name}.manifest"] = value.manifest.to_json()
            records[field.name] = array_record({_PACKED: value.vector})
        elif type(value) in _ARRAYS:
            records[field.name] = array_record({name: getattr(value, name) for name in _ARRAYS[type(value)]})
        elif isinstance(value, Mapping):
            records[_METRICS] = MetricRecord({name: float(v) for name, v in value.items()})
        else:
            fields[field.name] = str(value) if isinstance(value, str) else value
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
        hints = _HINTS[cls]
        message = cls(**{f.name: _field(content, f.name, hints[f.name]) for f in dataclasses.fields(cls)})
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
def _known_places(cls: type) -> frozenset[str]:
    """Where the fields of a request or reply are found in its records."""
    places = {f"{_FIELDS}.", f"{_FIELDS}.kind"}
    for name, kind in _HINTS[cls].items():
        if kind is Parameters:
            places |= {f"{name}.", f"{name}.{_PACKED}", f"{_FIELDS}.{name}.manifest"}
        elif kind in _ARRAYS:
            places |= {f"{name}.", *(f"{name}.{part}" for part in _ARRAYS[kind])}
        else:
            places.add(f"{_FIELDS}.{name}" if typing.get_origin(kind) is None else f"{_METRICS}.")
    return frozenset(places)


def _field(content: RecordDict, name: str, kind: Any) -> Any:
    fields = content.config_records[_FIELDS]
    if kind is Parameters:
        manifest = Manifest.from_json(str(fields[f"{name}.manifest"]))
        return Parameters(manifest, vector_of(content.array_records[name][_PACKED]))
    if kind in _ARRAYS:
        return kind(**_integers({part: vector_of(content.array_records[name][part]) for part in _ARRAYS[kind]}))
    if typing.get_origin(kind) is not None:
        return {str(key): float(typing.cast(float, value)) for key, value in content.metric_records[_METRICS].items()}
    value = fields[name]
    if kind is float and isinstance(value, int | float):
        return float(value)
    if kind is Code:
        return Code(str(value))
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(name)
    return value


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
