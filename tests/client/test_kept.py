"""Answers that spent privacy are given again as they were, and only to the very same question."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from client.kept import Kept
from client.policy import Refusal
from client.wanted import TooLate
from sarco_models.messages import Masking, Train, Trained
from sarco_models.parameters import Manifest, Parameters
from sarco_models.wire import to_bytes

PARAMETERS = Parameters(Manifest(("w",), ((3,),)), np.array([1.0, -2.5, 1e-30], dtype=np.float32))
TRAINED = Trained("a", 1, 20, PARAMETERS, {"auc": 0.5})


def train(round_: int = 1, value: float = 0.0, masking: Masking | None = None) -> Train:
    down = Parameters(PARAMETERS.manifest, np.full(3, value, dtype=np.float32))
    return Train("study", "setup", round_, down, masking)


def test_the_same_question_gets_the_same_answer_to_the_last_bit_also_in_a_new_process(tmp_path: Path) -> None:
    Kept(tmp_path / "state", "people").put(train(), TRAINED)
    found = Kept(tmp_path / "state", "people").get(train(), Trained)
    assert found is not None
    assert found.parameters.vector.tobytes() == PARAMETERS.vector.tobytes()
    assert dict(found.metrics) == {"auc": 0.5}
    assert (found.site, found.round, found.participants) == ("a", 1, 20)


@pytest.mark.parametrize("other", [train(round_=2), train(value=1.0)])
def test_another_round_or_model_is_another_question(tmp_path: Path, other: Train) -> None:
    Kept(tmp_path, "people").put(train(), TRAINED)
    assert Kept(tmp_path, "people").get(other, Trained) is None


def test_other_people_have_another_answer(tmp_path: Path) -> None:
    Kept(tmp_path, "people").put(train(), TRAINED)
    assert Kept(tmp_path, "others").get(train(), Trained) is None


def test_other_masks_hide_the_same_update(tmp_path: Path) -> None:
    Kept(tmp_path, "people").put(train(masking=Masking(1, 60, "[]")), TRAINED)
    assert Kept(tmp_path, "people").get(train(masking=Masking(2, 40, "[]")), Trained) is not None


def test_a_damaged_file_is_not_taken_for_an_answer(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "people")
    kept.put(train(), TRAINED)
    (path,) = tmp_path.glob("kept-*.bin")
    path.write_bytes(path.read_bytes()[:-7])
    assert kept.get(train(), Trained) is None


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a disk on which no more has room."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


def test_room_is_taken_before_anything_is_paid_and_what_is_not_used_is_given_back(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "people")
    with kept.room(train(), 50_000, 30_000) as make_room:
        (partial,) = tmp_path.iterdir()
        assert (partial.stat().st_size, partial.stat().st_blocks * 512 >= 80_000) == (80_000, True)
        make_room()
        assert (partial.stat().st_size, partial.stat().st_blocks * 512 < 80_000) == (50_000, True)
        kept.put(train(), TRAINED)
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size == len(to_bytes(TRAINED))
    assert kept.get(train(), Trained) is not None
    with pytest.raises(TooLate), kept.room(train(2)):
        raise TooLate
    assert list(tmp_path.iterdir()) == [path]


def test_without_room_nothing_is_paid_and_nothing_is_left(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "people")
    with files_of_at_most(10_000):
        with pytest.raises(Refusal, match=r"no room for an answer of 1\.1 MB; nothing was charged"):
            kept.room(train(), 50_000).__enter__()
        kept.put(train(), TRAINED)
        with files_of_at_most(100), pytest.raises(OSError, match="File too large"):
            kept.put(train(2), TRAINED)
    assert [path.suffix for path in tmp_path.iterdir()] == [".bin"]


def test_updates_of_the_last_rounds_only_are_kept(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "people")
    for round_ in range(1, 7):
        kept.put(train(round_), TRAINED)
    assert [kept.get(train(round_), Trained) is not None for round_ in range(1, 7)] == [False] * 3 + [True] * 3
