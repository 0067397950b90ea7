"""The coordinator's side: attempts, replies that cannot be used, the journal, and which strategies may see a sum."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from flwr.serverapp import strategy as flower
from flwr.supercore.task_identity import TaskIdentity
from numpy.typing import NDArray

from sarco_models.errors import ConfigError, QuorumLost
from sarco_models.masking import (
    STEPS,
    Mask,
    Occasion,
    context_of,
    masked_update,
    pair_masks,
    read_keys,
    signed_key,
)
from sarco_models.parameters import Manifest, Parameters
from sarco_models.payload import digest_of
from sarco_models.wire import Code, Keyed, Keys, Masked, MaskedVector, Reveal, Revealed, Train, Trained
from server.federation import Federation
from server.secure_sum import secure_round
from server.strategies import aggregate, build_strategy, sums_only
from tests.sites import tables_study

STUDY, SETUP = "a" * 64, "b" * 64
NUMBERS = 3000
MANIFEST = Manifest(("w",), ((NUMBERS,),))
SENT = Parameters(MANIFEST, np.random.default_rng(0).standard_normal(NUMBERS).astype(np.float32))
REQUEST = Train(STUDY, SETUP, 4, SENT)
RANGE = 8.0
Change = Callable[[Any], Any]
USED_UP = f"refused: {Code.ALREADY_REVEALED}"


class Hospital:
    """An honest site with no memory of what it must not do; ``client.masked`` has that."""

    def __init__(self, name: str, people: int) -> None:
        self.site, self.training = name, people
        self.keys: dict[int, X25519PrivateKey] = {}
        rng = np.random.default_rng(list(name.encode()))
        self.seed = rng.bytes(32)
        self.after = Parameters(MANIFEST, (SENT.vector + 0.01 * rng.standard_normal(NUMBERS)).astype(np.float32))

    def answer(self, request: Any) -> Any:
        match request:
            case Keys():
                private = self.keys.setdefault(request.attempt, X25519PrivateKey.generate())
                occasion = Occasion(request.study, request.setup, request.round, request.attempt)
                key = signed_key(Ed25519PrivateKey.generate(), private, occasion, self.site)
                return Keyed(self.site, request.round, request.attempt, key.public, key.signature)
            case Train():
                return self._masked(request)
            case Reveal():
                return Revealed(self.site, request.round, request.attempt, self.seed.hex())

    def _masked(self, request: Train) -> Masked:
        masking = request.masking
        assert masking
        context = context_of(digest_of(dataclasses.replace(request, masking=None)), masking)
        private = self.keys[masking.attempt]
        masks = [Mask(self.seed), *pair_masks(private, self.site, read_keys(masking.keys), context)]
        share = self.training / masking.total
        vector = masked_update(
            request.parameters.vector, self.after.vector, share=share, update_range=RANGE, masks=masks
        )
        update = MaskedVector(vector)
        return Masked(self.site, request.round, masking.attempt, self.training, update, {"auc": 0.75}, request.study)


class FakeFederation:
    """Hospitals by name; ``disturb`` changes a reply, or makes a failure (a text) of it."""

    def __init__(self, folder: Path, people: Mapping[str, int], min_sites: int = 1) -> None:
        self.hospitals = {name: Hospital(name, n) for name, n in people.items()}
        self.members = {name: SimpleNamespace(site=name, training=n) for name, n in people.items()}
        together = SimpleNamespace(min_sites=min_sites, update_range=RANGE)
        self.study = SimpleNamespace(federation=together)
        self.run = SimpleNamespace(folder=folder)
        self.asked: list[tuple[str, int, str]] = []
        self.disturb: Change = lambda reply: reply

    def ask(self, requests: Mapping[str, Any], kind: type) -> tuple[dict[str, Any], dict[str, str]]:
        replies, failures = {}, dict.fromkeys(set(requests) - set(self.hospitals), "away")
        for name in sorted(set(requests) & set(self.hospitals)):
            request = requests[name]
            attempt = request.masking.attempt if isinstance(request, Train) else request.attempt
            self.asked.append((type(request).__name__, attempt, name))
            reply = self.disturb(self.hospitals[name].answer(request))
            if isinstance(reply, str):
                failures[name] = reply
            else:
                replies[name] = reply
        return replies, failures

    def mean(self, names: str) -> NDArray[np.float64]:
        here = [h for h in self.hospitals.values() if h.site in names]
        total = sum(h.training for h in here)
        return cast("NDArray[np.float64]", sum(h.training / total * h.after.vector.astype(np.float64) for h in here))


PEOPLE = {"a": 40, "b": 60, "c": 20, "d": 100}


@pytest.fixture
def four(tmp_path: Path) -> FakeFederation:
    return FakeFederation(tmp_path, PEOPLE)


def go(federation: FakeFederation) -> tuple[list[Trained], dict[str, dict[str, float]], dict[str, str]]:
    return secure_round(cast(Federation, federation), REQUEST)


def when(kind: type, site: str, change: Change, attempts: tuple[int, ...] = (1,)) -> Change:
    def disturb(reply: Any) -> Any:
        hit = isinstance(reply, kind) and cast(Any, reply).site == site and cast(Any, reply).attempt in attempts
        return change(reply) if hit else reply

    return disturb


def test_one_reply_in_the_name_of_all_has_the_weighted_mean(four: FakeFederation) -> None:
    (joined,), sites, failures = go(four)
    assert (joined.site, joined.round, joined.participants) == ("sum of 4 sites", 4, 220)
    bound = 4 * RANGE / STEPS / 2 + float(np.spacing(np.float32(np.abs(joined.parameters.vector).max())))
    np.testing.assert_allclose(joined.parameters.vector, four.mean("abcd"), rtol=0, atol=bound)
    assert sites == {name: {"participants": n, "auc": 0.75} for name, n in PEOPLE.items()}
    assert failures == {}
    assert [kind for kind, _, _ in four.asked] == ["Keys"] * 4 + ["Train"] * 4 + ["Reveal"] * 4


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi"])
def test_every_strategy_makes_of_the_sum_what_it_makes_of_the_updates(four: FakeFederation, strategy: str) -> None:
    together = {"strategy": strategy, "proximal_mu": 0.1} if strategy == "fedprox" else {"strategy": strategy}
    study = tables_study(federation={**together, "secure_aggregation": True, "min_sites": 3})
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 0
    single = [Trained(h.site, 4, h.training, h.after, {}) for h in four.hospitals.values()]
    plain = aggregate(build_strategy(study), 4, single, SENT).vector
    secure = aggregate(build_strategy(study), 4, go(four)[0], SENT).vector
    difference = np.abs(plain - secure)
    assert difference.max() < (1e-6 if strategy in ("fedavg", "fedprox") else 1e-4)
    assert np.abs(plain - SENT.vector).max() > 1e-3


# ---- replies that cannot be used -------------------------------------------------------------------------------------

WRONG: dict[str, tuple[type, Change, str]] = {
    "no key": (Keyed, lambda r: "no answer before the deadline", "no answer before the deadline"),
    "another's name": (Keyed, lambda r: dataclasses.replace(r, site="a"), "answers in the name of a"),
    "another round": (Keyed, lambda r: dataclasses.replace(r, round=3), "round 3, attempt 1 instead of 4, 1"),
    "another attempt": (Keyed, lambda r: dataclasses.replace(r, attempt=7), "attempt 7 instead of 4, 1"),
    "a key that is none": (Keyed, lambda r: dataclasses.replace(r, public="x"), "its key is none"),
    "a signature that is none": (Keyed, lambda r: dataclasses.replace(r, signature="00"), "its key is none"),
    "no update": (Masked, lambda r: "Flower error 5", "Flower error 5"),
    "update out of range": (Masked, lambda r: f"refused: {Code.UPDATE_TOO_LARGE}", "update_too_large"),
    "no study": (Masked, lambda r: dataclasses.replace(r, study=None), "answers for study None instead of aaaa"),
    "another model": (
        Masked,
        lambda r: dataclasses.replace(r, update=MaskedVector(r.update.vector[1:])),
        "masked update of another model",
    ),
    "another weight": (Masked, lambda r: dataclasses.replace(r, participants=999), "weight of 999 participants"),
    "a metric that is none": (
        Masked, lambda r: dataclasses.replace(r, metrics={"auc": float("nan")}), "metric auc is not finite"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_site_whose_reply_cannot_be_used_is_left_out_and_named(four: FakeFederation, case: str) -> None:
    kind, change, words = WRONG[case]
    four.disturb = when(kind, "b", change)
    (joined,), sites, failures = go(four)
    assert sorted(sites) == ["a", "c", "d"]
    assert words in failures["b"]
    np.testing.assert_allclose(joined.parameters.vector, four.mean("acd"), rtol=0, atol=1e-6)
    attempt = 1 if kind is Keyed else 2
    assert [row for row in four.asked if row[0] == "Reveal"] == [("Reveal", attempt, name) for name in "acd"]


def test_under_another_attempt_everybody_makes_another_key(four: FakeFederation) -> None:
    four.disturb = when(Masked, "b", lambda r: "Flower error 5")
    go(four)
    publics = [h.keys[k].public_key().public_bytes_raw() for h in four.hospitals.values() for k in sorted(h.keys)]
    assert len(publics) == len(set(publics)) == 7


@pytest.mark.parametrize(("people", "min_sites", "needed"), [(3, 1, 3), (4, 4, 4)])
def test_too_few_sites_left_lose_the_round(tmp_path: Path, people: int, min_sites: int, needed: int) -> None:
    federation = FakeFederation(tmp_path, dict(list(PEOPLE.items())[:people]), min_sites)
    federation.disturb = when(Masked, "b", lambda r: "Flower error 5")
    with pytest.raises(QuorumLost, match=rf"needs {needed} \(b: Flower error 5\): mend these sites"):
        go(federation)
    assert not [row for row in federation.asked if row[0] == "Reveal"]


def test_two_hospitals_cannot_aggregate_securely(tmp_path: Path) -> None:
    with pytest.raises(QuorumLost, match="2 sites are left, and a sum needs 3"):
        go(FakeFederation(tmp_path, {"a": 40, "b": 60}))


def test_a_sum_that_is_noise_is_not_taken_for_a_model(four: FakeFederation) -> None:
    """A site that sent something else than it masked, or was told something else."""
    spoilt = MaskedVector(np.random.default_rng(1).integers(0, 2**32, NUMBERS, dtype=np.uint32))
    four.disturb = when(Masked, "b", lambda r: dataclasses.replace(r, update=spoilt))
    with pytest.raises(QuorumLost, match="round 4: the masks do not cancel"):
        go(four)


# ---- attempts, and the journal ---------------------------------------------------------------------------------------


def test_an_attempt_that_some_site_has_used_up_is_skipped_and_nobody_left_out(four: FakeFederation) -> None:
    four.disturb = when(Keyed, "b", lambda r: USED_UP, attempts=(1, 2))
    _, sites, failures = go(four)
    assert sorted(sites) == ["a", "b", "c", "d"]
    assert failures == {}
    assert {attempt for kind, attempt, _ in four.asked if kind == "Reveal"} == {3}


def test_sites_that_have_opened_another_sum_end_the_round_with_the_way_out(four: FakeFederation) -> None:
    four.disturb = when(Masked, "b", lambda r: USED_UP, attempts=tuple(range(100)))
    with pytest.raises(QuorumLost, match=r"no attempt of 16 was completed.*open no second one.*under another seed"):
        go(four)
    assert not [row for row in four.asked if row[0] == "Reveal"]


def journal(federation: FakeFederation) -> Any:
    return json.loads((federation.run.folder / "secure" / "0004.json").read_text())


def test_seeds_are_asked_for_twice_and_then_the_round_waits(four: FakeFederation) -> None:
    four.disturb = when(Revealed, "b", lambda r: "Flower error 5")
    with pytest.raises(QuorumLost, match=r"round 4 waits for b \(b: Flower error 5\).*bring it back"):
        go(four)
    assert [row for row in four.asked if row[0] == "Reveal"][4:] == [("Reveal", 1, "b")]
    assert journal(four) == {"attempt": 1, "sites": ["a", "b", "c", "d"]}
    # nothing but that attempt is asked for until it is back
    four.asked.clear()
    with pytest.raises(QuorumLost, match="round 4 waits for b"):
        go(four)
    assert {attempt for _, attempt, _ in four.asked} == {1}
    four.disturb = lambda reply: reply
    (joined,), _, failures = go(four)
    assert failures == {}
    np.testing.assert_allclose(joined.parameters.vector, four.mean("abcd"), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [Keyed, Masked])
def test_a_round_whose_seeds_were_asked_for_waits_for_its_sites(four: FakeFederation, kind: type) -> None:
    four.disturb = when(Revealed, "b", lambda r: "Flower error 5")
    with pytest.raises(QuorumLost):
        go(four)
    four.disturb = when(kind, "c", lambda r: "no answer before the deadline")
    with pytest.raises(QuorumLost, match=r"round 4 waits for c \("):
        go(four)
    four.disturb = lambda reply: "no answer before the deadline" if isinstance(reply, kind) else reply
    with pytest.raises(QuorumLost, match=r"round 4 waits for a, b, c, d \("):
        go(four)
    del four.hospitals["b"]
    four.disturb = lambda reply: reply
    with pytest.raises(QuorumLost, match="round 4 waits for b"):
        go(four)


def test_an_attempt_that_was_killed_before_the_seeds_is_not_taken_up_again(four: FakeFederation) -> None:
    class Killed(BaseException):
        pass

    def kill(reply: Any) -> Any:
        raise Killed

    four.disturb = when(Masked, "c", kill)
    with pytest.raises(Killed):
        go(four)
    assert journal(four) == {"attempt": 1, "sites": []}
    four.disturb = lambda reply: reply
    go(four)
    assert {attempt for kind, attempt, _ in four.asked if kind == "Reveal"} == {2}
    assert journal(four) == {"attempt": 2, "sites": ["a", "b", "c", "d"]}


def test_the_group_is_written_down_before_the_first_seed_is_asked_for(four: FakeFederation) -> None:
    seen = []

    def look(reply: Any) -> Any:
        seen.append(journal(four)["sites"])
        return reply

    four.disturb = when(Revealed, "a", look)
    go(four)
    assert seen == [["a", "b", "c", "d"]]


# ---- strategies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi"])
def test_every_strategy_of_a_study_is_content_with_sums(name: str) -> None:
    study = tables_study(federation={"strategy": name, "secure_aggregation": True, "min_sites": 3}
                         | ({"proximal_mu": 0.1} if name == "fedprox" else {}))  # fmt: skip
    assert build_strategy(study)


@pytest.mark.parametrize(
    "make",
    [
        flower.FedMedian,
        flower.FedTrimmedAvg,
        flower.Krum,
        flower.MultiKrum,
        flower.Bulyan,
        flower.FedXgbBagging,
        lambda: flower.QFedAvg(client_learning_rate=0.1),
        lambda: flower.DifferentialPrivacyServerSideFixedClipping(flower.FedAvg(), 1.0, 1.0, 3),
        lambda: type("Ours", (flower.FedAvg,), {})(),
    ],
)
def test_a_strategy_that_must_see_single_updates_or_is_not_known_is_refused(make: Callable[[], Any]) -> None:
    """Flower's robust strategies are subclasses of its FedAvg: of one reply they would make nothing, silently."""
    with pytest.raises(ConfigError, match=r"secure_aggregation: .* needs the sites' single updates, or may do so"):
        sums_only(make())


@pytest.mark.parametrize("make", [flower.FedAvg, flower.FedProx, flower.FedAdam, flower.FedAvgM, flower.FedAdagrad])
def test_flowers_own_averages_are_allowed(make: Callable[[], Any]) -> None:
    assert sums_only(strategy := make()) is strategy
