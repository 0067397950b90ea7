"""A message's digest: the same on both sides, another one for any other content."""

import copy
import dataclasses
import hashlib
from typing import Any

import numpy as np
import pytest

from sarco_models.encoding import EncodedUpdate
from sarco_models.messages import Code, Describe, Masked, MaskedVector, Refused, Trained
from sarco_models.parameters import Manifest, Parameters
from sarco_models.wire import decode, digest_of, encode, parts_of, payload_bytes
from tests.messages import MESSAGES, inflated, protobuf, same


@pytest.mark.parametrize("name", MESSAGES)
def test_the_coordinator_finds_the_digest_that_the_hospital_wrote_down(name: str) -> None:
    written = digest_of(MESSAGES[name])
    for transport in (protobuf, inflated):
        assert digest_of(decode(transport(encode(MESSAGES[name])))) == written


def test_every_message_has_a_digest_of_its_own() -> None:
    assert len({digest_of(m) for m in MESSAGES.values()}) == len(MESSAGES)


def test_parts_are_named_measured_and_hashed() -> None:
    vector = np.arange(7, dtype=np.float32)
    parameters = Parameters(Manifest(("head.weight", "head.bias", "scale"), ((2, 2), (2,), ())), vector)
    parts = {p.name: p for p in parts_of(Trained("shanghai", 3, 214, parameters, {"loss": 0.5, "auc": 0.75}))}
    assert list(parts) == [
        "site", "round", "participants", "parameters.head.weight", "parameters.head.bias", "parameters.scale",
        "metrics.auc", "metrics.loss",
    ]  # fmt: skip
    weight = parts["parameters.head.weight"]
    assert (weight.kind, weight.shape, weight.dtype, weight.bytes) == ("parameter", (2, 2), "float32", 16)
    assert weight.sha256 == hashlib.sha256(vector[:4].tobytes()).hexdigest()
    assert (parts["parameters.scale"].shape, parts["parameters.scale"].bytes) == ((), 4)
    assert (parts["metrics.auc"].kind, parts["metrics.auc"].dtype, parts["metrics.auc"].bytes) == (
        "metric",
        "float64",
        8,
    )
    assert (parts["site"].kind, parts["site"].dtype, parts["site"].bytes) == ("field", "str", 8)
    assert (parts["round"].dtype, parts["round"].bytes) == ("int", 8)


def test_parts_count_all_the_bytes_of_numbers_that_leave() -> None:
    for name, message in MESSAGES.items():
        numbers = sum(p.bytes for p in parts_of(message) if p.kind in ("parameter", "sums", "metric"))
        content = encode(message)
        texts = sum(len(str(v)) for record in content.config_records.values() for v in record.values())
        assert numbers == payload_bytes(content) - texts, name


def changed(message: Any, name: str) -> Any:  # noqa: C901 - one case for each kind of field
    """The message with one thing in this field changed by the least that can be."""
    value = getattr(message, name)
    other: Any = None
    match value:
        case Code():
            other = Code.INTERNAL
        case str():
            other = value[:-1] + ("1" if value[-1] != "1" else "2")
        case int():
            other = value + 1
        case float():
            other = float(np.nextafter(value, 2))
        case dict():
            other = {**value, "auc": float(np.nextafter(value.get("auc", 0.5), 2))}
        case EncodedUpdate():
            other = dataclasses.replace(value, body=bumped(value.body))
        case Parameters():
            other = Parameters(value.manifest, bumped(value.vector))
        case np.ndarray():
            other = bumped(value)
        case _ if dataclasses.is_dataclass(value):
            other = changed(value, next(f.name for f in dataclasses.fields(value)))
    return None if other is None else dataclasses.replace(message, **{name: other})


def bumped(vector: np.ndarray) -> np.ndarray:
    vector = vector.copy()
    vector.view(np.uint8)[-1] ^= 1
    return vector


@pytest.mark.parametrize("name", [n for n in MESSAGES if n != "setup without frozen layers"])
def test_any_change_of_any_field_is_another_digest(name: str) -> None:
    message = MESSAGES[name]
    for field in dataclasses.fields(message):
        other = changed(message, field.name)
        if other is not None:
            assert digest_of(other) != digest_of(message), field.name


def test_names_and_shapes_count_beside_the_numbers() -> None:
    vector = np.zeros(6, dtype=np.float32)
    digests = {
        digest_of(Trained("a", 1, 9, Parameters(manifest, vector), {}))
        for manifest in (Manifest(("w",), ((6,),)), Manifest(("w",), ((2, 3),)), Manifest(("v",), ((6,),)))
    }
    assert len(digests) == 3


def test_the_order_of_metrics_does_not_count_and_an_integer_is_a_metric_as_well() -> None:
    masked = Masked("a", 1, 1, 9, MaskedVector(np.zeros(3, dtype=np.uint32)), {"auc": 1, "loss": 0.5})
    other = dataclasses.replace(masked, metrics={"loss": 0.5, "auc": 1.0})
    assert digest_of(masked) == digest_of(other)


def test_nothing_is_changed_by_looking() -> None:
    message = MESSAGES["trained"]
    before = copy.deepcopy(message)
    parts_of(message)
    assert same(message, before)


def test_a_text_is_not_among_the_parts_only_its_hash() -> None:
    """The audit must not become a second copy of what left."""
    (site, code) = parts_of(Refused("shanghai", Code.DATA_FAULT))
    assert "shanghai" not in repr((site, code))
    assert "data_fault" not in repr((site, code))
    assert "f" * 64 not in repr(parts_of(Describe("f" * 64)))
