"""A chained log: every change of any line is found and the line is named; crashes lose nothing unnoticed."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sarco_models.chain import Chain, check_heads, read
from sarco_models.errors import ChainBroken

LINES = 6


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Six lines."""
    chain = Chain(tmp_path / "log.jsonl")
    for k in range(LINES):
        chain.append("request", {"study": "s" * 8, "round": k})
    return chain.path


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def forged(line: bytes, **changes: object) -> bytes:
    """A line with changes and a hash that fits them: anybody can compute a hash."""
    import hashlib

    content = {**json.loads(line), **changes}
    del content["hash"]
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    content["hash"] = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def test_every_line_follows_from_the_one_before(log: Path) -> None:
    entries = read(log)
    assert [e.n for e in entries] == list(range(1, LINES + 1))
    assert [e.facts["round"] for e in entries] == list(range(LINES))
    assert Chain(log).head == entries[-1].head == f"{LINES}:{entries[-1].hash}"
    assert Chain(log.with_name("none.jsonl")).head == ""


ATTACKS: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "edited": (lambda ls: [*ls[:2], ls[2].replace(b'"round":2', b'"round":9'), *ls[3:]], "line 3: was edited"),
    "edited, with a hash that fits": (
        lambda ls: [*ls[:2], forged(ls[2], round=9), *ls[3:]],
        "line 4: does not follow from the line before it",
    ),
    "a space more": (lambda ls: [*ls[:2], ls[2].replace(b":", b": ", 1), *ls[3:]], "line 3: was edited"),
    "a fact twice": (
        lambda ls: [*ls[:2], ls[2].replace(b'"round":2', b'"round":7,"round":2'), *ls[3:]],
        "line 3: was edited",
    ),
    "dropped": (lambda ls: [*ls[:2], *ls[3:]], "line 3: is entry 4 where 3 was expected: a line was dropped"),
    "the first dropped": (lambda ls: ls[1:], "line 1: is entry 2 where 1 was expected"),
    "reordered": (lambda ls: [*ls[:2], ls[3], ls[2], *ls[4:]], "line 3: is entry 4 where 3 was expected"),
    "copied": (lambda ls: [*ls[:3], ls[2], *ls[3:]], "line 4: is entry 3 where 4 was expected: a line was copied"),
    "inserted": (
        lambda ls: [*ls[:3], forged(ls[3], round=9), *ls[3:]],
        "line 5: is entry 4 where 5 was expected",
    ),
    "numbered anew": (
        lambda ls: [*ls[:2], forged(ls[3], n=3), *ls[4:]],
        "line 3: does not follow from the line before it",
    ),
    "made unreadable": (lambda ls: [*ls[:2], b"}" + ls[2][1:], *ls[3:]], "line 4: is entry 4 where 3 was expected"),
    "unreadable line inserted": (lambda ls: [*ls[:2], b"nothing\n", *ls[2:]], "line 4: the line before it cannot be"),
    "empty line inserted": (lambda ls: [*ls[:2], b"\n", *ls[2:]], "line 4: the line before it cannot be read"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_changed_line_is_found_and_named(log: Path, attack: str) -> None:
    change, words = ATTACKS[attack]
    log.write_bytes(b"".join(change(lines(log))))
    with pytest.raises(ChainBroken, match=re.escape(words)):
        read(log)
    with pytest.raises(ChainBroken, match=re.escape(words)):
        Chain(log)


def test_every_single_changed_byte_is_found(log: Path) -> None:
    """Of a change in the last line only the head knows: then it may be what a crash has left."""
    whole, heads = log.read_bytes(), [e.head for e in read(log)]
    for position in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[position] ^= 1
        log.write_bytes(bytes(changed))
        with pytest.raises(ChainBroken):
            check_heads(log, read(log), heads)


@pytest.mark.parametrize("kept", range(LINES))
def test_a_cut_is_found_by_who_has_kept_a_later_head(log: Path, kept: int) -> None:
    heads = [e.head for e in read(log)]
    log.write_bytes(b"".join(lines(log)[:kept]))
    assert len(read(log)) == kept  # of itself the log is in order
    with pytest.raises(ChainBroken, match=f"ends with entry {kept}, and entry {LINES} was seen elsewhere"):
        check_heads(log, read(log), heads[-1:])


def test_a_log_written_anew_from_some_line_on_is_found_by_who_has_kept_a_head(log: Path) -> None:
    heads = [e.head for e in read(log)]
    log.write_bytes(b"".join(lines(log)[:3]))
    chain = Chain(log)
    for _ in range(LINES):
        chain.append("request", {"study": "other"})
    check_heads(log, read(log), heads[:3])
    with pytest.raises(ChainBroken, match=r"the hash of entry 4 is .* one of the two was rewritten"):
        check_heads(log, read(log), heads)
    with pytest.raises(ChainBroken, match="entry 0 is absent"):
        check_heads(log, read(log), ["nonsense"])


def test_a_log_that_is_cut_or_removed_while_it_is_in_use_takes_no_further_line(log: Path) -> None:
    chain = Chain(log)
    log.write_bytes(b"".join(lines(log)[:3]))
    with pytest.raises(ChainBroken, match=r"was cut from \d+ to \d+ bytes while it was in use"):
        chain.append("request", {})
    log.unlink()
    with pytest.raises(ChainBroken, match="to 0 bytes"):
        chain.append("request", {})


@pytest.mark.parametrize("value", [0.5, None, [0.1], {"auc": "0.8"}, b"x", [1]])
def test_a_measured_value_cannot_be_written(log: Path, value: object) -> None:
    with pytest.raises(TypeError, match="no measured values"):
        Chain(log).append("reply", {"auc": value})  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        Chain(log).append("reply", {"prev": "0"})
    assert len(lines(log)) == LINES


# ---- crashes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 40, -1])
def test_a_line_that_a_crash_has_torn_is_told_and_not_dropped(log: Path, length: int) -> None:
    """Torn at the beginning, in the middle, and at its last bytes."""
    *whole, last = lines(log)
    torn = last[:-1][:length]
    log.write_bytes(b"".join(whole) + torn)
    assert len(read(log)) == LINES - 1
    chain = Chain(log)
    chain.append("request", {"round": 7})
    entries = read(log)
    assert [e.kind for e in entries] == ["request"] * (LINES - 1) + ["torn", "request"]
    assert entries[-2].facts["bytes"] == len(torn)
    assert torn in log.read_bytes()
    Chain(log).append("request", {"round": 8})
    read(log)


def test_a_line_that_lacks_nothing_but_its_end_is_whole(log: Path) -> None:
    log.write_bytes(log.read_bytes()[:-1])
    first, second = Chain(log), Chain(log)
    first.append("request", {"round": 7})
    second.append("request", {"round": 8})
    assert [e.facts["round"] for e in read(log)] == [0, 1, 2, 3, 4, 5, 7, 8]


def test_a_crash_while_a_torn_line_is_told_loses_nothing(log: Path) -> None:
    whole = log.read_bytes()
    log.write_bytes(whole + b'{"n":7,"ti')
    Chain(log).append("request", {"round": 7})
    mended = log.read_bytes()
    for cut in range(len(whole) + 1, len(mended)):
        log.write_bytes(mended[:cut])
        Chain(log).append("request", {"round": 8})
        entries = read(log)
        assert entries[-1].facts["round"] == 8
        assert b'{"n":7,"ti' in log.read_bytes() or cut < len(whole) + 10


def test_what_a_crash_has_torn_cannot_be_changed_afterwards(log: Path) -> None:
    log.write_bytes(log.read_bytes() + b'{"n":7,"ti')
    Chain(log).append("request", {"round": 7})
    log.write_bytes(log.read_bytes().replace(b'{"n":7,"ti\n', b'{"n":7,"xx\n'))
    with pytest.raises(ChainBroken, match="no crash was recorded"):
        read(log)


def test_a_full_disk_takes_no_line_and_the_next_one_tells(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain, write = Chain(log), os.write
    room = [30]

    def nearly_full(file: int, content: bytes) -> int:
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, bytes(content)[: room.pop()])

    monkeypatch.setattr(os, "write", nearly_full)
    with pytest.raises(OSError, match="No space left"):
        chain.append("request", {})
    monkeypatch.undo()
    chain.append("request", {"round": 7})
    assert [e.kind for e in read(log)][-2:] == ["torn", "request"]


def test_a_process_that_is_killed_while_it_writes_leaves_a_log_that_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    words = f"from sarco_models.chain import Chain; from pathlib import Path\nc = Chain(Path({str(path)!r}))\n"
    writer = words + "while True: c.append('request', {'study': 'x' * 4000}, durable=False)"
    for pause in (0.02, 0.05):
        process = subprocess.Popen([sys.executable, "-c", writer])  # noqa: S603  our own words
        before = path.stat().st_size if path.exists() else 0
        while not path.exists() or path.stat().st_size == before:
            time.sleep(0.01)
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.wait()
        seen = len(read(path))
        chain = Chain(path)
        chain.append("request", {"round": 1})
        assert len(read(path)) in (seen + 1, seen + 2)


def test_processes_that_write_at_once_make_one_chain(tmp_path: Path) -> None:
    path, go, count = tmp_path / "log.jsonl", tmp_path / "go", 150
    words = f"from sarco_models.chain import Chain; from pathlib import Path\nc = Chain(Path({str(path)!r}))\n"
    words += f"Path({str(tmp_path)!r}, sys.argv[1]).touch()\nwhile not Path({str(go)!r}).exists(): pass\n"
    writer = f"import sys; {words}for k in range({count}): c.append('request', {{'round': k}}, durable=False)"
    processes = [subprocess.Popen([sys.executable, "-c", writer, f"ready{k}"]) for k in range(3)]  # noqa: S603  ours
    while len(list(tmp_path.glob("ready*"))) < len(processes):
        time.sleep(0.01)
    go.touch()
    assert [p.wait() for p in processes] == [0, 0, 0]
    entries = read(path)
    assert sorted(e.facts["round"] for e in entries) == sorted([*range(count)] * 3)


def test_the_file_is_for_its_owner_only(log: Path) -> None:
    assert log.stat().st_mode & 0o777 == 0o600
