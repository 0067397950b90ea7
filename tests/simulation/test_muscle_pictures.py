"""Pictures of the worst, the median and the best outline: nobody chooses, and they say that nobody exists."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from server.muscle_scores import IMAGES_FILE, SeenImage, read_muscle_images
from simulation.muscle_pictures import RANKS, Example, ranked, sheet
from simulation.muscle_scoring import of_two_muscles
from tests.server.example_muscles import muscle_run


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[SeenImage]:
    folder = muscle_run(tmp_path_factory.mktemp("pictures"))
    every = read_muscle_images(folder / IMAGES_FILE)
    return [one for one in every if (one.arm, one.site) == ("federated", "central")]


def test_the_worst_the_median_and_the_best_are_those(images: list[SeenImage]) -> None:
    found = ranked(images, "rectus_femoris")
    dices = sorted(one.seen.overlap.dice or 0.0 for one in images if one.seen.muscle == "rectus_femoris")
    assert list(found) == list(RANKS)
    assert found["worst"].seen.overlap.dice == dices[0]
    assert found["best"].seen.overlap.dice == dices[-1]
    assert found["median"].seen.overlap.dice in dices[10:14]


def test_an_image_without_one_whole_muscle_is_not_shown(images: list[SeenImage]) -> None:
    best = ranked(images, "rectus_femoris")["best"]
    without = [replace(one, seen=replace(one.seen, drawn=None)) if one is best else one for one in images]
    assert ranked(without, "rectus_femoris")["best"] is not best
    assert not ranked([replace(one, seen=replace(one.seen, drawn=None)) for one in images], "rectus_femoris")


def test_the_sheet_shows_found_and_drawn_and_bears_its_mark() -> None:
    mask = np.zeros((64, 64), dtype=np.bool_)
    mask[20:40, 10:50] = True
    example = Example(np.full((64, 64), 90, dtype=np.uint8), np.roll(mask, 4, axis=0), mask, "Dice 0.8")
    page = sheet({"Rectus femoris": dict.fromkeys(RANKS, example)})
    colours = {tuple(int(v) for v in colour) for colour in np.unique(np.asarray(page).reshape(-1, 3), axis=0)}
    assert {(86, 180, 233), (230, 159, 0)} <= colours
    assert page.getpixel((2, 2)) == (179, 38, 30)
    assert isinstance(page, Image.Image)


def test_the_truth_says_which_images_show_two_muscles(tmp_path: Path) -> None:
    folder = tmp_path / "hospital_a"
    assert of_two_muscles(folder) == set()
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "hospital_a.csv").write_text("image,whole\nimages/1.dcm,1\nimages/2.dcm,0\nimages/2.dcm,0\n")
    assert of_two_muscles(folder) == {"images/2.dcm"}
