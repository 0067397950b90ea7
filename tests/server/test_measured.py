"""What hospitals told is added up exactly, and what no people could have told is refused in words."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from sarco_models.agreement import PairSums
from sarco_models.wire import Measured
from server.measured import agreed, measured_fault, read_measured, write_measured
from server.members import Member
from tests.muscle_sites import muscle_study

MEMBER = Member("north", participants=30, training=10, training_positive=0, images=40, digest="")


def sums(people: int = 6, seed: int = 1) -> PairSums:
    rng = np.random.default_rng(seed)
    drawn = rng.normal(20, 3, people)
    return PairSums.of(drawn + rng.normal(0.3, 0.5, people), drawn)


def told_of(found: PairSums, stem: str = "biceps.thickness_mm") -> dict[str, float]:
    return {f"{stem}.{part}": float(value) for part, value in asdict(found).items()}


def test_agreement_of_a_federation_is_that_of_its_people_in_one_place() -> None:
    north, south = sums(6, 1), sums(9, 2)
    (found,) = agreed({"north": told_of(north), "south": told_of(south), "west": {}}, ["biceps", "triceps"])
    assert (found.muscle, found.size, found.participants, found.sites) == (
        "biceps",
        "thickness_mm",
        15,
        ("north", "south"),
    )
    assert found.icc == (north + south).icc()
    assert (found.bias, found.lower, found.upper) == (north + south).limits()
    assert found.bias.low < 0.3 < found.bias.high


def test_nobody_who_differs_has_no_icc() -> None:
    alike = PairSums.of([5.0] * 4, [5.0] * 4)
    (found,) = agreed({"north": told_of(alike)}, ["biceps"])
    assert found.icc is None
    assert found.bias.value == 0


def test_what_was_told_is_read_again(tmp_path: Path) -> None:
    assert read_measured(tmp_path) == {}
    write_measured(tmp_path, {"north": Measured("north", 6, told_of(sums()))})
    assert read_measured(tmp_path)["north"] == {"participants": 6, **told_of(sums())}


@pytest.mark.parametrize(
    "change",
    [
        {"n": 2},
        {"n": 7},
        {"a": -1.0},
        {"a": float("nan")},
        {"aa": 1.0},
        {"bb": 0.5},
        {"ab": 1e9},
        {"a": 1e5, "aa": 1e12},
    ],
)
def test_sums_that_no_people_have_are_refused(change: dict[str, float]) -> None:
    study = muscle_study()
    assert measured_fault(Measured("north", 6, told_of(sums())), MEMBER, study) == ""
    tampered = replace(sums(), **change)  # type: ignore[arg-type]
    assert "none are possible" in measured_fault(Measured("north", 6, told_of(tampered)), MEMBER, study)


def test_sums_come_whole_or_not_at_all_and_of_known_sizes() -> None:
    study, metrics = muscle_study(), told_of(sums())
    del metrics["biceps.thickness_mm.bb"]
    assert "without one of" in measured_fault(Measured("north", 6, metrics), MEMBER, study)
    echo = told_of(sums(), "biceps.echo_intensity")
    assert "none of the study's" in measured_fault(Measured("north", 6, echo), MEMBER, study)
