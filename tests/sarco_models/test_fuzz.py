"""Whatever a hospital's disk has made of a file, a reader opens it or says what is wrong: no crash, no hang, no flood.

Two thousand mutants with fixed seeds; ``benchmarks/fuzz_readers.py`` runs more of them with other seeds.
"""

import os
import time
from pathlib import Path

import pytest

from tests.fuzzing import (
    MAX_BYTES,
    MAX_SECONDS,
    Read,
    Sample,
    crossing_bombs,
    image_bombs,
    image_samples,
    labelme_bombs,
    mask_bombs,
    mask_samples,
    mutants,
    read_any_drawn,
    read_any_image,
    read_any_mask,
    tried,
    watched,
)

READERS = {
    "images": (read_any_image, image_samples, image_bombs),
    "masks": (read_any_mask, mask_samples, mask_bombs),
    "drawn": (read_any_drawn, mask_samples, mask_bombs),
}
REFUSED = {"images": ["jpeglossless.dcm"], "masks": [], "drawn": ["circle.json"]}
"""Bars of colour: who knows where they end? And a line is no muscle, where a study asks for muscles."""
SEED = 20261


@pytest.mark.parametrize("kind", READERS)
def test_every_sample_opens(tmp_path: Path, kind: str) -> None:
    """A mutant of a file that never opened would show nothing."""
    read, samples, _ = READERS[kind]
    refused = [s.name for s in samples() if tried(read, s, tmp_path)]
    assert refused == REFUSED[kind]


@pytest.mark.parametrize("kind", READERS)
def test_some_mutants_are_opened_or_refused(tmp_path: Path, kind: str) -> None:
    read, samples, _ = READERS[kind]
    verdicts = [tried(read, mutant, tmp_path) for mutant in mutants(samples(), 60, SEED)]
    assert any(verdicts)
    assert not all(verdicts)


@pytest.mark.parametrize("read", [read_any_mask, read_any_drawn])
def test_outlines_that_would_take_hours_are_refused(tmp_path: Path, read: Read) -> None:
    start = time.process_time()
    rules = {bomb.name: tried(read, bomb, tmp_path) for bomb in labelme_bombs()}
    assert time.process_time() - start < MAX_SECONDS
    assert set(rules.values()) == {"labelme", "mask-file", "not-a-mask"}


def test_crossings_that_would_take_hours_to_count_are_refused(tmp_path: Path) -> None:
    start = time.process_time()
    assert {tried(read_any_drawn, bomb, tmp_path) for bomb in crossing_bombs()} == {"crossed-outline"}
    assert time.process_time() - start < 2 * MAX_SECONDS


def test_equal_seeds_make_equal_mutants() -> None:
    samples = [Sample("a.png", bytes(range(256)) * 9)]
    assert list(mutants(samples, 20, 1)) == list(mutants(samples, 20, 1))
    assert list(mutants(samples, 20, 1)) != list(mutants(samples, 20, 2))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("images", 1300), ("masks", 700), ("drawn", 700)])
def test_two_thousand_mutants_and_bombs_crash_nothing(kind: str, count: int) -> None:
    read, samples, bombs = READERS[kind]
    outcome = watched(read, [*mutants(samples(), count, SEED), *bombs()])
    assert outcome.faults == []
    assert outcome.opened + sum(outcome.refused.values()) >= count
    assert outcome.seconds < MAX_SECONDS
    assert outcome.peak_bytes < MAX_BYTES
    assert outcome.opened > count // 20
    assert len(outcome.refused) > 5


def crashes(path: Path) -> object:
    return os._exit(1) if path.read_bytes() == b"crash" else None


def hangs(path: Path) -> object:
    return time.sleep(60) if path.read_bytes() == b"hang" else None


def floods(path: Path) -> object:
    return bytearray(b"x") * (MAX_BYTES + 2**28) if path.read_bytes() == b"flood" else None


def raises(path: Path) -> object:
    if path.read_bytes() == b"raise":
        raise ValueError("not one of ours")
    return None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("read", "content", "fault"),
    [(crashes, b"crash", "crashes"), (hangs, b"hang", "hangs"), (floods, b"flood", "MiB"), (raises, b"raise", "Value")],
)
def test_the_watch_sees_what_must_not_happen_and_goes_on(read: Read, content: bytes, fault: str) -> None:
    outcome = watched(read, [Sample("good", b""), Sample("bad", content), Sample("good", b"")], patience=10)
    assert len(outcome.faults) == 1
    assert outcome.faults[0].startswith("bad")
    assert fault in outcome.faults[0]
    assert outcome.opened >= 2
