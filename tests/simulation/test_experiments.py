"""An experiment's arms, and a cross-validation at one hospital: who trains, who is scored, and what is frozen."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit

from sarco_models.errors import ConfigError
from sarco_models.metrics import auc
from sarco_models.scores import ParticipantScores
from simulation import runner
from simulation.arms import Arm, SiteFolder
from simulation.cross_validation import Candidate, Selection, nested
from simulation.experiments import Experiment
from simulation.harness import REFERENCE, SCORES, read_people
from simulation.pretrain import Pretraining
from simulation.runner import run_experiment
from tests.sites import tables_site, tables_study

EXPERIMENTS = Path(__file__).resolve().parents[2] / "configs" / "experiments"
HOSPITALS = ("east", "north", "west")
PAPER_WAY = """
name = "small_paper"
title = "Cross-validated in the north"
study = "study.json"
seeds = [1]
study_itself = false

[sites]
north = "north"
east = "east"
west = "west"

[cross_validation]
site = "north"
folds = 3
draws = 2

[variants.clinical]
title = "Clinical"
overrides.model.modalities = ["clinical"]

[variants.both]
title = "Clinical and laboratory"
overrides.model.modalities = ["clinical", "lab"]
"""


def silent(_status: object) -> None:
    """Nobody watches."""


def arm(name: str, tmp_path: Path, **options: bool) -> Arm:
    sites = tuple(SiteFolder(site, tmp_path / site, "declared") for site in HOSPITALS)
    return Arm(name, tables_study(), sites, tmp_path, tmp_path, tmp_path, **options)


@pytest.mark.parametrize(
    ("name", "trained_on"),
    [
        ("federated", HOSPITALS),
        ("pooled@fedprox", HOSPITALS),
        ("local:north", ("north",)),
        ("tuned:north@fedadam", ("north",)),
        ("without:north", ("east", "west")),
        ("pooled_without:west", ("east", "north")),
        ("cv:east@image", ("east",)),
    ],
)
def test_an_arm_s_name_says_who_trains(name: str, trained_on: tuple[str, ...], tmp_path: Path) -> None:
    assert arm(name, tmp_path).trained_on == trained_on


@pytest.mark.parametrize("name", ["federation", "local:south", ""])
def test_an_arm_of_no_known_kind_or_hospital_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="write KIND or KIND:SITE"):
        arm(name, tmp_path)


@pytest.fixture
def hospitals(tmp_path: Path) -> Path:
    """Three hospitals of 45, 24 and 24 people, a central cohort, and a study of tables."""
    for seed, (name, people) in enumerate({"north": 45, "east": 24, "west": 24, "central": 24}.items()):
        tables_site(tmp_path / name, people, seed)
    study = tables_study(
        federation={"rounds": 2, "min_participants": 4}, split={"validation": 0.3}, training={"local_epochs": 1}
    )
    (tmp_path / "study.json").write_text(study.model_dump_json(), encoding="utf-8")
    return tmp_path


Write = Callable[[str], Path]


@pytest.fixture
def write(hospitals: Path) -> Write:
    def file(text: str, name: str = "experiment.toml") -> Path:
        (hospitals / name).write_text(text, encoding="utf-8")
        return hospitals / name

    return file


def test_everybody_left_out_of_a_federation_is_scored_where_the_experiment_says_so(
    tmp_path: Path, write: Write
) -> None:
    text = """
        name = "left_out"
        title = "Left out"
        study = "study.json"
        arms = ["without", "local"]
        external = {external}
        central = "central"
        sites = {{ north = "north", east = "east", west = "west" }}
    """
    for external, scored in (("true", 24), ("false", 2)):
        experiment = Experiment.load(write(text.format(external=external)), tmp_path / "out")
        without = next(a for a in experiment.arms(1) if a.name == "without:east")
        people = without.held_out()
        assert len(people["east"]) == scored
        assert len(people["north"]) == len(without.split_of("north").test)
        assert without.study.federation.min_sites == 2


def test_an_experiment_that_extends_another_keeps_what_it_does_not_say(tmp_path: Path, write: Write) -> None:
    write(PAPER_WAY, "paper_way.toml")
    narrower = write('extends = "paper_way.toml"\nname = "narrower"\n[overrides.split]\ncomplete_cases = true\n')
    loaded = Experiment.load(narrower, tmp_path / "out")
    assert loaded.config.cross_validation is not None
    assert (loaded.config.name, list(loaded.variants)) == ("narrower", ["clinical", "both"])
    assert all(study.split.complete_cases for study in loaded.studies.values())

    other = write('extends = "paper_way.toml"\nname = "other"\n[variants.lab]\ntitle = "Laboratory"\n')
    assert list(Experiment.load(other, tmp_path / "out").variants) == ["lab"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('site = "north"', 'site = "south"', "cross_validation.site = 'south'"),
        ("study_itself = false", 'explain = ["cv:north@none"]\nstudy_itself = false', "is none of the arms"),
        ('modalities = ["clinical"]', 'modalities = ["image"]', "modality image is not one of|image"),
        ("folds = 3", "folds = 1", "folds"),
        ('west = "west"', 'west = "nowhere"', "nowhere"),
        ("[variants.clinical]", "[controls]\nage = 'prevalence'\n[variants.clinical]", "controls"),
        ("study_itself = false", "study_itself = false\nexternals = true", "unknown key; did you mean external"),
    ],
)
def test_a_wrong_experiment_is_refused_before_it_runs(
    old: str, new: str, words: str, tmp_path: Path, write: Write
) -> None:
    with pytest.raises(ConfigError, match=words):
        Experiment.load(write(PAPER_WAY.replace(old, new)), tmp_path / "out")


def test_more_folds_than_people_of_a_class_are_refused_before_anything_trains(tmp_path: Path, write: Write) -> None:
    experiment = Experiment.load(write(PAPER_WAY.replace("folds = 3", "folds = 16")), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"split\.folds = 16: north has 15 participants with"):
        run_experiment(experiment, silent, workers=1)
    assert not list((tmp_path / "out").glob("arms/*/*/*/rounds/*.json"))


def test_folds_without_a_scale_are_refused_before_anything_trains(tmp_path: Path, write: Write) -> None:
    lone = PAPER_WAY + "\n[overrides.split]\ncomplete_cases = true\nvalidation = 0.01\n"
    experiment = Experiment.load(write(lone), tmp_path / "out")
    with pytest.raises(
        ConfigError, match=r"inner validation participants with the condition .* raise split\.validation"
    ):
        run_experiment(experiment, silent, workers=1)
    assert not list((tmp_path / "out").glob("arms/*/*/*/rounds/*.json"))


@pytest.mark.slow
def test_a_cross_validation_from_files_to_results(tmp_path: Path, write: Write) -> None:
    experiment = Experiment.load(write(PAPER_WAY), tmp_path / "out")
    results = json.loads(run_experiment(experiment, silent, workers=1).read_text(encoding="utf-8"))
    arms = experiment.arms(1)
    assert len(arms) == 2 * 3 * 2

    # Everybody in the north is tested in one fold, and is neither trained on nor on the scale of that fold.
    tested: list[str] = []
    for member in (a for a in arms if a.name == "cv:north@both" and not a.study.training.draw):
        parts = member.split_of("north")
        test, train, inner = (set(p.ids) for p in (parts.test, parts.train, parts.validation))
        assert not test & train
        assert not inner & (test | train)
        assert len(test | train | inner) == 45
        assert set(read_people(member.folder / SCORES)["north"].ids) == test
        assert set(read_people(member.folder / REFERENCE)["north"].ids) == inner
        tested += test
    assert len(tested) == len(set(tested)) == 45

    # Both candidates divide people alike; everybody elsewhere is scored by the frozen model of all folds.
    final = {(r["arm"], r["site"], r["metric"]): r for r in results["rows"]}
    for site, people in (("north", 45), ("east", 24), ("west", 24)):
        for name in ("clinical", "both"):
            assert final[f"cv:north@{name}", site, "auc"]["n"] == people
    assert ("cv:north@clinical", "north", "auc_difference:cv:north@both") in final
    assert final["cv:north@nested", "north", "auc"]["n"] == 45
    assert ("cv:north@nested", "east", "auc") not in final
    assert final["cv:north@both", "east", "positive_rate"]["value"] >= 0
    threshold = final["cv:north@both", "north", "threshold"]["value"]
    assert final["cv:north@both", "east", "threshold"]["value"] == threshold

    # What was chosen follows from the rule and from the numbers beside it.
    values = {name: final[f"cv:north@{name}", "north", "auc"]["value"] for name in ("clinical", "both")}
    assert results["meta"]["protocol"]["selected"] == {"1": max(values, key=lambda name: values[name])}

    # A member that a kill left without its end is done again, and nothing else is; the numbers are the same.
    lost = arms[3].folder / "arm.json"
    kept = {a.folder: (a.folder / "arm.json").stat().st_mtime_ns for a in arms if a is not arms[3]}
    lost.unlink()
    again = json.loads(run_experiment(experiment, silent, workers=1).read_text(encoding="utf-8"))
    assert again["rows"] == results["rows"]
    assert kept == {folder: (folder / "arm.json").stat().st_mtime_ns for folder in kept}


def write_member(folder: Path, scores: dict[str, ParticipantScores], reference: ParticipantScores) -> None:
    """The files of a finished member of a cross-validation."""
    folder.mkdir(parents=True)
    for file, groups in ((SCORES, scores), (REFERENCE, {"north": reference})):
        lines = ["site,participant_id,label,probability"]
        lines += [
            f"{site},{person},{int(label)},{score!r}"
            for site, people in groups.items()
            for person, label, score in zip(people.ids, people.labels, people.scores.tolist(), strict=True)
        ]
        (folder / file).write_text("\n".join(lines) + "\n", encoding="utf-8")


def people(prefix: str, count: int, rng: np.random.Generator, shift: float = 0.0) -> ParticipantScores:
    labels = np.arange(count) % 3 == 0
    logits = rng.normal(size=count) + 1.5 * labels + shift
    return ParticipantScores(tuple(f"{prefix}{i}" for i in range(count)), expit(logits), labels)


def candidate(tmp_path: Path, name: str, *, shifts: tuple[float, ...], seed: int = 1) -> Candidate:
    """Three folds with one draw each; a fold's model gives everybody ``shift`` more in logits."""
    rng = np.random.default_rng(seed)
    sites = tuple(SiteFolder(site, tmp_path / site, "declared") for site in ("north", "east"))
    members = []
    for fold, shift in enumerate(shifts):
        study = tables_study(split={"folds": 3, "fold": fold})
        member = Arm(f"cv:north@{name}", study, sites, None, tmp_path, tmp_path / name / str(fold), external=True)
        elsewhere = people("e", 30, np.random.default_rng(99), shift)
        write_member(
            member.folder,
            {"north": people(f"t{fold}-", 30, rng, shift), "east": elsewhere},
            people(f"r{fold}-", 30, np.random.default_rng(7), shift),
        )
        members.append(member)
    return Candidate.of(members)


def test_a_fold_s_own_level_changes_nobody_s_rank_and_no_call(tmp_path: Path) -> None:
    level = candidate(tmp_path, "level", shifts=(0.0, 0.0, 0.0))
    shifted = candidate(tmp_path, "shifted", shifts=(0.0, 2.0, -3.0))
    assert np.allclose(level.out_of_fold.scores, shifted.out_of_fold.scores)
    assert (level.calls == shifted.calls).all()
    for mine, theirs in zip(level.scores("north"), shifted.scores("north"), strict=True):
        assert np.allclose(mine.people.scores, theirs.people.scores)


def test_equal_folds_make_an_ensemble_that_equals_each_of_them(tmp_path: Path) -> None:
    found = candidate(tmp_path, "equal", shifts=(0.0, 0.0, 0.0))
    frozen = next(s for s in found.scores("north") if s.site == "east")
    alone = found.elsewhere["east"][0]
    assert auc(frozen.people.scores, frozen.people.labels) == auc(alone.scores, alone.labels)
    assert frozen.threshold == found.threshold(found.out_of_fold)


def test_nobody_is_called_by_a_threshold_that_knows_his_fold(tmp_path: Path) -> None:
    found = candidate(tmp_path, "calls", shifts=(0.0, 0.5, -0.5))
    first, *others = found.by_fold
    threshold = found.threshold(ParticipantScores.joined(others))
    called = dict(zip(found.out_of_fold.ids, found.calls, strict=True))
    assert [called[i] for i in first.ids] == [bool(s >= threshold) for s in first.scores]


def test_draws_of_a_fold_are_averaged_as_probabilities(tmp_path: Path) -> None:
    sites = (SiteFolder("north", tmp_path, "declared"),)
    members, probabilities = [], {}
    for fold in range(2):
        for draw in range(3):
            study = tables_study(split={"folds": 2, "fold": fold}, training={"draws": 3, "draw": draw})
            member = Arm("cv:north", study, sites, None, tmp_path, tmp_path / f"{fold}{draw}", external=True)
            scored = people(f"t{fold}-", 20, np.random.default_rng(10 * fold + draw))
            write_member(member.folder, {"north": scored}, people(f"r{fold}-", 20, np.random.default_rng(draw)))
            members.append(member)
            probabilities[fold, draw] = scored.scores
    found = Candidate.of(members)
    for fold in range(2):
        mean = np.mean([probabilities[fold, draw] for draw in range(3)], axis=0)
        assert np.allclose(found.folds[fold].test.scores, logit(mean))


def test_the_first_listed_within_tolerance_is_chosen() -> None:
    values = {"image": 0.80, "clinical": 0.75, "all": 0.81}
    assert Selection(tolerance=0.02).choose(values) == "image"
    assert Selection(tolerance=0.0).choose(values) == "all"
    assert Selection(tolerance=0.1).choose(values) == "image"
    assert Selection(tolerance=0.0).choose({"a": 0.5, "b": 0.5}) == "a"


def test_choosing_in_every_fold_takes_each_fold_s_own_choice(tmp_path: Path) -> None:
    first = candidate(tmp_path, "first", shifts=(0.0, 0.0, 0.0), seed=1)
    second = candidate(tmp_path, "second", shifts=(0.0, 0.0, 0.0), seed=2)
    both, names = nested([first, second], Selection(), "cv:north@nested")
    assert names == ["cv:north@first"] * 3  # their inner validation people are the same: the first listed
    assert np.allclose(both.out_of_fold.scores, first.out_of_fold.scores)
    assert dict(both.elsewhere) == {}


def test_a_network_that_the_experiment_trains_itself_is_made_once_and_starts_its_studies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def pretended(cfg: Pretraining, out: Path, workers: int, tell: object) -> None:
        made.append(cfg.backbone)
        out.parent.mkdir(parents=True)
        out.touch()

    monkeypatch.setattr(runner, "pretrain", pretended)
    loaded = Experiment.load(EXPERIMENTS / "architectures.toml", tmp_path / "out", shared=tmp_path / "shared")
    weights = {name: study.model.weights for name, study in loaded.studies.items()}
    path = tmp_path / "shared" / "weights" / "swin_atto.safetensors"
    assert weights == {"": "phantom", "convnext": "phantom", "efficientnet": "phantom", "swin": str(path.resolve())}
    for _ in range(2):
        runner._make_weights(loaded, silent, 1)
    assert made == ["swin_atto"]


def test_the_shipped_experiments_load_and_say_what_is_synthetic() -> None:
    for path in sorted(EXPERIMENTS.glob("*.toml")):
        loaded = Experiment.load(path, Path("out"))
        assert loaded.config.cohort is not None, path
        assert path.stem == tomllib.loads(path.read_text(encoding="utf-8"))["name"]
