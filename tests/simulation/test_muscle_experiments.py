"""An experiment of hospitals that draw muscles: what makes no sense is refused before anything is made; it runs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sarco_models.errors import ConfigError
from sarco_models.segmentation import PlanConfig
from server.report import write_report
from server.results import read_results
from simulation.experiment_config import CohortConfig
from simulation.experiments import Experiment, with_scale
from simulation.muscle_cohort import make_muscle_cohort
from simulation.runner import prepare_federated, run_experiment
from simulation.summary import planned_words
from tests.muscle_sites import muscle_site, muscle_study
from tests.sites import tables_study

PROJECT = Path(__file__).resolve().parents[2]
SHIPPED = PROJECT / "configs" / "experiments" / "muscles.toml"
NETWORKS = PROJECT / "configs" / "experiments" / "nnunet.toml"
HEAD = """
name = "muscles"
title = "Muscles"
study = "study.json"
"""
MADE = '[cohort]\nkind = "muscles"\nscale = "tiny"\n'
TWO = 'arms = ["federated"]\nstudy_itself = false\n'
PLANNED = """
[variants.nnunet]
title = "nnU-Net"
overrides.segmentation.network = "nnunet"
[variants.unet]
title = "U-Net"
framed_as = "nnunet"
"""
PLAN = PlanConfig(patch=(96, 96), mm_per_pixel=0.5, features=(8, 16, 32), grey_mean=60, grey_sd=20)


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
    assert loaded.arm_names() == ["federated", "pooled", *(f"local:{name}" for name in loaded.site_names)]
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


# ---- networks that the hospitals plan --------------------------------------------------------------------------------


def test_the_shipped_comparison_of_networks_shows_both_the_same_squares(tmp_path: Path) -> None:
    loaded = Experiment.load(NETWORKS, tmp_path, changes=with_scale("tiny", [3, 4]))
    assert loaded.arm_names() == ["federated@nnunet", "federated@unet"]
    assert loaded.study_of("nnunet", 3).unplanned
    known = replace(loaded, plans={("nnunet", 3): PLAN})
    planned, framed = known.study_of("nnunet", 3), known.study_of("unet", 3)
    assert planned.segmentation is not None
    assert framed.segmentation is not None
    assert planned.segmentation.plan == PLAN
    assert (framed.segmentation.network, framed.segmentation.plan) == ("unet", None)
    assert framed.image == planned.image
    assert (framed.image.size, framed.image.window_mm) == (96, 48.0)
    same = {"segmentation", "image"}
    assert framed.model_dump(exclude=same) == planned.model_dump(exclude=same) == loaded.study.model_dump(exclude=same)
    assert known.study_of("nnunet", 4).unplanned  # of other people, who have made none yet
    assert known.study_of("unet", 4) == loaded.study


def test_every_seed_has_a_plan_of_its_own_people(tmp_path: Path) -> None:
    loaded = experiment(tmp_path, f"seeds = [1, 2]\n{TWO}{MADE}{PLANNED}")
    for seed in (1, 2):
        for name in loaded.site_names:
            (loaded.data(seed) / name).mkdir(parents=True)
    assert [list(loaded.drafts(seed)) for seed in (1, 2)] == [[("nnunet", 1)], [("nnunet", 2)]]
    draft = loaded.drafts(2)["nnunet", 2]
    assert draft.study.training.seed == 2
    assert draft.study.federation.min_sites == 3
    assert draft.folder == tmp_path / "out" / "plans" / "2" / "nnunet"
    known = replace(loaded, plans={("nnunet", 2): PLAN})
    assert not known.drafts(2)
    assert {arm.name: arm.study.image.size for arm in known.arms(2)} == {"federated@nnunet": 96, "federated@unet": 96}


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('as = "nnunet"', 'as = "nnnet"', r"unet.framed_as = 'nnnet': is none of the variants nnunet, unet"),
        ('as = "nnunet"', 'as = "unet"', "framed_as = 'unet': this variant's network is not planned here"),
        ('title = "nnU-Net"', 'title = "nnU-Net"\nframed_as = "unet"', "variants.nnunet.framed_as = 'unet': its own"),
        ('title = "U-Net"', 'title = "U-Net"\ncohort.device_shift = 2.0', "has other hospitals"),
        ('title = "nnU-Net"', 'title = "nnU-Net"\narms = ["without"]', 'variants.nnunet: arms: "without"'),
    ],
)
def test_a_plan_that_cannot_be_made_is_refused_before_anything_runs(
    tmp_path: Path, old: str, new: str, why: str
) -> None:
    assert why in refusal(tmp_path, TWO + MADE + PLANNED.replace(old, new))


def test_sums_of_a_private_study_are_not_spent_twice(tmp_path: Path) -> None:
    private = muscle_study(
        privacy={"epsilon": 8.0, "delta": 1e-3, "statistics": "withheld"},
        training={"local_steps": 1, "optimizer": "sgd", "learning_rate": 0.05},
    )
    assert "make the plan with `sarco-lab plan`" in refusal(tmp_path, TWO + MADE + PLANNED, private)


def test_what_is_prepared_by_hand_is_the_study_itself_and_nothing_is_made_before_that_is_clear(tmp_path: Path) -> None:
    loaded = Experiment.load(NETWORKS, tmp_path / "out", changes=with_scale("tiny", []))
    with pytest.raises(ConfigError, match=r"trains federated@nnunet, federated@unet; .* study_itself = true"):
        prepare_federated(loaded, lambda _: None)
    assert not loaded.out.exists()


@pytest.mark.slow
def test_hospitals_plan_a_network_and_it_is_held_against_another_on_the_same_people(tmp_path: Path) -> None:
    for k, name in enumerate(("north", "south", "central")):
        muscle_site(tmp_path / name, 12, seed=k)
    study = muscle_study(federation={"rounds": 1, "min_participants": 2}, training={"local_steps": 1})
    body = TWO + 'central = "central"\n[sites]\nnorth = "north"\nsouth = "south"\n' + PLANNED
    loaded = experiment(tmp_path, body, study)
    results = json.loads(run_experiment(loaded, lambda _: None, workers=1).read_text())
    rows = {(r["arm"], r["site"], r["metric"]): r for r in results["rows"] if r["round"] is None}
    first, second = (rows[f"federated@{name}", "central", "dice:biceps"]["value"] for name in ("nnunet", "unet"))
    apart = rows["federated@nnunet", "central", "dice:biceps_difference:federated@unet"]
    assert apart["value"] == pytest.approx(first - second)
    assert apart["n"] == 12
    assert apart["ci_low"] <= apart["value"] <= apart["ci_high"]
    made = results["tables"]["muscles"]["plans"]["nnunet"]["1"]
    assert made["sites"] == ["north", "south"]
    assert [line for line in planned_words(read_results(tmp_path / "out")) if "96 x 96 pixels" in line]
    assert results["meta"]["study"]["segmentation"]["plan"] == made["plan"]
    assert "minus Federated, U-Net" in write_report(tmp_path / "out").read_text()
    plan = loaded.plan_folder("nnunet", 1) / "plan.json"
    written = plan.stat().st_mtime_ns
    run_experiment(loaded, lambda _: None, workers=1)
    assert plan.stat().st_mtime_ns == written
