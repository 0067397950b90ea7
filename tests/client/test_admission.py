"""A hospital asks whether it is let in, and the gate's real judgement is understood; nobody is connected by it."""

from contextlib import closing
from http import HTTPStatus
from http.client import HTTPSConnection
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.supercore.error import ApiErrorCode

from client.admission import ask, judged
from sarco_models.errors import ConfigError
from tests.server.gate_rig import Hospital, Rig, open_gate


def key_file(place: Path, hospital: Hospital) -> Path:
    path = place / "node.key"
    path.write_bytes(hospital.key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return path


def knock(rig: Rig, place: Path, hospital: Hospital) -> tuple[int, str]:
    with closing(rig.client()) as line:
        return ask(line, key_file(place, hospital))


def test_it_is_the_request_of_a_supernode_without_a_heartbeat(tmp_path: Path) -> None:
    with open_gate(tmp_path) as rig:
        status, _ = knock(rig, tmp_path, rig.hospital)
        assert status == HTTPStatus.OK, "the gate lets it through; this stand-in for Flower says yes to everything"
        (seen,) = rig.upstream.seen
    asked = ActivateNodeRequest.FromString(seen.body)
    assert (asked.public_key, asked.heartbeat_interval) == (rig.hospital.public, 0.0)
    assert seen.body == ActivateNodeRequest(public_key=rig.hospital.public).SerializeToString()


def test_the_gates_refusals_are_understood(tmp_path: Path) -> None:
    with open_gate(tmp_path) as rig:
        rig.home.write_sites((rig.hospital.enrolled("2026-11-20T12:00:00+00:00"),))
        level, value, remedy = judged(*knock(rig, tmp_path, rig.hospital))
        assert level == "fault"
        assert "has revoked this hospital's key (it says: hospital_a was revoked on 2026-11-20" in value
        assert "Coming back" in remedy
        level, value, remedy = judged(*knock(rig, tmp_path, Hospital("hospital_a")))
        assert level == "fault"
        assert value.startswith("the coordinator does not know this hospital's key (it says: this node key (SHA256:")
        assert "sarco-coordinator enrol" in remedy
        assert not rig.upstream.seen


@pytest.mark.parametrize(
    ("status", "body", "level", "words"),
    [
        (400, '{"code": 2003, "message": "Invalid heartbeat interval."}', "ok", "lets it in"),
        (412, '{"code": 2004, "detail": "hospital_a is online already"}', "warning", "does not know its key yet"),
        (412, '{"code": 2004, "message": "Failed to activate SuperNode."}', "fault", "revoked, or another key"),
        (401, '{"detail": "the signature is not of this node key"}', "fault", "does not accept this hospital"),
        (503, "", "warning", "HTTP 503"),
        (429, "", "warning", "HTTP 429"),
        (404, "<html>", "warning", "HTTP 404"),
        (200, "", "warning", "HTTP 200"),
    ],
)
def test_every_answer_has_a_meaning_and_a_way_out(status: int, body: str, level: str, words: str) -> None:
    found, value, remedy = judged(status, body)
    assert found == level
    assert words in value
    assert (remedy == "") is (level == "ok")


def test_flowers_numbers_are_those_of_the_pinned_release() -> None:
    assert ApiErrorCode.FLEET_INVALID_HEARTBEAT_INTERVAL == 2003
    assert ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED == 2004


def test_a_damaged_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "node.key").write_text("no key")
    with pytest.raises(ConfigError, match=r"node\.key: is no key"):
        ask(HTTPSConnection("127.0.0.1", 9), tmp_path / "node.key")
