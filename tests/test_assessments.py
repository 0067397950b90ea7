"""The threshold is frozen from merged histograms, and the sites assess the released model on their own test people."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import client.inside
import client.tasks
from client.policy import Policy
from client.workspace import Site
from sarco_models import wire
from sarco_models.config import StudyConfig
from sarco_models.decisions import confusion
from sarco_models.disclosure import small
from sarco_models.histograms import MergedHistogram, ScoreHistogram
from sarco_models.parameters import Parameters
from sarco_models.scores import ParticipantScores
from sarco_models.site_evaluation import Calls, SiteEvaluation
from sarco_models.wire import Assess, Assessed, Code, Evaluated, Refused
from server.evaluation import released_probabilities
from server.runs import Run
from server.threshold import frozen_threshold
from simulation.harness import Arm, SiteFolder, open_sites, prepare, run_arm, train_in_process
from tests.sites import tables_site, tables_study

PEOPLE = {"alpha": 60, "beta": 80, "gamma": 100}
Make = Callable[..., Arm]


@pytest.fixture
def arm(tmp_path: Path) -> Make:
    """An arm on three hospitals; a quarter of their people are test participants."""
    data = tmp_path / "data"
    for seed, (name, people) in enumerate(PEOPLE.items()):
        tables_site(data / name, people, seed)
    tables_site(data / "central", 9, 9)

    def make(folder: str = "run", **changes: Any) -> Arm:
        sites = tuple(SiteFolder(name, data / name, "invented2026") for name in PEOPLE)
        study = tables_study(**{"training": {"learning_rate": 0.02}, **changes})
        return Arm("federated", study, sites, data / "central", tmp_path / "cache", tmp_path / folder)

    return make


def spied(arm: Arm, change: Callable[[Site, wire.Reply], wire.Reply] | None = None) -> list[wire.Reply]:
    """Run the arm, and return what left the sites; ``change`` puts another reply in its place."""
    seen: list[wire.Reply] = []

    def spy(site: Site, request: wire.Request) -> wire.Reply:
        reply = client.tasks.handle(site, request)
        seen.append(change(site, reply) if change else reply)
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client.inside, "handle", spy)
        run_arm(arm)
    return seen


def with_policies(arm: Arm, **policies: dict[str, Any]) -> Run:
    """Run the arm with other policies at some hospitals."""
    run, sites = prepare(arm), open_sites(arm)
    for site in sites:
        site.policy = Policy.model_validate({**site.policy.model_dump(), **policies.get(site.name, {})})
    train_in_process(run, sites)
    return run


def released(run: Run) -> dict[str, Any]:
    assert run.released is not None
    return run.released


def assessing(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.folder / "assessing.json").read_text())
    return found


# ---- what a site says ------------------------------------------------------------------------------------------------


def test_a_site_says_of_the_released_model_what_anybody_with_its_people_would_find(arm: Make) -> None:
    federated = arm()
    run_arm(federated)
    run = Run.open(federated.folder)
    found = run.assessments
    assert found is not None
    assert list(found) == list(PEOPLE)
    for site in open_sites(federated):
        people = site.split.test
        scores = ParticipantScores(people.ids, released_probabilities(run, people), people.labels == 1)
        own = SiteEvaluation.of(scores, released(run)["threshold"], min_cell=3, num_bins=200)
        assert found[site.name].to_dict() == own.to_dict()
        assert own.auc is not None
        assert (own.participants, own.threshold) == (len(people), released(run)["threshold"])
    assert assessing(run)["failures"] == {}
    assert assessing(run)["bytes_down"] > 3 * 4 * sum(run.manifest.sizes)


def test_no_count_of_one_or_two_people_leaves_a_site(arm: Make) -> None:
    replies = spied(arm())
    shown = [r.histogram for r in replies if isinstance(r, Evaluated)]
    assessed = [r.evaluation for r in replies if isinstance(r, Assessed)]
    assert len(shown) == len(assessed) == 3
    for histogram in [*shown, *(e.histogram for e in assessed)]:
        assert histogram is not None
        assert not small([histogram.positives, histogram.negatives], 3).any()
    for calls in (c for e in assessed for c in (e.found, e.spared) if c):
        assert not small([calls.right, calls.wrong], 3).any()


@pytest.mark.parametrize(
    "policy",
    [{"statistics": ("sums", "histogram")}, {"tasks": ("Describe", "Setup", "Train", "Evaluate")}],
)
def test_a_hospital_may_keep_its_assessment(arm: Make, policy: dict[str, Any]) -> None:
    run = with_policies(arm(), beta=policy)
    assert run.assessments is not None
    assert set(run.assessments) == {"alpha", "gamma"}
    assert assessing(run)["failures"] == {"beta": "refused: task_not_allowed"}
    assert set(released(run)["sites"]) == set(PEOPLE)


def test_too_few_test_people_cost_a_site_its_assessment_and_nothing_else(arm: Make) -> None:
    run = with_policies(arm(), alpha={"min_cell": 20})  # 36 people in training, 15 to test on
    assert run.assessments is not None
    assert set(run.assessments) == {"beta", "gamma"}
    assert assessing(run)["failures"] == {"alpha": "refused: too_few_participants"}
    assert set(released(run)["sites"]) == set(PEOPLE)


def test_a_class_of_few_is_withheld_and_the_number_of_people_is_not(arm: Make) -> None:
    run = with_policies(arm(), alpha={"min_cell": 8})  # 5 positives of 15
    assert run.assessments is not None
    assert run.assessments["alpha"].to_dict() == {
        "participants": 15, "positives": None, "auc": None, "auc_variance": None,
        "threshold": released(run)["threshold"], "found": None, "spared": None, "histogram": None,
    }  # fmt: skip


# ---- once, after the last round --------------------------------------------------------------------------------------


@pytest.fixture
def done(arm: Make) -> tuple[Site, Assess]:
    """A site of a run that is assessed, and the request that it has answered."""
    federated = arm()
    run_arm(federated)
    run = Run.open(federated.folder)
    about, setup = released(run), run.records()[0]["setup"]
    return open_sites(federated)[0], Assess(
        run.study.digest, setup, 2, about["prevalence"], about["threshold"], run.final
    )


def test_a_second_threshold_or_model_is_refused(done: tuple[Site, Assess]) -> None:
    """Two assessments at neighbouring thresholds would tell who lies between."""
    site, request = done
    again = client.tasks.handle(site, request)
    assert isinstance(again, Assessed)
    before = Parameters.pack(site.tensors).digest
    moved = Parameters(request.parameters.manifest, request.parameters.vector + np.float32(0.1))
    for change in ({"threshold": request.threshold + 0.01}, {"parameters": moved}, {"prevalence": 0.5}):
        assert client.tasks.handle(site, replace(request, **change)) == Refused("alpha", Code.ALREADY_ASSESSED)
    assert Parameters.pack(site.tensors).digest == before


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"round": 1}, Code.BAD_REQUEST),
        ({"threshold": 1.5}, Code.BAD_REQUEST),
        ({"threshold": math.nan}, Code.BAD_REQUEST),
        ({"study": "0" * 64}, Code.STUDY_NOT_APPROVED),
        ({"setup": "0" * 64}, Code.SETUP_NEEDED),
    ],
)
def test_an_assessment_that_does_not_belong_to_the_study_is_refused(
    arm: Make, change: dict[str, Any], code: Code
) -> None:
    federated = arm()
    run = prepare(federated)
    site = open_sites(federated)[0]
    request = replace(Assess(run.study.digest, "s", 2, 0.3, 0.5, run.parameters_after(0)), **change)
    assert client.tasks.handle(site, request) == Refused("alpha", code)
    assert [path.name for path in site.state.iterdir()] == ["audit.jsonl"]


def test_a_released_run_that_was_killed_completes_its_assessments(arm: Make) -> None:
    whole, broken = arm("whole"), arm("broken")
    run_arm(whole)

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "assess", dies)
        with pytest.raises(KeyboardInterrupt):
            run_arm(broken)
    run = Run.open(broken.folder)
    about = released(run)
    assert run.assessments is None
    replies = spied(broken)
    assert not any(isinstance(r, Evaluated | wire.Trained) for r in replies)
    assert released(run) == about
    stored = [(a.folder / "assessments.json").read_text() for a in (whole, broken)]
    assert stored[0] == stored[1]


def test_an_assessed_run_asks_nobody_again(arm: Make) -> None:
    federated = arm()
    run_arm(federated)
    (federated.folder / "arm.json").unlink()
    assert spied(federated) == []


# ---- wrong answers ---------------------------------------------------------------------------------------------------


def other(reply: Assessed, **changes: Any) -> Assessed:
    return replace(reply, evaluation=replace(reply.evaluation, **changes))


ASSESSMENTS: dict[str, tuple[Callable[[Assessed], wire.Reply], str]] = {
    "not a number": (lambda r: other(r, auc=math.nan), "contradicts itself: a number is not finite"),
    "calls": (lambda r: other(r, spared=Calls(99, 1)), "contradicts itself: 99 right and 1 wrong calls of"),
    "people": (lambda r: other(r, positives=6), "contradicts itself"),
    "bins": (
        lambda r: other(r, found=None, spared=None, histogram=MergedHistogram(*(np.array([n]) for n in (100, 7, 13)))),
        "its histogram is not the study's",
    ),
    "threshold": (
        lambda r: other(r, threshold=r.evaluation.threshold / 2, found=None, spared=None),
        "assessed at a threshold of",
    ),
    "too many": (
        lambda r: replace(
            r, evaluation=SiteEvaluation(999, None, None, None, r.evaluation.threshold, None, None, None)
        ),
        "assessed on 999 people; it described itself with 32 beside those in training",
    ),
    "name": (lambda r: replace(r, site="gamma"), "in the name of gamma"),
    "kind": (lambda r: wire.Ready(r.site, "x"), "answered Ready instead of Assessed"),
}


@pytest.mark.parametrize("fault", ASSESSMENTS)
def test_a_wrong_assessment_is_recorded_and_left_out(arm: Make, fault: str) -> None:
    change, reason = ASSESSMENTS[fault]
    federated = arm()
    spied(federated, lambda site, r: change(r) if isinstance(r, Assessed) and site.name == "beta" else r)
    run = Run.open(federated.folder)
    assert run.assessments is not None
    assert set(run.assessments) == {"alpha", "gamma"}
    assert reason in assessing(run)["failures"]["beta"]
    assert set(released(run)["sites"]) == set(PEOPLE)


def merged(reply: Evaluated, **changes: Callable[[Any], Any]) -> Evaluated:
    assert reply.histogram is not None
    parts = {name: change(getattr(reply.histogram, name)) for name, change in changes.items()}
    return replace(reply, histogram=replace(reply.histogram, **parts))


HISTOGRAMS: dict[str, tuple[Callable[[Evaluated], Evaluated], str]] = {
    "bins": (lambda r: merged(r, ends=lambda e: e * 2), "is not the study's"),
    "order": (lambda r: merged(r, ends=lambda e: e[::-1].copy()), "is not the study's"),
    "negative": (lambda r: merged(r, positives=lambda p: p - 1), "is not the study's"),
    "people": (lambda r: merged(r, positives=lambda p: p + 1), "counts other people"),
    "weight": (lambda r: replace(r, participants=1), "for other people"),
    "metric": (lambda r: replace(r, metrics={"auc": math.nan}), "metric auc is not finite"),
}


@pytest.mark.parametrize("fault", HISTOGRAMS)
def test_a_wrong_histogram_does_not_reach_the_threshold(arm: Make, fault: str) -> None:
    change, reason = HISTOGRAMS[fault]
    federated = arm()
    spied(federated, lambda site, r: change(r) if isinstance(r, Evaluated) and site.name == "beta" else r)
    about = released(Run.open(federated.folder))
    assert reason in about["failures"]["beta"]
    assert about["threshold_from"]["sites"] == ["alpha", "gamma"]
    assert 0 < about["threshold"] < 1


# ---- the threshold ---------------------------------------------------------------------------------------------------


def test_the_release_says_whom_the_threshold_rests_on(arm: Make) -> None:
    run = with_policies(arm(), alpha={"min_cell": 20})  # 12 positives of 36 in training: no histogram
    about = released(run)
    assert about["threshold_from"] == {
        "sites": ["beta", "gamma"], "participants": 108, "positives": 36, "withheld": ["alpha"]
    }  # fmt: skip
    assert 0 < about["threshold"] < 1
    assert set(about["sites"]) == set(PEOPLE)
    assert about["failures"] == {}


def test_where_nobody_shows_a_histogram_the_release_says_why_it_has_no_threshold(arm: Make) -> None:
    run = with_policies(arm(), **{name: {"min_cell": 30} for name in PEOPLE})
    about = released(run)
    assert about["threshold"] is None
    assert "no site shows a histogram" in about["no_threshold"]
    assert about["threshold_from"]["withheld"] == list(PEOPLE)
    assert run.assessments == {}
    assert assessing(run)["failures"] == {"every site": "there is no threshold to assess at"}


def evaluated(name: str, probability: np.ndarray, labels: np.ndarray, min_cell: int = 1) -> Evaluated:
    histogram = MergedHistogram.of(ScoreHistogram.of(probability, labels, num_bins=200), min_cell)
    return Evaluated(name, 2, labels.size, {}, histogram)


def rule(**changes: Any) -> StudyConfig:
    return tables_study(evaluation=changes)


@pytest.fixture
def people() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    labels = rng.random(600) < 0.3
    return np.clip(rng.normal(0.35 + 0.2 * labels, 0.12), 0, 1), labels


@pytest.mark.parametrize("ratio", [0.2, 1.0, 4.0, 15.0])
def test_the_rule_of_cost_makes_the_errors_cheapest(people: tuple[np.ndarray, np.ndarray], ratio: float) -> None:
    probability, labels = people
    study = rule(threshold_rule="cost", cost_ratio=ratio)
    sites = [evaluated("a", probability[:250], labels[:250]), evaluated("b", probability[250:], labels[250:])]

    def cost(threshold: float) -> float:
        table = confusion(probability, labels, threshold)
        return float(ratio * table.false_negatives + table.false_positives)

    found = frozen_threshold(sites, study, float(labels.mean()))["threshold"]
    assert cost(found) == min(cost(border) for border in np.arange(1, 200) / 200)


def test_missed_cases_that_weigh_more_lower_the_threshold(people: tuple[np.ndarray, np.ndarray]) -> None:
    found = [
        frozen_threshold([evaluated("a", *people)], rule(threshold_rule="cost", cost_ratio=ratio), 0.3)["threshold"]
        for ratio in (0.2, 1.0, 4.0, 15.0)
    ]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1]


@pytest.mark.parametrize("min_cell", [1, 3, 5])
def test_a_threshold_from_merged_histograms_is_nearly_as_good_as_one_from_the_scores(
    people: tuple[np.ndarray, np.ndarray], min_cell: int
) -> None:
    probability, labels = people

    def youden(threshold: float) -> float:
        return float((probability[labels] >= threshold).mean() + (probability[~labels] < threshold).mean() - 1)

    sites = [evaluated(str(k), probability[k::3], labels[k::3], min_cell) for k in range(3)]
    found = frozen_threshold(sites, rule(), 0.3)["threshold"]
    assert youden(found) > max(youden(t) for t in probability) - 0.03


def test_people_who_all_have_the_same_score_have_no_threshold() -> None:
    labels = np.arange(40) < 15
    for value in (0.0, 0.3, 1.0):
        about = frozen_threshold([evaluated("a", np.full(40, value), labels)], rule(), 0.3)
        assert about["threshold"] is None
        assert "the same score" in about["no_threshold"]


def test_the_released_model_is_assessed_and_probed_and_nothing_is_asked_after_it(arm: Make) -> None:
    replies = spied(arm())
    kinds = [type(r).__name__ for r in replies]
    order = ("Described", "Ready", "Trained", "Trained", "Evaluated", "Assessed", "Probed")
    assert kinds == [kind for kind in order for _ in PEOPLE]
