"""An experiment of hospitals that draw muscles: what makes no sense is refused before anything is made; it runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from sarco_models.errors import ConfigError
from server.report import write_report
from simulation.experiment_config import CohortConfig
from simulation.experiments import Experiment, with_scale
from simulation.muscle_cohort import make_muscle_cohort
from simulation.runner import run_experiment
from tests.muscle_sites import muscle_site, muscle_study
from tests.sites import tables_study

PROJECT = Path(__file__).resolve().parents[2]
SHIPPED = PROJECT / "configs" / "experiments" / "muscles.toml"
HEAD = """
name = "muscles"
title = "Muscles"
study = "study.json"
"""
MADE = '[cohort]\nkind = "muscles"\nscale = "tiny"\n'


def experiment(folder: Path, body: str, study: Any = None) -> Experiment:
    (folder / "study.json").write_text((study or muscle_study()).model_dump_json())
    (folder / "x.toml").write_text(HEAD + body)
    return Experiment.load(folder / "x.toml", folder / "out")


def refusal(folder: Path, body: str, study: Any = None) -> str:
    with pytest.raises(ConfigError) as caught:
        experiment(folder, body, study)
    return str(caught.value)


def test_the_shipped_experiment_has_an_arm_for_each_hospital_that_will_be_made(tmp_path: Path) -> None:
    loaded = Experiment.load(SHIPPED, tmp_path, changes=with_scale("tiny", [3]))
    assert loaded.site_names == ["hospital_a", "hospital_b", "hospital_c"]
    assert loaded._arm_names() == ["federated", "pooled", *(f"local:{name}" for name in loaded.site_names)]
    assert loaded.config.cohort is not None
    assert loaded.config.cohort.options.keys() <= make_muscle_cohort.__kwdefaults__.keys()


def test_a_cohort_without_a_kind_is_what_it_was() -> None:
    cohort = CohortConfig()
    assert cohort.kind == "sarcopenia"
    assert cohort.names == ("shanghai", "sichuan", "zhongshan")
    assert set(cohort.options) == {
        "scale", "preset", "central_participants", "width_px", "device_shift", "prevalence_shift",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ('controls = { age = "feature:age_years" }\n', "controls: the study finds muscles, and they guess"),
        ('explain = ["federated"]\n', "explain: the study finds muscles"),
        ('explain_images = ["federated"]\n', "explain_images: the study finds muscles"),
        ('[cross_validation]\nsite = "hospital_a"\n', "give several seeds instead"),
    ],
)
def test_what_speaks_of_a_diagnosis_is_refused(tmp_path: Path, setting: str, why: str) -> None:
    said = refusal(tmp_path, setting + MADE if not setting.startswith("[") else MADE + setting)
    assert why in said
    assert "remove it" in said


def test_hospitals_and_study_are_of_one_kind(tmp_path: Path) -> None:
    assert 'write kind = "muscles"' in refusal(tmp_path, '[cohort]\nscale = "tiny"\n')
    assert 'write kind = "sarcopenia"' in refusal(tmp_path, MADE, tables_study())
    changed = MADE + '[variants.other]\ntitle = "Other"\ncohort.kind = "sarcopenia"\n'
    assert "the experiment's is 'muscles'" in refusal(tmp_path, changed)


@pytest.mark.parametrize(
    ("key", "kind"), [("prevalence_shift = 0.5", "sarcopenia"), ('preset = "as_printed"', "sarcopenia")]
)
def test_a_key_of_the_other_kind_is_refused(tmp_path: Path, key: str, kind: str) -> None:
    said = refusal(tmp_path, f"{MADE}{key}\n")
    assert key.split()[0] in said
    assert f'write kind = "{kind}"' in said
    assert 'write kind = "muscles"' in refusal(tmp_path, "[cohort]\nsites = 4\n")


def test_a_muscle_that_nobody_can_draw_is_refused(tmp_path: Path) -> None:
    assert "deltoid" in refusal(tmp_path, f'{MADE}annotates = {{ hospital_a = ["deltoid"] }}\n')


@pytest.mark.slow
def test_folders_of_hospitals_run_to_a_report_and_are_only_read_again(tmp_path: Path) -> None:
    for k, name in enumerate(("north", "south", "central")):
        muscle_site(tmp_path / name, 16, seed=k)
    study = muscle_study(federation={"rounds": 1, "min_participants": 2})
    body = 'arms = ["federated", "local"]\ncentral = "central"\n[sites]\nnorth = "north"\nsouth = "south"\n'
    loaded = experiment(tmp_path, body, study)
    results = json.loads(run_experiment(loaded, lambda _: None, workers=1).read_text())
    rows = {(r["arm"], r["site"], r["metric"]): r for r in results["rows"] if r["round"] is None}
    assert {arm for arm, _, _ in rows} == {"federated", "local:north", "local:south"}
    assert rows["federated", "central", "dice"]["n"] == 16
    assert rows["federated", "all", "dice:biceps"]["n"] == 16 + 3 + 3
    assert ("federated", "central", "dice_difference:local:north") in rows
    assert {r["metric"] for r in results["rows"] if r["round"] is not None} >= {"dice", "loss"}
    assert results["meta"]["synthetic"] is False
    assert results["meta"]["sites"]["north"]["positives"] is None
    assert results["tables"]["muscles"]["drawn"]["north"] == {"biceps": 11, "triceps": 11, "rectus_femoris": 11}
    assert results["tables"]["muscles"]["measured"]["federated"]["1"]["south"]["participants"] == 3
    assert not (tmp_path / "out" / "examples.png").exists()  # pixels of real people enter no report
    page = write_report(tmp_path / "out")
    assert "SYNTHETIC" not in page.read_text().replace("SYNTHETIC: these", "")
    arm = tmp_path / "out" / "arms" / "1" / "federated" / "arm.json"
    written = arm.stat().st_mtime_ns
    run_experiment(loaded, lambda _: None, workers=1)
    assert arm.stat().st_mtime_ns == written
