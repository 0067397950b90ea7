"""Why a connection ended, from what the coordinator said."""

import json
import os
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from client.contact import REMEDIES, SAYS, Answer, Contact, End, cut, detail, read_contact, refusal, skew, tls_end

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def date(**ahead: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(**ahead), usegmt=True)


def certificate_error(code: int) -> Exception:
    inner = ssl.SSLCertVerificationError("certificate verify failed")
    inner.verify_code = code
    error = ConnectionError("all in vain")
    error.__cause__ = inner
    return error


@pytest.mark.parametrize(
    ("status", "body", "skew_s", "end"),
    [
        (412, '{"code": 2004, "message": "Failed to activate SuperNode."}', 0, End.NOT_ADMITTED),
        (401, "was revoked on 2026-11-20", 0, End.REVOKED),
        (403, "its key is not enrolled", 0, End.NOT_ENROLLED),
        (412, '{"detail": "alpha is online already, or", "code": 2004}', 0, End.TWICE),
        (401, "the clock of this machine is 10 s ahead of the coordinator's", 0, End.CLOCK),
        (401, "the client certificate is not of this node key", 0, End.NO_CERTIFICATE),
        (401, "Invalid SuperNode authentication", 0, End.UNAUTHORIZED),
        (401, "Invalid SuperNode authentication", 6, End.CLOCK),
        (401, "Invalid SuperNode authentication", -310, End.CLOCK),
        (401, "Invalid SuperNode authentication", -280, End.UNAUTHORIZED),
        (401, "", None, End.UNAUTHORIZED),
        (413, "", 0, End.PROXY_LIMIT),
        (403, '{"code": 2007}', 0, None),
        (500, "", 0, None),
        (200, "", 0, None),
    ],
)
def test_what_a_status_means_for_a_hospital(status: int, body: str, skew_s: float | None, end: End | None) -> None:
    assert refusal(status, body, skew_s) == end


@pytest.mark.parametrize(
    ("code", "end"),
    [(10, End.EXPIRED), (9, End.EXPIRED), (62, End.WRONG_NAME), (64, End.WRONG_NAME), (19, End.WRONG_AUTHORITY)],
)
def test_faults_of_a_certificate_are_told_apart(code: int, end: End) -> None:
    assert tls_end(certificate_error(code)) == end
    assert not cut(certificate_error(code))


def test_a_cut_connection_is_no_fault_of_a_certificate() -> None:
    error = ConnectionError("TLS/SSL connection has been closed")
    error.__context__ = ssl.SSLEOFError("EOF occurred in violation of protocol")
    assert cut(error)
    assert tls_end(error) is None
    assert not cut(ConnectionError("refused"))


def test_what_the_other_side_says_is_one_line_that_cannot_steer_a_terminal() -> None:
    assert detail('{"detail": "alpha was revoked", "code": 2004}') == "alpha was revoked"
    assert detail("\x1b[2Jyou are\nconnected") == "[2Jyou are connected"
    assert len(detail("x" * 5000)) == 200
    assert detail("[]") == "[]"


def test_the_clock_is_read_from_the_date_of_an_answer() -> None:
    assert skew("Fri, 20 Nov 2026 11:59:50 GMT", NOW) == 9.5
    assert skew("Fri, 20 Nov 2026 12:05:00 GMT", NOW) == -300.5
    assert skew("", NOW) is None
    assert skew("tomorrow", NOW) is None


def test_every_end_says_why_and_what_to_do() -> None:
    assert set(SAYS) == set(End)
    assert set(REMEDIES) == set(End) - {End.STOPPED, End.LOST, End.FROZEN}  # mended by themselves


def test_the_file_says_how_the_connection_stands(tmp_path: Path) -> None:
    contact = Contact(tmp_path / "contact.json")
    assert read_contact(tmp_path / "contact.json")["phase"] == "connecting"
    contact.heard(Answer("activate-node", 200, date=date(seconds=-3)))
    found = read_contact(tmp_path / "contact.json")
    assert (found["phase"], found["said"], found["code"]) == ("connected", "", None)
    contact.heard(Answer("push-object", 200, date=date()))
    assert read_contact(tmp_path / "contact.json")["doing"] == "sending"
    contact.working()
    assert read_contact(tmp_path / "contact.json")["doing"] == "working"
    contact.failed(ConnectionError("refused"))
    assert read_contact(tmp_path / "contact.json")["phase"] == "away"
    contact.heard(Answer("send-node-heartbeat", 401, "its key was revoked", date()))
    assert read_contact(tmp_path / "contact.json")["said"] == f"{SAYS[End.REVOKED]} (it says: its key was revoked)"
    assert contact.last is End.REVOKED
    contact.heard(Answer("send-node-heartbeat", 200))
    assert contact.last is None


def test_the_file_of_another_account_is_not_trusted(tmp_path: Path) -> None:
    file = tmp_path / "contact.json"
    assert read_contact(file) == {}
    file.write_text("[]")
    assert read_contact(file) == {}
    file.write_text(json.dumps({"phase": "connected"})[:-3])
    assert read_contact(file) == {}
    file.unlink()
    (tmp_path / "secret.json").write_text('{"phase": "a file of root"}')
    file.symlink_to(tmp_path / "secret.json")
    assert read_contact(file) == {}, "whoever may write there cannot have other files read out"
    file.unlink()
    os.mkfifo(file)
    assert read_contact(file) == {}, "nor keep the reader waiting"


@pytest.mark.parametrize("content", ["[" * 9000, '{"skew_s": 1' + "0" * 400 + "}", "[]", '"text"'])
def test_a_file_that_was_made_to_break_its_reader_says_nothing(tmp_path: Path, content: str) -> None:
    file = tmp_path / "contact.json"
    file.write_text(content)
    assert read_contact(file) == {}


def test_of_the_file_only_what_a_contact_would_have_written_is_passed_on(tmp_path: Path) -> None:
    file = tmp_path / "contact.json"
    nested: object = []
    for _ in range(400):
        nested = [nested]
    for skew_s in ("abc", True, None, [1], float("nan"), float("inf")):
        file.write_text(json.dumps({"phase": nested, "said": "x\x1b]52;c;ZXZpbA==\x07\nok", "skew_s": skew_s}))
        assert read_contact(file) == {"said": "x ]52;c;ZXZpbA==  ok", "skew_s": None}
    file.write_text('{"said": null, "skew_s": -2.5}')
    assert read_contact(file) == {"said": "", "skew_s": -2.5}


def test_a_main_loop_that_hangs_is_noticed_only_while_the_coordinator_answers(tmp_path: Path) -> None:
    now = [0.0]
    contact = Contact(tmp_path / "contact.json", clock=lambda: now[0])
    beat, pull = Answer("send-node-heartbeat", 200), Answer("pull-messages", 200)
    now[0] = 1000
    assert contact.hangs() == "", "not connected yet: the coordinator may be away for days"
    contact.heard(Answer("activate-node", 200))
    now[0] += 170
    contact.heard(beat)
    assert contact.hangs() == ""
    now[0] += 20
    assert "no message could be fetched for 190 s" in contact.hangs()
    contact.heard(pull)
    assert contact.hangs() == ""
    for _ in range(20):  # hours of training
        now[0] += 50
        contact.working()
        contact.heard(beat)
        assert contact.hangs() == ""
    now[0] += 500  # nobody answers: the network is gone, and a new connection would not help
    assert contact.hangs() == ""


def test_a_heart_that_stopped_is_noticed(tmp_path: Path) -> None:
    now = [0.0]
    contact = Contact(tmp_path / "contact.json", clock=lambda: now[0])
    contact.heard(Answer("activate-node", 200))
    for _ in range(10):
        now[0] += 10
        contact.heard(Answer("pull-messages", 200))
    assert "no heartbeat for 100 s" in contact.hangs()
