"""An experiment that cannot end well does not begin: every fault has its field, its value and the way out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sarco_models.config import StudyConfig
from sarco_models.errors import ConfigError
from simulation.admission import check_experiment
from simulation.experiments import Experiment
from tests.sites import image_study, tables_site, tables_study

Refused = Callable[..., list[str]]


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    """The faults of an experiment on two folders, with changes; none, when it is admitted."""
    folders = {name: tables_site(tmp_path / name, n=4, seed=k) for k, name in enumerate(("east", "west", "central"))}

    def faults(study: StudyConfig | None = None, **changes: Any) -> list[str]:
        sound = {"sites": ("east", "west"), "folders": folders, "controls": {}, "seeds": (1, 2)}
        if "folders" in changes:
            changes["folders"] = {**folders, **changes["folders"]}
        try:
            check_experiment(Path("x.toml"), [study or tables_study()], **(sound | changes))  # type: ignore[arg-type]
        except ConfigError as error:
            return str(error).splitlines()
        return []

    return faults


def only(faults: list[str], *words: str) -> None:
    """One fault, with these words."""
    (line,) = faults
    assert line.startswith("x.toml: ")
    assert not [w for w in words if w not in line], line


def test_a_sound_experiment_is_admitted(refused: Refused) -> None:
    kinds = ("prevalence", "feature:age_years", "feature:smoking", "logistic:lab")
    assert not refused(controls={kind.replace(":", "_"): kind for kind in kinds})
    assert not refused(sites=("a", "b", "c"), folders={})


def test_a_seed_is_listed_once(refused: Refused) -> None:
    only(refused(seeds=(1, 2, 1, 1)), "seeds: 1 is listed twice", "remove one")


def test_a_folder_that_is_not_there_is_named_with_its_site(refused: Refused, tmp_path: Path) -> None:
    only(refused(folders={"west": tmp_path / "wset"}), "sites.west = '", "wset': there is no such folder")
    only(refused(folders={"central": tmp_path / "none"}), "central = '", "there is no such folder")


def test_nobody_is_tested_who_was_trained_on(refused: Refused, tmp_path: Path) -> None:
    """The same folder under another spelling is the same folder."""
    same = tmp_path / "west" / ".." / "east"
    only(refused(folders={"central": same}), "central = '", "is sites.east as well", "people whom no site holds")
    only(refused(folders={"west": same}), "sites.west = '", "is sites.east as well", "remove one")


def test_a_folder_holds_the_tables_that_the_study_reads(refused: Refused, tmp_path: Path) -> None:
    faults = refused(image_study())
    assert len(faults) == 3
    assert all("holds no images.csv: let `sarco-site ingest` write it" in fault for fault in faults)
    (tmp_path / "east" / "participants.csv").unlink()
    only(refused(), "sites.east", "holds no participants.csv")


@pytest.mark.parametrize("name", ["central", "pooled", "all"])
def test_a_hospital_is_not_called_as_results_call_others(refused: Refused, name: str) -> None:
    only(refused(sites=("east", name)), f"sites.{name}", "give the hospital another")


def test_more_sites_than_there_are_cannot_answer(refused: Refused) -> None:
    few = tables_study(federation={"min_sites": 3})
    only(refused(few), "federation.min_sites = 3, and there are 2 sites", "[overrides.federation]")
    assert not refused(tables_study(federation={"min_sites": 2}))
    assert not refused(few, together=False)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("feature:age_year", "the study has no feature age_year; did you mean feature:age_years?"),
        ("feature:zinc", "known here: age_years, male, smoking, weight_kg"),
        ("feature:", "the study has no feature"),
        ("logistic:blood", "the study has no group of features blood; known here: clinical, lab"),
        ("logistic:clinicl", "did you mean logistic:clinical?"),
        ("prevalance", "no such control: write prevalence, image_count, feature:NAME or logistic:GROUP"),
        ("image_count", "the study looks at no images: remove it"),
    ],
)
def test_a_control_looks_at_what_the_study_has(refused: Refused, kind: str, words: str) -> None:
    only(refused(controls={"mine": kind}), f"controls.mine = '{kind}': ", words)


def test_every_fault_is_told_at_once(refused: Refused, tmp_path: Path) -> None:
    faults = refused(seeds=(1, 1), controls={"a": "x", "b": "y"}, folders={"west": tmp_path / "gone"})
    assert len(faults) == 4


# ---- from the file ---------------------------------------------------------------------------------------------------

EXPERIMENT = """
name = "two"
title = "Two hospitals"
study = "study.json"
seeds = [1]
central = "central"
[sites]
east = "east"
west = "west"
[controls]
age = "feature:age_years"
[variants.prox]
title = "FedProx"
overrides.federation = {strategy = "fedprox", proximal_mu = 0.01}
"""
FAULTS = {
    "unknown key in a variant": (
        '{strategy = "',
        '{strategi = "',
        "variants.prox: .*strategi: unknown key; .*strategy",
    ),
    "a value that a variant cannot have": ('"fedprox"', '"fedavg"', "variants.prox: .*proximal_mu = 0.01 needs"),
    "an unknown key of a variant": ('title = "FedProx"', "titel = 1", "variants.prox.titel: .*did you mean title"),
    "a table that a variant's fusion lacks": (
        "overrides.federation",
        'overrides.model = {modalities = ["clinical", "ct"]}\noverrides.federation',
        "variants.prox: .*modality ct is not one of: image, clinical, lab",
    ),
    "another control": (
        "feature:age_years",
        "feature:years",
        "controls.age = 'feature:years': .*no feature",
    ),
    "a site that is not there": ('west = "west"', 'west = "wset"', "sites.west = .*there is no such folder"),
    "a central cohort that is a site": ('central = "central"', 'central = "east"', "central = .*is sites.east as well"),
    "a seed twice": ("[1]", "[1, 1]", "seeds.*listed twice"),
    "arms of nothing": ("seeds", 'arms = ["global"]\nseeds', "arms.0 = 'global'.*'federated'"),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    for k, name in enumerate(("east", "west", "central")):
        tables_site(tmp_path / name, n=4, seed=k)
    (tmp_path / "study.json").write_text(tables_study().model_dump_json(), encoding="utf-8")
    (tmp_path / "two.toml").write_text(EXPERIMENT, encoding="utf-8")
    return tmp_path / "two.toml"


def test_the_file_is_sound(file: Path) -> None:
    """So that each fault below is the only one."""
    experiment = Experiment.load(file, file.parent / "out")
    assert experiment.studies["prox"].federation.strategy == "fedprox"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_when_the_file_is_read(file: Path, fault: str) -> None:
    old, new, words = FAULTS[fault]
    assert old in EXPERIMENT
    file.write_text(EXPERIMENT.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=words) as error:
        Experiment.load(file, file.parent / "out")
    assert "two.toml" in str(error.value)
    assert not (file.parent / "out").exists()
