"""The hospital's own measurement of membership leakage: two numbers, true ones, for one model in a study."""

import os
import shutil
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client import probe as probing
from client.policy import Policy, Refusal
from client.probe import first_probe, probe
from client.workspace import Site
from sarco_models.cohort import split
from sarco_models.config import StudyConfig
from sarco_models.membership import area, confidence, members_found
from sarco_models.metrics import auc
from sarco_models.parameters import Parameters
from sarco_models.schema import design_columns
from sarco_models.summaries import Moments
from sarco_models.training import predict
from sarco_models.wire import Code, Described, Probe, Probed, Setup
from server.probing import probe_fault
from simulation.harness import affordable
from tests.sites import opened, read_csv, tables_site, tables_study, write_rows

STUDY = tables_study(model={"dropout": 0.0}, training={"learning_rate": 0.05})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tables_site(tmp_path / "alpha", 60, 4)


def site_of(folder: Path, study: StudyConfig = STUDY, state: str = "state", **policy: object) -> Site:
    """A hospital in which every setup is known."""
    torch.manual_seed(3)
    parts = split(opened(folder, study), study.split, study.training.seed)
    allowed = Policy.model_validate({"approved_studies": (study.digest,), "tasks": ("Probe",), **policy})
    budget = affordable(study)
    site = Site(folder.name, study, "invented2026", allowed, parts, folder.parent / state, budget=budget)
    site.keep(setup_of(study, site))
    return site


def setup_of(study: StudyConfig, site: Site) -> Setup:
    columns = design_columns(study.features)
    return Setup(study.digest, Parameters.pack({}), Moments.of(site.split.train, columns, extremes=False))


def request_of(site: Site, parameters: Parameters | None = None) -> Probe:
    setup = setup_of(site.study, site).digest
    sent = parameters or Parameters.pack(site.tensors)
    return Probe(site.study.digest, setup, site.study.federation.rounds, sent)


def overtrained(site: Site) -> Parameters:
    """Parameters that know every training participant by heart."""
    reader = site.reader(setup_of(site.study, site).digest)
    assert reader is not None
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(site.model.net.parameters(), lr=0.05)
    site.model.net.train()
    batch = next(reader.whole(site.split.train))
    for _ in range(300):
        optimizer.zero_grad()
        logits = site.model.net(batch.inputs)
        torch.nn.functional.binary_cross_entropy_with_logits(logits, batch.labels[batch.owner]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return Parameters.pack(site.tensors)


def test_the_two_numbers_are_those_of_the_people_themselves(folder: Path) -> None:
    site = site_of(folder)
    request = request_of(site)
    found = probe(site, request)
    reader = site.reader(request.setup)
    assert reader is not None
    inside, outside = (
        confidence(predict(site.model.net, reader, people), people.labels == 1)
        for people in (site.split.train, site.split.test)
    )
    above = members_found(inside, outside)[0]
    assert above == 1  # told as three: see below
    assert found == Probed("alpha", 36, 15, area(inside, outside), 3 / 36)


def test_a_model_that_knows_people_by_heart_is_found_out_and_a_fresh_one_is_not(folder: Path) -> None:
    rows = read_csv(folder / "participants.csv")
    chance = np.random.default_rng(8).permutation([row["frail"] for row in rows])  # nothing to learn but the people
    write_rows(folder / "participants.csv", [{**r, "frail": c} for r, c in zip(rows, chance, strict=True)])
    site = site_of(folder)
    fresh = probe(site, request_of(site))
    learned = probe(other := site_of(folder, state="other"), request_of(other, overtrained(other)))
    assert abs(fresh.auc - 0.5) < 0.2
    assert learned.auc > 0.75


def test_the_loss_of_the_true_class_is_what_is_compared(folder: Path) -> None:
    """Yeom et al. (2018): the AUC of minus the cross-entropy, whatever the labels."""
    site = site_of(folder)
    request = request_of(site)
    reader = site.reader(request.setup)
    assert reader is not None
    losses = []
    for people in (site.split.train, site.split.test):
        logits = predict(site.model.net, reader, people)
        losses.append(np.logaddexp(0, np.where(people.labels == 1, -logits, logits)))
    member = np.arange(51) < 36
    assert probe(site, request).auc == pytest.approx(auc(-np.concatenate(losses), member))


def test_only_two_numbers_and_two_counts_leave() -> None:
    assert {f.name: f.type for f in fields(Probed)} == {
        "site": str, "members": int, "others": int, "auc": float, "tpr": float
    }  # fmt: skip


def test_one_model_is_probed_in_a_study_again_after_a_crash_but_never_another_one(folder: Path) -> None:
    site = site_of(folder)
    request = request_of(site)
    first = probe(site, request)
    restarted = site_of(folder)
    assert probe(restarted, request) == first
    for later in (
        replace(request, parameters=overtrained(restarted)),
        replace(request, round=1),
    ):
        with pytest.raises(Refusal) as refused:
            probe(site_of(folder), later)
        assert refused.value.code is Code.ALREADY_ASSESSED
    assert probe(site_of(folder), request) == first


def test_what_is_probed_is_noted_before_it_is_computed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = site_of(folder)
    request = request_of(site)

    def killed(*_args: object, **_named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(probing, "_confidence", killed)
    with pytest.raises(KeyboardInterrupt):
        probe(site, request)
    monkeypatch.undo()
    with pytest.raises(Refusal, match="another model"):
        probe(site_of(folder), replace(request, parameters=overtrained(site)))
    assert not list(site.state.glob("*.partial"))


def test_of_two_processes_asked_at_once_the_first_note_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process writes its note between this one's look and its own note."""
    site = site_of(folder)
    request = request_of(site)
    note = site.state / f"probed-{request.study}.txt"
    fsync = os.fsync

    def overtaken(file: int) -> None:
        note.write_text("another")
        fsync(file)

    monkeypatch.setattr(os, "fsync", overtaken)
    assert not first_probe(site.state, request)
    assert note.read_text() == "another"


@pytest.mark.parametrize(("limit", "refused"), [(15, False), (16, True)])
def test_fewer_people_than_min_cell_on_either_side_say_nothing(folder: Path, limit: int, refused: bool) -> None:
    site = site_of(folder, min_cell=limit)
    if not refused:
        assert probe(site, request_of(site)).others == 15
        return
    with pytest.raises(Refusal, match="36 training and 15 test") as caught:
        probe(site, request_of(site))
    assert caught.value.code is Code.TOO_FEW_PARTICIPANTS
    assert not list(site.state.glob("probed-*"))  # nothing was told, so that the study may still be probed


def test_a_setup_that_was_never_sent_is_asked_for(folder: Path) -> None:
    site = site_of(folder)
    request = request_of(site)
    shutil.rmtree(site.state)
    fresh = site_of(folder)
    with pytest.raises(Refusal) as caught:
        probe(fresh, replace(request, setup="0" * 64))
    assert caught.value.code is Code.SETUP_NEEDED


@pytest.mark.parametrize(("found", "told"), [(0, 0), (1, 3), (2, 3), (3, 3), (17, 17), (18, 20), (20, 20)])
def test_a_handful_of_people_found_is_told_as_min_cell_and_never_as_less(
    folder: Path, monkeypatch: pytest.MonkeyPatch, found: int, told: int
) -> None:
    site = site_of(tables_site(folder.with_name("beta"), 33, 5), min_cell=3)
    assert len(site.split.train) == 20
    monkeypatch.setattr(probing, "members_found", lambda *_: (found, 0.1))
    assert round(probe(site, request_of(site)).tpr * 20) == told


# ---- at the coordinator ----------------------------------------------------------------------------------------------


def described(site: Site) -> Described:
    train = site.split.train
    positive = int(train.labels.sum())
    moments = Moments.of(train, design_columns(site.study.features), extremes=False)
    return Described(site.name, site.label_rule, len(site.split.cohort), len(train), positive, 0, moments)


def test_the_coordinator_takes_an_honest_answer_and_says_what_is_wrong_with_another(folder: Path) -> None:
    site = site_of(folder)
    reply, about = probe(site, request_of(site)), described(site)
    assert probe_fault(reply, about) == ""
    wrong: dict[str, dict[str, Any]] = {
        "in the name of": {"site": "beta"},
        "described itself with 36 in training and 24 others": {"members": 35},
        "probed 36 and 25 people": {"others": 25},
        "probed 36 and 1 people": {"others": 1},
        "both are from 0 to 1": {"auc": float("nan")},
        "a share of 1.5": {"tpr": 1.5},
        "not those of so many people": {"auc": reply.auc + 0.3 / (36 * 15)},
        "its numbers are not": {"tpr": reply.tpr + 0.4 / 36 if reply.tpr < 0.9 else reply.tpr - 0.4 / 36},
    }
    for sentence, change in wrong.items():
        assert sentence in probe_fault(Probed(**{**asdict(reply), **change}), about)
