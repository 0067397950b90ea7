"""Whole studies whose updates travel encoded: the same model or one as good, in the bytes that were said."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import client.inside
import client.tasks
import simulation.harness
from client import training_round
from client.ledger import FILE as LEDGER
from client.ledger import Ledger
from client.workspace import Site
from sarco_models.config import StudyConfig
from sarco_models.encoding import most_bytes
from sarco_models.parameters import Parameters
from sarco_models.wire import Train, TrainOn
from server.runs import Run
from simulation.harness import Arm, SiteFolder, prepare, run_arm
from tests.sites import image_study, site_of, tables_site, tables_study

SITES = ("alpha", "beta", "gamma")
PRIVATE = {
    "privacy": {"epsilon": 4.0, "delta": 1e-4, "statistics_share": 0.2},
    "training": {"local_steps": 2, "balance_classes": False, "optimizer": "sgd", "learning_rate": 0.1},
    "tabular": {"scaling": "clinical_range"},
}
TEXTS = 2_500
"""Bytes of a reply beside its numbers: names of tensors, metrics, digests."""


def encoded(
    encoding: str, compression: str = "none", rounds: int = 4, min_sites: int = 3, **changes: Any
) -> StudyConfig:
    federation = {"rounds": rounds, "min_sites": min_sites, "min_participants": 6}
    travel = {"encoding": encoding, "compression": compression}
    return tables_study(model={"hidden_units": 256}, federation={**federation, **travel}, **changes)


@pytest.fixture
def arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Arm]:
    """Three hospitals of 80 people, and a study of theirs; noise as it is for synthetic hospitals."""
    monkeypatch.setattr(simulation.harness, "says_synthetic", lambda folder: True)

    def make(study: StudyConfig, folder: str = "run") -> Arm:
        sites = []
        for k, name in enumerate(SITES):
            place = tmp_path / "data" / name
            if not place.exists():
                tables_site(place, 80, seed=k)
            sites.append(SiteFolder(name, place, "invented2026"))
        return Arm("federated", study, tuple(sites), None, tmp_path / "cache", tmp_path / folder)

    return make


def final(arm: Arm) -> NDArray[np.float32]:
    return Parameters.load(arm.folder / "model.safetensors", Run.open(arm.folder).manifest).vector


def up(arm: Arm) -> list[int]:
    """Bytes of each round."""
    return [record["bytes_up"] for record in Run.open(arm.folder).records()[1:]]


def test_compression_without_rounding_changes_nothing_but_the_bytes(arm: Callable[..., Arm]) -> None:
    plain, short = arm(encoded("float32"), "plain"), arm(encoded("float32", "zstd"), "short")
    for each in (plain, short):
        run_arm(each)
    assert final(short).tobytes() == final(plain).tobytes()
    assert max(up(short)) < 0.9 * min(up(plain))


@pytest.mark.parametrize(("encoding", "off"), [("bf16", 0.01), ("int8", 0.03)])
def test_a_rounded_study_ends_beside_the_exact_one_in_the_bytes_that_were_said(
    arm: Callable[..., Arm], encoding: str, off: float
) -> None:
    plain, short = arm(encoded("float32"), "plain"), arm(encoded(encoding), "short")
    for each in (plain, short):
        run_arm(each)
    moved = final(plain) - Run.open(plain.folder).parameters_after(0).vector
    assert 0 < np.linalg.norm(final(short) - final(plain)) < off * np.linalg.norm(moved)
    numbers = 3 * most_bytes(Run.open(short.folder).manifest, encoding)
    assert all(numbers < sent < numbers + 3 * TEXTS for sent in up(short))


def killed(arm: Arm, round_: int) -> None:
    """Run until a round is recorded."""
    write = Run.record

    def dies(run: Run, this: int, *rest: Any) -> None:
        write(run, this, *rest)
        if this == round_:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "record", dies)
        with pytest.raises(KeyboardInterrupt):
            run_arm(arm)


def test_an_interrupted_run_ends_with_the_same_model(arm: Callable[..., Arm]) -> None:
    """The sites have trained the next round already when the coordinator dies: what they sent, they send again."""
    study = encoded("int8", "zstd")
    whole, broken = arm(study, "whole"), arm(study, "broken")
    run_arm(whole)
    for round_ in (1, 2, 3):
        killed(broken, round_)
    run_arm(broken)
    assert final(broken).tobytes() == final(whole).tobytes()


def test_an_interrupted_run_with_privacy_pays_no_round_twice(arm: Callable[..., Arm]) -> None:
    broken = arm(encoded("int8", "zstd", **PRIVATE))
    for round_ in (1, 2, 3):
        killed(broken, round_)
    run_arm(broken)
    for site in SITES:
        ledger = Ledger.open(broken.folder / "sites" / site / "state" / LEDGER)
        assert [row.round for row, _ in ledger.replay() if row.task == "Train" and row.steps] == [1, 2, 3, 4]
        ledger.close()


def test_a_run_begins_with_nothing_owed_and_owes_what_rounding_left(arm: Callable[..., Arm]) -> None:
    study = encoded("int8")
    run_arm(first := arm(study))
    left = sorted(p.name.rpartition("-")[2] for p in (first.folder / "sites" / "alpha" / "state").glob("owed-*"))
    assert left == ["1.safetensors", "2.safetensors", "3.safetensors", "4.safetensors"]


def test_an_update_that_is_not_finite_costs_its_site_the_round_by_name(
    arm: Callable[..., Arm], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = encoded("int8").model_copy()
    study = encoded("int8", rounds=2)
    study = StudyConfig.model_validate(
        study.model_dump() | {"federation": {**study.federation.model_dump(), "min_sites": 2}}
    )
    sound = training_round.shortened

    def diverged(site: Any, request: Any, trained: Any) -> Any:
        if site.name == "beta":
            trained.parameters.vector[3] = np.inf
        return sound(site, request, trained)

    monkeypatch.setattr(training_round, "shortened", diverged)
    run_arm(each := arm(study))
    for record in Run.open(each.folder).records()[1:]:
        assert sorted(record["sites"]) == ["alpha", "gamma"]
        assert "not finite" in record["failures"]["beta"]
    assert np.isfinite(final(each)).all()


def test_an_update_in_another_form_than_the_study_s_is_refused(
    arm: Callable[..., Arm], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = encoded("bf16", rounds=1)
    study = StudyConfig.model_validate(
        study.model_dump() | {"federation": {**study.federation.model_dump(), "min_sites": 2}}
    )
    sound = training_round.shorten

    def otherwise(*given: Any, encoding: str, compress: bool) -> Any:
        return sound(*given, encoding="int8", compress=compress)

    def shortened(site: Any, *given: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            if site.name == "gamma":
                patch.setattr(training_round, "shorten", otherwise)
            return usual(site, *given)

    usual = training_round.shortened
    monkeypatch.setattr(training_round, "shortened", shortened)
    run_arm(each := arm(study))
    (record,) = Run.open(each.folder).records()[1:]
    assert record["failures"] == {"gamma": "an update in int8; the study's is bf16"}


@pytest.mark.slow
def test_the_rounds_of_a_head_move_less_than_a_megabyte_and_the_frozen_network_once(tmp_path: Path) -> None:
    model = {"modalities": ["image"], "backbone": "convnext_tiny", "weights": "none", "trainable": "head"}
    federation = {"rounds": 2, "min_sites": 2, "min_participants": 2}
    study = image_study(model=model, federation=federation)
    sites = tuple(SiteFolder(n, site_of(tmp_path / n, study, 12, k), study.label.rule) for k, n in enumerate(SITES[:2]))
    each = Arm("federated", study, sites, None, tmp_path / "cache", tmp_path / "run")
    prepare(each)
    run_arm(each)
    begin, *rounds = Run.open(each.folder).records()
    frozen = 2 * 4 * 27_818_592
    assert frozen < begin["bytes_down"] < frozen + 100_000
    assert len(rounds) == 2
    for record in rounds:
        assert max(record["bytes_up"], record["bytes_down"]) / 2 < 20_000
    assert json.loads((each.folder / "model.json").read_text())["bytes_down"] < 100_000


def down(arm: Arm) -> list[int]:
    """Bytes of each round."""
    return [record["bytes_down"] for record in Run.open(arm.folder).records()[1:]]


def requests_to(monkeypatch: pytest.MonkeyPatch, *, forgets: str = "") -> dict[str, list[str]]:
    """Site -> names of the requests about training that reach it from now on; one site ``forgets`` before round 3.

    So does a worker that is started again.
    """
    seen: dict[str, list[str]] = {}
    forgotten: list[str] = []

    def spy(site: Site, request: Any, *rest: Any) -> Any:
        if isinstance(request, Train | TrainOn):
            seen.setdefault(site.name, []).append(type(request).__name__)
            if site.name == forgets and request.round == 3 and not forgotten:
                forgotten.append(site.name)
                site.held = None
        return client.tasks.handle(site, request, *rest)

    monkeypatch.setattr(client.inside, "handle", spy)
    return seen


def test_where_a_study_compresses_a_model_goes_down_whole_once_and_then_as_its_difference(
    arm: Callable[..., Arm], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = requests_to(monkeypatch)
    run_arm(each := arm(encoded("float32", "zstd")))
    assert seen == {site: ["Train", "TrainOn", "TrainOn", "TrainOn"] for site in SITES}
    first, *later = down(each)
    assert first > 3 * most_bytes(Run.open(each.folder).manifest, "float32")
    assert max(later) < 0.9 * first


def test_a_study_without_compression_sends_every_model_whole(
    arm: Callable[..., Arm], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = requests_to(monkeypatch)
    run_arm(arm(encoded("int8")))
    assert seen == {site: ["Train"] * 4 for site in SITES}


def test_a_site_that_has_lost_the_model_is_sent_it_whole_and_misses_nothing(
    arm: Callable[..., Arm], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = (arm(encoded("float32", "zstd"), folder) for folder in ("whole", "broken"))
    run_arm(whole)
    seen = requests_to(monkeypatch, forgets="beta")
    run_arm(broken)
    assert seen["beta"] == ["Train", "TrainOn", "TrainOn", "Train", "TrainOn"]
    assert seen["alpha"] == ["Train", "TrainOn", "TrainOn", "TrainOn"]
    for record in Run.open(broken.folder).records():
        assert sorted(record["sites"]) == list(SITES)
        assert record["failures"] == {}
    assert final(broken).tobytes() == final(whole).tobytes()
