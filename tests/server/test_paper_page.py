"""The page beside the paper stands alone, names nobody, shows every figure that it can, and says what is missing."""

import html
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

from server.paper.page import FIGURES, write_paper

sys.path.insert(0, str(Path(__file__).parent))
from example_paper import Made, write_cross_validation
from example_run import write_run

pytestmark = pytest.mark.slow  # invented runs are scored, pages drawn


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paper")
    runs = {
        "paper": write_cross_validation(folder / "cv"),
        "complete_cases": write_cross_validation(folder / "complete", Made(seeds=(1, 2), complete_cases=True)),
        "federated": write_run(folder / "fed", arms=["federated", "pooled", "local:sichuan"], seeds=[1]),
    }
    return write_paper(runs, folder / "out").parent


def words(page: Path) -> str:
    """What a reader sees."""
    text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(text).replace("\N{NO-BREAK SPACE}", " "))


def test_everything_is_written(out: Path) -> None:
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    tables = {f"table{k}.{form}" for k in (1, 2, 3, 4) for form in ("csv", "tex", "md")}
    figures = {f"figures/{name}.png" for name in ("overview", "figure3", "figure4", "figure5", "figure6")}
    assert names == tables | figures | {"paper.html", "paper.md", "further.csv"}


def test_the_page_stands_alone_and_names_nobody(out: Path) -> None:
    page = (out / "paper.html").read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!data:image/png|#)', page)
    assert page.count("data:image/png") == len(FIGURES)
    for path in out.glob("*.*"):
        assert "SECRET" not in path.read_text(encoding="utf-8")


def test_every_table_and_figure_says_whose_it_is(out: Path) -> None:
    text = words(out / "paper.html")
    assert "only Table 1 is numbered as printed" in text
    for number in (2, 3, 4):
        assert f"Table {number} (numbering inferred)" in text
    for number in (3, 4, 5, 6):
        assert f"Figure {number} (numbering inferred)" in text
    assert text.count("CALIBRATED: the synthetic cohort was tuned to the paper's Table 1 and AUCs.") >= 5, (
        "beside every table"
    )


def test_the_figures_are_wide_enough_to_be_read(out: Path) -> None:
    for path in (out / "figures").glob("figure[345].png"):
        with Image.open(path) as picture:
            assert picture.width >= 1600


def test_the_count_of_agreements_counts_each_printed_number_once(out: Path) -> None:
    found = re.search(
        r"Of (\d+) printed numbers .*? (\d+) lie within our 95 % interval and (\d+) do not", words(out / "paper.html")
    )
    assert found is not None
    everything, inside, outside = map(int, found.groups())
    assert everything == 6 * 5 + 6 * 5 + 2 * 5
    assert inside + outside == everything


def test_one_folder_alone_is_the_papers_protocol(tmp_path: Path) -> None:
    folder = write_cross_validation(tmp_path / "cv", Made(seeds=(1,), baseline=False, explanation=False))
    text = words(write_paper(folder, tmp_path / "out"))
    assert 'Not run: no run was given for "complete_cases"' in text
    assert 'Not run: no run was given for "federated"' in text
    assert "Not run: the run holds no baseline table of shanghai." in text
    assert "Not drawn: Figure 5" in text
    assert "Not drawn: Figure 6" in text


def test_complete_cases_alone_are_enough_for_a_page(tmp_path: Path) -> None:
    folder = write_cross_validation(tmp_path / "cv", Made(seeds=(1,), complete_cases=True))
    page = write_paper({"complete_cases": folder}, tmp_path / "out")
    text = words(page)
    assert 'Not run: no run was given for "paper"' in text
    assert "Shares of the contributions, complete cases." in text
    assert "0.810" in text
    assert (tmp_path / "out" / "figures" / "figure4.png").exists()
    assert not (tmp_path / "out" / "figures" / "figure3.png").exists()


def test_pictures_of_real_people_are_never_shown(tmp_path: Path) -> None:
    folder = write_cross_validation(tmp_path / "cv", Made(seeds=(1,), synthetic=False, preset=None))
    assert (folder / "explanation").exists()
    page = write_paper(folder, tmp_path / "out")
    assert not (tmp_path / "out" / "figures" / "figure6.png").exists()
    assert "or its people are real" in words(page)
    assert "SYNTHETIC" not in words(page)


def test_a_figure_of_an_earlier_run_does_not_stay(tmp_path: Path) -> None:
    write_paper(write_cross_validation(tmp_path / "one", Made(seeds=(1,))), tmp_path / "out")
    assert (tmp_path / "out" / "figures" / "figure5.png").exists()
    later = write_cross_validation(tmp_path / "two", Made(seeds=(1,), explanation=False))
    write_paper(later, tmp_path / "out")
    assert not (tmp_path / "out" / "figures" / "figure5.png").exists()
