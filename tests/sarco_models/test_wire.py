"""What was asked is what arrives, through every transport that Flower has; anything else is refused."""

import contextlib
import dataclasses
import pickle
import typing
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from numpy.typing import NDArray

from sarco_models import wire
from sarco_models.errors import ProtocolError
from sarco_models.wire import (
    Assessed,
    Code,
    Describe,
    Described,
    Masked,
    PackedArray,
    Refused,
    Reply,
    Request,
    Setup,
    Train,
    Trained,
    Updated,
    decode,
    encode,
)
from tests.messages import (
    EVALUATION,
    MESSAGES,
    STUDY,
    TRANSPORTS,
    WITHHELD,
    Transport,
    in_process,
    inflated,
    moments,
    parameters,
    pickled,
    protobuf,
    same,
)

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
        ("parameters.manifest", "[" * 100_000),
        ("parameters.manifest", '[["a"],[[Infinity]]]'),
        ("parameters.manifest", '[["a"],[[1e30]]]'),
    ],
)
def test_a_field_of_another_type_is_refused(field: str, value: Any) -> None:
    content = encode(MESSAGES["train"])
    content.config_records["fields"][field] = value
    refused(content, Train)


def test_lengths_that_no_machine_reads_are_refused() -> None:
    content = encode(MESSAGES["updated, bf16"])
    content.config_records["fields"]["update.lengths"] = "[" * 100_000
    refused(content, Updated)


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


@pytest.mark.parametrize("array", [np.zeros(9, np.int64), np.zeros(9, np.float32), np.zeros((9, 1), np.uint32)])
def test_a_masked_vector_is_integers_modulo_two_to_the_32(array: NDArray[Any]) -> None:
    content = encode(MESSAGES["masked"])
    content.array_records["update"]["vector"] = Array(array)
    refused(content, Masked, words="absent or damaged")


def test_a_training_without_masks_is_told_from_one_with() -> None:
    assert decode(encode(MESSAGES["train"]), Train).masking is None
    for field in ("attempt", "total", "keys"):  # a part of the masking alone is damage, not the absence of masking
        content = encode(MESSAGES["train under masks"])
        del content.config_records["fields"][f"masking.{field}"]
        refused(content, Train, words="absent or damaged")


# ---- the head of the audit chain, beside a reply ---------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Message:
    for name, value in (("_task_id", 1), ("_run_id", 1), ("_node_id", 7)):
        monkeypatch.setattr(TaskIdentity, name, value)
    return wire.ask(Describe(STUDY), 7, seconds=60)


@pytest.mark.parametrize("head", ["a1" * 32, "17:" + "a1" * 32])
def test_the_head_of_the_audit_chain_comes_beside_a_reply(asked: Message, head: str) -> None:
    for name, reply in MESSAGES.items():
        if isinstance(reply, typing.get_args(Reply)):
            for transport in (in_process, protobuf, inflated):
                content = transport(wire.answer(typing.cast(Reply, reply), asked, head).content)
                assert wire.head_of(content) == head, name
                assert same(decode(content), reply), name


def test_a_reply_without_a_head_has_none(asked: Message) -> None:
    assert wire.head_of(wire.answer(Refused("a", Code.INTERNAL), asked).content) == ""


@pytest.mark.parametrize("head", ["Mrs. X", "a1" * 31, "A1" * 32, "a1" * 32 + "\n", "-1:" + "a1" * 32, 3, b"a", ["a"]])
def test_nothing_else_travels_in_its_place(asked: Message, head: Any) -> None:
    with pytest.raises(ProtocolError, match="no SHA-256"):
        wire.answer(Refused("a", Code.INTERNAL), asked, head)
    content = encode(Refused("a", Code.INTERNAL))
    content["audit"] = ConfigRecord({"head": head})
    refused(content, words="no SHA-256")


def test_nothing_travels_beside_the_head_and_no_head_beside_a_request() -> None:
    head = {"head": "a1" * 32}
    content = encode(Refused("a", Code.INTERNAL))
    content["audit"] = ConfigRecord({**head, "note": "Mrs. X"})
    refused(content, words=r"audit\.note is not a field of it")
    content = encode(Refused("a", Code.INTERNAL))
    content["audit"] = ConfigRecord({})
    refused(content, words="no SHA-256")
    content = encode(Describe(STUDY))
    content["audit"] = ConfigRecord(dict(head))
    refused(content, words="is not a field of it")


# ---- messages as files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MESSAGES)
def test_every_message_is_read_from_a_file_as_it_was_written(name: str) -> None:
    message = MESSAGES[name]
    data = wire.to_bytes(message)
    assert same(wire.from_bytes(data, type(message)), message)
    assert wire.to_bytes(wire.from_bytes(data)) == data
    numbers = sum(p.bytes for p in wire.parts_of(message) if p.kind in ("parameter", "sums"))
    assert len(data) - numbers < 2000


@pytest.mark.parametrize("name", ["trained", "describe", "masked", "described"])
def test_bytes_that_were_cut_or_changed_are_no_message_or_a_message_of_the_same_form(name: str) -> None:
    """A file that a power cut has torn is recognised, or read as another message; nothing else is ever raised."""
    data = wire.to_bytes(MESSAGES[name])
    for size in [*range(min(len(data), 700)), len(data) - 1]:
        with pytest.raises(ProtocolError):
            wire.from_bytes(data[:size])
    with pytest.raises(ProtocolError):
        wire.from_bytes(data + b" ")
    rng = np.random.default_rng(3)
    for _ in range(300):
        changed = bytearray(data)
        changed[int(rng.integers(min(len(data), 700)))] = int(rng.integers(256))
        with contextlib.suppress(ProtocolError):
            assert isinstance(wire.from_bytes(bytes(changed)), tuple(type(m) for m in MESSAGES.values()))
