"""A study whose masks are found, run by the real apps: hospitals, central cohort and explanations see the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.preview.one_round import scratch_site
from client.site_config import SiteConfig
from sarco_models.config import StudyConfig, load_config, load_study
from sarco_models.errors import ConfigError
from server import submissions
from server.evaluation import Central
from server.founding import found
from server.home import Home
from server.runs import Run
from simulation.explained import views
from simulation.harness import Arm, SiteFolder, open_sites, prepare, run_arm
from tests.finders import FINDER, auto_study, drawn_masks, finds, frames_of, stored_finder
from tests.server.a_home import free_port, study_file
from tests.sites import image_site, image_study, read_csv, write_rows

ROUND: dict[str, Any] = {"federation": {"rounds": 1, "min_participants": 2}, "model": {"modalities": ["image"]}}


@pytest.fixture
def finder(tmp_path: Path) -> Path:
    return stored_finder(tmp_path / "models" / FINDER, synthetic=True)


def arm_of(tmp_path: Path, study: StudyConfig, folder: str = "run") -> Arm:
    places = [tmp_path / "data" / name for name in ("east", "west", "central")]
    for k, place in enumerate(places):
        if not place.exists():
            image_site(place, 12, seed=k)
    east, west, central = places
    named = tuple(SiteFolder(place.name, place, "invented2026") for place in (east, west))
    return Arm("federated", study, named, central, tmp_path / "cache", tmp_path / folder)


def without_masks(arm: Arm) -> None:
    for place in (*(site.data for site in arm.sites), arm.central):
        assert place is not None
        write_rows(place / "images.csv", [row | {"mask": ""} for row in read_csv(place / "images.csv")])


@pytest.mark.slow
def test_a_run_without_a_drawn_mask_equals_one_with_them_if_the_model_is_perfect(
    tmp_path: Path, finder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand = arm_of(tmp_path, image_study(**ROUND), "by_hand")
    run_arm(by_hand)
    masks: dict[str, Any] = {}
    for place in (*(site.data for site in by_hand.sites), by_hand.central):
        assert place is not None
        for name, mask in drawn_masks(place, frames_of(place)).items():
            masks.setdefault(name, []).append(mask)
    same = {name: several[0] for name, several in masks.items() if all((m == several[0]).all() for m in several)}
    assert len(same) == len(masks), "the hospitals' muscles lie alike, so that a name says which"
    finds(monkeypatch, same)
    found = arm_of(tmp_path, auto_study(finder, **ROUND), "found")
    without_masks(found)
    about = run_arm(found)
    assert about["images"]
    one, other = Run.open(by_hand.folder), Run.open(found.folder)
    np.testing.assert_array_equal(one.final.vector, other.final.vector)
    assert one.records()[1]["central"] == other.records()[1]["central"]
    assert one.study.digest != other.study.digest
    text = (found.folder / "study.json").read_text()
    assert str(tmp_path) not in text, "where the model lies is no part of the study"
    assert run_arm(found) == about, "done is done"


def test_hospitals_and_coordinator_are_told_where_the_model_lies(tmp_path: Path, finder: Path) -> None:
    arm = arm_of(tmp_path, auto_study(finder, **ROUND))
    run = prepare(arm)
    sites = open_sites(arm)
    assert [{o.source for o in site.split.cohort.caches[0].origins} for site in sites] == [{"drawn"}] * 2
    central = Central.open(Run.open(run.folder))
    assert central is not None
    assert len(central.people)
    coordinator = run.folder / "coordinator.toml"
    coordinator.write_text(coordinator.read_text().replace(str(finder), ""))
    with pytest.raises(ConfigError, match=r"at the coordinator: in coordinator\.toml"):
        Central.open(Run.open(run.folder))


def test_a_look_at_a_study_finds_the_model_of_the_hospital(tmp_path: Path, finder: Path) -> None:
    arm = arm_of(tmp_path, auto_study(finder, **ROUND))
    prepare(arm)
    root = arm.folder / "sites" / "east"
    config = load_config(root / "site.toml", SiteConfig)
    (tmp_path / "scratch").mkdir()
    agreed = StudyConfig.model_validate_json((arm.folder / "study.json").read_text())
    site = scratch_site(config, agreed, root, tmp_path / "scratch")
    assert site.split.cohort.caches[0].origins
    assert json.loads((tmp_path / "scratch" / "site.json").read_text())["segmenter"] == str(finder)


def test_explanations_are_of_images_that_have_a_mask(
    tmp_path: Path, finder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand = arm_of(tmp_path, image_study(**ROUND))
    place = by_hand.sites[0].data
    drawn = views(place, by_hand.split_of("east").test, by_hand.study, 9)
    masks = drawn_masks(place, frames_of(place))
    finds(monkeypatch, masks)
    auto = arm_of(tmp_path, auto_study(finder, auto={"masks": "all"}, **ROUND))
    found = views(place, auto.split_of("east").test, auto.study, 9)
    for one, other in ((drawn.pixels, found.pixels), (drawn.muscle, found.muscle), (drawn.fascia, found.fascia)):
        np.testing.assert_array_equal(one, other)
    finds(monkeypatch, {name: np.zeros_like(mask) for name, mask in masks.items()})
    blind = arm_of(tmp_path, auto_study(finder, auto={"masks": "all", "least_quality": 0.5}, **ROUND))
    assert len(views(place, blind.split_of("east").test, blind.study, 9).pixels) == 0


def test_a_coordinators_home_carries_the_hash_and_its_runs_know_the_place(
    tmp_path: Path, finder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = study_file(tmp_path)
    text = path.read_text().replace("[image]\n", '[image]\nroi = "auto"\n')
    path.write_text(text + f'[image.auto]\nsegmenter = "models/{FINDER}"\n')
    found(tmp_path / "home", f"localhost:{free_port()}", path)
    home = Home.open(tmp_path / "home")
    assert home.study.digest == load_study(path).digest
    assert home.study.image.auto is not None
    assert home.study.image.auto.place is None, "it does not lie in the home"
    asked: dict[str, str] = {}
    monkeypatch.setattr(submissions, "apart", lambda _, facts: asked.update(facts))
    submissions.prepare(home, load_study(path))
    assert json.loads(asked["coordinator"])["segmenter"] == str(finder)
    assert str(tmp_path) not in asked["study"]
    submissions.prepare(home, home.study)
    assert json.loads(asked["coordinator"])["segmenter"] == ""
