"""A federated run whose hospitals make their machines alike: it ends, scores the same people, and sends nothing new."""

import csv
from pathlib import Path
from typing import Any

import pytest

from sarco_models import wire
from sarco_models.cohort import everyone, open_cohort
from sarco_models.errors import ConfigError
from simulation.arms import Arm, SiteFolder
from simulation.harness import run_arm
from tests.sites import image_site, image_study

ALIKE: dict[str, Any] = {"intensity": {"standardize": "device"}}
WITHOUT_SHARE: dict[str, Any] = {**ALIKE, "split": {"calibration": 0.0}}
RULE = "invented2026"


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hospitals of 15 people, and 18 people who are scored only."""
    folder = tmp_path_factory.mktemp("hospitals")
    for seed, (name, n) in enumerate({"alpha": 15, "beta": 15, "central": 18}.items()):
        image_site(folder / name, n, seed)
    return folder


def arm_of(hospitals: Path, folder: Path, name: str = "federated", **changes: Any) -> Arm:
    federation = {"rounds": 1, "min_participants": 2, "min_sites": 1}
    study = image_study(**{"federation": federation, "split": {"calibration": 0.2}, **changes})
    sites = tuple(SiteFolder(site, hospitals / site, RULE) for site in ("alpha", "beta"))
    return Arm(name, study, sites, hospitals / "central", hospitals / "cache", folder, external=True)


def scored(arm: Arm) -> dict[str, dict[str, float]]:
    """Site -> participant -> probability."""
    run_arm(arm)
    found: dict[str, dict[str, float]] = {}
    with (arm.folder / "scores.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["site"], {})[row["participant_id"]] = float(row["probability"])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["federated", "without:beta", "pooled"])
def test_a_federated_run_with_and_without_scores_the_same_people_differently(
    hospitals: Path, tmp_path: Path, name: str
) -> None:
    plain = scored(arm_of(hospitals, tmp_path / "plain", name))
    alike = scored(arm_of(hospitals, tmp_path / "alike", name, **ALIKE))
    assert {site: list(people) for site, people in plain.items()} == {s: list(people) for s, people in alike.items()}
    assert all(plain[site] != alike[site] for site in plain)
    assert len(alike["central"]) == 18 - round(0.2 * 18)
    if name == "without:beta":
        assert len(alike["beta"]) == 15 - round(0.2 * 15)


@pytest.mark.slow
def test_the_calibration_people_of_the_central_cohort_are_nowhere_in_the_scores(
    hospitals: Path, tmp_path: Path
) -> None:
    arm = arm_of(hospitals, tmp_path / "run", **ALIKE)
    cohort = open_cohort(hospitals / "central", arm.study, arm.cache)
    declared = set(cohort.ids) - set(everyone(cohort).ids)
    assert len(declared) == 4
    assert not declared & set(scored(arm)["central"])


@pytest.mark.slow
def test_messages_hold_what_they_held_without(hospitals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every record of every message has the same entries: no table of grey levels travels."""
    sent: list[list[str]] = []
    encode = wire.encode

    def spy(message: Any) -> Any:
        content = encode(message)
        entries = [f"{name}: {sorted(record)}" for name, record in content.items()]
        sent[-1] += [type(message).__name__, *entries]
        return content

    monkeypatch.setattr(wire, "encode", spy)
    for name, changes in {"plain": {}, "alike": ALIKE}.items():
        sent.append([])
        run_arm(arm_of(hospitals, tmp_path / name, **changes))
    assert sent[0] == sent[1]
    assert {"Described", "Trained", "Evaluated"} <= set(sent[0])


def test_a_cohort_that_is_only_scored_needs_a_calibration_share(hospitals: Path, tmp_path: Path) -> None:
    arm = arm_of(hospitals, tmp_path / "run", **WITHOUT_SHARE)
    with pytest.raises(ConfigError, match=r"write split\.calibration = 0\.2, or standardize = 'none'"):
        arm.held_out()
