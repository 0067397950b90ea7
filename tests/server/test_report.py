"""The report says what the run found, stands alone, names nobody, and says what is missing instead of failing."""

import csv
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sarco_models.errors import RunError, UndefinedMetric
from sarco_models.scores import ParticipantScores
from server.comparison_tables import by_hospital, comparison, differences, external, family, folds
from server.drawing import to_draw
from server.methods import limitations, privacy
from server.report import write_report
from server.results import Meta, Results, Row, ScoreSet, read_results
from server.statements import absent, finding
from server.tables import number, size

sys.path.insert(0, str(Path(__file__).parent))
from example_run import write_run

FIGURES = ("roc", "calibration", "decision", "learning", "forest")


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return (run / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def edited(run: Path, tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], None]], Path]:
    """A copy of the run whose results.json was changed."""

    def edit(change: Callable[[dict[str, Any]], None]) -> Path:
        tree = json.loads((run / "results.json").read_text())
        change(tree)
        (tmp_path / "results.json").write_text(json.dumps(tree))
        return tmp_path

    return edit


@pytest.fixture(scope="module")
def many(variants: Path) -> str:
    return write_report(variants).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def crossed(cross_validation: Path) -> str:
    return write_report(cross_validation).read_text(encoding="utf-8")


def words(page: str) -> str:
    """What a reader sees."""
    text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", text.replace("\N{NO-BREAK SPACE}", " "))


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_asks_nothing_of_the_internet_or_the_disk(page: str) -> None:
    sources = re.findall(r'(?:src|href)="([^"]{0,40})', page)
    assert sources
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in sources)
    assert not re.search(r"<script|<link|@import|url\(|http", page)


def test_nobody_is_named(page: str, run: Path) -> None:
    assert "SECRET" in (run / "scores.csv").read_text()
    assert "SECRET" not in page
    assert "SECRET" not in (run / "comparison.csv").read_text()


def test_synthetic_is_said_in_title_heading_banner_and_contact_sheets(page: str) -> None:
    assert "<title>SYNTHETIC: " in page
    assert page.count("SYNTHETIC") == 1 + 1 + 1 + 3  # title, heading, banner, three contact sheets


def test_every_figure_is_drawn_and_shown(page: str, run: Path) -> None:
    assert sorted(path.stem for path in (run / "figures").glob("*.png")) == sorted(FIGURES)
    assert page.count("data:image/png;base64,") == len(FIGURES) + 3


def test_every_figure_carries_the_warning_in_red(run: Path) -> None:
    for name in FIGURES:
        with Image.open(run / "figures" / f"{name}.png") as image:
            corner = np.asarray(image.convert("RGB"))[:70, : image.width // 2].astype(int)
        red, green, blue = np.moveaxis(corner, -1, 0)
        assert ((red > 150) & (green < 90) & (blue < 90)).sum() > 200, name


def test_all_parts_that_a_clinician_asks_for_are_there(page: str) -> None:
    text = words(page)
    for part in (
        "The comparison",
        "ROC curves",
        "Calibration",
        "Hospital by hospital",
        "Learning curves",
        "Who learned from whom",
        "Privacy: what left each hospital",
        "no differential privacy in this run",
        "248 MB",
        "Number of images only",
        "Methods",
        "Limitations",
        "Reading guide",
        "flwr 1.41.0",
        "Mindray M9",
        "AWGS 2019 and CT, L3 muscle index",
    ):
        assert part in text, part


def test_the_same_results_make_the_same_page(run: Path, page: str) -> None:
    assert write_report(run).read_text(encoding="utf-8") == page


def test_what_a_run_calls_itself_cannot_break_the_page(edited: Callable[..., Path]) -> None:
    def rename(tree: dict[str, Any]) -> None:
        tree["meta"]["title"] = "<script>alert(1)</script>"

    assert "<script>" not in write_report(edited(rename)).read_text()


# --- the numbers ------------------------------------------------------------------------------------------------------


def test_the_finding_gives_the_auc_with_its_interval_and_its_spread_over_seeds(run: Path) -> None:
    results = read_results(run)
    auc = results.over_seeds("federated", "auc")
    assert auc is not None
    assert auc.low is not None
    text = " ".join(finding(results))
    assert f"AUC of {auc.mean:.2f} (95 % interval {auc.low:.2f} to {auc.high:.2f})" in text
    assert f"between {auc.least:.2f} and {auc.most:.2f}" in text
    assert "three hospitals" in text


def test_a_difference_is_called_more_than_chance_only_when_its_interval_excludes_zero(run: Path) -> None:
    results = read_results(run)
    assert "cannot be told apart" in " ".join(finding(results))
    without_shanghai = [row for row in results.rows if "shanghai" not in row.arm and "shanghai" not in row.metric]
    assert "which leaves out no difference" in " ".join(finding(Results(results.meta, tuple(without_shanghai))))


def test_no_number_of_a_model_stands_without_interval_or_spread(run: Path) -> None:
    rows = [row for row in comparison(read_results(run)).rows if row.cells]
    assert len(rows) == 9
    for row in rows[:-1]:  # the last is "prevalence only", constant by definition
        for cell in row.cells[1:]:
            assert len(cell.below) == 2
            assert " to " in cell.below[0]
            assert cell.below[1].startswith("SD ")


def test_the_comparison_table_is_also_a_csv(run: Path) -> None:
    with (run / "comparison.csv").open(newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0][:5] == ["Way of training", "AUC", "AUPRC", "Sensitivity", "Specificity"]
    assert lines[0][-3:] == ["Calibration intercept", "Calibration slope", "Expected / observed"]
    assert lines[1][0] == "Federated"
    assert len(lines) == 10


def test_results_csv_holds_every_row(run: Path) -> None:
    with (run / "results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == [
        "arm",
        "seed",
        "round",
        "site",
        "model",
        "metric",
        "value",
        "ci_low",
        "ci_high",
        "n",
        "n_positive",
    ]
    assert len(lines) == len(json.loads((run / "results.json").read_text())["rows"])


def test_a_difference_reads_the_same_from_both_ends(run: Path) -> None:
    results = read_results(run)
    there, back = results.difference("federated", "pooled"), results.difference("pooled", "federated")
    assert there is not None
    assert back is not None
    assert (there.mean, there.low, there.high) == (-back.mean, -(back.high or 0), -(back.low or 0))
    assert results.p_values("pooled", "federated") == results.p_values("federated", "pooled")


def test_holm_covers_federated_against_every_other_trained_arm(run: Path) -> None:
    results = read_results(run)
    found = family(results)
    assert list(found) == ["pooled", "local:shanghai", "local:sichuan", "local:zhongshan"]
    for seed in results.seeds:
        raw = {arm: by_seed[seed].p for arm, by_seed in found.items()}
        adjusted = {arm: by_seed[seed].p_holm or 0 for arm, by_seed in found.items()}
        assert all(raw[arm] <= adjusted[arm] <= 4 * raw[arm] for arm in raw if raw[arm] < 0.05)
        smallest = min(raw, key=lambda arm: raw[arm])
        assert adjusted[smallest] == pytest.approx(4 * raw[smallest])
    assert len(differences(results).rows) == 4


def test_the_family_is_the_same_from_scores_and_from_stored_p_values(run: Path) -> None:
    results = read_results(run)
    from_scores, from_rows = family(results), family(Results(results.meta, results.rows))
    for arm, by_seed in from_scores.items():
        for seed, found in by_seed.items():
            # scores.csv of the example is rounded to six digits
            assert found.p_holm == pytest.approx(from_rows[arm][seed].p_holm, rel=1e-3)
            assert found.difference.value == pytest.approx(from_rows[arm][seed].difference.value, abs=1e-6)


def test_two_models_of_one_arm_are_never_averaged(edited: Callable[..., Path]) -> None:
    def add_image_only(tree: dict[str, Any]) -> None:
        extra = [r | {"model": "image", "value": 0.6} for r in tree["rows"] if r["arm"] == "federated"]
        tree["rows"] += [r for r in extra if r["metric"] == "auc" and r["round"] is None]

    results = read_results(edited(add_image_only))
    main, other = results.over_seeds("federated", "auc"), results.over_seeds("federated [image]", "auc")
    assert main is not None
    assert other is not None
    assert other.mean == pytest.approx(0.6)
    assert main.seeds == other.seeds == 3


# --- many ways of training --------------------------------------------------------------------------------------------


def test_twenty_ways_of_training_are_in_the_table_by_kind_and_eight_at_most_in_the_roc(
    variants: Path, many: str
) -> None:
    results = read_results(variants)
    named = [row.cells[0].main for row in comparison(results).rows if row.cells]
    assert named[:3] == ["Federated", "Federated, FedProx, mu 0.1", "Federated, FedAdam"]
    assert named.index("Pooled") < named.index("Shanghai alone") < named.index("Federated without Shanghai")
    dividers = [row.divider for row in comparison(results).rows if row.divider]
    assert len(dividers) == len(set(dividers)) == 5
    assert "8 lines at most are drawn" in words(many)
    assert len(to_draw(results, results.compared, 8)) == 8
    assert to_draw(results, results.compared, 8)[0] == "federated"


def test_the_sections_of_tables_are_on_the_page_and_marked(variants: Path, many: str) -> None:
    text = words(many)
    for part in (
        "From what the hospitals may send",
        "knows for certain",
        "Kinds of people",
        "Baseline characteristics",
        "a histogram of the probability; what would have shown few people was merged or withheld",
        "Trained further by one hospital",
        "A model that was trained without a hospital reached there an AUC of",
    ):
        assert part in text, part
    assert "SECRET" not in many
    drawn = [path.stem for path in (variants / "figures").glob("*.png")]
    assert sorted(drawn) == sorted([*FIGURES, "answers"])
    with Image.open(variants / "figures" / "answers.png") as image:
        corner = np.asarray(image.convert("RGB"))[:70, : image.width // 2].astype(int)
    red, green, blue = np.moveaxis(corner, -1, 0)
    assert ((red > 150) & (green < 90) & (blue < 90)).sum() > 200


def test_tables_are_numbered_in_the_order_of_the_page(many: str) -> None:
    numbers = [int(found) for found in re.findall(r"Table (\d+)\.", words(many))]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 9


def test_the_contents_lead_to_sections_that_exist(many: str, crossed: str) -> None:
    for page in (many, crossed):
        anchors = re.findall(r'href="#(\w+)"', page)
        assert len(anchors) > 8
        assert all(f'<h2 id="{anchor}">' in page for anchor in anchors)
    assert "#learning" not in crossed


def test_what_belongs_to_a_hospital_is_shown_there_and_nowhere_else(variants: Path, many: str) -> None:
    results = read_results(variants)
    central = [row.cells[0].main for row in comparison(results).rows if row.cells]
    assert not [name for name in central if "tuned" in name or "local norms" in name]
    rows = {row.cells[0].main: row.cells for row in by_hospital(results).rows if row.cells}
    sichuan = rows["Federated, then tuned at Sichuan"]
    assert [cell.main == "–" for cell in sichuan] == [False, True, False, True]
    assert "took no part" in rows["Federated without Zhongshan"][3].below
    assert "took no part" not in rows["Federated without Zhongshan"][1].below
    assert "Federated, then tuned at Sichuan" in words(many)


def test_a_variant_wins_only_when_it_does_so_in_every_seed_after_holm(variants: Path) -> None:
    results = read_results(variants)
    assert "Of 4 other ways of federated training" in " ".join(finding(results))
    assert len(family(results)) == 13


def test_two_runs_of_the_same_people_in_different_order_are_paired(variants: Path) -> None:
    results = read_results(variants)
    lead = results.scores["federated", 1, "central"].people
    turned = ParticipantScores(lead.ids[::-1], lead.scores[::-1], lead.labels[::-1])
    scores = results.scores | {("pooled", 1, "central"): ScoreSet(turned, 1)}
    found = family(Results(results.meta, results.rows, scores))["pooled"][1]
    assert (found.difference.value, found.p) == (0.0, 1.0)


# --- a cross-validation -----------------------------------------------------------------------------------------------


def test_a_cross_validation_is_compared_at_its_own_centre(cross_validation: Path, crossed: str) -> None:
    results = read_results(cross_validation)
    assert (results.home, results.lead) == ("shanghai", "cv:shanghai@us_clinical")
    text = words(crossed)
    for part in (
        "Cross-validated at Shanghai (5 folds by participant), 89 people",
        "The chosen model, Ultrasound + clinical, reached an AUC of",
        "With the choice made anew in each fold the AUC is",
        "In hospitals that took no part",
        "the fewest kinds of data within .02 AUC",
        "calibrated by construction",
    ):
        assert part in text, part
    assert "Incomplete run" not in text
    assert "federated" not in " ".join(finding(results)).lower()


def test_folds_are_described_and_the_choice_is_counted(cross_validation: Path) -> None:
    rows = {row.cells[0].main: row.cells for row in folds(read_results(cross_validation)).rows}
    assert [cells[-1].main for cells in rows.values()].count("0 of 3") == 4
    assert rows["Ultrasound + clinical"][-1].main == "2 of 3"
    assert rows["Chosen anew in each fold"][-1].main == "–"
    assert all(cells[2].below[0].startswith("(0.") for cells in rows.values())


def test_the_study_itself_can_be_the_only_candidate() -> None:
    protocol = {"kind": "cross_validation", "site": "a", "candidates": {"": {"title": "The study itself"}}}
    meta = Meta.model_validate({"protocol": protocol | {"selected": {"1": ""}}})
    results = Results(meta, (Row(arm="cv:a", seed=1, site="a", metric="auc", value=0.8, n=40, n_positive=9),))
    assert (results.lead, results.arm_name("cv:a")) == ("cv:a", "Cross-validation at A")
    assert absent(results) == ["no scores.csv, so no ROC and calibration curves"]


def test_frozen_ensembles_have_their_positive_rate_elsewhere(cross_validation: Path) -> None:
    found = external(read_results(cross_validation))
    assert [row.divider for row in found.rows if row.divider] == [
        "Sichuan, 17 of 36 positive",
        "Zhongshan, 5 of 21 positive",
    ]
    assert found.head[-1] == "Called positive"


# --- what is missing --------------------------------------------------------------------------------------------------


def test_a_folder_without_results_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no results\.json.*sarco-lab run"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["{", "[]", '{"rows": [{"value": 1}]}', '{"meta": {"seeds": "x"}}'])
def test_a_broken_results_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(RunError, match="not the results of a run"):
        write_report(tmp_path)


def test_an_empty_run_still_gives_a_page_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{}")
    text = words(write_report(tmp_path).read_text())
    assert "no final result of federated training" in text
    assert "Incomplete run" in text
    assert text.count("Not drawn") == len(FIGURES)
    assert "does not record whether its data are synthetic" in text


def test_a_single_arm_and_seed_without_scores_is_reported_as_such(tmp_path: Path) -> None:
    directory = write_run(tmp_path, arms=["federated"], seeds=[1])
    (directory / "scores.csv").unlink()
    text = words(write_report(directory).read_text())
    for part in ("no final result for Pooled", "no scores.csv", "This is one training run", "One seed; beneath each"):
        assert part in text, part


def test_a_seed_that_was_interrupted_is_named(edited: Callable[..., Path]) -> None:
    def interrupt(tree: dict[str, Any]) -> None:
        tree["rows"] = [r for r in tree["rows"] if not (r["arm"] == "pooled" and r["seed"] == 3 and r["round"] is None)]

    assert "Pooled lacks seed 3" in absent(read_results(edited(interrupt)))


def test_images_of_patients_are_not_shown(edited: Callable[..., Path], run: Path) -> None:
    def make_real(tree: dict[str, Any]) -> None:
        tree["meta"]["synthetic"] = False

    directory = edited(make_real)
    (directory / "contact_shanghai.png").write_bytes((run / "contact_shanghai.png").read_bytes())
    page = write_report(directory).read_text()
    assert "SYNTHETIC" not in page
    assert "those of patients stay at their hospital" in page
    assert "Ultrasound images of" not in page


def test_numbers_that_are_not_finite_are_left_out(edited: Callable[..., Path]) -> None:
    def spoil(tree: dict[str, Any]) -> None:
        tree["rows"][0]["value"] = float("nan")
        tree["rows"][1]["value"] = None

    directory = edited(spoil)
    page = write_report(directory).read_text()
    shown = [page, (directory / "results.csv").read_text(), (directory / "comparison.csv").read_text()]
    assert not [text for text in shown if re.search(r"\bnan\b|\binf\b", text, re.IGNORECASE)]


def test_two_scores_for_one_participant_are_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_bytes((run / "results.json").read_bytes())
    lines = (run / "scores.csv").read_text().splitlines()
    (tmp_path / "scores.csv").write_text("\n".join([*lines[:40], lines[1]]))
    with pytest.raises(UndefinedMetric, match="one score per participant"):
        write_report(tmp_path)


def test_hundreds_of_hospitals_still_fit(tmp_path: Path) -> None:
    rows = [
        {"arm": arm, "site": site, "round": at, "metric": "auc", "value": 0.8, "ci_low": 0.7, "ci_high": 0.87, "n": 50}
        for site in ("central", *(f"h{i}" for i in range(200)))
        for arm, at in (("federated", None), ("federated", 0), ("federated", 1))
    ]
    (tmp_path / "results.json").write_text(json.dumps({"rows": rows}))
    assert "Pooled over 200 hospitals" in words(write_report(tmp_path).read_text())


# --- sentences --------------------------------------------------------------------------------------------------------


def test_small_test_groups_and_mixed_reference_standards_are_limitations(run: Path) -> None:
    text = " ".join(limitations(read_results(run)))
    for part in ("Zhongshan (6)", "reference standards differ", "not external validation", "synthetic"):
        assert part in text, part


def test_differential_privacy_and_shared_extremes_are_said(run: Path) -> None:
    results = read_results(run)
    settings = {"target_epsilon": 3.0, "statistics": "exact"}
    study = results.meta.study | {"privacy": settings, "tabular": {"scaling": "minmax"}}
    text = " ".join(privacy(Results(results.meta.model_copy(update={"study": study}), results.rows)))
    assert "target_epsilon 3.0" in text
    assert "its epsilon is not known here" in text
    assert "each belong to one person" in text


def test_numbers_are_written_as_people_write_them() -> None:
    assert number(-0.0004, 2) == "0.00"
    assert number(-0.126, 2, signed=True) == "−0.13"
    assert number(0.126, 2, signed=True) == "+0.13"
    assert number(None, 2) == "–"
    assert [size(n) for n in (12, 1_500, 41_300_000, 2_400_000_000)] == ["12 bytes", "1.5 kB", "41.3 MB", "2.4 GB"]


def test_one_seed_has_no_standard_deviation() -> None:
    row = Row(arm="federated", metric="auc", value=0.8, ci_low=0.7, ci_high=0.9)
    found = Results(Meta(), (row,)).over_seeds("federated", "auc")
    assert found is not None
    assert found.sd is None
    assert found.seeds == 1
