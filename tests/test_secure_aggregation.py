"""Secure aggregation through the real ServerApp loop and ClientApp: the same model, and no update seen by anybody."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from numpy.typing import NDArray
from scipy import stats

import client.tasks
import client.training_round
import server.secure_sum
from client.inside import make_app
from client.workspace import Site
from sarco_models import wire
from sarco_models.accounting import Spend
from sarco_models.errors import QuorumLost
from sarco_models.masking import STEPS
from sarco_models.wire import Code, Keyed, Masked, Refused, Revealed, Train, Trained
from server.rounds import run_study
from server.runs import Run
from simulation.experiments import _seeded
from simulation.flower import run_arm_on_flower
from simulation.grid import InProcessGrid
from simulation.harness import Arm, SiteFolder, open_sites, prepare, run_arm
from tests.sites import tables_site, tables_study

Vector = NDArray[np.float32]


@pytest.fixture
def arm(tmp_path: Path) -> Callable[..., Arm]:
    """An arm on ``sites`` hospitals of different size."""

    def make(
        sites: int = 3, folder: str = "run", *, secure: bool = True, private: bool = False, **federation: Any
    ) -> Arm:
        hospitals = []
        for k in range(sites):
            place = tmp_path / "data" / f"site{k}"
            if not place.exists():
                tables_site(place, n=20 + 6 * k, seed=k)
            hospitals.append(SiteFolder(place.name, place, "invented2026"))
        study = tables_study(
            training={"learning_rate": 0.01}, federation={"secure_aggregation": secure, "min_sites": 3, **federation}
        )
        central = tmp_path / "data" / "central"
        if not central.exists():
            tables_site(central, n=30, seed=9)
        return Arm("federated", study, tuple(hospitals), central, tmp_path / "cache", tmp_path / folder)

    return make


class SpyGrid(InProcessGrid):
    """Keeps every message that the coordinator receives; ``lose`` says which of them never arrive."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.received: list[Any] = []
        self.lose: Callable[[Any], bool] = lambda reply: False

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        kept = []
        for message in super().pull_messages(message_ids):
            reply: Any = wire.decode(message.content)
            self.received.append(reply)
            if self.lose(reply):
                message.content["fields"]["site"] = "nobody"
            kept.append(message)
        return kept


def run(arm: Arm, lose: Callable[[Any], bool] = lambda reply: False) -> tuple[Run, SpyGrid]:
    sites = open_sites(arm) if (arm.folder / "sites").exists() else []
    run_ = prepare(arm)
    sites = sites or open_sites(arm)

    def site_of(context: Context) -> Site:
        return sites[int(context.node_config["partition-id"])]

    grid = SpyGrid(make_app(site_of), nodes=len(sites))
    grid.lose = lose
    run_study(grid, run_)
    return run_, grid


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Site and round of every training that was begun, and so charged."""
    found: list[tuple[str, int]] = []
    charge = client.training_round.charge

    def counted(site: Site, request: Train, spend: Spend) -> None:
        found.append((site.name, request.round))
        charge(site, request, spend)

    monkeypatch.setattr(client.training_round, "charge", counted)
    return found


def after(run_: Run, round_: int) -> Vector:
    return run_.parameters_after(round_).vector


def bound(vector: Vector, sites: int) -> float:
    """Half a step for each site, and the rounding of float32 in two ways of adding."""
    return sites * (8.0 / STEPS) / 2 + 2 * float(np.spacing(np.float32(np.abs(vector).max())))


# ---- the same model --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sites", [3, 4])
def test_a_secure_round_is_the_plain_round_to_the_step_of_the_fixed_point(arm: Callable[..., Arm], sites: int) -> None:
    plain, _ = run(arm(sites, "plain", secure=False))
    secure, _ = run(arm(sites, "secure"))
    np.testing.assert_allclose(after(secure, 1), after(plain, 1), rtol=0, atol=bound(after(plain, 1), sites))
    # later rounds begin a rounding apart, and training carries that on
    np.testing.assert_allclose(after(secure, 2), after(plain, 2), rtol=0, atol=1e-5)
    moved = np.abs(after(plain, 2) - after(plain, 0)).max()
    assert moved > 1e-3
    records = [r.records()[2] for r in (plain, secure)]
    assert records[0]["sites"].keys() == records[1]["sites"].keys()
    for name, row in records[0]["sites"].items():
        assert row == pytest.approx(records[1]["sites"][name], abs=1e-5)


@pytest.mark.parametrize("strategy", [{"strategy": "fedprox", "proximal_mu": 0.1}, {"strategy": "fedadam"}])
def test_it_works_with_fedprox_and_fedadam(arm: Callable[..., Arm], strategy: dict[str, Any]) -> None:
    plain, _ = run(arm(3, "plain", secure=False, **strategy))
    secure, _ = run(arm(3, "secure", **strategy))
    tolerance = bound(after(plain, 1), 3) if "proximal_mu" in strategy else 1e-3
    np.testing.assert_allclose(after(secure, 1), after(plain, 1), rtol=0, atol=tolerance)
    assert np.abs(after(plain, 1) - after(plain, 0)).max() > 1e-3
    # an element that nobody's update moves is noise to FedAdam, which divides by it
    close = np.isclose(after(secure, 2), after(plain, 2), rtol=0, atol=1e-3)
    assert close.mean() > 0.99


@pytest.mark.slow
def test_both_engines_sum_to_the_same_model(arm: Callable[..., Arm]) -> None:
    """Through Flower's own engine every message is another process, and every number goes over its wire."""
    pytest.importorskip("ray")
    here, there = arm(3, "here"), arm(3, "there")
    run_arm(here)
    run_arm_on_flower(there)
    one, two = Run.open(here.folder), Run.open(there.folder)
    assert two.records()[2]["failures"] == {}
    np.testing.assert_allclose(after(two, 2), after(one, 2), rtol=0, atol=1e-6)


# ---- what the coordinator sees ---------------------------------------------------------------------------------------


def test_the_coordinator_never_holds_a_single_update(arm: Callable[..., Arm], monkeypatch: pytest.MonkeyPatch) -> None:
    updates: dict[tuple[int, str], Vector] = {}
    train = client.tasks.train

    def spied(site: Site, request: Train) -> Trained:
        trained = train(site, request)
        updates[request.round, site.name] = trained.parameters.vector - request.parameters.vector
        return trained

    monkeypatch.setattr(client.tasks, "train", spied)
    _, grid = run(arm(3))
    kinds = {type(reply) for reply in grid.received}
    assert Trained not in kinds
    assert {Keyed, Masked, Revealed} <= kinds
    masked = [reply for reply in grid.received if isinstance(reply, Masked)]
    assert len(masked) == 6
    counts = np.zeros(256)
    for reply in masked:
        update = updates[reply.round, reply.site]
        seen = reply.update.vector
        assert abs(stats.pearsonr(seen.view(np.int32), update).statistic) < 5 / np.sqrt(update.size)
        counts += np.bincount(seen.view(np.uint8), minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-6


def test_noise_is_added_once_and_charged_once_though_a_site_drops_out(
    arm: Callable[..., Arm], trained: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With participant-level privacy: what is summed is the noised update of each site, whatever the attempt."""
    updates: dict[tuple[int, str], tuple[int, Vector]] = {}
    train = client.tasks.train

    def spied(site: Site, request: Train) -> Trained:
        found = train(site, request)
        before = updates.setdefault((request.round, site.name), (found.participants, found.parameters.vector))
        np.testing.assert_array_equal(found.parameters.vector, before[1])
        return found

    monkeypatch.setattr(client.tasks, "train", spied)
    run_, _ = run(arm(4, private=True), dropped(Masked, "site1"))
    assert len(trained) == len(set(trained)) == 8
    for round_, names in ((1, ("site0", "site1", "site2", "site3")), (2, ("site0", "site2", "site3"))):
        found = [updates[round_, name] for name in names]
        total = sum(n for n, _ in found)
        mean = sum(n / total * vector.astype(np.float64) for n, vector in found)
        np.testing.assert_allclose(after(run_, round_), mean, rtol=0, atol=bound(after(run_, round_), 4))


def test_an_update_without_masks_is_refused_by_a_hospital_that_has_approved_masks(arm: Callable[..., Arm]) -> None:
    federated = arm(3)
    run_ = prepare(federated)
    site = open_sites(federated)[0]
    request = Train(federated.study.digest, "0" * 64, 1, run_.parameters_after(0))
    assert client.tasks.handle(site, request) == Refused("site0", Code.NOT_MASKED)


def test_two_sites_vectors_without_the_third_say_nothing(arm: Callable[..., Arm]) -> None:
    _, grid = run(arm(3))
    masked = {r.site: r.update.vector for r in grid.received if isinstance(r, Masked) and r.round == 1}
    seeds = {r.site: bytes.fromhex(r.seed) for r in grid.received if isinstance(r, Revealed) and r.round == 1}
    with pytest.raises(server.secure_sum.ProtocolError, match="do not cancel"):
        server.secure_sum.sum_of([masked["site0"], masked["site1"]], [seeds["site0"], seeds["site1"]])


# ---- sites that drop out ---------------------------------------------------------------------------------------------


def dropped(kind: type, site: str, times: int = 1) -> Callable[[Any], bool]:
    left = [times]

    def lose(reply: Any) -> bool:
        if isinstance(reply, kind) and reply.site == site and reply.round == 2 and left[0]:
            left[0] -= 1
            return True
        return False

    return lose


@pytest.mark.parametrize("kind", [Keyed, Masked])
def test_a_site_that_drops_out_before_the_seeds_is_left_out_of_the_round(arm: Callable[..., Arm], kind: type) -> None:
    run_, grid = run(arm(4), dropped(kind, "site1"))
    record = run_.records()[2]
    assert sorted(record["sites"]) == ["site0", "site2", "site3"]
    assert "site1" in record["failures"]
    revealed = [(r.site, r.attempt) for r in grid.received if isinstance(r, Revealed) and r.round == 2]
    attempt = 1 if kind is Keyed else 2
    assert sorted(revealed) == [("site0", attempt), ("site2", attempt), ("site3", attempt)]
    first = {r.site: r.update.vector for r in grid.received if isinstance(r, Masked) and (r.round, r.attempt) == (2, 1)}
    if kind is Masked:  # nothing of the first attempt was ever unmasked
        assert len(first) == 4
        again = {r.site: r.update.vector for r in grid.received if isinstance(r, Masked) and r.attempt == 2}
        assert all(stats.pearsonr(first[s].view(np.int32), again[s].view(np.int32)).pvalue > 1e-6 for s in again)


def test_of_three_sites_none_may_drop_out(arm: Callable[..., Arm]) -> None:
    with pytest.raises(QuorumLost, match="2 sites are left, and a sum needs 3"):
        run(arm(3, round_attempts=1), dropped(Masked, "site1"))


def test_a_sum_that_lost_one_of_three_sites_is_made_again_with_all_of_them(arm: Callable[..., Arm]) -> None:
    whole, _ = run(arm(3, "whole"))
    run_, _ = run(arm(3), dropped(Masked, "site1"))
    assert [len(record["attempts"]) for record in run_.records()[1:]] == [0, 1]
    assert len(run_.records()[2]["sites"]) == 3
    assert np.array_equal(after(whole, 2), after(run_, 2))


def test_an_update_is_trained_once_whatever_becomes_of_its_attempts(
    arm: Callable[..., Arm], trained: list[tuple[str, int]]
) -> None:
    run(arm(4), dropped(Masked, "site1"))
    assert len(trained) == len(set(trained)) == 8


def test_a_seed_that_is_lost_once_is_asked_for_again(arm: Callable[..., Arm]) -> None:
    run_, _ = run(arm(3), dropped(Revealed, "site1"))
    assert len(run_.records()[2]["sites"]) == 3
    assert run_.records()[2]["failures"] == {}


@pytest.mark.slow
def test_a_site_that_does_not_tell_its_seed_stops_the_run_until_it_is_back(arm: Callable[..., Arm]) -> None:
    federated = arm(4, round_attempts=1)
    with pytest.raises(QuorumLost, match="round 2 waits for site1"):
        run(federated, dropped(Revealed, "site1", times=2))
    with pytest.raises(QuorumLost, match="round 2 waits for site1"):
        run(federated, dropped(Keyed, "site1"))
    with pytest.raises(QuorumLost, match="round 2 waits for site1"):
        run(federated, dropped(Masked, "site1"))
    resumed, _ = run(federated)
    whole, _ = run(arm(4, "whole", round_attempts=1))
    assert len(resumed.records()[2]["sites"]) == 4
    np.testing.assert_array_equal(after(resumed, 2), after(whole, 2))


def test_a_site_that_refuses_is_named_and_the_rest_goes_on(
    arm: Callable[..., Arm], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here one hospital's training diverges: nothing of it is clipped, and nothing leaves."""
    train = client.tasks.train

    def diverging(site: Site, request: Train) -> Trained:
        trained = train(site, request)
        if site.name == "site2" and request.round == 1:
            trained.parameters.vector[0] = np.nan
        return trained

    monkeypatch.setattr(client.tasks, "train", diverging)
    run_, _ = run(arm(4))
    assert run_.records()[1]["failures"] == {"site2": f"refused: {Code.UPDATE_TOO_LARGE}"}
    assert sorted(run_.records()[1]["sites"]) == ["site0", "site1", "site3"]
    assert sorted(run_.records()[2]["sites"]) == ["site0", "site1", "site2", "site3"]


# ---- kill and resume -------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """As kill -9: nothing catches it."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Keyed, Masked, Revealed])
@pytest.mark.parametrize("round_", [1, 2])
def test_a_run_that_is_killed_anywhere_goes_on_to_the_same_model(
    arm: Callable[..., Arm], trained: list[tuple[str, int]], kind: type, round_: int
) -> None:

    def kill(reply: Any) -> bool:
        if isinstance(reply, kind) and reply.site == "site1" and reply.round == round_:
            raise Killed
        return False

    federated = arm(3)
    with pytest.raises(Killed):
        run(federated, kill)
    resumed, _ = run(federated)
    assert len(trained) == len(set(trained)) == 6  # nobody's privacy is spent twice
    whole, _ = run(arm(3, "whole"))
    np.testing.assert_array_equal(after(resumed, 2), after(whole, 2))


def test_a_run_whose_last_round_was_not_written_repeats_it_and_the_next(
    arm: Callable[..., Arm], trained: list[tuple[str, int]]
) -> None:
    """A round is written while the next one trains: both were opened, and the same sums come again."""
    federated = arm(3, rounds=3)

    def kill(reply: Any) -> bool:
        if isinstance(reply, Revealed) and reply.round == 3:
            raise Killed
        return False

    with pytest.raises(Killed):
        run(federated, kill)
    model = after(Run.open(federated.folder), 2)
    for path in (federated.folder / "rounds").glob("0002*"):
        path.unlink()
    resumed, _ = run(federated)
    assert len(trained) == len(set(trained)) == 9
    np.testing.assert_array_equal(after(resumed, 2), model)


def test_a_run_that_was_lost_begins_anew_with_the_same_sites(arm: Callable[..., Arm]) -> None:
    """Its keys are used up: attempts count on."""
    federated = arm(3)
    first, _ = run(federated)
    expected = after(first, 2)
    for name in ("rounds", "secure"):
        for path in sorted((federated.folder / name).glob("*")):
            path.unlink()
        (federated.folder / name).rmdir()
    for path in federated.folder.glob("*.json"):
        if path.stem not in ("study", "run"):
            path.unlink()
    (federated.folder / "rounds").mkdir()
    again, grid = run(federated)
    np.testing.assert_array_equal(after(again, 2), expected)
    assert not any(isinstance(r, Refused) and r.code is not Code.ALREADY_REVEALED for r in grid.received)


def test_seeds_and_keys_of_past_rounds_do_not_stay_at_the_hospital(arm: Callable[..., Arm]) -> None:
    federated = arm(3, rounds=4)
    states = [federated.folder / "sites" / f"site{k}" / "state" for k in range(3)]

    def kept(state: Path) -> dict[int, int]:
        books = {int(p.stem.rpartition("-")[2]): json.loads(p.read_text()) for p in state.glob("masks-*.json")}
        assert all(b["opened"] in ([], ["site0", "site1", "site2"]) for b in books.values())
        assert all(p.stat().st_mode & 0o077 == 0 for p in [*state.glob("masks-*.json"), state / "identity.pem"])
        return {k: len(books[k]["attempts"]) for k in sorted(books)}

    def kill(reply: Any) -> bool:
        if isinstance(reply, Masked) and reply.round == 4:
            raise Killed
        return False

    with pytest.raises(Killed):
        run(federated, kill)
    assert [kept(state) for state in states] == [{1: 0, 2: 0, 3: 1, 4: 1}] * 3
    run(federated)
    assert [kept(state) for state in states] == [{1: 0, 2: 0, 3: 0, 4: 0}] * 3


def test_an_arm_of_two_sites_cannot_hide_one_in_their_sum() -> None:
    """In an experiment, what is trained without one of three hospitals, or at one, is trained without masks."""
    study = tables_study(federation={"secure_aggregation": True, "min_sites": 3})
    assert [_seeded(study, 1, sites).federation.secure_aggregation for sites in (1, 2, 3)] == [False, False, True]
