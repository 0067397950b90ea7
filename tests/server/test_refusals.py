"""Whom the gate turned away: in words, counted, bounded, and never half written."""

import json
import threading
from pathlib import Path

import pytest

from server.refusals import MOST_LINES, REASONS, Refusals, read_refusals
from tests.server.gate_rig import make_home


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_happens_again_is_counted_on_its_line(tmp_path: Path, clock: Clock) -> None:
    home = make_home(tmp_path)
    refusals = Refusals(home.refusals, clock)
    assert refusals.add("192.0.2.7", "clock", site="hospital_a", detail="10 s ahead")
    clock.now += 3
    assert not refusals.add("192.0.2.7", "clock", site="hospital_a", detail="11 s ahead")
    assert refusals.add("192.0.2.7", "clock", site="hospital_b")
    refusals.flush()
    first, second = read_refusals(home)
    assert (first.site, first.count, first.time[-14:], first.last[-14:]) == (
        "hospital_a",
        2,
        "08:00:00+00:00",
        "08:00:03+00:00",
    )
    assert first.reason == "its clock is wrong: 11 s ahead"
    assert (second.site, second.count) == ("hospital_b", 1)


def test_an_hour_later_it_is_news_again(tmp_path: Path, clock: Clock) -> None:
    refusals = Refusals(tmp_path / "refusals.jsonl", clock)
    refusals.add("a", "revoked", site="s")
    clock.now += 3601
    assert refusals.add("a", "revoked", site="s")


def test_the_list_goes_on_after_a_restart(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "refusals.jsonl"
    before = Refusals(path, clock)
    before.add("a", "revoked", site="s")
    before.flush()
    after = Refusals(path, clock)
    assert not after.add("a", "revoked", site="s")
    after.flush()
    [line] = [json.loads(text) for text in path.read_text().splitlines()]
    assert line["count"] == 2


def test_strangers_push_strangers_off_the_list_and_no_hospital(tmp_path: Path, clock: Clock) -> None:
    home = make_home(tmp_path)
    refusals = Refusals(home.refusals, clock)
    refusals.add("192.0.2.7", "clock", site="hospital_a")
    for k in range(MOST_LINES + 50):
        clock.now += 1
        refusals.add(f"198.51.100.{k}", "route", detail="GET /")
    refusals.flush()
    lines = read_refusals(home, MOST_LINES)
    assert len(lines) == len(home.refusals.read_text().splitlines()) == MOST_LINES
    assert lines[0].site == "hospital_a"
    assert lines[-1].address == f"198.51.100.{MOST_LINES + 49}"


def test_what_a_stranger_writes_cannot_command_a_terminal(tmp_path: Path, clock: Clock) -> None:
    home = make_home(tmp_path)
    refusals = Refusals(home.refusals, clock)
    refusals.add("a", "route", detail="GET /\x1b[2J\n\u202e" + "x" * 10_000)
    refusals.flush()
    [line] = read_refusals(home)
    assert line.reason.startswith("asked for what is not served outside: GET /?[2J??xxx")
    assert len(line.reason) < 250
    assert str(line).isprintable()


def test_a_line_says_who_why_how_often_and_what_to_do(tmp_path: Path, clock: Clock) -> None:
    home = make_home(tmp_path)
    refusals = Refusals(home.refusals, clock)
    for _ in range(3):
        refusals.add("192.0.2.7", "revoked", site="hospital_a", detail="on 2026-11-20")
    refusals.flush()
    assert str(read_refusals(home)[0]) == (
        "hospital_a (192.0.2.7): was revoked: on 2026-11-20 (3 times, last 2027-01-15T08:00:00+00:00): "
        f"{REASONS['revoked'][1]}"
    )


def test_the_newest_come_last_and_only_so_many(tmp_path: Path, clock: Clock) -> None:
    home = make_home(tmp_path)
    refusals = Refusals(home.refusals, clock)
    for name in ("a", "b", "c", "a"):
        clock.now += 60
        refusals.add(name, "route")
    refusals.flush()
    assert [line.address for line in read_refusals(home)] == ["b", "c", "a"]
    assert [line.address for line in read_refusals(home, 1)] == ["a"]
    assert read_refusals(home, 0) == ()


def test_no_file_and_damaged_lines_are_no_reason_to_stop(tmp_path: Path, clock: Clock) -> None:
    home = make_home(tmp_path)
    assert read_refusals(home) == ()
    refusals = Refusals(home.refusals, clock)
    refusals.add("a", "route")
    refusals.flush()
    home.refusals.write_text('{"half\n[]\n{"a": 1}\n' + home.refusals.read_text())
    assert [line.address for line in read_refusals(home)] == ["a"]
    home.refusals.write_bytes(b"\xff\xfe")
    assert read_refusals(home) == ()


def test_it_is_written_once_a_second_at_most_and_for_the_owner_alone(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "refusals.jsonl"
    refusals = Refusals(path, clock)
    refusals.add("a", "route")
    refusals.flush(now=False)
    refusals.add("b", "route")
    refusals.flush(now=False)
    assert len(path.read_text().splitlines()) == 1
    refusals.flush()
    assert len(path.read_text().splitlines()) == 2
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_written_is_written_later(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "home"
    folder.write_text("in the way")
    refusals = Refusals(tmp_path / "refusals.jsonl", clock)
    refusals._path = folder / "refusals.jsonl"
    refusals.add("a", "route")
    with pytest.raises(OSError, match=r"File exists|Not a directory"):
        refusals.flush()
    folder.unlink()
    refusals.flush()
    assert len((folder / "refusals.jsonl").read_text().splitlines()) == 1


def test_many_threads_lose_nothing(tmp_path: Path, clock: Clock) -> None:
    refusals = Refusals(tmp_path / "refusals.jsonl", clock)

    def knock() -> None:
        for _ in range(50):
            refusals.add("a", "route")
            refusals.flush(now=False)

    threads = [threading.Thread(target=knock) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refusals.flush()
    assert json.loads((tmp_path / "refusals.jsonl").read_text())["count"] == 200


@pytest.mark.parametrize("code", REASONS)
def test_every_reason_says_what_to_do(code: str) -> None:
    reason, fix = REASONS[code]
    assert reason
    assert len(fix) > 10
    assert not (reason + fix).endswith(".")
