"""Two runs are compared on the same people where they are the same, and never silently where they are not."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from sarco_models.errors import RunError
from sarco_models.metrics import compare_aucs, delong_variance, holm
from server.compare import compare_runs, terminal
from server.results import read_results

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def other(run: Path, tmp_path: Path) -> Callable[[Change], Path]:
    """A copy of the run, whose results.json was changed, and whose scores of the federated arm are noisier."""

    def make(change: Change) -> Path:
        folder = tmp_path / "other"
        folder.mkdir()
        tree = json.loads((run / "results.json").read_text())
        change(tree)
        (folder / "results.json").write_text(json.dumps(tree))
        rng = np.random.default_rng(5)
        with (run / "scores.csv").open(newline="") as file:
            lines = list(csv.reader(file))
        for line in lines[1:]:
            if line[0] == "federated":
                line[5] = f"{0.5 * float(line[5]) + 0.5 * rng.random():.6f}"
        with (folder / "scores.csv").open("w", newline="") as file:
            csv.writer(file).writerows(lines)
        return folder

    return make


def nothing(_: dict[str, Any]) -> None:
    pass


def shown(first: Path, second: Path) -> str:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(terminal(compare_runs(first, second)))
    return capture.get()


def test_the_same_people_are_paired_with_delong_and_holm(run: Path, other: Callable[[Change], Path]) -> None:
    second = other(nothing)
    found = compare_runs(run, second)
    federated = found.aucs[0]
    one, two = (read_results(folder).scores["federated", 1, "central"].people for folder in (run, second))
    expected = compare_aucs(two.scores, one.scores, one.labels)
    assert federated.by_seeds[1, 1].value == expected.difference
    assert federated.how == "same people, paired (n = 300)"
    assert federated.mean.value < -0.05
    raw = [arm.by_seeds[1, 1].p for arm in found.aucs if not arm.arm.startswith("control")]
    assert [a.by_seeds[1, 1].p_holm for a in found.aucs if not a.arm.startswith("control")] == holm(raw)
    assert [arm.mean.value for arm in found.aucs[1:]] == [0.0] * 8


def test_comparing_the_other_way_round_turns_the_sign_only(run: Path, other: Callable[[Change], Path]) -> None:
    second = other(nothing)
    there, back = compare_runs(run, second).aucs[0].mean, compare_runs(second, run).aucs[0].mean
    assert (there.value, there.low) == pytest.approx((-back.value, -back.high))


def test_synthetic_people_of_another_scale_are_others_though_their_numbers_are_alike(
    run: Path, other: Callable[[Change], Path]
) -> None:
    def another_scale(tree: dict[str, Any]) -> None:
        tree["meta"]["scale"] = "full"

    second = other(another_scale)
    found = compare_runs(run, second)
    difference = found.aucs[0].by_seeds[1, 1]
    assert difference.how == "other people, unpaired (n = 300 and 300)"
    people = [read_results(folder).scores["federated", 1, "central"].people for folder in (run, second)]
    error = np.sqrt(sum(delong_variance(p.scores, p.labels) for p in people))
    assert difference.value.high - difference.value.value == pytest.approx(1.959964 * error, rel=1e-5)
    assert found.settings["cohort"] == ("paper_matched small", "paper_matched full")


def test_without_scores_the_stored_intervals_serve_and_it_is_said(run: Path, other: Callable[[Change], Path]) -> None:
    second = other(nothing)
    (second / "scores.csv").unlink()
    found = compare_runs(run, second).aucs[0]
    assert found.how == "no scores, from the stored intervals"
    assert found.mean.value == 0.0
    assert found.mean.high > 0.05


def test_synthetic_is_never_compared_with_real_silently(
    run: Path, other: Callable[[Change], Path], tmp_path: Path
) -> None:
    def real(tree: dict[str, Any]) -> None:
        tree["meta"]["synthetic"] = False

    second = other(real)
    assert "READ THIS FIRST" in shown(run, second).splitlines()[0]
    compare_runs(run, second, tmp_path)
    page = (tmp_path / "compare.html").read_text()
    assert "SYNTHETIC AND OTHER PEOPLE" in page
    assert page.index("Read this first") < page.index("<table>")


def test_what_only_one_run_has_is_named_and_settings_are_shown(run: Path, other: Callable[[Change], Path]) -> None:
    def change(tree: dict[str, Any]) -> None:
        tree["rows"] = [r for r in tree["rows"] if r["arm"] != "pooled"]
        tree["meta"]["study"]["federation"]["rounds"] = 99

    second = other(change)
    found = compare_runs(run, second)
    assert found.only_first == ("pooled",)
    assert found.settings == {"federation.rounds": ("12", "99")}
    assert "Only in the first run: Pooled." in shown(run, second)


def test_seeds_that_are_not_shared_are_paired_in_their_order(run: Path, other: Callable[[Change], Path]) -> None:
    def shift(tree: dict[str, Any]) -> None:
        for row in tree["rows"]:
            row["seed"] += 10

    second = other(shift)
    (second / "scores.csv").unlink()
    assert compare_runs(run, second).seeds == ((1, 11), (2, 12), (3, 13))


def test_the_files_hold_every_pair_and_nobodys_name(run: Path, other: Callable[[Change], Path], tmp_path: Path) -> None:
    compare_runs(run, other(nothing), tmp_path / "out")
    with (tmp_path / "out" / "compare.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    tested = [line for line in lines if line["how"] != "means over seeds"]
    central = [line for line in tested if line["site"] == "central"]
    assert len(central) == 9 * 3
    assert all(line["how"].startswith("same people, paired") for line in central)
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "SECRET" not in page
    assert "SECRET" not in (tmp_path / "out" / "compare.csv").read_text()
    assert "<title>SYNTHETIC: " in page


def test_a_folder_that_is_no_run_and_the_same_run_twice_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no results\.json"):
        compare_runs(run, tmp_path)
    with pytest.raises(RunError, match="the same run twice"):
        compare_runs(run, run.parent / run.name)


def test_runs_without_a_common_arm_say_so(run: Path, cross_validation: Path) -> None:
    text = shown(run, cross_validation)
    assert "share no way of training" in text
    assert "only hospitals can be compared" in text


def test_a_copy_of_a_run_does_not_differ(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "copy")
    found = compare_runs(run, tmp_path / "copy")
    assert not found.settings
    assert {d.p for arm in found.aucs for d in arm.by_seeds.values()} == {1.0}
