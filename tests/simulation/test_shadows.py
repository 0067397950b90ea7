"""Shadow models are the study's own, on halves of its people; the attacks find what is there and nothing else."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from client.policy import Policy
from client.workspace import Site
from sarco_models.cohort import Split, split
from sarco_models.config import StudyConfig
from sarco_models.errors import ConfigError
from sarco_models.membership import gaussian_bound, likelihood_ratio, members_found, offline_ratio
from sarco_models.metrics import auc
from sarco_models.parameters import Parameters, trained_tensors
from sarco_models.secret import Secret
from server.runs import Run
from simulation import attacks as attacking
from simulation import shadows
from simulation.cli import app
from simulation.grid import as_coordinator
from simulation.harness import Arm, SiteFolder, prepare, run_arm
from simulation.shadows import Trials, attacked, attacks, halves, trained, trials
from tests.muscle_sites import muscle_study
from tests.sites import opened, read_csv, tables_site, tables_study, write_rows

NAMES = ("alpha", "beta", "gamma")
PRIVATE: dict[str, Any] = {"epsilon": 1.0, "delta": 1e-3, "statistics": "withheld"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hospitals and a central cohort whose labels are thrown: nothing can be learned but the people."""
    folder = tmp_path_factory.mktemp("shadows")
    for seed, name in enumerate((*NAMES, "central")):
        tables_site(folder / name, (30, 24, 20, 9)[seed], seed)
        rows = read_csv(folder / name / "participants.csv")
        thrown = np.random.default_rng(seed).permutation([row["frail"] for row in rows])
        write_rows(folder / name / "participants.csv", [{**r, "frail": t} for r, t in zip(rows, thrown, strict=True)])
    return folder


def study(**changes: Any) -> StudyConfig:
    """A study that learns its participants by heart."""
    training = {
        "learning_rate": 0.03,
        "weight_decay": 0.0,
        "warmup_rounds": 0,
        "local_steps": 15,
        "batch_participants": 8,
    }
    return tables_study(
        **{
            "model": {"hidden_units": 32, "dropout": 0.0},
            "split": {"train": 0.8, "validation": 0.0},
            "federation": {"rounds": 4, "min_participants": 2},
            **changes,
            "training": {**training, "batch_participants": 8, "balance_classes": False, **changes.get("training", {})},
        }
    )


def splits(data: Path, config: StudyConfig) -> dict[str, Split]:
    return {name: split(opened(data / name, config), config.split, config.training.seed) for name in NAMES}


def sites(data: Path, config: StudyConfig, seed: int = 1) -> list[Site]:
    secret = Secret(seed=seed)
    return [
        Site(name, config, "", Policy(), parts, data / "nowhere", secret=secret)
        for name, parts in splits(data, config).items()
    ]


def arm(data: Path, config: StudyConfig, folder: Path) -> Arm:
    places = tuple(SiteFolder(name, data / name, "invented2026") for name in NAMES)
    return Arm("federated", config, places, data / "central", folder / "cache", folder / "run")


# ---- the models ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["fedavg", "fedadam"])
def test_a_model_made_here_is_bit_for_bit_what_the_real_run_releases(data: Path, tmp_path: Path, strategy: str) -> None:
    config = study(federation={"rounds": 2, "min_participants": 2, "min_sites": 3, "strategy": strategy})
    real = arm(data, config, tmp_path)
    run_arm(real)
    as_coordinator()
    reader = trained(config, sites(data, config))
    assert Parameters.pack(trained_tensors(reader.model.net)).digest == Run.open(real.folder).final.digest


def test_every_participant_is_inside_exactly_half_of_the_models_in_every_hospital_and_class(data: Path) -> None:
    parts = splits(data, study())
    inside = halves(parts, 12, np.random.default_rng(1))
    assert (inside.sum(axis=0) == 6).all()
    assert np.array_equal(inside[0::2], ~inside[1::2])
    start = 0
    for split_ in parts.values():
        labels = split_.train.labels
        for label in (0, 1):
            here = inside[:, start + np.flatnonzero(labels == label)]
            assert (np.abs(2 * here.sum(axis=1) - here.shape[1]) <= 1).all()
        start += len(labels)


def test_only_the_half_that_was_drawn_is_trained_on(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[tuple[str, int]]] = []

    def spy(config: StudyConfig, there: list[Site]) -> Any:
        seen.append({(site.name, int(m)) for site in there for m in site.split.train.members})
        return trained(config, there)

    monkeypatch.setattr(shadows, "trained", spy)
    config = study(federation={"rounds": 1, "min_participants": 2}, training={"local_steps": 1})
    parts = splits(data, config)
    found = trials(config, parts, shadows=4)
    everybody = [(name, int(m)) for name, each in parts.items() for m in each.train.members]
    for chosen, inside in zip(seen, found.inside, strict=True):
        assert chosen == {person for person, there in zip(everybody, inside, strict=True) if there}


def test_private_models_are_private_and_repeat_themselves_only_with_the_same_secret(data: Path) -> None:
    config = study(privacy=PRIVATE, training={"local_steps": 3})
    first, same, other, plain = (
        Parameters.pack(trained_tensors(trained(c, sites(data, c, seed)).model.net)).vector
        for c, seed in ((config, 1), (config, 1), (config, 2), (study(training={"local_steps": 3}), 1))
    )
    assert np.array_equal(first, same)
    assert not np.allclose(first, other, atol=1e-3)
    assert not np.allclose(first, plain, atol=1e-3)


def test_what_cannot_be_attacked_as_one_model_is_refused(data: Path) -> None:
    parts = splits(data, study())
    with pytest.raises(ConfigError, match="shadows = 5"):
        trials(study(), parts, shadows=5)
    with pytest.raises(ConfigError, match="local"):
        trials(study(model={"modalities": ["image", "clinical"], "norm": "local"}), parts)


# ---- the attacks -----------------------------------------------------------------------------------------------------


def gaussian_trials(gain: float, models: int = 34, people: int = 150, seed: int = 1) -> Trials:
    rng = np.random.default_rng(seed)
    inside = np.zeros((models, people), dtype=np.bool_)
    for first in range(0, models, 2):
        inside[first, rng.permutation(people)[: people // 2]] = True
        inside[first + 1] = ~inside[first]
    return Trials(rng.normal(0, 2, people) + gain * inside + rng.normal(size=inside.shape), inside)


def test_the_counterpart_of_the_attacked_model_is_not_looked_at() -> None:
    found = gaussian_trials(1.0)
    changed = found.confidence.copy()
    changed[1] = 1e6
    for attack in (likelihood_ratio, offline_ratio):
        before = shadows._against(attack, found, 0)
        assert np.array_equal(before, shadows._against(attack, replace(found, confidence=changed), 0))
        assert not np.allclose(before, shadows._against(attack, replace(found, confidence=changed), 2))


def test_the_numbers_are_the_mean_over_models_and_the_share_of_all_members() -> None:
    found = gaussian_trials(1.5)
    result = attacked(found.confidence, found.inside, np.random.default_rng(1))
    each = [auc(s, i) for s, i in zip(found.confidence, found.inside, strict=True)]
    assert result.auc.value == pytest.approx(np.mean(each))
    members, others = found.confidence[found.inside], found.confidence[~found.inside]
    assert result.tpr.value == pytest.approx(members_found(members, others)[0] / len(members), abs=2e-3)
    assert result.auc.low < result.auc.value < result.auc.high
    at = np.searchsorted(result.curve[:, 0], 0.01, side="right") - 1
    assert result.curve[at, 1] == pytest.approx(result.tpr.value)
    assert tuple(result.curve[-1]) == (1.0, 1.0)


def test_lira_finds_members_whom_the_loss_alone_does_not_and_nobody_where_nobody_is_remembered() -> None:
    found = attacks(gaussian_trials(1.5), np.random.default_rng(1))
    assert found["lira"].auc.low > found["loss"].auc.high
    assert found["lira"].tpr.value > found["loss"].tpr.value
    nothing = attacks(gaussian_trials(0.0, seed=2), np.random.default_rng(1))
    for result in nothing.values():
        assert result.auc.value == pytest.approx(0.5, abs=0.04)  # three standard deviations over such trials
        assert result.tpr.value == pytest.approx(0.01, abs=0.01)


def test_the_interval_over_participants_holds_the_truth_in_about_95_of_100_cases() -> None:
    truth = np.mean([_plain(seed, 1500).auc.value for seed in range(1000, 1004)])
    held = [found.low <= truth <= found.high for found in (_plain(seed, 60).auc for seed in range(60))]
    assert np.mean(held) > 0.87


def _plain(seed: int, people: int) -> shadows.Attacked:
    found = gaussian_trials(1.0, models=6, people=people, seed=seed)
    return attacked(found.confidence, found.inside, np.random.default_rng(seed))


@pytest.mark.slow
def test_an_overtrained_model_betrays_its_people_and_a_private_one_does_not(data: Path) -> None:
    open_, closed = study(), study(privacy=PRIVATE, training={"local_steps": 3})
    found, hidden = (
        attacks(trials(config, splits(data, config), shadows=16), np.random.default_rng(1))["lira"]
        for config in (open_, closed)
    )
    assert found.auc.low > 0.6
    assert hidden.auc.low < 0.5 < hidden.auc.high
    assert hidden.auc.value < gaussian_bound(1.0, 1e-3).auc


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command_writes_numbers_table_and_figure_of_the_study_that_was_run(data: Path, tmp_path: Path) -> None:
    config = study(privacy=PRIVATE, training={"local_steps": 1}, federation={"rounds": 1, "min_participants": 2})
    real = arm(data, config, tmp_path)
    prepare(real)
    out = tmp_path / "attack"
    done = CliRunner().invoke(app, ["attack", str(real.folder), "--out", str(out), "--shadows", "4"])
    assert done.exit_code == 0, done.output
    assert "loss threshold" in done.output
    told = json.loads((out / "attack.json").read_text())
    assert {row["study"] for row in told["rows"]} == {config.digest}
    assert [row["attack"] for row in told["rows"]] == ["loss", "lira", "lira_offline"]
    row = told["rows"][1]
    assert row["auc_low"] <= row["auc"] <= row["auc_high"]
    assert row["gaussian_auc"] == pytest.approx(gaussian_bound(1.0, 1e-3).auc)
    assert row["bound_auc"] > row["gaussian_auc"] > 0.5
    assert (row["models"], row["shadows"]) == (6, 4)
    assert len(read_csv(out / "attack.csv")) == 3
    assert (out / "attack.png").stat().st_size > 10_000


@pytest.mark.parametrize("curves", [1, 2, 3, 5, 8])
def test_curves_that_lie_on_each_other_are_each_on_top_in_their_turn(curves: int) -> None:
    """Along the line, in points: whoever is drawn last there is seen."""
    turn, seen = 4.0, []
    for place in (np.arange(3 * curves) + 0.5) * turn:
        there = []
        for k in range(curves):
            width, style = attacking.line_of(k, curves)
            if isinstance(style, str):
                there.append(k)
            else:
                offset, (on, off) = style
                if (offset * width + place) % ((on + off) * width) < on * width:
                    there.append(k)
        seen.append(there[-1])
    assert seen == 3 * list(range(curves))


def test_of_an_experiment_every_federated_arm_is_attacked_the_least_private_first(data: Path, tmp_path: Path) -> None:
    quick = {"training": {"local_steps": 1}, "federation": {"rounds": 1, "min_participants": 2}}
    studies = {
        "1/federated@closed": study(privacy=PRIVATE, **quick),
        "1/federated": study(**quick),
        "2/federated": study(**{**quick, "training": {"local_steps": 1, "seed": 2}}),
        "1/pooled": study(**quick),
    }
    for place, config in studies.items():
        prepare(replace(arm(data, config, tmp_path), folder=tmp_path / "out" / "arms" / place))
    found = attacking._targets(tmp_path / "out")
    assert [target.name for target in found] == ["federated, seed 1", "federated, seed 2", "federated@closed"]


def test_the_command_says_what_it_needs(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["attack", str(tmp_path), "--out", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert "sites/*/site.toml" in done.output


def test_models_that_find_muscles_are_not_attacked_and_no_other_arm_is_before_that_is_said(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attacking, "trials", lambda *args, **more: pytest.fail("a model is trained"))
    prepare(replace(arm(data, study(), tmp_path), folder=tmp_path / "in" / "arms" / "1" / "federated"))
    hospital = SiteFolder("nowhere", tmp_path / "nowhere", "")
    muscles = Arm("federated", muscle_study(), (hospital,), None, tmp_path / "cache", tmp_path / "in/arms/2/federated")
    prepare(muscles)
    done = CliRunner().invoke(app, ["attack", str(tmp_path / "in"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 1
    words = " ".join(done.output.split())
    assert "its model finds muscles, and these attacks are on models of a diagnosis: name a run of a diagnosis" in words
    assert "its hospitals measure themselves (leakage.json)" in words
    assert not (tmp_path / "out").exists()
