"""A hospital whose masks are found: it says where the model lies, its data are checked, another model is refused."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client import doctor
from client.cli import app
from client.ingest import ingest
from client.mask_words import finding_masks
from client.study_words import sections
from client.workspace import open_site
from sarco_models.config import StudyConfig, beside, load_study
from sarco_models.errors import ConfigError
from sarco_models.parameters import Manifest
from simulation.experiment_config import merged_study
from tests.client.federated import a_folder, kit_file
from tests.exports import make_export
from tests.finders import FINDER, auto_study, drawn_masks, finds, frames_of, stored_finder
from tests.sites import image_site, image_study, read_csv, write_rows

ROOT = Path(__file__).parents[2]
IN_SPECKLE = "burned-in-text"


@pytest.fixture
def finder(tmp_path: Path) -> Path:
    return stored_finder(tmp_path / "models" / FINDER, synthetic=False)


def hospital(tmp_path: Path, study: StudyConfig, segmenter: Path | None = None, name: str = "site") -> Path:
    """A hospital's site.toml; no one has drawn the first two masks."""
    data = image_site(tmp_path / name / "data", n=8)
    rows = read_csv(data / "images.csv")
    write_rows(data / "images.csv", [{**row, "mask": "" if k < 2 else row["mask"]} for k, row in enumerate(rows)])
    root = data.parent
    (root / "study.json").write_text(study.model_dump_json())
    line = f'segmenter = "{segmenter}"\n' if segmenter else ""
    text = f'name = "{name}"\ndata = "data"\nstudy = "study.json"\nlabel_rule = "invented2026"\n{line}'
    (root / "site.toml").write_text(text)
    return root / "site.toml"


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, " ".join(result.output.split())


# ---- the worker ------------------------------------------------------------------------------------------------------


def test_two_hospitals_with_different_weights_are_not_in_one_study(tmp_path: Path, finder: Path) -> None:
    study = auto_study(finder)
    own = shutil.copytree(finder, tmp_path / "copies" / "renamed")
    one = open_site(hospital(tmp_path, study, own, "one"))
    assert one.study.digest == study.digest
    assert {o.source for o in one.split.cohort.caches[0].origins} == {"drawn", "tissue"}
    other = stored_finder(tmp_path / "third" / FINDER, seed=2)
    with pytest.raises(ConfigError, match="all hospitals use the same one; ask the coordinator"):
        open_site(hospital(tmp_path, study, other, "two"))
    with pytest.raises(ConfigError, match=r'write segmenter = "FOLDER" in site\.toml'):
        open_site(hospital(tmp_path, study, name="three"))


def test_a_hospital_is_warned_when_it_opens(
    tmp_path: Path, finder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random weights find nothing good: all images without a drawn mask are shown whole."""
    invented = stored_finder(tmp_path / "invented" / FINDER, synthetic=True)
    open_site(hospital(tmp_path, auto_study(invented), invented))
    assert "2 without a good one" in caplog.text
    assert "trained on computer-made people (SYNTHETIC)" in caplog.text
    caplog.clear()
    site = hospital(tmp_path, auto_study(finder), finder, "good")
    with monkeypatch.context() as patch:
        (site.parent / "again").mkdir()
        whole = image_site(site.parent / "again", n=8)
        finds(patch, drawn_masks(whole, frames_of(whole)))
        open_site(site)
    assert caplog.text == ""


# ---- the commands ----------------------------------------------------------------------------------------------------


def test_check_data_finds_masks_and_training_finds_them_in_its_cache(
    tmp_path: Path, finder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = hospital(tmp_path, auto_study(finder), finder)
    whole = image_site(tmp_path / "whole", n=8)
    finds(monkeypatch, drawn_masks(whole, frames_of(whole)))
    page, facts = tmp_path / "page.html", tmp_path / "facts.json"
    command = ("check-data", site.parent / "data", "--study", site.parent / "study.json", "--site", site)
    code, said = run(*command, "--workers", 0, "--report", page, "--json", facts)
    assert "12 images: 10 with a drawn mask, 2 with one found, 0 without a good one" in said
    assert "no mask;" not in said, "an image without a drawn mask is no fault"
    assert code == 1, "tiny speckle looks like writing, and nothing else is an error"
    assert {f["rule"] for f in json.loads(facts.read_text())["findings"] if f["severity"] == "error"} == {IN_SPECKLE}
    assert "2 found by the model" in page.read_text()
    assert "Where the masks come from" in page.read_text()
    assert "P000" not in facts.read_text()
    monkeypatch.setattr("sarco_models.auto_masks.Finder.look", lambda *_: pytest.fail("found again"))
    assert [o.source for o in open_site(site).split.cohort.caches[0].origins] == ["found"] * 2 + ["drawn"] * 10
    assert run(*command, "--workers", 0) == (1, said[: said.index(" written:")]), "from what was kept"


@pytest.mark.slow
def test_check_data_finds_masks_in_processes_of_its_own(tmp_path: Path, finder: Path) -> None:
    study = auto_study(finder, auto={"otherwise": "leave_out"})
    site = hospital(tmp_path, study, finder)
    data, study_file = site.parent / "data", site.parent / "study.json"
    _, said = run("check-data", data, "--study", study_file, "--site", site, "--workers", 2)
    assert "2 x mask-not-found images/000_0.png, row 2, mask: no good mask (a score of 0.0" in said
    assert "check-failed" not in said
    assert len(open_site(site).split.cohort.owner) == 10


def test_check_data_says_at_once_that_the_model_is_absent(tmp_path: Path, finder: Path) -> None:
    site = hospital(tmp_path, auto_study(finder))
    code, said = run("check-data", site.parent / "data", "--study", site.parent / "study.json", "--site", site)
    assert code == 2
    assert "get its folder from the coordinator" in said
    assert not (site.parent / "cache").exists()


def test_doctor_looks_whether_the_model_lies_here(tmp_path: Path, finder: Path) -> None:
    from client.kit import read_kit, store

    folder, study = a_folder(tmp_path), auto_study(finder)
    changes = {"study": json.loads(study.model_dump_json()), "digest": study.digest}
    kit = read_kit(kit_file(tmp_path, folder, **changes), folder.name)
    store(kit, folder)
    (absent,) = doctor.segmenter(folder, kit)
    assert (absent.level, absent.name) == ("fault", "segmenter")
    assert "write segmenter" in absent.value
    # A key stands above the tables.
    folder.site_file.write_text(f'segmenter = "{finder}"\n' + folder.site_file.read_text())
    (there,) = doctor.segmenter(folder, kit)
    assert (there.level, there.value.startswith(str(finder))) == ("ok", True)
    about = json.loads((finder / "model.json").read_text())
    (finder / "model.json").write_text(json.dumps({**about, "synthetic": True}))
    (other,) = doctor.segmenter(folder, kit)
    assert (other.level, "all hospitals use the same one" in other.value) == ("fault", True)
    plain = read_kit(kit_file(tmp_path, folder), folder.name)
    assert list(doctor.segmenter(folder, plain)) == []


# ---- in words --------------------------------------------------------------------------------------------------------


def test_a_hospital_reads_what_is_found_here_and_by_what(finder: Path) -> None:
    study = auto_study(finder)
    words = " ".join(finding_masks(study))
    assert study.image.auto is not None
    for part in (FINDER, study.image.auto.sha256[:12], "Where nobody has drawn", "shown whole", "stays here"):
        assert part in words
    other = " ".join(finding_masks(auto_study(finder, auto={"masks": "all", "otherwise": "leave_out"})))
    assert "On every image" in other
    assert "left out" in other
    assert list(finding_masks(image_study())) == []
    from client.policy import Policy

    _, read, *_ = sections(study, Manifest((), ()), Policy())
    assert "the tissue under the mask" in str(read)
    assert FINDER in str(read)


def test_ingest_demands_no_mask_where_masks_are_found(tmp_path: Path, finder: Path) -> None:
    export = make_export(tmp_path / "source")
    agreed = load_study(ROOT / "configs" / "study.toml")
    auto = beside(merged_study(agreed, {"image": {"roi": "auto", "auto": {"segmenter": str(finder)}}}), finder)
    told = {}
    for name, study in (("mask", agreed), ("auto", auto)):
        done = ingest(export.folder, tmp_path / name, study, workers=0)
        told[name] = {finding.rule for finding in done.findings}
    assert "no-mask" in told["mask"]
    assert told["auto"] == told["mask"] - {"no-mask"}
