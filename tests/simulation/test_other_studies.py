"""Nothing is hard-wired to sarcopenia, to three hospitals or to ultrasound beside tables: two quite different studies.

Each is a TOML file and site folders in the formats that hospitals have, and runs to its report without a line of code.
"""

import csv
import json
import re
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import simulation.cli
from sarco_models.config import StudyConfig, load_study
from server.report import write_report
from simulation.experiments import Experiment
from simulation.runner import run_experiment
from tests.sites import site_of

FALLS = """
name = "falls"
title = "Who falls within a year of leaving hospital"

[label]
column = "fell_within_year"
rule = "fall_diary"
words = "a fall within a year"
reference_columns = ["days_to_fall"]

[model]
modalities = ["person", "medicines"]
tabular = "per_group"
hidden_units = 8
modality_dropout = 0.0

[training]
local_epochs = 5
batch_participants = 8
learning_rate = 0.01

[federation]
rounds = 6
min_sites = 2
min_participants = 4

[[features]]
name = "age_years"
group = "person"
unit = "years"
low = 18
high = 110

[[features]]
name = "lives"
group = "person"
kind = "categorical"
categories = ["alone", "with_others", "care_home"]

[[features]]
name = "systolic_mmhg"
group = "person"
unit = "mmHg"
low = 60
high = 260

[[features]]
name = "sedative"
group = "medicines"
kind = "binary"

[[features]]
name = "medicines_each_day"
group = "medicines"
low = 0
high = 40
"""
KNEES = """
name = "knees"
title = "Knee osteoarthritis on radiographs"

[label]
column = "knee_osteoarthritis"
rule = "kellgren_lawrence_2"
allow_mixed_rules = true

[image]
words = "radiographs"
size = 32
window_mm = 12.0
margin_mm = 0.5

[augmentation]
cached_views = 2

[model]
modalities = ["image"]
backbone = "convnext_atto"
trainable = "last_stage"

[training]
batch_participants = 8
images_per_participant = 2

[federation]
rounds = 2
min_participants = 4
"""
EXPERIMENT = """
name = "other"
title = "TITLE"
study = "study.toml"
seeds = [3]
arms = ["federated", "pooled", "local"]
central = "central"
explain = ["federated"]
CONTROLS
[sites]
"""
FOUR, TWO = ("coast", "island", "north", "valley"), ("bergen", "porto")
CONTROLS = '[controls]\nprevalence = "prevalence"\nage = "feature:age_years"\nmedicines = "logistic:medicines"'
FOREIGN = ("sarcopenia", "thigh", "muscle", "shanghai", "sichuan", "zhongshan", "laboratory", "clinical", "rectus")
"""Words of the founders' own study that no page of another may hold."""


@dataclass(frozen=True)
class Ended:
    """An experiment that has run."""

    study: StudyConfig
    folder: Path
    said: str

    @property
    def results(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "results.json").read_text(encoding="utf-8"))
        return found

    @property
    def words(self) -> str:
        """The page without pictures, style and tags, in small letters."""
        page = (self.folder / "report.html").read_text(encoding="utf-8")
        page = re.sub(r"<style>.*?</style>|data:image/png;base64,[^\"]*", " ", page, flags=re.DOTALL)
        attributes = " ".join(re.findall(r'alt="([^"]*)"', page))
        return unescape(re.sub(r"<[^>]*>", " ", page) + attributes).replace("\N{SOFT HYPHEN}", "").lower()

    def value(self, arm: str, metric: str, site: str) -> list[float]:
        rows = self.results["rows"]
        wanted = {"arm": arm, "metric": metric, "site": site, "round": None}
        return [r["value"] for r in rows if wanted.items() <= r.items()]


def written(folder: Path, study: str, names: tuple[str, ...], controls: str = "") -> Path:
    """The study, its site folders and the experiment; the sites differ in size, and Porto in its label rule."""
    (folder / "study.toml").write_text(study, encoding="utf-8")
    config = load_study(folder / "study.toml")
    for k, name in enumerate((*names, "central")):
        place = folder / "data" / name if name != "central" else folder / name
        site_of(place, config, n=24 + 3 * k, seed=k, rule="radiologist" if name == "porto" else "")
    lines = "".join(f'{name} = "data/{name}"\n' for name in names)
    text = EXPERIMENT.replace("CONTROLS", controls).replace("TITLE", config.title) + lines
    (folder / "experiment.toml").write_text(text, encoding="utf-8")
    return folder / "experiment.toml"


@pytest.fixture(scope="module")
def falls(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """Four sites, tables only, by the functions that the commands call."""
    path = written(tmp_path_factory.mktemp("falls"), FALLS, FOUR, CONTROLS)
    experiment = Experiment.load(path, path.parent / "out")
    run_experiment(experiment, lambda status: None)
    write_report(experiment.out)
    return Ended(experiment.study, experiment.out, "")


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """Two sites, images only, by the command as a person types it."""
    path = written(tmp_path_factory.mktemp("knees"), KNEES, TWO)
    out = path.parent / "out"
    told = CliRunner().invoke(simulation.cli.app, ["run", str(path), "--out", str(out)])
    assert told.exit_code == 0, told.output
    return Ended(load_study(path.parent / "study.toml"), out, told.output)


@pytest.mark.slow
def test_four_sites_with_tables_only(falls: Ended) -> None:
    results, meta = falls.results, falls.results["meta"]
    trained = {"federated", "pooled", *(f"local:{name}" for name in FOUR)}
    controls = {f"control:{name}" for name in ("prevalence", "age", "medicines")}
    assert {row["arm"] for row in results["rows"]} == trained | controls
    assert set(meta["arms"]) == trained
    assert tuple(meta["sites"]) == FOUR
    assert meta["sites"]["north"]["participants"] == 30
    assert {facts["images"] for facts in meta["sites"].values()} == {0}
    assert {facts["label_rule"] for facts in meta["sites"].values()} == {"fall_diary"}
    for arm in trained:
        for site in (*FOUR, "central"):
            assert 0 <= falls.value(arm, "auc", site)[0] <= 1
    assert falls.value("federated", "auc", "central")[0] > 0.7  # the features tell the classes apart
    assert not list(falls.folder.glob("contact_*"))


@pytest.mark.slow
def test_two_sites_with_images_only(knees: Ended) -> None:
    results, meta = knees.results, knees.results["meta"]
    trained = {"federated", "pooled", "local:bergen", "local:porto"}
    assert {row["arm"] for row in results["rows"]} == trained
    assert meta["sites"]["bergen"]["images"] == 36
    assert {row["model"] for row in results["rows"]} == {"image"}
    for arm in trained:
        for site in (*TWO, "central"):
            assert 0 <= knees.value(arm, "auc", site)[0] <= 1
    assert {path.name for path in knees.folder.glob("contact_*")} == {"contact_bergen.png", "contact_porto.png"}


@pytest.mark.slow
def test_scores_are_of_the_people_in_the_folders(falls: Ended, knees: Ended) -> None:
    """Nobody twice, nobody trained on, and no arm scores other people than the others."""
    for ended, sites in ((falls, FOUR), (knees, TWO)):
        with (ended.folder / "scores.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        people = {arm: [(r["site"], r["participant_id"]) for r in rows if r["arm"] == arm] for arm in meta_arms(ended)}
        first = people["federated"]
        assert len(set(first)) == len(first)
        assert all(sorted(of_arm) == sorted(first) for of_arm in people.values())
        tested = {name: facts["test"] for name, facts in ended.results["meta"]["sites"].items()}
        assert {name: sum(site == name for site, _ in first) for name in sites} == tested


def meta_arms(ended: Ended) -> list[str]:
    return list(ended.results["meta"]["arms"])


@pytest.mark.slow
@pytest.mark.parametrize("word", FOREIGN)
def test_the_page_of_another_study_does_not_speak_of_the_first_one(falls: Ended, knees: Ended, word: str) -> None:
    for ended in (falls, knees):
        around = [ended.words[max(0, m.start() - 60) : m.end() + 40] for m in re.finditer(word, ended.words)]
        assert not around, around[0]


@pytest.mark.slow
def test_a_study_of_tables_says_nothing_of_images_that_it_has_not(falls: Ended) -> None:
    for word in ("ultrasound", "contact sheet", "image network"):
        assert word not in falls.words


@pytest.mark.slow
def test_radiographs_are_not_called_ultrasound(knees: Ended) -> None:
    assert "ultrasound" not in knees.words
    assert "ultrasound" not in knees.said


@pytest.mark.slow
def test_the_condition_is_called_as_the_study_calls_it(falls: Ended, knees: Ended) -> None:
    assert "people with a fall within a year" in falls.words
    assert "people with knee osteoarthritis" in knees.words
    assert "with knee osteoarthritis" in " ".join(knees.said.split())
    assert "sarcopenia" not in knees.said
