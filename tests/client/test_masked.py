"""A coordinator that lies: swaps keys, says that somebody left, reuses an attempt, invents a total, sends other models.

Each test plays one such coordinator against honest hospitals and shows what it wanted, and that it does not get it.
"""

import dataclasses
import json
import logging
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray
from scipy import stats

from client.identity import public_of
from client.masked import MAX_ATTEMPTS, keys, masked, reveal
from client.policy import Policy, Refusal
from client.workspace import Site
from sarco_models.errors import ProtocolError
from sarco_models.masking import STEPS, Occasion, SignedKey, keys_text, masked_update, signed_key, sum_of
from sarco_models.parameters import Manifest, Parameters
from sarco_models.wire import Code, Keyed, Keys, Masked, Masking, Reveal, Revealed, Train, Trained
from tests.sites import tables_study

STUDY = tables_study(federation={"secure_aggregation": True, "min_sites": 3})
DIGEST, SETUP = STUDY.digest, "b" * 64
NUMBERS = 5000
MANIFEST = Manifest(("w",), ((NUMBERS,),))
RANGE = STUDY.federation.update_range
Vector = NDArray[np.float32]


def sent(seed: int = 0) -> Parameters:
    return Parameters(MANIFEST, np.random.default_rng(seed).standard_normal(NUMBERS).astype(np.float32))


class Hospital:
    """A site, its training (counted), and the three answers of secure aggregation."""

    def __init__(self, state: Path, name: str, people: int, study: Any = STUDY) -> None:
        self.identity = Ed25519PrivateKey.generate()
        self.people, self.trained, self.change = people, 0, 0.01
        self.site = cast(
            Site,
            SimpleNamespace(
                name=name, state=state / name, policy=Policy(min_sites=1), study=study, peers={},
                identity=self.identity, split=SimpleNamespace(train=range(people)),
            ),
        )  # fmt: skip
        self.noise = np.random.default_rng(list(name.encode()))
        self._kept: dict[str, Trained] = {}

    def train(self, site: Site, request: Train) -> Trained:
        """As the real one under noise: each training is another, and one round is trained once."""
        words = f"{request.round} {request.parameters.digest}"
        if words not in self._kept:
            self.trained += 1
            change = self.change * self.noise.standard_normal(NUMBERS)
            after = Parameters(MANIFEST, (request.parameters.vector + change).astype(np.float32))
            self._kept[words] = Trained(site.name, request.round, self.people, after, {"auc": 0.5})
        return self._kept[words]

    def update(self, round_: int = 1) -> Vector:
        """The one thing that the coordinator must not see."""
        return next(t.parameters.vector - sent().vector for w, t in self._kept.items() if w.startswith(f"{round_} "))

    def keyed(self, attempt: int = 1, round_: int = 1, setup: str = SETUP) -> Keyed:
        return keys(self.site, Keys(DIGEST, setup, round_, attempt))

    def masked(self, request: Train) -> Masked:
        return masked(self.site, request, self.train)

    def reveal(self, attempt: int = 1, round_: int = 1, setup: str = SETUP) -> Revealed:
        return reveal(self.site, Reveal(DIGEST, setup, round_, attempt))


@pytest.fixture
def hospitals(tmp_path: Path) -> dict[str, Hospital]:
    """Four hospitals that have enrolled each other; C takes part with few people, D with many."""
    found = {name: Hospital(tmp_path, name, n) for name, n in zip("abcd", (40, 60, 20, 100), strict=True)}
    for hospital in found.values():
        hospital.site.peers = {name: public_of(h.identity) for name, h in found.items()}
    return found


def request_for(
    keyed: Iterable[Keyed], total: int, *, attempt: int = 1, round_: int = 1, parameters: Parameters | None = None
) -> Train:
    text = keys_text(SignedKey(k.site, k.public, k.signature) for k in keyed)
    return Train(DIGEST, SETUP, round_, parameters or sent(), Masking(attempt, total, text))


def ask(hospitals: dict[str, Hospital], names: str, *, attempt: int = 1, round_: int = 1) -> Train:
    """An honest request to these sites."""
    keyed = [hospitals[name].keyed(attempt, round_) for name in names]
    return request_for(keyed, sum(hospitals[n].people for n in names), attempt=attempt, round_=round_)


def refused(code: Code, words: str, function: Any, *args: Any, **kwargs: Any) -> None:
    with pytest.raises(Refusal, match=words) as caught:
        function(*args, **kwargs)
    assert caught.value.code is code


def mean_of(found: Sequence[Hospital], round_: int = 1) -> NDArray[np.float64]:
    total = sum(h.people for h in found)
    return cast("NDArray[np.float64]", sum(h.people / total * h.update(round_).astype(np.float64) for h in found))


# ---- an honest coordinator -------------------------------------------------------------------------------------------


def test_the_sum_is_that_of_the_updates_bit_for_bit(hospitals: dict[str, Hospital]) -> None:
    request = ask(hospitals, "abcd")
    replies = [h.masked(request) for h in hospitals.values()]
    seeds = [bytes.fromhex(h.reveal().seed) for h in hospitals.values()]
    steps = sum_of([r.update.vector for r in replies], seeds)
    plain = [
        masked_update(
            sent().vector, h.train(h.site, request).parameters.vector, share=h.people / 220, update_range=RANGE
        ).view(np.int32)
        for h in hospitals.values()
    ]
    np.testing.assert_array_equal(steps, np.sum(plain, axis=0))
    np.testing.assert_allclose(steps * RANGE / STEPS, mean_of(list(hospitals.values())), rtol=0, atol=1e-7)
    assert [(r.site, r.participants, r.attempt, dict(r.metrics)) for r in replies] == [
        (name, h.people, 1, {"auc": 0.5}) for name, h in hospitals.items()
    ]


def test_what_is_asked_again_is_answered_again_and_nothing_is_trained_or_made_anew(
    hospitals: dict[str, Hospital],
) -> None:
    """A reply that got lost, or a coordinator that was killed."""
    a = hospitals["a"]
    assert a.keyed() == a.keyed()
    request = ask(hospitals, "abcd")
    first, again = a.masked(request), a.masked(request)
    np.testing.assert_array_equal(first.update.vector, again.update.vector)
    assert a.trained == 1
    assert a.reveal() == a.reveal()
    np.testing.assert_array_equal(a.masked(request).update.vector, first.update.vector)


def test_another_attempt_has_other_keys_other_masks_and_the_same_update(hospitals: dict[str, Hospital]) -> None:
    request, second = ask(hospitals, "abcd"), ask(hospitals, "abc", attempt=2)
    assert not {k[1] for k in json.loads(request.masking.keys)} & {k[1] for k in json.loads(second.masking.keys)}  # type: ignore[union-attr]
    first = hospitals["a"].masked(request).update.vector
    other = hospitals["a"].masked(second).update.vector
    assert hospitals["a"].trained == 1
    difference = (first - other).view(np.uint8)
    assert stats.chisquare(np.bincount(difference, minlength=256)).pvalue > 1e-6
    for name in "bc":
        hospitals[name].masked(second)
    replies = [hospitals[name].masked(second) for name in "abc"]
    seeds = [bytes.fromhex(hospitals[name].reveal(2).seed) for name in "abc"]
    steps = sum_of([r.update.vector for r in replies], seeds)
    mean = mean_of([hospitals[name] for name in "abc"])
    np.testing.assert_allclose(steps * RANGE / STEPS, mean, rtol=0, atol=1e-7)


# ---- who says that somebody has left ---------------------------------------------------------------------------------


def test_the_update_of_a_site_that_is_said_to_have_left_cannot_be_had_as_a_difference(
    hospitals: dict[str, Hospital],
) -> None:
    """sum(A B C D) - sum(A B C) would be D's update: the sums exist, and only one of them can be opened."""
    request = ask(hospitals, "abcd")
    vectors = {n: h.masked(request).update.vector for n, h in hospitals.items()}
    seeds = {n: bytes.fromhex(h.reveal().seed) for n, h in hospitals.items()}
    whole = sum_of(list(vectors.values()), seeds.values())
    # "D has left": another attempt among the rest
    keyed = [hospitals[n].keyed(2) for n in "abc"]
    lie = request_for(keyed, 120, attempt=2)
    for name in "abc":
        refused(Code.ALREADY_REVEALED, "would tell their difference", hospitals[name].masked, lie)
        refused(Code.BAD_REQUEST, "no update left here in attempt 2", hospitals[name].reveal, 2)
    # what the attack would have given
    rest = mean_of([hospitals[n] for n in "abc"]) * 120 / 220
    stolen = (whole * RANGE / STEPS - rest) * 220 / 100
    assert stats.pearsonr(stolen, hospitals["d"].update()).statistic > 0.999


def test_nor_if_both_attempts_are_masked_before_any_seed_is_told(hospitals: dict[str, Hospital]) -> None:
    first, second = ask(hospitals, "abcd"), ask(hospitals, "abc", attempt=2)
    vectors = [hospitals[n].masked(first).update.vector for n in "abcd"]
    others = [hospitals[n].masked(second).update.vector for n in "abc"]
    seeds = [bytes.fromhex(hospitals[n].reveal(1).seed) for n in "abcd"]
    sum_of(vectors, seeds)
    for name in "abc":
        refused(Code.ALREADY_REVEALED, "was opened already", hospitals[name].reveal, 2)
    with pytest.raises(ProtocolError, match="do not cancel"):
        sum_of(others, seeds[:3])  # seeds of the one attempt open nothing of the other


def test_nor_if_the_seeds_of_some_are_asked_for_one_attempt_and_of_some_for_the_other(
    hospitals: dict[str, Hospital],
) -> None:
    first, second = ask(hospitals, "abcd"), ask(hospitals, "abc", attempt=2)
    one = {n: hospitals[n].masked(first).update.vector for n in "abcd"}
    two = {n: hospitals[n].masked(second).update.vector for n in "abc"}
    seeds = [hospitals["a"].reveal(1), hospitals["b"].reveal(2), hospitals["c"].reveal(2), hospitals["d"].reveal(1)]
    told = [bytes.fromhex(s.seed) for s in seeds]
    for vectors in (list(one.values()), list(two.values()), [one["a"], two["b"], two["c"], one["d"]]):
        with pytest.raises(ProtocolError, match="do not cancel"):
            sum_of(vectors, told)
        with pytest.raises(ProtocolError, match="do not cancel"):
            sum_of(vectors, [told[0], told[3]])


def test_the_group_is_remembered_by_another_process_and_after_a_restart(
    hospitals: dict[str, Hospital], tmp_path: Path
) -> None:
    request = ask(hospitals, "abcd")
    for hospital in hospitals.values():
        hospital.masked(request)
    hospitals["a"].reveal()
    reborn = Hospital(tmp_path, "a", 40)
    reborn.identity = reborn.site.__dict__["identity"] = hospitals["a"].identity
    reborn.site.peers = hospitals["a"].site.peers
    keyed = [reborn.keyed(2), hospitals["b"].keyed(2), hospitals["c"].keyed(2)]
    refused(Code.ALREADY_REVEALED, "would tell their difference", reborn.masked, request_for(keyed, 120, attempt=2))
    assert reborn.reveal() == hospitals["a"].reveal()


def test_it_is_remembered_under_another_setup_and_in_another_run(hospitals: dict[str, Hospital]) -> None:
    """Else the coordinator would only have to begin the study again without D."""
    request = ask(hospitals, "abcd")
    for hospital in hospitals.values():
        hospital.masked(request)
        hospital.reveal()
    refused(Code.ALREADY_REVEALED, "attempt 1 at round 1 is over", hospitals["a"].keyed, 1, setup="e" * 64)
    keyed = [hospitals[n].keyed(2, setup="e" * 64) for n in "abc"]
    again = dataclasses.replace(request_for(keyed, 120, attempt=2), setup="e" * 64)
    refused(Code.ALREADY_REVEALED, "would tell their difference", hospitals["a"].masked, again)


def test_the_same_sites_may_sum_the_same_round_again(hospitals: dict[str, Hospital]) -> None:
    """Two sums over the same sites have no difference that belongs to one of them."""
    for attempt in (1, 2):
        request = ask(hospitals, "abcd", attempt=attempt)
        replies = [h.masked(request) for h in hospitals.values()]
        seeds = [bytes.fromhex(h.reveal(attempt).seed) for h in hospitals.values()]
        steps = sum_of([r.update.vector for r in replies], seeds)
        np.testing.assert_allclose(steps * RANGE / STEPS, mean_of(list(hospitals.values())), rtol=0, atol=1e-7)


def test_no_seed_is_told_before_an_update_left(hospitals: dict[str, Hospital]) -> None:
    a = hospitals["a"]
    refused(Code.BAD_REQUEST, "no update left here", a.reveal)
    ask(hospitals, "abcd")
    refused(Code.BAD_REQUEST, "no update left here", a.reveal)
    a.masked(ask(hospitals, "abcd"))
    refused(Code.BAD_REQUEST, "no update left here", a.reveal, 1, setup="e" * 64)
    refused(Code.BAD_REQUEST, "no update left here", a.reveal, 1, round_=2)


# ---- who stands in the middle ----------------------------------------------------------------------------------------


def test_a_coordinator_that_swaps_keys_for_its_own_is_found_out(hospitals: dict[str, Hospital]) -> None:
    """With the private halves of B's, C's and D's keys it would know all masks between A and them."""
    keyed = [h.keyed() for h in hospitals.values()]
    mine, stranger = X25519PrivateKey.generate().public_key().public_bytes_raw().hex(), Ed25519PrivateKey.generate()
    for k in (1, 2, 3):
        swapped = list(keyed)
        swapped[k] = dataclasses.replace(keyed[k], public=mine)
        refused(
            Code.KEYS_NOT_TRUSTED,
            "was not signed by the key enrolled",
            hospitals["a"].masked,
            request_for(swapped, 220),
        )
        forged = signed_key(stranger, X25519PrivateKey.generate(), Occasion(DIGEST, SETUP, 1, 1), keyed[k].site)
        swapped[k] = Keyed(forged.site, 1, 1, forged.public, forged.signature)
        refused(
            Code.KEYS_NOT_TRUSTED,
            "was not signed by the key enrolled",
            hospitals["a"].masked,
            request_for(swapped, 220),
        )
    assert hospitals["a"].trained == 0


def test_a_hospital_that_is_not_enrolled_is_not_masked_with(hospitals: dict[str, Hospital], tmp_path: Path) -> None:
    """Three puppets of the coordinator's beside A would leave A's update alone in the sum."""
    puppets = [Hospital(tmp_path, f"p{k}", 10) for k in range(3)]
    keyed = [hospitals["a"].keyed(), *(p.keyed() for p in puppets)]
    refused(Code.KEYS_NOT_TRUSTED, r"p0 is not among the \[\[peers\]\]", hospitals["a"].masked, request_for(keyed, 70))


def test_a_key_of_another_occasion_is_not_taken(hospitals: dict[str, Hospital]) -> None:
    """Old keys are signed, and their private halves may have been found since."""
    now = {n: h.keyed(2, 2) for n, h in hospitals.items()}
    for attempt, round_ in ((1, 2), (2, 1), (1, 1)):
        old = hospitals["b"].keyed(attempt, round_)
        keyed = [now["a"], old, now["c"], now["d"]]
        refused(
            Code.KEYS_NOT_TRUSTED, "name of b was not signed", hospitals["a"].masked,
            request_for(keyed, 220, attempt=2, round_=2),
        )  # fmt: skip
    hospitals["a"].masked(request_for(now.values(), 220, attempt=2, round_=2))


def test_the_own_entry_must_be_the_own_key(hospitals: dict[str, Hospital]) -> None:
    keyed = [h.keyed() for h in hospitals.values()]
    a = hospitals["a"]
    other = signed_key(a.identity, X25519PrivateKey.generate(), Occasion(DIGEST, SETUP, 1, 1), "a")
    replaced = [Keyed("a", 1, 1, other.public, other.signature), *keyed[1:]]
    refused(Code.KEYS_NOT_TRUSTED, "not the one that was made here", a.masked, request_for(replaced, 220))
    refused(Code.KEYS_NOT_TRUSTED, "not the one that was made here", a.masked, request_for(keyed[1:], 180))


def test_a_key_must_have_been_made_here_for_this_attempt(hospitals: dict[str, Hospital]) -> None:
    request = ask(hospitals, "abcd")
    ahead = dataclasses.replace(request, masking=dataclasses.replace(cast(Masking, request.masking), attempt=2))
    refused(Code.KEYS_NOT_TRUSTED, "no key was made here for attempt 2", hospitals["a"].masked, ahead)
    other = dataclasses.replace(request, setup="e" * 64)
    refused(Code.KEYS_NOT_TRUSTED, "no key was made here", hospitals["a"].masked, other)
    refused(Code.KEYS_NOT_TRUSTED, "no key was made here", hospitals["a"].masked, dataclasses.replace(request, round=2))


# ---- who counts wrongly ----------------------------------------------------------------------------------------------


def test_two_sites_are_too_few_also_if_one_is_named_twice(hospitals: dict[str, Hospital]) -> None:
    keyed = [hospitals[n].keyed() for n in "ab"]
    refused(Code.TOO_FEW_SITES, "2 sites under the masks", hospitals["a"].masked, request_for(keyed, 100))
    refused(Code.TOO_FEW_SITES, "2 sites under the masks", hospitals["a"].masked, request_for([*keyed, keyed[1]], 160))
    four = [*(hospitals[n].keyed() for n in "abc"), keyed[1]]
    refused(Code.KEYS_NOT_TRUSTED, "named twice", hospitals["a"].masked, request_for(four, 180))


def test_one_hospital_under_two_names_is_found_out(hospitals: dict[str, Hospital], tmp_path: Path) -> None:
    """B's coordinator-friendly administrator signs for a second hospital; or A's own key comes under another name."""
    a, twin = hospitals["a"], Hospital(tmp_path, "twin", 5)
    twin.site.__dict__["identity"] = a.identity
    a.site.peers = {**a.site.peers, "twin": public_of(a.identity)}
    keyed = [a.keyed(), hospitals["b"].keyed(), twin.keyed()]
    refused(Code.KEYS_NOT_TRUSTED, "in the name of twin", a.masked, request_for(keyed, 105))
    copy = signed_key(hospitals["c"].identity, X25519PrivateKey.generate(), Occasion(DIGEST, SETUP, 1, 1), "c")
    same = dataclasses.replace(copy, public=keyed[1].public)
    keyed[2] = Keyed("c", 1, 1, same.public, same.signature)
    refused(Code.KEYS_NOT_TRUSTED, "named twice", a.masked, request_for(keyed, 105))


@pytest.mark.parametrize(("policy", "study"), [(4, 3), (1, 4)])
def test_a_hospital_or_a_study_may_ask_for_more_sites(hospitals: dict[str, Hospital], policy: int, study: int) -> None:
    a = hospitals["a"]
    a.site.policy = Policy(min_sites=policy)
    a.site.study = tables_study(federation={"secure_aggregation": True, "min_sites": study})
    refused(Code.TOO_FEW_SITES, "3 sites under the masks, at least 4", a.masked, ask(hospitals, "abc"))
    a.masked(ask(hospitals, "abcd", attempt=2))


def test_a_total_below_the_own_weight_is_refused_before_training(hospitals: dict[str, Hospital]) -> None:
    keyed = [h.keyed() for h in hospitals.values()]
    for total in (99, 0, -1):
        refused(Code.BAD_REQUEST, f"a total of {total}", hospitals["d"].masked, request_for(keyed, total))
    assert hospitals["d"].trained == 0


def test_telling_each_site_another_total_gives_noise_instead_of_one_sites_update(
    hospitals: dict[str, Hospital],
) -> None:
    """With share 1 for A, and next to nothing for the others, the sum would be A's update."""
    keyed = [h.keyed() for h in hospitals.values()]
    lies = {"a": 40, "b": 10**9, "c": 10**9, "d": 10**9}
    vectors = [hospitals[n].masked(request_for(keyed, total)).update.vector for n, total in lies.items()]
    seeds = [bytes.fromhex(h.reveal().seed) for h in hospitals.values()]
    with pytest.raises(ProtocolError, match="do not cancel"):
        sum_of(vectors, seeds)


def test_an_invented_total_that_all_are_told_changes_no_sites_part_in_the_sum(hospitals: dict[str, Hospital]) -> None:
    keyed = [h.keyed() for h in hospitals.values()]
    request = request_for(keyed, 22_000)
    vectors = [h.masked(request).update.vector for h in hospitals.values()]
    steps = sum_of(vectors, [bytes.fromhex(h.reveal().seed) for h in hospitals.values()])
    np.testing.assert_allclose(steps * RANGE / STEPS * 100, mean_of(list(hospitals.values())), rtol=0, atol=1e-5)


def test_telling_each_site_another_model_gives_noise_as_well(hospitals: dict[str, Hospital]) -> None:
    """Pasquini et al. (2022): a dead model for all but A, whose update then stands alone in the sum."""
    keyed = [h.keyed() for h in hospitals.values()]
    vectors = [
        h.masked(request_for(keyed, 220, parameters=sent(0 if name == "a" else 1))).update.vector
        for name, h in hospitals.items()
    ]
    with pytest.raises(ProtocolError, match="do not cancel"):
        sum_of(vectors, [bytes.fromhex(h.reveal().seed) for h in hospitals.values()])


# ---- who uses an attempt twice ---------------------------------------------------------------------------------------


def test_under_the_keys_of_one_attempt_only_one_request_is_answered(hospitals: dict[str, Hospital]) -> None:
    """Two vectors under the same masks would tell the difference of what is under them."""
    request = ask(hospitals, "abcd")
    a = hospitals["a"]
    a.masked(request)
    masking = cast(Masking, request.masking)
    fewer = json.dumps(json.loads(masking.keys)[:3])
    for other in (
        dataclasses.replace(request, masking=dataclasses.replace(masking, total=221)),
        dataclasses.replace(request, masking=dataclasses.replace(masking, keys=fewer)),
        dataclasses.replace(request, parameters=sent(5)),
    ):
        refused(Code.ALREADY_REVEALED, "attempt 1 was answered for another request", a.masked, other)
    assert a.trained == 1


def test_an_update_that_was_lost_and_made_anew_is_not_sent_under_the_old_masks(hospitals: dict[str, Hospital]) -> None:
    """Training under noise never comes out the same twice: the difference would be of two noises, without masks."""
    request = ask(hospitals, "abcd")
    a = hospitals["a"]
    a.masked(request)
    a._kept.clear()
    refused(Code.ALREADY_REVEALED, "the update is not the one sent before", a.masked, request)
    a.masked(ask(hospitals, "abcd", attempt=2))


def test_an_attempt_number_is_never_used_again_after_its_keys_are_forgotten(hospitals: dict[str, Hospital]) -> None:
    a = hospitals["a"]
    a.keyed(1)
    a.keyed(2)
    a.keyed(1, round_=2)
    assert a.keyed(2).attempt == 2  # the last round may have to be repeated
    a.keyed(1, round_=3)
    for attempt in (1, 2):
        refused(Code.ALREADY_REVEALED, f"attempt {attempt} at round 1 is over", a.keyed, attempt)
    refused(Code.BAD_REQUEST, "no update left here", a.reveal, 2)
    assert a.keyed(3).attempt == 3


@pytest.mark.parametrize("attempt", [0, -1, MAX_ATTEMPTS + 1])
def test_attempts_have_a_range(hospitals: dict[str, Hospital], attempt: int) -> None:
    refused(Code.BAD_REQUEST, "attempt", hospitals["a"].keyed, attempt)


# ---- the hospital itself ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [RANGE * 1.1, float("inf"), float("nan")])
def test_an_update_out_of_range_stays_here(hospitals: dict[str, Hospital], change: float) -> None:
    a = hospitals["a"]
    a.train(a.site, dataclasses.replace(ask(hospitals, "abcd"), masking=None)).parameters.vector[17] = change
    refused(Code.UPDATE_TOO_LARGE, "update_range", a.masked, ask(hospitals, "abcd"))
    refused(Code.BAD_REQUEST, "no update left here", a.reveal)


def test_without_masking_nothing_leaves_here(hospitals: dict[str, Hospital]) -> None:
    request = dataclasses.replace(ask(hospitals, "abcd"), masking=None)
    refused(Code.NOT_MASKED, "without masks", hospitals["a"].masked, request)


def test_keys_that_are_no_keys_are_a_bad_request(hospitals: dict[str, Hospital]) -> None:
    request = ask(hospitals, "abcd")
    for text in ("", "[]", '[["a", "b", "c"]]'):
        damaged = dataclasses.replace(request, masking=Masking(1, 220, text))
        with pytest.raises(ProtocolError):
            hospitals["a"].masked(damaged)


def test_a_damaged_book_is_not_guessed_at(hospitals: dict[str, Hospital]) -> None:
    a = hospitals["a"]
    a.keyed()
    for path in a.site.state.glob("masks-*.json"):
        path.write_text(path.read_text()[:-5])
    refused(Code.INTERNAL, "cannot be read", a.keyed)
    assert a.keyed(1, round_=3).attempt == 1


def test_secrets_are_readable_by_this_account_only_and_never_logged(
    hospitals: dict[str, Hospital], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    a = hospitals["a"]
    a.masked(ask(hospitals, "abcd"))
    seed = a.reveal().seed
    files = list(a.site.state.glob("masks-*.json"))
    assert files
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)
    assert seed not in caplog.text


def test_of_two_asked_at_once_only_one_tells_its_seed(hospitals: dict[str, Hospital], tmp_path: Path) -> None:
    """Flower starts a process for every message; each opens the book and its lock anew, as these threads do."""
    hospitals["a"].masked(ask(hospitals, "abcd"))
    hospitals["a"].masked(ask(hospitals, "abc", attempt=2))
    barrier = threading.Barrier(2)

    def reveal_(attempt: int) -> str:
        hospital = Hospital(tmp_path, "a", 40)
        barrier.wait()
        try:
            return hospital.reveal(attempt).seed
        except Refusal as refusal:
            return str(refusal.code)

    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(reveal_, (1, 2)))
    assert sorted(len(text) for text in told) == [len(Code.ALREADY_REVEALED), 64]
