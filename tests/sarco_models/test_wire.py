"""What was asked is what arrives, through every transport that Flower has; anything else is refused."""

import copy
import dataclasses
import pickle
import typing
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents, validate_object_content
from flwr.supercore.task_identity import TaskIdentity
from numpy.typing import NDArray

from sarco_models import wire
from sarco_models.errors import ProtocolError
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
    PackedArray,
    Ready,
    Refused,
    Reply,
    Request,
    Setup,
    Train,
    Trained,
    decode,
    encode,
)

Transport = Callable[[RecordDict], RecordDict]


def moments(seed: int = 1) -> Moments:
    rng = np.random.default_rng(seed)
    return Moments(*(rng.integers(-(2**50), 2**50, 22) for _ in range(5)))


def parameters(numbers: int = 1000, seed: int = 1) -> Parameters:
    vector = np.random.default_rng(seed).standard_normal(numbers).astype(np.float32)
    return Parameters(Manifest(("a.weight", "b"), ((numbers - 1,), ())), vector)


METRICS = {"auc": 0.75, "loss": float("inf"), "train_loss": float("nan")}
HISTOGRAM = MergedHistogram(np.array([2, 3, 10]), np.array([0, 4, 9]), np.array([30, 9, 0]))
EVALUATION = SiteEvaluation(52, 13, 0.8, 0.003, 0.31, Calls(9, 4), Calls(30, 9), HISTOGRAM)
WITHHELD = SiteEvaluation(52, None, None, None, 0.31, None, None, None)
STUDY = "f" * 64
MESSAGES: dict[str, Request | Reply] = {
    "describe": Describe(STUDY),
    "described": Described("shanghai", "awgs2019", 357, 214, 60, 2735, moments()),
    "setup": Setup(STUDY, parameters(), moments()),
    "setup without frozen layers": Setup(STUDY, Parameters.pack({}), moments()),
    "ready": Ready("shanghai", "0" * 64),
    "train": Train(STUDY, "0" * 64, 3, parameters()),
    "trained": Trained("shanghai", 3, 214, parameters(), METRICS),
    "trained without metrics": Trained("shanghai", 3, 214, parameters(), {}),
    "evaluate": Evaluate(STUDY, "0" * 64, 20, 0.283, parameters()),
    "evaluated": Evaluated("shanghai", 20, 214, METRICS, HISTOGRAM),
    "evaluated without a histogram": Evaluated("shanghai", 20, 214, METRICS, None),
    "assess": Assess(STUDY, "0" * 64, 20, 0.283, 0.31, parameters()),
    "assessed": Assessed("shanghai", EVALUATION),
    "assessed, some withheld": Assessed("shanghai", dataclasses.replace(EVALUATION, auc=None, found=None)),
    "assessed, all withheld": Assessed("shanghai", WITHHELD),
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


# ---- round trips -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", MESSAGES)
def test_every_message_arrives_as_it_was_sent(name: str, transport: Transport) -> None:
    message = MESSAGES[name]
    assert same(decode(transport(encode(message)), type(message)), message)


def test_every_kind_of_message_is_tested() -> None:
    kinds = {*typing.get_args(Request), *typing.get_args(Reply)}
    assert {type(m) for m in MESSAGES.values()} == kinds
    assert set(wire.MESSAGE_TYPES) == set(typing.get_args(Request))


@pytest.mark.parametrize("code", Code)
def test_every_code_of_refusal_arrives(code: Code) -> None:
    assert decode(protobuf(encode(Refused("b", code))), Refused).code is code


def test_bytes_do_not_depend_on_the_transport_or_the_run() -> None:
    """What is recorded before it leaves is what arrives: one object id for one content."""
    one, other = encode(MESSAGES["trained"]), encode(MESSAGES["trained"])
    assert one.object_id == other.object_id == inflated(one).object_id
    assert one.object_id != encode(MESSAGES["train"]).object_id


def test_our_array_is_flowers_array_to_whoever_reads_it() -> None:
    """A Strategy of Flower's or a researcher's own reads the packed vector with Flower's own method."""
    vector = parameters().vector
    packed = PackedArray(vector)
    flowers = Array(vector)
    assert isinstance(packed, Array)
    assert (packed.dtype, packed.shape, packed.stype) == (flowers.dtype, flowers.shape, flowers.stype)
    assert packed.data == flowers.data
    assert packed.object_id == flowers.object_id
    for transport in (protobuf, inflated, pickled):
        arrived = transport(RecordDict({"a": wire.array_record({"v": vector})})).array_records["a"]["v"]
        assert type(arrived) is Array
        np.testing.assert_array_equal(arrived.numpy(), vector)


def test_in_process_the_vector_is_handed_over_and_not_copied() -> None:
    message = Setup(STUDY, parameters(), moments())
    arrived = decode(encode(message), Setup)
    assert arrived.frozen.vector is message.frozen.vector
    assert arrived.moments.total is message.moments.total


def test_an_array_that_flower_made_is_read_as_well() -> None:
    """A reply may be aggregated and packed again by a Strategy, which uses Flower's own class."""
    content = encode(MESSAGES["train"])
    content["parameters"] = ArrayRecord({"packed": Array(parameters().vector)})
    assert same(decode(content, Train), MESSAGES["train"])


def test_bytes_of_a_message_are_counted_before_and_after_the_network_alike() -> None:
    content = encode(MESSAGES["trained"])
    assert 4000 < wire.payload_bytes(content) < 4200
    assert wire.payload_bytes(inflated(content)) == wire.payload_bytes(content)


def test_a_request_and_its_answer_are_flower_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The site's handler finds the request by its type; a request that is over expires."""
    for name, value in (("_task_id", 1), ("_run_id", 1), ("_node_id", 0)):
        monkeypatch.setattr(TaskIdentity, name, value)
    sent = wire.ask(Describe(STUDY), 7, seconds=60)
    assert (sent.metadata.message_type, sent.metadata.dst_node_id, sent.metadata.ttl) == ("query.describe", 7, 60)
    assert isinstance(sent, Message)
    assert decode(sent.content) == Describe(STUDY)
    monkeypatch.setattr(TaskIdentity, "_node_id", 7)
    back = wire.answer(Refused("shanghai", Code.INTERNAL), sent)
    assert (back.metadata.dst_node_id, back.metadata.message_type) == (0, "query.describe")
    assert decode(back.content) == Refused("shanghai", Code.INTERNAL)


# ---- what is refused -------------------------------------------------------------------------------------------------


def refused(content: RecordDict, kind: type | None = None, words: str | None = None) -> None:
    for transport in (in_process, protobuf, inflated):
        with pytest.raises(ProtocolError, match=words):
            decode(transport(content), kind)


MAY_BE_WITHHELD = {
    "histogram", "evaluation.histogram",
    "fields.evaluation.positives", "fields.evaluation.auc", "fields.evaluation.auc_variance",
}  # fmt: skip


def test_what_is_withheld_is_not_on_the_wire() -> None:
    content = encode(Assessed("shanghai", WITHHELD))
    assert list(content) == ["fields"]
    assert dict(content["fields"]) == {
        "kind": "Assessed", "site": "shanghai", "evaluation.participants": 52, "evaluation.threshold": 0.31
    }  # fmt: skip


def test_a_variance_is_not_taken_for_an_auc() -> None:
    """One field's name begins with the other's."""
    sent = Assessed("shanghai", dataclasses.replace(EVALUATION, auc=None))
    assert decode(encode(sent), Assessed).evaluation.auc is None


@pytest.mark.parametrize("value", ["12", 12.0, True, [1]])
def test_a_count_of_an_assessment_that_is_no_integer_is_refused(value: Any) -> None:
    for field in ("evaluation.participants", "evaluation.positives", "evaluation.found.right"):
        content = encode(MESSAGES["assessed"])
        content.config_records["fields"][field] = value
        refused(content, Assessed)


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_that_lacks_any_field_or_record_is_refused(name: str) -> None:
    whole = encode(MESSAGES[name])
    for record in list(whole):
        if record in MAY_BE_WITHHELD:
            continue
        less = RecordDict({k: v for k, v in whole.items() if k != record})
        refused(less, type(MESSAGES[name]))
        if record == "metrics":  # a metric may be held back by the site's policy
            continue
        for key in list(typing.cast(Any, whole[record])):
            if f"{record}.{key}" in MAY_BE_WITHHELD:
                continue
            less = encode(MESSAGES[name])
            del typing.cast(Any, less[record])[key]
            refused(less, type(MESSAGES[name]))


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_with_anything_more_is_refused(name: str) -> None:
    """Nothing travels beside what the protocol says: no field, no record, no array."""
    additions: list[tuple[str, Any]] = [
        ("more", ConfigRecord({"note": "Mrs. X, 12 May"})),
        ("more", MetricRecord({"count": 1})),
        ("more", ArrayRecord({"rows": Array(np.zeros(3))})),
        ("more", ConfigRecord({})),
    ]
    for key, record in additions:
        refused(RecordDict({**encode(MESSAGES[name]), key: record}), words="is not a field of it")
    content = encode(MESSAGES[name])
    content.config_records["fields"]["note"] = "Mrs. X, 12 May"
    refused(content, words=r"fields\.note is not a field of it")
    for key in content.array_records:
        content = encode(MESSAGES[name])
        content.array_records[key]["more"] = Array(np.zeros(3))
        refused(content, words=rf"{key}\.more is not a field of it")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("round", "3"),
        ("round", 3.0),
        ("round", True),
        ("study", 3),
        ("study", b"bytes"),
        ("setup", ["a"]),
        ("kind", "Trian"),
        ("kind", "Parameters"),
        ("kind", 1),
        ("parameters.manifest", "[]"),
        ("parameters.manifest", '[["a"],[[3]]]'),
    ],
)
def test_a_field_of_another_type_is_refused(field: str, value: Any) -> None:
    content = encode(MESSAGES["train"])
    content.config_records["fields"][field] = value
    refused(content, Train)


def test_another_kind_than_expected_is_refused_and_both_are_named() -> None:
    refused(encode(MESSAGES["ready"]), Trained, words="the message is 'Ready'; expected Trained")
    refused(RecordDict(), Train, words="'no kind'; expected Train")
    refused(RecordDict(), words="expected a known kind")


DAMAGED: dict[str, Array] = {
    "no bytes": Array("float32", (1000,), "numpy.ndarray", b""),
    "no array": Array("float32", (1000,), "numpy.ndarray", b"x" * 4096),
    "cut off": Array("float32", (1000,), "numpy.ndarray", Array(np.zeros(1000, np.float32)).data[:-8]),
    "another length": Array(np.zeros(999, np.float32)),
    "another type": Array(np.zeros(1000)),
    "another byte order": Array(np.zeros(1000, ">f4")),
    "another shape": Array(np.zeros((1000, 1), np.float32)),
    "another order": Array(np.asfortranarray(np.zeros((10, 100), np.float32))),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_parameters_are_refused(name: str) -> None:
    content = encode(MESSAGES["train"])
    content["parameters"] = ArrayRecord({"packed": DAMAGED[name]})
    for transport in (in_process, protobuf):
        with pytest.raises(ProtocolError):
            decode(transport(content), Train)


def test_pickled_objects_are_never_opened() -> None:
    """A message could otherwise run code at whoever reads it."""

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return pytest.fail, ("opened",)

    fake = np.lib.format.magic(1, 0)
    header = "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + "\n"
    data = fake + len(header).to_bytes(2, "little") + header.encode() + pickle.dumps(np.array([Bomb()], dtype=object))
    content = encode(MESSAGES["train"])
    content["parameters"] = ArrayRecord({"packed": Array("object", (1,), "numpy.ndarray", data)})
    refused(content, Train, words="order or type that is not sent here")


@pytest.mark.parametrize(
    "array",
    [np.zeros(22), np.zeros(22, np.int32), np.zeros((22, 1), np.int64), np.zeros(21, np.int64)],
    ids=["fractions", "short integers", "a column", "another length"],
)
def test_sums_that_are_no_vectors_of_integers_are_refused(array: NDArray[Any]) -> None:
    """They are added up exactly: one site's fractions would spoil everybody's sums."""
    content = encode(MESSAGES["described"])
    content.array_records["moments"]["total"] = Array(array)
    refused(content, Described, words="absent or damaged")


def test_a_metric_that_is_no_number_is_refused() -> None:
    content = encode(MESSAGES["trained"])
    content.metric_records["metrics"]["auc"] = [0.1, 0.2]
    refused(content, Trained)


# ---- refusals --------------------------------------------------------------------------------------------------------

PRIVATE = "participants.csv, row 7: Mrs. X"


def test_a_refusal_has_no_place_for_a_text() -> None:
    """FLOWER 1.3: the text of an error names files, rows and people; only a code of a closed set leaves."""
    assert [f.name for f in dataclasses.fields(Refused)] == ["site", "code"]
    for text in (PRIVATE, "", "internal "):
        with pytest.raises(ProtocolError, match="a code of a closed set, never a text"):
            Refused("shanghai", typing.cast(Code, text))


def test_a_refusal_with_a_text_is_not_read_either() -> None:
    content = encode(MESSAGES["refused"])
    content.config_records["fields"]["code"] = PRIVATE
    refused(content, Refused)


def test_what_is_sent_for_a_refusal_is_kind_site_and_code_alone() -> None:
    content = encode(Refused("shanghai", Code.DATA_FAULT))
    assert dict(content["fields"]) == {"kind": "Refused", "site": "shanghai", "code": "data_fault"}
    assert list(content) == ["fields"]


# ---- the setup's name ------------------------------------------------------------------------------------------------


def test_a_setups_digest_names_study_frozen_layers_and_sums() -> None:
    setup = Setup(STUDY, parameters(), moments())
    arrived = decode(inflated(encode(setup)), Setup)
    assert arrived.digest == setup.digest
    others = [
        dataclasses.replace(setup, study="0" * 64),
        dataclasses.replace(setup, frozen=parameters(seed=2)),
        dataclasses.replace(setup, moments=moments(2)),
    ]
    assert len({setup.digest, *(o.digest for o in others)}) == 4
