"""Answers that spent privacy are given again as they were, and only to the very same question."""

from pathlib import Path

import numpy as np
import pytest

from client.kept import Kept
from sarco_models.messages import Masking, Train, Trained
from sarco_models.parameters import Manifest, Parameters

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


def test_updates_of_the_last_rounds_only_are_kept(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "people")
    for round_ in range(1, 7):
        kept.put(train(round_), TRAINED)
    assert [kept.get(train(round_), Trained) is not None for round_ in range(1, 7)] == [False] * 3 + [True] * 3
