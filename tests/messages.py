"""One of every message that coordinator and site say to each other, and the transports that Flower has for them."""

import copy
import dataclasses
import json
import pickle
import typing
from collections.abc import Callable
from typing import Any

import numpy as np
from flwr.app import RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents, validate_object_content

from sarco_models.encoding import EncodedUpdate, shorten
from sarco_models.histograms import MergedHistogram
from sarco_models.parameters import Manifest, Parameters
from sarco_models.site_evaluation import Calls, SiteEvaluation
from sarco_models.summaries import Moments
from sarco_models.wire import (
    Assess,
    Assessed,
    Code,
    Describe,
    Described,
    Evaluate,
    Evaluated,
    Keyed,
    Keys,
    Masked,
    MaskedVector,
    Masking,
    Measure,
    Measured,
    Probe,
    Probed,
    Ready,
    Refused,
    Reply,
    Request,
    Reveal,
    Revealed,
    Setup,
    Train,
    Trained,
    TrainOn,
    Updated,
)

Transport = Callable[[RecordDict], RecordDict]


def moments(seed: int = 1) -> Moments:
    rng = np.random.default_rng(seed)
    return Moments(*(rng.integers(-(2**50), 2**50, 22) for _ in range(5)))


def parameters(numbers: int = 1000, seed: int = 1) -> Parameters:
    vector = np.random.default_rng(seed).standard_normal(numbers).astype(np.float32)
    return Parameters(Manifest(("a.weight", "b"), ((numbers - 1,), ())), vector)


def update(encoding: str, *, compress: bool) -> EncodedUpdate:
    before = parameters()
    moved = Parameters(before.manifest, before.vector * np.float32(1.001))
    return shorten(moved, before, encoding=encoding, compress=compress).update


METRICS = {"auc": 0.75, "loss": float("inf"), "train_loss": float("nan")}
HISTOGRAM = MergedHistogram(np.array([2, 3, 10]), np.array([0, 4, 9]), np.array([30, 9, 0]))
EVALUATION = SiteEvaluation(52, 13, 0.8, 0.003, 0.31, Calls(9, 4), Calls(30, 9), HISTOGRAM)
WITHHELD = SiteEvaluation(52, None, None, None, 0.31, None, None, None)
STUDY = "f" * 64
MASKS = np.random.default_rng(2).integers(0, 2**32, 1000, dtype=np.uint32)
KEYS = json.dumps([["shanghai", "a" * 64, "b" * 128], ["sichuan", "c" * 64, "d" * 128]])
MESSAGES: dict[str, Request | Reply] = {
    "describe": Describe(STUDY),
    "described": Described("shanghai", "awgs2019", 357, 214, 60, 2735, moments()),
    "setup": Setup(STUDY, parameters(), moments()),
    "setup without frozen layers": Setup(STUDY, Parameters.pack({}), moments()),
    "ready": Ready("shanghai", "0" * 64),
    "train": Train(STUDY, "0" * 64, 3, parameters()),
    "train on": TrainOn(STUDY, "0" * 64, 4, "1" * 64, update("float32", compress=True)),
    "trained": Trained("shanghai", 3, 214, parameters(), METRICS),
    "trained without metrics": Trained("shanghai", 3, 214, parameters(), {}),
    "updated, float32 compressed": Updated("shanghai", 3, 214, update("float32", compress=True), METRICS),
    "updated, bf16": Updated("shanghai", 3, 214, update("bf16", compress=False), METRICS),
    "updated, int8": Updated("shanghai", 3, 214, update("int8", compress=False), {}),
    "evaluate": Evaluate(STUDY, "0" * 64, 20, 0.283, parameters()),
    "evaluated": Evaluated("shanghai", 20, 214, METRICS, HISTOGRAM),
    "evaluated without a histogram": Evaluated("shanghai", 20, 214, METRICS, None),
    "assess": Assess(STUDY, "0" * 64, 20, 0.283, 0.31, parameters()),
    "assessed": Assessed("shanghai", EVALUATION),
    "assessed, some withheld": Assessed("shanghai", dataclasses.replace(EVALUATION, auc=None, found=None)),
    "assessed, all withheld": Assessed("shanghai", WITHHELD),
    "measure": Measure(STUDY, "0" * 64, 20, parameters()),
    "measured": Measured("shanghai", 90, {"biceps.dice.n": 88.0, "biceps.dice.mean": 0.91, "biceps.dice.sd": 0.04}),
    "probe": Probe(STUDY, "0" * 64, 20, parameters()),
    "probed": Probed("shanghai", 214, 90, 0.52, 0.013),
    "keys": Keys(STUDY, "0" * 64, 3, 1),
    "keyed": Keyed("shanghai", 3, 1, "a" * 64, "b" * 128),
    "train under masks": Train(STUDY, "0" * 64, 3, parameters(), Masking(2, 500, KEYS)),
    "masked": Masked("shanghai", 3, 2, 214, MaskedVector(MASKS), METRICS),
    "reveal": Reveal(STUDY, "0" * 64, 3, 2),
    "revealed": Revealed("shanghai", 3, 2, "e" * 64),
    "refused": Refused("shanghai", Code.TOO_FEW_PARTICIPANTS),
}


def in_process(content: RecordDict) -> RecordDict:
    return content


def protobuf(content: RecordDict) -> RecordDict:
    """As Flower's Grid sends a message."""
    return recorddict_from_proto(ProtoRecordDict.FromString(recorddict_to_proto(content).SerializeToString()))


def inflated(content: RecordDict) -> RecordDict:
    """As Flower sends and stores objects since 1.20: cut into pieces, each by its hash, and put together again."""
    objects = get_all_nested_objects(content)
    pieces = {key: obj.deflate() for key, obj in objects.items()}
    for piece in pieces.values():
        validate_object_content(piece)
    return typing.cast(RecordDict, inflate_object_from_contents(content.object_id, pieces))


def pickled(content: RecordDict) -> RecordDict:
    """As Ray hands a message to another process."""
    return typing.cast(RecordDict, pickle.loads(pickle.dumps(content)))  # noqa: S301 - our own bytes


TRANSPORTS: list[Transport] = [in_process, protobuf, inflated, pickled, copy.deepcopy]


def same(a: Any, b: Any) -> bool:
    """Equal to the bit, arrays and not-a-numbers included."""
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, np.ndarray):
        return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    return type(a) is type(b) and repr(a) == repr(b)
