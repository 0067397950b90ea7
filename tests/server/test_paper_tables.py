"""Our numbers beside the paper's: each is the run's own, its difference is true, and what is absent is a dash."""

import csv
import io
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sarco_models.errors import RunError
from server.paper.baseline import table_1
from server.paper.documents import as_csv, as_latex, as_markdown
from server.paper.entries import Entry, PaperTable, p_range
from server.paper.finished import Finished, read_runs
from server.paper.further import beyond, contributions, federated, heat_map_checks, networks
from server.paper.ordering import order_sentence
from server.paper.performance import adjusted_p, table_2, table_3
from server.paper.published import CHOSEN, CROSS_VALIDATION, Printed
from server.paper.validation import table_4
from server.results import OverSeeds, Row

sys.path.insert(0, str(Path(__file__).parent))
from example_paper import SEEDS, Made, write_cross_validation
from example_paper import SELECTED as CHOSEN_BY_SEED


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = write_cross_validation(tmp_path_factory.mktemp("paper"))
    return read_runs({"paper": folder})["paper"]


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Finished]:
    def make(**changed: object) -> Finished:
        return read_runs({"paper": write_cross_validation(tmp_path, Made(**changed))})["paper"]  # type: ignore[arg-type]

    return make


def rows(run: Finished, arm: str, metric: str, site: str) -> list[Row]:
    return [r for r in run.results.rows if (r.arm, r.metric, r.site) == (arm, metric, site)]


def entry(table: PaperTable, group: str, measure: str) -> Entry:
    return next(e for e in table.entries if e.group.startswith(group) and e.measure == measure)


def cells(table: PaperTable, first: str) -> list[str]:
    """A line as shown, by its first cell."""
    lines = [row.cells for part in table.parts for row in part.shown.rows if row.cells]
    return next([cell.main for cell in line] for line in lines if line[0].main == first)


# --- tables 2 and 3 ---------------------------------------------------------------------------------------------------


def test_ours_is_the_mean_over_seeds_with_the_mean_limits(run: Finished) -> None:
    found = entry(table_2(run), "Clinical", "AUC")
    own = rows(run, "cv:shanghai@clinical", "auc", "shanghai")
    assert len(own) == len(SEEDS)
    assert found.ours is not None
    assert found.ours.mean == pytest.approx(sum(r.value or 0 for r in own) / 3)
    assert found.ours.low == pytest.approx(sum(r.ci_low or 0 for r in own) / 3)
    assert found.paper == Printed(0.784, "cross-validation, n = 357: clinical, AUC")
    assert found.difference == pytest.approx(found.ours.mean - 0.784)
    assert (found.ours.n, found.ours.n_positive) == (357, 101)


def test_the_fold_mean_is_of_the_folds_and_not_of_the_pooled_scores(run: Finished) -> None:
    found = entry(table_2(run), "Laboratory", "Sensitivity").folds
    folds = (r for r in run.results.rows if r.arm == "cv:shanghai@lab" and r.metric.startswith("fold_sensitivity:"))
    values = [r.value for r in folds if r.value is not None]
    assert found is not None
    assert len(values) == 15
    assert found.mean == pytest.approx(sum(values) / 15)
    assert found.folds == 5


def test_each_printed_f1_stands_beside_the_definition_that_it_fits(run: Finished, tmp_path: Path) -> None:
    second = table_2(run)
    assert entry(second, "Ultrasound", "F1, macro").paper == Printed(0.738, "cross-validation, n = 357: image, F1")
    assert entry(second, "Ultrasound", "F1, positive").paper is None
    folder = write_cross_validation(tmp_path, Made(seeds=(1,), complete_cases=True))
    third = table_3(read_runs({"complete_cases": folder})["complete_cases"])
    assert entry(third, "Ultrasound", "F1, macro").paper is None
    assert entry(third, "Ultrasound", "F1, positive").paper == Printed(0.698, "complete cases, n = 271: image, F1")


def test_an_interval_says_how_it_was_made_and_of_whom(run: Finished) -> None:
    found = entry(table_2(run), "Ultrasound", "Specificity")
    assert found.brief == "of 256 without"
    assert "out-of-fold" in found.definition
    assert found.definition.endswith("Wilson")
    assert entry(table_4(run), "C, ", "Sensitivity").definition.endswith("Clopper-Pearson"), "19 people"


def test_p_values_are_adjusted_within_each_seed() -> None:
    raw = {"image": {1: 0.01, 2: 0.5}, "image_clinical": {1: 0.02, 2: 0.6}, "image_lab": {1: 0.04}}
    found = adjusted_p(raw)
    assert found["image"] == {1: pytest.approx(0.03), 2: pytest.approx(1.0)}
    assert found["image_clinical"][1] == pytest.approx(0.04)
    assert found["image_lab"] == {1: pytest.approx(0.04)}


def test_a_p_value_is_a_range_over_seeds_and_has_no_difference(run: Finished) -> None:
    table = table_2(run)
    p = entry(table, "All data against ultrasound", "P")
    own = sorted(r.value or 0 for r in rows(run, "cv:shanghai@all", "delong_p:cv:shanghai@image", "shanghai"))
    assert p.difference is None
    assert p.paper is not None
    assert p.paper.value == 0.02
    assert cells(table, "All data against ultrasound")[5] == p_range([own[0], own[-1]])


def test_a_difference_is_turned_when_the_run_stored_it_the_other_way(run: Finished) -> None:
    first, second = "cv:shanghai@all", "cv:shanghai@image"
    kept = tuple(r for r in run.results.rows if not (r.arm == first and r.metric == f"auc_difference:{second}"))
    turned = replace(run, results=replace(run.results, rows=kept)).difference(first, second)
    direct = run.difference(first, second)
    assert direct is not None
    assert turned is not None
    assert (turned.mean, turned.low, turned.high) == pytest.approx((direct.mean, direct.low, direct.high))


def test_the_order_of_the_models_is_compared_pair_by_pair(run: Finished) -> None:
    def ranked(**auc: float) -> Finished:
        values = {key: cells["auc"].value for key, cells in CROSS_VALIDATION.models.items()} | auc
        found = [r.model_copy(update={"value": values[r.arm.partition("@")[2]]}) for r in run.results.rows
                 if r.metric == "auc" and not r.arm.endswith("nested")]  # fmt: skip
        return replace(run, results=replace(run.results, rows=tuple(found)))

    assert order_sentence(ranked(), CROSS_VALIDATION).endswith("ours is the same order.")
    swapped = order_sentence(ranked(image_clinical=0.829), CROSS_VALIDATION)
    assert "The other way round: US and US+clinical (paper +0.001, ours −0.002)." in swapped


def test_pairs_in_another_order_are_told_with_their_interval(run: Finished) -> None:
    def apart(low: float, high: float) -> str:
        """The run with US+clinical above US, and their difference in this interval."""
        arms = {"cv:shanghai@image": 0.80, "cv:shanghai@image_clinical": 0.83}
        changed = []
        for r in run.results.rows:
            if r.metric == "auc" and r.arm in arms:
                changed.append(r.model_copy(update={"value": arms[r.arm]}))
            elif r.metric == "auc_difference:cv:shanghai@image_clinical" and r.arm == "cv:shanghai@image":
                changed.append(r.model_copy(update={"value": -0.03, "ci_low": low, "ci_high": high}))
            else:
                changed.append(r)
        return order_sentence(replace(run, results=replace(run.results, rows=tuple(changed))), CROSS_VALIDATION)

    assert "US and US+clinical (paper +0.001, ours −0.030, 95 % −0.080 to +0.020)" in apart(-0.08, 0.02)
    assert apart(-0.08, 0.02).endswith("cannot be told from 0, so chance alone can explain the order.")
    assert "1 of 1 leave out 0" in apart(-0.05, -0.01)


# --- what is absent ---------------------------------------------------------------------------------------------------


def test_a_candidate_that_was_not_run_is_a_dash_and_never_nought(made: Callable[..., Finished]) -> None:
    run = made(seeds=(1,), candidates=("image", "clinical"))
    table = table_2(run)
    lab = entry(table, "Laboratory", "AUC")
    assert (lab.ours, lab.difference, lab.inside, lab.folds) == (None, None, None, None)
    assert cells(table, "All data against ultrasound")[2:4] == ["–", "–"]
    text = as_markdown(table)
    assert "| 0.646 | – | – | – | – | – | – |" in text
    assert "cannot be compared: the run holds no AUC of lab" in text
    assert table_1(run).parts[0].entries[0].ours is not None


def test_a_run_that_was_not_given_is_said_in_its_place() -> None:
    for table in (table_1(None), table_2(None), table_3(None), table_4(None), federated(None), networks({})):
        assert table.sources[0].startswith("Not run: no run was given for")
        assert "Not run" in as_markdown(table)
        assert "Not run" in as_latex(table)
        assert next(csv.DictReader(io.StringIO(as_csv(table))))["measure"] == "not run"


def test_one_seed_has_its_own_interval_and_no_spread(made: Callable[..., Finished]) -> None:
    run = made(seeds=(2,), baseline=False, explanation=False)
    found = entry(table_2(run), "Ultrasound", "AUC")
    own = rows(run, "cv:shanghai@image", "auc", "shanghai")[0]
    assert found.ours is not None
    assert (found.ours.low, found.ours.high, found.ours.sd) == (own.ci_low, own.ci_high, None)
    assert table_1(run).parts == ()
    assert contributions({"paper": run}).parts == heat_map_checks(run).parts == ()


def test_the_wrong_folder_is_refused_with_the_way_out(tmp_path: Path) -> None:
    folder = write_cross_validation(tmp_path / "cv", Made(seeds=(1,)))
    comparison = tmp_path / "run"
    comparison.mkdir()
    (comparison / "results.json").write_text('{"meta": {"protocol": {"kind": "comparison"}}}')
    with pytest.raises(RunError, match="exchange the two folders"):
        read_runs({"complete_cases": folder})
    with pytest.raises(RunError, match="not a cross-validation: give the folder that 'sarco-lab run"):
        read_runs({"paper": comparison})
    with pytest.raises(RunError, match="'figures' is no protocol of the paper's study"):
        read_runs({"figures": folder})
    with pytest.raises(RunError, match="no run was given"):
        read_runs({})


# --- table 4 ----------------------------------------------------------------------------------------------------------


def test_other_hospitals_are_scored_by_what_each_seed_selected(run: Finished) -> None:
    found = entry(table_4(run), "B, ", "Accuracy")
    values = [
        r.value or 0
        for seed, name in CHOSEN_BY_SEED.items()
        for r in rows(run, f"cv:shanghai@{name}", "accuracy", "sichuan")
        if r.seed == seed
    ]
    assert found.ours is not None
    assert found.ours.mean == pytest.approx(sum(values) / 3)
    assert found.interval_of_paper is not None
    groups = {e.group for e in table_4(run).entries}
    assert any("Ultrasound alone, what the paper froze" in group for group in groups), "one seed chose another model"


def test_the_papers_own_model_is_not_shown_twice(made: Callable[..., Finished]) -> None:
    groups = {e.group for e in table_4(made(seeds=(1, 3))).entries}
    assert not any("what the paper froze" in group for group in groups), "both seeds chose ultrasound alone"


def test_optimism_is_what_the_choosing_costs(run: Finished) -> None:
    table = table_4(run)
    selected, nested, optimism = (
        entry(table, "Seed 2", measure) for measure in ("AUC, selected by", "AUC, nested", "Optimism")
    )
    assert selected.ours is not None
    assert nested.ours is not None
    assert optimism.ours is not None
    assert selected.ours.mean == next(r.value for r in rows(run, "cv:shanghai@all", "auc", "shanghai") if r.seed == 2)
    assert optimism.ours.mean == pytest.approx(selected.ours.mean - nested.ours.mean)
    assert "within 0.02 of the highest" in table.parts[1].note


def test_hospitals_of_other_names_stand_in_the_runs_order(run: Finished) -> None:
    names = {"sichuan": "north", "zhongshan": "south"}
    renamed = tuple(r.model_copy(update={"site": names.get(r.site, r.site)}) for r in run.results.rows)
    sites = {names.get(name, name): facts for name, facts in run.results.meta.sites.items()}
    meta = run.results.meta.model_copy(update={"sites": sites})
    other = replace(run, results=replace(run.results, rows=renamed, meta=meta))
    assert [site for _, site in other.elsewhere()] == ["north", "south"]


# --- table 1 and what stands beside -----------------------------------------------------------------------------------


def test_table_1_compares_medians_and_says_where_ours_is_a_mean(run: Finished) -> None:
    table = table_1(run)
    age = entry(table, "Age", "with sarcopenia, median")
    assert age.ours is not None
    assert (age.ours.mean, age.ours.least, age.ours.most) == (72.0, 71.5, 72.5)
    height = entry(table, "Height", "without sarcopenia, median")
    assert "ours is the mean" in height.definition
    assert cells(table, "Height, m")[4] == "1.63 (SD 0.08)"
    assert cells(table, "Height, m")[-1] == "Welch's t"
    assert cells(table, "Age, years")[5:7] == ["<0.001", "<0.001"]
    assert cells(table, "Diabetes")[1] == "208 (81.3 %)", "as printed, half a tenth rounded up"
    assert cells(table, "Male")[1:3] == ["117 (45.7 %)", "45.7 %"]


def test_a_hidden_count_and_a_row_without_data_are_dashes(run: Finished) -> None:
    table = table_1(run)
    assert cells(table, "Diabetes")[4] == "–", "too few to be shown"
    assert cells(table, "Albumin, g/L")[2] == cells(table, "Albumin, g/L")[6] == "–"


def test_shares_stand_beside_those_of_ultrasound_only(run: Finished) -> None:
    table = contributions({"paper": run})
    image, lab = (entry(table, f"With sarcopenia: {name}", "Share") for name in ("Ultrasound", "Laboratory"))
    assert image.paper is not None
    assert (image.paper.value, lab.paper) == (0.787, None)
    assert image.ours is not None
    assert image.ours.mean == pytest.approx(0.80)
    lost = entry(table, "Without ultrasound", "AUC lost")
    assert lost.ours is not None
    assert lost.ours.mean == pytest.approx(0.06)


def test_heat_maps_stand_with_their_checks(run: Finished) -> None:
    table = heat_map_checks(run)
    assert table.sources == ("Usual layer, 1/32: fails: the weights hardly matter.",)
    assert cells(table, "Weights")[3] == "0 of 3"


def test_networks_are_told_apart_by_their_backbone(run: Finished) -> None:
    assert networks({"paper": run}).parts == (), "one family is no comparison"
    swin = run.results.meta.protocol.candidates["image"].model_copy(update={"backbone": "swin_tiny"})
    protocol = run.results.meta.protocol
    protocol = protocol.model_copy(update={"candidates": protocol.candidates | {"swin": swin}})
    again = [
        r.model_copy(update={"arm": "cv:shanghai@swin"}) for r in rows(run, "cv:shanghai@image", "auc", "shanghai")
    ]
    results = replace(
        run.results,
        rows=(*run.results.rows, *again),
        meta=run.results.meta.model_copy(update={"protocol": protocol}),
    )
    table = networks({"paper": replace(run, results=results)})
    assert cells(table, "Swin (swin_tiny)")[1] == "0.835"
    assert cells(table, "EfficientNet")[1:3] == ["–", "–"]
    assert run.arm(CHOSEN) == "cv:shanghai@image", "of two, the one with the study's own network"


def test_a_further_experiment_is_shown_place_by_place(run: Finished) -> None:
    table = beyond(replace(run, protocol="intensity"))
    assert table.title == "Taken further: grey levels standardised and augmented, or not"
    assert table.parts[0].shown.head == ("Way of training", "Shanghai", "Sichuan", "Zhongshan")
    line = cells(table, run.results.arm_name("cv:shanghai@image"))
    own = run.results.over_seeds("cv:shanghai@image", "auc", "zhongshan")
    assert own is not None
    assert line[3] == f"{own.mean:.3f}"
    nested = cells(table, run.results.arm_name("cv:shanghai@nested"))
    assert "–" not in nested[1]


def test_inside_is_told_by_our_interval() -> None:
    ours = OverSeeds(0.80, 0.75, 0.85, None, 0.8, 0.8, 1, 100, 30)
    cell = Entry("x", "AUC", "", paper=Printed(0.75, "x"), ours=ours)
    assert cell.inside is True
    assert replace(cell, paper=Printed(0.749, "x")).inside is False
    assert replace(cell, ours=replace(ours, low=None)).inside is None
    assert replace(cell, ours=replace(ours, low=0.8, high=0.8)).inside is None, "no width, no interval"
    assert cell.difference == pytest.approx(0.05)
