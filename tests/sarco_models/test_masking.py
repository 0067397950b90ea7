"""Masked sums: the plain sum bit for bit; noise without any one site, and where sites were told different things."""

import dataclasses
import json
import tracemalloc
from collections.abc import Mapping

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray
from scipy import stats

from sarco_models import masking
from sarco_models.errors import ProtocolError
from sarco_models.masking import (
    STEPS,
    Mask,
    Occasion,
    SignedKey,
    context_of,
    is_signed,
    keys_text,
    masked_update,
    moved,
    pair_masks,
    read_keys,
    signed_key,
    sum_of,
)
from sarco_models.messages import Masking

STUDY, SETUP = "a" * 64, "b" * 64
OCCASION = Occasion(STUDY, SETUP, 3, 1)
CONTEXT = "c" * 64
RANGE = 8.0
Vector = NDArray[np.float32]


class Group:
    """Sites with keys, updates and seeds, and what each of them sends."""

    def __init__(self, participants: Mapping[str, int], numbers: int, seed: int = 1, scale: float = 0.01) -> None:
        rng = np.random.default_rng(seed)
        self.participants = dict(participants)
        self.total = sum(participants.values())
        self.sent: Vector = rng.standard_normal(numbers).astype(np.float32)
        self.trained: dict[str, Vector] = {
            name: (self.sent + scale * rng.standard_normal(numbers)).astype(np.float32) for name in participants
        }
        identity = Ed25519PrivateKey.generate()
        self.private = {name: X25519PrivateKey.generate() for name in participants}
        self.keys = [signed_key(identity, key, OCCASION, name) for name, key in sorted(self.private.items())]
        self.seeds = {name: np.random.default_rng([seed, k]).bytes(32) for k, name in enumerate(participants)}

    def bare(self, name: str) -> NDArray[np.uint32]:
        return masked_update(
            self.sent, self.trained[name], share=self.participants[name] / self.total, update_range=RANGE
        )

    def masked(self, name: str, context: str = CONTEXT) -> NDArray[np.uint32]:
        masks = [Mask(self.seeds[name]), *pair_masks(self.private[name], name, self.keys, context)]
        share = self.participants[name] / self.total
        return masked_update(self.sent, self.trained[name], share=share, update_range=RANGE, masks=masks)

    def all(self) -> list[NDArray[np.uint32]]:
        return [self.masked(name) for name in self.participants]


def group(sites: int = 3, numbers: int = 1000, seed: int = 1, scale: float = 0.01) -> Group:
    rng = np.random.default_rng([seed, 9])
    return Group({f"site{k}": int(rng.integers(10, 500)) for k in range(sites)}, numbers, seed, scale)


def looks_random(vector: NDArray[np.uint32]) -> bool:
    """Chi-square of the bytes against uniform; the level makes a chance failure of the tests a one in a million."""
    counts = np.bincount(vector.view(np.uint8), minlength=256)
    return bool(stats.chisquare(counts).pvalue > 1e-6)


# ---- exact sums ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", range(40))
def test_the_masked_sum_is_the_plain_sum_bit_for_bit(case: int) -> None:
    """Any number of sites, of participants, of numbers (around the block's border too), any size of update."""
    rng = np.random.default_rng(case)
    numbers = int(rng.choice([1, 2, 31, 1000, masking._BLOCK - 1, masking._BLOCK, masking._BLOCK + 1, 70_000]))
    found = group(int(rng.integers(3, 8)), numbers, seed=case, scale=float(10 ** rng.uniform(-8, 0)))
    total = sum_of(found.all(), found.seeds.values())
    plain = np.sum([found.bare(name).view(np.int32).astype(np.int64) for name in found.participants], axis=0)
    np.testing.assert_array_equal(total, plain)


@pytest.mark.parametrize("case", range(20))
def test_it_is_the_weighted_mean_to_half_a_step_for_each_site(case: int) -> None:
    found = group(3 + case % 8, 2000, seed=case, scale=float(10 ** np.random.default_rng(case).uniform(-6, 0)))
    total = sum_of(found.all(), found.seeds.values())
    mean = sum(
        n / found.total * (found.trained[name].astype(np.float64) - found.sent)
        for name, n in found.participants.items()
    )
    step = RANGE / STEPS
    assert np.max(np.abs(total * step - mean)) <= len(found.participants) * step / 2 * (1 + 1e-9)
    expected = (found.sent + total * step).astype(np.float32)
    np.testing.assert_array_equal(moved(found.sent, total, RANGE), expected)


def test_the_largest_updates_that_are_allowed_do_not_wrap_around() -> None:
    sent = np.zeros(5, dtype=np.float32)
    for sign in (1, -1):
        trained = np.full(5, sign * RANGE, dtype=np.float32)
        vectors = [masked_update(sent, trained, share=share, update_range=RANGE) for share in (1 / 3, 1 / 3, 1 / 3)]
        assert moved(sent, sum_of(vectors, []), RANGE) == pytest.approx(sign * RANGE, rel=1e-8)


@pytest.mark.parametrize("value", [RANGE * (1 + 1e-6), -RANGE * (1 + 1e-6), np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("place", [0, masking._BLOCK, 70_000])
def test_an_update_out_of_range_is_refused_and_never_clipped(value: float, place: int) -> None:
    trained = np.zeros(70_001, dtype=np.float32)
    trained[place] = value
    with pytest.raises(OverflowError, match="changed by more than 8, or is not finite"):
        masked_update(np.zeros_like(trained), trained, share=0.1, update_range=RANGE)


def test_what_came_down_may_be_read_only_and_is_not_changed() -> None:
    found = group()
    found.sent.flags.writeable = False
    for vector in found.trained.values():
        vector.flags.writeable = False
    assert sum_of(found.all(), found.seeds.values()).dtype == np.int32


def test_no_second_copy_of_the_vector_is_made() -> None:
    """114 MB of a large network must not become several: one result, and blocks."""
    found = group(4, 2_000_000)
    tracemalloc.start()
    found.masked("site1")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2_000_000 + 3e6


# ---- what a single vector says ---------------------------------------------------------------------------------------


def test_a_masked_update_is_uniform_and_knows_nothing_of_the_update() -> None:
    found = group(3, 200_000, scale=1.0)
    for name in found.participants:
        sent, bare = found.masked(name), found.bare(name)
        assert looks_random(sent)
        assert not looks_random(bare)
        assert abs(stats.pearsonr(sent.view(np.int32), bare.view(np.int32)).statistic) < 5 / np.sqrt(200_000)


def test_any_site_missing_leaves_noise() -> None:
    found = group(4, 100_000)
    vectors = found.all()
    for absent in range(4):
        rest = [k for k in range(4) if k != absent]
        seeds = list(found.seeds.values())
        left = np.sum([vectors[k] for k in rest], axis=0, dtype=np.uint32)
        for k in rest:
            Mask_over(left, seeds[k])
        assert looks_random(left)
        with pytest.raises(ProtocolError, match="do not cancel"):
            sum_of([vectors[k] for k in rest], [seeds[k] for k in rest])


def Mask_over(vector: NDArray[np.uint32], seed: bytes) -> None:
    mask = Mask(seed, -1)
    for start in range(0, len(vector), masking._BLOCK):
        mask.add_to(vector[start : start + masking._BLOCK])


def test_any_seed_missing_leaves_noise() -> None:
    found = group(3, 50_000)
    seeds = list(found.seeds.values())
    for absent in range(3):
        with pytest.raises(ProtocolError, match="do not cancel"):
            sum_of(found.all(), [s for k, s in enumerate(seeds) if k != absent])


def test_sites_that_were_told_different_things_have_masks_that_do_not_cancel() -> None:
    """Another model, another total, another group: see the paper of Pasquini et al. (2022)."""
    found = group(3, 50_000)
    told = [found.masked("site0"), found.masked("site1"), found.masked("site2", context="d" * 64)]
    left = np.sum(told, axis=0, dtype=np.uint32)
    for seed in found.seeds.values():
        Mask_over(left, seed)
    assert looks_random(left)
    with pytest.raises(ProtocolError, match="do not cancel"):
        sum_of(told, found.seeds.values())


def test_everything_that_sites_must_agree_on_is_in_the_context() -> None:
    masking_ = Masking(1, 500, keys_text(group().keys))
    contexts = {
        context_of(work, other)
        for work in ("work", "other work")
        for other in (
            masking_,
            dataclasses.replace(masking_, attempt=2),
            dataclasses.replace(masking_, total=501),
            dataclasses.replace(masking_, keys=keys_text(group(4).keys)),
        )
    }
    assert len(contexts) == 8


def test_the_streams_are_chacha20_over_the_whole_vector() -> None:
    """RFC 8439, against a stream made in one piece; 256-bit keys, no generator of NumPy's (FLOWER 3.3)."""
    key = bytes(range(32))
    vector = np.zeros(70_001, dtype=np.uint32)
    mask = Mask(key)
    for start in range(0, len(vector), masking._BLOCK):
        mask.add_to(vector[start : start + masking._BLOCK])
    stream = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(4 * len(vector)))
    assert vector.tobytes() == stream
    assert vector[:4].tobytes().hex() == "39fd2b7dd9c5196a8dbd0377b8dc4a49"  # first bytes of the keystream, openssl


def test_two_sites_have_one_stream_and_nobody_else_has_it() -> None:
    found = group(4, 100)

    def stream(name: str, other: str, context: str = CONTEXT) -> bytes:
        zeros = np.zeros(100, dtype=np.uint32)
        key = [k for k in found.keys if k.site == other]
        pair_masks(found.private[name], name, key, context)[0].add_to(zeros)
        return zeros.tobytes() if name < other else (-zeros.view(np.int32)).tobytes()

    assert stream("site0", "site1") == stream("site1", "site0")
    streams = [stream(f"site{i}", f"site{j}") for i in range(4) for j in range(i + 1, 4)]
    streams += [stream("site0", "site1", context="e" * 64)]
    assert len(set(streams)) == 7


def test_a_point_without_a_secret_is_refused() -> None:
    weak = SignedKey("site9", "0" * 64, "0" * 128)
    with pytest.raises(ProtocolError, match="site9 is no key"):
        pair_masks(X25519PrivateKey.generate(), "site0", [weak], CONTEXT)


# ---- keys and signatures ---------------------------------------------------------------------------------------------


def test_a_key_is_bound_to_everything_that_it_is_for() -> None:
    identity = Ed25519PrivateKey.generate()
    enrolled = identity.public_key().public_bytes_raw().hex()
    key = signed_key(identity, X25519PrivateKey.generate(), OCCASION, "shanghai")
    assert is_signed(key, enrolled, OCCASION)
    others = [
        Occasion("c" * 64, SETUP, 3, 1),
        Occasion(STUDY, "c" * 64, 3, 1),
        Occasion(STUDY, SETUP, 4, 1),
        Occasion(STUDY, SETUP, 3, 2),
        Occasion(STUDY, SETUP, 31, 1),
    ]
    assert not any(is_signed(key, enrolled, other) for other in others)
    assert not is_signed(dataclasses.replace(key, site="sichuan"), enrolled, OCCASION)
    assert not is_signed(dataclasses.replace(key, public=group().keys[0].public), enrolled, OCCASION)
    stranger = Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex()
    assert not is_signed(key, stranger, OCCASION)
    assert not is_signed(key, "no key", OCCASION)
    assert not is_signed(key, "0" * 63 + "2", OCCASION)  # no point of the curve


@pytest.mark.parametrize("study", ["", "a" * 63, "A" * 64, "a" * 64 + "\n", "a" * 60 + " | 3"])
def test_nothing_but_digests_is_signed(study: str) -> None:
    with pytest.raises(ProtocolError):
        Occasion(study, SETUP, 1, 1)
    with pytest.raises(ProtocolError):
        Occasion(STUDY, study, 1, 1)


def test_the_list_of_keys_is_read_as_it_was_written_and_in_no_other_form() -> None:
    keys = group(4).keys
    text = keys_text(reversed(keys))
    assert read_keys(text) == tuple(keys)
    entries = json.loads(text)
    damaged = [
        "", "[]", "3", "{}", "null", '["a"]', "[[]]", text + " ", text[:-1],
        json.dumps(entries[::-1]),
        json.dumps([entry[:2] for entry in entries]),
        json.dumps([[*entry, "more"] for entry in entries]),
        json.dumps([[3, *entries[0][1:]]]),
        json.dumps([[entries[0][0], entries[0][1].upper(), entries[0][2]]]),
        json.dumps([[entries[0][0], entries[0][1], "ff"]]),
        json.dumps([*entries, "more"]),
    ]  # fmt: skip
    for wrong in damaged:
        with pytest.raises(ProtocolError, match="no list of site, key, signature"):
            read_keys(wrong)
