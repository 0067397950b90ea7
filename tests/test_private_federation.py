"""A study with privacy, run by the real apps: it spends what it said, and nothing of those in training leaves bare."""

import json
import math
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opacus.accountants import PRVAccountant, RDPAccountant

import client.inside
import client.sums
import client.tasks
import client.training_round
import simulation.harness
from client.ledger import BudgetConfig
from client.workspace import Site, open_site
from sarco_models.accounting import Spend, epsilon, plan
from sarco_models.config import StudyConfig
from sarco_models.errors import QuorumLost
from sarco_models.parameters import Parameters
from sarco_models.private_statistics import private_description
from sarco_models.schema import design_columns
from sarco_models.secret import Secret
from sarco_models.wire import (
    Code,
    Describe,
    Described,
    Evaluate,
    Evaluated,
    Probed,
    Refused,
    Reply,
    Request,
    Setup,
    Train,
    Trained,
)
from server.runs import Run
from simulation.harness import Arm, SiteFolder, open_sites, prepare, run_arm
from tests.sites import tables_site, tables_study

PRIVATE: dict[str, Any] = {
    "privacy": {"epsilon": 4.0, "delta": 1e-4, "statistics_share": 0.2},
    "training": {"local_steps": 2, "balance_classes": False, "optimizer": "sgd", "learning_rate": 0.1},
    "tabular": {"scaling": "clinical_range"},
    "federation": {"rounds": 3, "min_participants": 6},
}


def private_study(**changes: Any) -> StudyConfig:
    return tables_study(**{key: {**PRIVATE.get(key, {}), **changes.get(key, {})} for key in {**PRIVATE, **changes}})


@pytest.fixture(autouse=True)
def noise_that_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for synthetic hospitals: with noise of its own a small hospital may be told to have too few cases."""
    monkeypatch.setattr(simulation.harness, "says_synthetic", lambda folder: True)


@pytest.fixture
def arm(tmp_path: Path) -> Callable[..., Arm]:
    """Two hospitals of 160 people, and a study of theirs."""

    def make(study: StudyConfig, folder: str = "run") -> Arm:
        sites = []
        for k, name in enumerate(("alpha", "beta")):
            place = tmp_path / "data" / name
            if not place.exists():
                tables_site(place, 160, seed=k)
            sites.append(SiteFolder(name, place, "invented2026"))
        return Arm("federated", study, tuple(sites), None, tmp_path / "cache", tmp_path / folder)

    return make


def rows(arm: Arm, site: str = "alpha") -> list[tuple[str, int, Spend]]:
    """Task, round and spend of each row of a hospital's ledger, read from the file by nobody's code but SQLite's."""
    with sqlite3.connect(arm.folder / "sites" / site / "state" / "ledger.sqlite") as found:
        found.row_factory = sqlite3.Row
        told = [dict(row) for row in found.execute("SELECT * FROM rows ORDER BY n")]
    return [
        (r["task"], r["round"], Spend(r["noise_multiplier"], r["sample_rate"], r["steps"])) for r in told if r["steps"]
    ]


@pytest.mark.parametrize("accountant", ["prv", "rdp"])
def test_a_finished_study_has_spent_what_it_said_and_every_round_is_in_the_ledger(
    arm: Callable[..., Arm], accountant: str
) -> None:
    study = private_study(privacy={"accountant": accountant})
    finished = arm(study)
    run_arm(finished)
    for site in ("alpha", "beta"):
        found = rows(finished, site)
        assert [(task, round_) for task, round_, _ in found] == [
            ("Describe", 0), ("Train", 1), ("Train", 2), ("Train", 3), ("Evaluate", 3),
        ]  # fmt: skip
        alone = {"prv": PRVAccountant, "rdp": RDPAccountant}[accountant]()
        with np.errstate(all="ignore"):
            for _, _, spend in found:
                for _ in range(spend.steps):
                    alone.step(noise_multiplier=spend.noise_multiplier, sample_rate=spend.sample_rate)
            spent = epsilon([spend for *_, spend in found], 1e-4, "prv" if accountant == "prv" else "rdp")
            assert spent <= 4.0
            assert spent > 3.99
            if accountant == "prv":
                assert spent == pytest.approx(alone.get_epsilon(1e-4), abs=1e-9)
            else:  # ours has more orders than Opacus' and can only be tighter
                assert spent <= alone.get_epsilon(1e-4) + 1e-9


def asked(arm: Arm, answer: Callable[[Site, Request], Reply] | None = None) -> Iterator[tuple[Site, Request, Reply]]:
    """Run an arm, and tell everything that was asked and answered."""
    heard: list[tuple[Site, Request, Reply]] = []
    whole = answer or client.tasks.handle

    def spy(site: Site, request: Request) -> Reply:
        reply = whole(site, request)
        heard.append((site, request, reply))
        return reply

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client.inside, "handle", spy)
        run_arm(arm)
    yield from heard


def test_the_same_question_has_the_same_noise_and_costs_nothing_again(arm: Callable[..., Arm]) -> None:
    run = arm(private_study())
    heard = list(asked(run))
    before = rows(run)
    for site, request, reply in heard:
        if site.name == "alpha" and isinstance(request, Describe | Train | Evaluate) and request != heard[-1][1]:
            last = isinstance(request, Train) and request.round == 1
            again = client.tasks.handle(open_site(run.folder / "sites" / "alpha" / "site.toml"), request)
            assert type(again) is type(reply), last
            match again, reply:
                case Trained(), Trained():
                    assert again.parameters.vector.tobytes() == reply.parameters.vector.tobytes()
                case Described(), Described():
                    assert again.training_positive == reply.training_positive
                    assert np.array_equal(again.moments.total, reply.moments.total)
                case Evaluated(), Evaluated():
                    assert (again.histogram is None) == (reply.histogram is None)
                    if again.histogram and reply.histogram:
                        assert np.array_equal(again.histogram.positives, reply.histogram.positives)
    assert rows(run) == before


def test_two_runs_of_one_seed_with_secrets_of_their_own_have_different_noise(
    arm: Callable[..., Arm], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulation.harness.says_synthetic", lambda folder: False)
    updates = []
    for folder in ("one", "two"):
        for _, _, reply in asked(arm(private_study(), folder)):
            if isinstance(reply, Trained) and reply.site == "alpha" and reply.round == 1:
                updates.append(reply.parameters.vector)
    assert not np.array_equal(updates[0], updates[1])


def test_another_histogram_is_another_release_with_no_room_for_it_and_another_model_is_refused(
    arm: Callable[..., Arm],
) -> None:
    run = arm(private_study())
    (site, request) = next((s, r) for s, r, _ in asked(run) if isinstance(r, Evaluate))
    before = rows(run, site.name)
    other = replace(request, prevalence=request.prevalence / 2)
    assert client.tasks.handle(site, other) == Refused(site.name, Code.BUDGET_SPENT)
    vector = request.parameters.vector + np.float32(0.1)
    other = replace(request, parameters=Parameters(request.parameters.manifest, vector))
    assert client.tasks.handle(site, other) == Refused(site.name, Code.ALREADY_ASSESSED)
    assert rows(run, site.name) == before


def test_weights_that_give_one_person_no_number_tell_nothing_by_a_failure(arm: Callable[..., Arm]) -> None:
    """A histogram that is there or not would be an exact answer for the price of a noised one."""
    run = arm(private_study())
    prepare(run)
    site = open_sites(run)[0]
    answers = []
    for value in (0.0, np.nan):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("client.sums.probability_of", lambda s, *_, v=value: np.full(len(s.split.train), v))
            patch.setattr("client.sums.reader_of", lambda *_: None)
            counts = client.sums._counts(site, Evaluate("", "", 3, 0.5, Run.open(run.folder).parameters_after(0)))
            answers.append(int(counts.positives.sum() + counts.negatives.sum()))
    assert answers == [len(site.split.train)] * 2


def test_a_refusal_does_not_tell_that_a_private_hospital_has_one_class_only(arm: Callable[..., Arm]) -> None:
    run = arm(private_study())
    prepare(run)
    site = open_sites(run)[0]
    site.split.cohort.labels[site.split.train.members] = 0
    assert isinstance(client.tasks.handle(site, Describe(run.study.digest)), Described)


def test_the_probe_of_a_private_study_is_told_in_steps_that_one_person_does_not_move(arm: Callable[..., Arm]) -> None:
    probed = [r for _, _, r in asked(arm(private_study())) if isinstance(r, Probed)]
    assert len(probed) == 2
    for reply in probed:
        assert reply.auc * 20 == pytest.approx(round(reply.auc * 20))
        assert reply.tpr * 20 == pytest.approx(round(reply.tpr * 20))


def test_what_the_policy_no_longer_allows_does_not_leave_with_an_answer_that_was_kept(arm: Callable[..., Arm]) -> None:
    run = arm(private_study())
    heard = {type(q): (s, q) for s, q, _ in asked(run) if s.name == "alpha"}
    for kind, part in ((Train, "metrics"), (Evaluate, "metrics")):
        site, request = heard[kind]
        site.policy = site.policy.model_copy(update={"metrics": (), "statistics": ()})
        reply = client.tasks.handle(site, request)
        assert isinstance(reply, Trained | Evaluated)
        assert not getattr(reply, part)
    site, request = heard[Describe]
    reply = client.tasks.handle(site, request)
    assert isinstance(reply, Described)
    assert not reply.moments.count.any()


def test_no_loss_of_training_leaves_a_private_study_and_sums_leave_under_the_noise_that_was_charged(
    arm: Callable[..., Arm],
) -> None:
    """Fifty descriptions with secrets of their own: the number of cases is off by the noise that the ledger says."""
    run = arm(private_study())
    heard = list(asked(run))
    assert all("train_loss" not in r.metrics for _, _, r in heard if isinstance(r, Trained))
    site = open_site(run.folder / "sites" / "alpha" / "site.toml")
    people, columns = site.split.train, design_columns(run.study.features)
    used, release = np.ones(len(columns), dtype=np.bool_), plan(run.study).statistics
    assert release is not None
    told = [
        private_description(people, columns, used, noise_multiplier=release.noise_multiplier, rng=Secret().numpy())
        for _ in range(50)
    ]
    assert len({d.positives for d in told}) > 5
    totals = np.array([d.moments.total for d in told], dtype=np.float64) / (1 << 20)
    assert (totals.std(axis=0)[used] > 1).all()  # participants' worth of the whole range, on 96 people


@pytest.mark.parametrize(("statistics", "releases"), [("private", 2), ("withheld", 1), ("exact", 0)])
def test_what_a_study_says_of_statistics_is_what_is_charged_and_what_leaves(
    arm: Callable[..., Arm], statistics: str, releases: int
) -> None:
    study = private_study(privacy={"statistics": statistics})
    run = arm(study)
    heard = list(asked(run))
    assert sum(task != "Train" for task, _, _ in rows(run)) == releases == plan(study).releases
    described = [r for _, _, r in heard if isinstance(r, Described)]
    evaluated = [r for _, _, r in heard if isinstance(r, Evaluated)]
    assert all(bool(d.moments.count.any()) == (statistics != "withheld") for d in described)
    assert all((e.histogram is None) == (statistics == "withheld") for e in evaluated)
    if statistics == "exact":
        assert all(d.training_positive == 32 for d in described)


def test_a_hospital_whose_limit_is_below_the_study_stops_before_the_step_that_would_pass_it(
    arm: Callable[..., Arm], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = arm(private_study())
    prepare(run)
    path = run.folder / "sites" / "alpha" / "site.toml"
    path.write_text(path.read_text().replace("lifetime_epsilon = 4.0", "lifetime_epsilon = 2.5"))
    trained = []
    fit = client.training_round.fit
    monkeypatch.setattr(client.training_round, "fit", lambda t, seed: (trained.append(seed), fit(t, seed))[1])
    alpha = open_sites(run)[0]
    study, refused = run.study, None
    described = client.tasks.handle(alpha, Describe(study.digest))
    assert isinstance(described, Described)
    opened = Run.open(run.folder)
    setup = Setup(study.digest, opened.frozen, described.moments)
    client.tasks.handle(alpha, setup)
    for round_ in (1, 2, 3):
        request = Train(study.digest, setup.digest, round_, opened.parameters_after(0))
        reply = client.tasks.handle(alpha, request)
        if isinstance(reply, Refused):
            refused = round_
            assert reply.code == Code.BUDGET_SPENT
            break
    assert refused is not None
    assert len(trained) == refused - 1  # nothing was trained for the refused round
    found = rows(run)
    assert epsilon([s for *_, s in found], 1e-4) <= 2.5
    assert epsilon([*(s for *_, s in found), plan(study).training], 1e-4) > 2.5


def test_a_study_that_a_hospital_cannot_afford_loses_its_quorum_and_says_why(
    arm: Callable[..., Arm], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = arm(private_study(federation={"min_sites": 2}))
    monkeypatch.setattr(simulation.harness, "affordable", lambda study: BudgetConfig(lifetime_epsilon=0.1))
    with pytest.raises(QuorumLost, match="budget_spent"):
        run_arm(run)


def test_a_coordinator_killed_after_a_round_was_trained_costs_nobody_privacy(
    arm: Callable[..., Arm], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks for the round again; the hospitals answer as they did, and the study still fits its epsilon exactly."""
    run = arm(private_study())
    record = Run.record

    def dies(self: Run, this: int, *rest: Any) -> None:
        if this == 2:
            raise KeyboardInterrupt
        record(self, this, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "record", dies)
        with pytest.raises(KeyboardInterrupt):
            run_arm(run)
    run_arm(run)
    found = rows(run)
    assert [round_ for task, round_, _ in found if task == "Train"] == [1, 2, 3]
    assert epsilon([s for *_, s in found], 1e-4) <= 4.0


def test_a_round_that_was_lost_with_its_update_is_charged_again_and_fits_if_there_is_a_spare_one(
    arm: Callable[..., Arm],
) -> None:
    for spare in (0, 1):
        run = arm(private_study(privacy={"spare_rounds": spare}), f"spare{spare}")
        heard = list(asked(run)) if not spare else []
        if spare:
            lost: list[int] = []

            def loses(site: Site, request: Request, lost: list[int] = lost) -> Reply:
                reply = client.tasks.handle(site, request)
                if isinstance(request, Train) and request.round == 2 and site.name == "alpha" and not lost:
                    lost.append(1)
                    for path in site.state.glob("kept-train-*"):
                        path.unlink()
                    return client.tasks.handle(site, request)
                return reply

            heard = list(asked(run, loses))
        answers = [r for s, q, r in heard if s.name == "alpha" and isinstance(q, Train)]
        assert all(isinstance(r, Trained) for r in answers)
        charged = [round_ for task, round_, _ in rows(run) if task == "Train"]
        assert charged == ([1, 2, 2, 3] if spare else [1, 2, 3])
        assert epsilon([s for *_, s in rows(run)], 1e-4) <= 4.0


def test_training_without_privacy_is_a_fact_in_the_ledger_too(arm: Callable[..., Arm]) -> None:
    run = arm(tables_study(federation={"rounds": 2, "min_participants": 6}))
    run_arm(run)
    found = rows(run)
    tasks = ("Describe", "Train", "Train", "Evaluate", "Probe")
    assert [(task, spend.noise_multiplier) for task, _, spend in found] == [(task, 0.0) for task in tasks]
    assert epsilon([s for *_, s in found], 1e-5) == math.inf


def test_adaptive_clipping_goes_on_from_round_to_round_and_its_norm_never_leaves(arm: Callable[..., Arm]) -> None:
    run = arm(private_study(privacy={"adaptive_clipping": True, "max_grad_norm": 50.0}))
    heard = list(asked(run))
    norms = json.loads(next((run.folder / "sites" / "alpha" / "state").glob("clip-*.json")).read_text())
    assert 0 < norms["norm"] < 50.0
    assert epsilon([s for *_, s in rows(run)], 1e-4) <= 4.0
    assert all(set(r.metrics) <= {"loss", "auc"} for _, _, r in heard if isinstance(r, Trained))


@pytest.mark.slow
def test_a_private_model_still_learns_where_there_is_something_to_learn(arm: Callable[..., Arm]) -> None:
    """At a generous epsilon, on tables that all but tell the label."""
    study = private_study(
        privacy={"epsilon": 20.0, "max_grad_norm": 2.0, "statistics": "exact"},
        tabular={"scaling": "standard"},
        federation={"rounds": 30},
        training={"learning_rate": 0.3, "warmup_rounds": 0},
    )
    central = tables_site(arm(study).sites[0].data.parent / "central", 300, seed=9)
    run = replace(arm(study), central=central)
    run_arm(run)
    aucs = [r["central"]["auc"] for r in Run.open(run.folder).records()]
    assert max(aucs[-5:]) > 0.8
