"""What a hospital is told before anything is sent is what its worker would say of every request."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from client import doctor
from client.cli import app
from client.joining import Joining
from client.policy import Refusal, check_people
from client.site_config import SiteConfig
from client.site_folder import UNKNOWN_RULE, SiteFolder
from client.suitability import count, labels, people, suits
from client.workspace import open_site
from sarco_models.config import StudyConfig, load_config
from sarco_models.errors import ConfigError
from tests.client.federated import a_folder, a_study, with_kit
from tests.sites import image_study, site_of, tables_site, tables_study


def changed(folder: SiteFolder, old: str, new: str) -> None:
    text = folder.site_file.read_text()
    assert old in text
    folder.site_file.write_text(text.replace(old, new))


def a_hospital(place: Path, study: StudyConfig, n: int = 40, *, without_images: int = 0) -> SiteFolder:
    """A folder whose site.toml names the study's rule, beside data of that study."""
    site_of(place / "data", study, n)
    if without_images:
        path = place / "data" / "images.csv"
        rows = list(csv.reader(path.read_text().splitlines()))
        gone = {f"Q{k:03d}" for k in range(without_images)}
        who = rows[0].index("participant_id")
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(row for row in rows if row[who] not in gone)
    folder = a_folder(place, rule=study.label.rule)
    (folder.path / "study.json").write_text(study.model_dump_json())
    return folder


# ---- how many train --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"split": {"train": 0.5, "validation": 0.2}},
        {"split": {"folds": 4, "fold": 1}},
        {"split": {"use": 0.5}},
        {"split": {"complete_cases": True}},
    ],
)
def test_who_is_counted_is_who_would_train(tmp_path: Path, changes: dict[str, Any]) -> None:
    study = tables_study(**changes)
    folder = a_hospital(tmp_path, study)
    found = count(str(folder.site_file), study.model_dump_json())
    site = open_site(folder.site_file)
    assert found["training"] == len(site.split.train)
    assert found["all"] == len(site.split.cohort)


@pytest.mark.parametrize(("modalities", "all_"), [(("image",), 30), (("image", "clinical"), 36)])
def test_who_has_no_image_counts_where_tables_are_looked_at_too(
    tmp_path: Path, modalities: tuple[str, ...], all_: int
) -> None:
    study = image_study(model={"modalities": list(modalities)})
    folder = a_hospital(tmp_path, study, 36, without_images=6)
    found = count(str(folder.site_file), study.model_dump_json())
    site = open_site(folder.site_file)
    assert (
        (found["training"], found["all"])
        == (len(site.split.train), all_)
        == (found["training"], len(site.split.cohort))
    )
    assert found["images"] == (modalities == ("image",)), "some of them may yet have no image that can be read"


@pytest.mark.parametrize("least", [2, 24, 25, 40])
def test_the_verdict_is_the_workers(tmp_path: Path, least: int) -> None:
    study = a_study(federation={"min_participants": least, "min_sites": 1})
    folder = a_hospital(tmp_path, study)
    config, site = load_config(folder.site_file, SiteConfig), open_site(folder.site_file)
    train = site.split.train
    try:
        check_people(training=len(train), positive=int(train.labels.sum()), policy=config.policy, study=study)
        refused = False
    except Refusal:
        refused = True
    assert (people(folder, study).level == "fault") == refused
    assert refused == (len(train) < least)


def test_the_greater_limit_is_named_with_whose_it_is_and_the_way_out(tmp_path: Path) -> None:
    folder = a_folder(tmp_path, rule="invented2026")
    train = count(str(folder.site_file), a_study().model_dump_json())["training"]
    found = people(folder, a_study(federation={"min_participants": 50, "min_sites": 1}))
    assert found.level == "fault"
    assert found.value == f"{train} of your 40 participants would train; the others validate and test"
    assert found.limit == "at least 50: the study's min_participants"
    assert f"add participants to {folder.data / 'participants.csv'}" in found.remedy
    assert f"whose min_participants is {train} or less" in found.remedy
    assert "min_training_participants" not in found.remedy, "lowering it alone does not help"
    changed(folder, "min_training_participants = 10", "min_training_participants = 60")
    found = people(folder, a_study())
    assert found.limit == f"at least 60: min_training_participants in {folder.site_file}"
    assert f"lower min_training_participants in site.toml to {train}" in found.remedy
    both = people(folder, a_study(federation={"min_participants": 50, "min_sites": 1})).remedy
    assert f"lower min_training_participants in site.toml to {train}" in both
    assert "ask the coordinator" in both


def test_one_class_and_a_delta_that_hides_nobody_are_faults(tmp_path: Path) -> None:
    folder = a_hospital(tmp_path, a_study(), 200)
    private = {"training": {"local_steps": 2, "balance_classes": False}}
    found = people(folder, a_study(privacy={"epsilon": 8.0, "delta": 9e-3}, **private))
    assert (found.level, "delta = 0.009 is not below one in" in found.value) == ("fault", True)
    table = folder.data / "participants.csv"
    rows = list(csv.reader(table.read_text().splitlines()))
    label = rows[0].index(a_study().label.column)
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([rows[0], *([*r[:label], "0", *r[label + 1 :]] for r in rows[1:])])
    found = people(folder, a_study())
    assert (found.level, "have the same label" in found.value) == ("fault", True)


def test_tables_with_faults_are_counted_and_no_value_of_them_is_said(tmp_path: Path) -> None:
    folder = a_folder(tmp_path, rule="invented2026")
    table = folder.data / "participants.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, lines[-1].replace(lines[-1].split(",")[-1], "SECRET-7")]))
    found = people(folder, a_study())
    assert found.level == "fault"
    assert "the data cannot be used" in found.value
    assert "sarco-site check-data" in found.remedy
    assert "SECRET" not in str(found)
    table.unlink()
    assert people(folder, a_study()).level == "fault"


# ---- how the labels were made ----------------------------------------------------------------------------------------


def test_a_rule_that_nobody_has_said_is_a_fault_and_no_site_opens_with_it(tmp_path: Path) -> None:
    mixed = {"column": "sarcopenia", "rule": "awgs2019", "allow_mixed_rules": True}
    study = a_study(label={**a_study().label.model_dump(), **mixed, "column": a_study().label.column})
    folder = a_folder(tmp_path)
    (folder.path / "study.json").write_text(study.model_dump_json())
    found = labels(folder, study)
    assert (found.level, UNKNOWN_RULE in found.value) == ("fault", True)
    assert 'label_rule = "awgs2019" if yours are made as the study\'s are; else the name of your rule' in found.remedy
    with pytest.raises(ConfigError, match=r"label_rule = 'not_said_yet', and it leaves with the first answer"):
        open_site(folder.site_file)
    changed(folder, UNKNOWN_RULE, "ours2020")
    assert labels(folder, study).value == "made by ours2020; the study's are by awgs2019, and it takes others"
    assert open_site(folder.site_file).label_rule == "ours2020"
    assert labels(folder, a_study()).level == "fault", "a study of one rule takes no other"


# ---- who says it, and when -------------------------------------------------------------------------------------------


def test_doctor_and_join_say_it_before_anything_is_laid_out(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    kit = with_kit(tmp_path, folder)
    named = {check.name: check.level for check in doctor.examine(folder)}
    assert (named["labels"], named["participants"]) == ("ok", "ok")
    changed(folder, "min_training_participants = 10", "min_training_participants = 1000")
    named = {check.name: check.level for check in doctor.examine(folder)}
    assert named["participants"] == "fault"
    with pytest.raises(
        ConfigError, match=r"of your 40 participants would train.*at least 1000.*Nothing was started or sent"
    ):
        Joining.prepare(folder, kit)
    assert not list(folder.flower.iterdir())
    changed(folder, "min_training_participants = 1000", "min_training_participants = 10")
    changed(folder, kit.study.label.rule, UNKNOWN_RULE)
    with pytest.raises(ConfigError, match="does not say how your labels were made"):
        Joining.prepare(folder, kit)


def test_the_ledger_the_audit_log_and_the_cache_are_not_touched(tmp_path: Path) -> None:
    folder = a_folder(tmp_path, rule="invented2026")
    before = sorted(folder.path.rglob("*"))
    list(suits(folder, a_study()))
    assert sorted(folder.path.rglob("*")) == before


def test_init_says_what_is_open_and_takes_the_answer(tmp_path: Path) -> None:
    data = tables_site(tmp_path / "data")

    def init(*words: str) -> tuple[int, str]:
        shutil.rmtree(tmp_path / "h", ignore_errors=True)
        command = ["init", str(tmp_path / "h"), "--name", "alpha", "--data", str(data), *words]
        result = CliRunner().invoke(app, command)
        return result.exit_code, result.output

    code, text = init()
    assert (code, "How your labels were made is not said yet: label_rule in" in text) == (0, True)
    code, text = init("--label-rule", "ewgsop2")
    assert (code, "not said yet" in text) == (0, False)
    assert SiteFolder.open(tmp_path / "h").settings["label_rule"] == "ewgsop2"
    code, text = init("--label-rule", "AWGS 2019")
    assert (code, "--label-rule 'AWGS 2019'" in text) == (1, True)


@pytest.mark.slow  # three processes
def test_reading_a_site_and_judging_its_data_loads_no_torch(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    kit = with_kit(tmp_path, folder)
    words = (
        "import sys; from pathlib import Path; from client import doctor; from client.kit import stored;"
        "from client.joining import Joining; from client.site_folder import SiteFolder;"
        f"folder = SiteFolder.open(Path({str(folder.path)!r})); checks = list(doctor.examine(folder));"
        "Joining.prepare(folder, stored(folder));"
        "assert {c.name: c.level for c in checks}['participants'] == 'ok', checks;"
        "print([m for m in ('torch', 'timm', 'cv2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    assert done.returncode == 0, done.stderr
    assert "torch" not in done.stdout
    assert kit.digest
