"""Encoded updates: exact where they say so, off by no more than they say, and never a number out of nothing."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
import zstandard
from numpy.typing import NDArray

from sarco_models.encoding import BLOCK, ENCODINGS, EncodedUpdate, Shortened, lengthen, most_bytes, shorten
from sarco_models.errors import ProtocolError
from sarco_models.messages import Trained, Updated, expanded
from sarco_models.parameters import Manifest, Parameters
from sarco_models.payload import digest_of, parts_of

SHAPES = ((40, 96), (12, 3, 7, 7), (5, 4), (), (700,), (0,), (1, 20), (3, 0), (70000,))
MANIFEST = Manifest(tuple(f"tensor{k}" for k in range(len(SHAPES))), SHAPES)
SIZE = sum(MANIFEST.sizes)
FORMS = [(encoding, compress) for encoding in ENCODINGS for compress in (False, True)]
forms = pytest.mark.parametrize(("encoding", "compress"), FORMS)


def parameters(vector: NDArray[np.float32]) -> Parameters:
    return Parameters(MANIFEST, np.asarray(vector, dtype=np.float32))


def one(update: NDArray[np.float32] | list[float], *shape: int) -> tuple[Parameters, Parameters]:
    """One tensor after and before, which is zero: so the update is what is given."""
    vector = np.asarray(update, dtype=np.float32).reshape(-1)
    manifest = Manifest(("w",), (shape or vector.shape,))
    return Parameters(manifest, vector), Parameters(manifest, np.zeros_like(vector))


def some(seed: int = 1, size: float = 1e-3) -> tuple[Parameters, Parameters]:
    """A model before and after a round."""
    rng = np.random.default_rng(seed)
    before = rng.standard_normal(SIZE).astype(np.float32) * np.float32(0.05)
    return parameters(before + rng.standard_normal(SIZE).astype(np.float32) * np.float32(size)), parameters(before)


def arrived(short: Shortened, before: Parameters) -> NDArray[np.float32]:
    """What the coordinator makes of it."""
    return lengthen(short.update, before).vector


# ---- what arrives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [False, True])
def test_float32_arrives_to_the_last_bit_whatever_the_numbers_are(compress: bool) -> None:
    bits = np.random.default_rng(2).integers(0, 2**32, (2, SIZE), dtype=np.uint32).view(np.float32)
    bits[:, :6] = [[0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45], [-0.0, 0.0, -np.inf, 3.0, 1.0, -1e-45]]
    after, before = (parameters(row) for row in bits)
    short = shorten(after, before, encoding="float32", compress=compress)
    assert arrived(short, before).tobytes() == after.vector.tobytes()
    assert short.left is None


def test_bf16_is_what_torch_makes_of_the_update() -> None:
    """Ties to even, numbers too large, infinities and all."""
    bits = np.random.default_rng(3).integers(0, 2**32, 100_000, dtype=np.uint32)
    bits[:6] = [0x3F808000, 0x3F818000, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x00008000]
    update = bits.view(np.float32)
    after, before = one(update)
    got = arrived(shorten(after, before, encoding="bf16"), before)
    expected = torch.from_numpy(update).bfloat16().float().numpy()
    np.testing.assert_array_equal(got + np.float32(0), expected + np.float32(0))


def test_bf16_is_off_by_at_most_one_part_in_256() -> None:
    after, before = some(size=1.0)
    update = after.vector - before.vector
    short = shorten(after, before, encoding="bf16")
    assert short.left is not None
    assert (np.abs(short.left) <= np.abs(update) * 2.0**-8).all()
    assert np.abs(short.left).max() > 2.0**-11


def steps_one_by_one(update: NDArray[np.float32]) -> Iterator[tuple[NDArray[np.float32], float]]:
    """The rows of int8 and their steps, as the module's first lines say it."""
    at = 0
    for shape, size in zip(MANIFEST.shapes, MANIFEST.sizes, strict=True):
        tensor = update[at : at + size]
        width = int(np.prod(shape[1:])) if len(shape) > 1 else 0
        width = width if width >= 16 else 256
        for start in range(0, size, width):
            row = tensor[start : start + width]
            yield row, float(np.abs(row).max()) / 127
        at += size


@pytest.mark.parametrize("compress", [False, True])
def test_int8_is_off_by_at_most_half_a_step_of_its_own_row(compress: bool) -> None:
    after, before = some()
    after = parameters(after.vector * np.geomspace(1e-3, 1e3, SIZE).astype(np.float32))  # rows of very different size
    short = shorten(after, before, encoding="int8", compress=compress)
    assert short.left is not None
    at = worst = 0.0
    for row, step in steps_one_by_one(after.vector - before.vector):
        left = np.abs(short.left[int(at) : int(at) + len(row)]).max()
        assert left <= step / 2 * (1 + 1e-5)
        at, worst = at + len(row), max(worst, left / step)
    assert at == SIZE
    assert worst > 0.45


def test_an_outlier_costs_its_own_row_only() -> None:
    update = np.full((4, 64), 1e-3, dtype=np.float32)
    update[2, 5] = 100.0
    after, before = one(update, 4, 64)
    got = arrived(shorten(after, before, encoding="int8"), before).reshape(4, 64)
    np.testing.assert_allclose(got[[0, 1, 3]], 1e-3, rtol=1e-6)
    assert got[2, 5] == pytest.approx(100.0)
    assert (got[2, :5] == 0).all()


def test_a_tensor_without_rows_is_cut_into_blocks() -> None:
    update = np.full(2 * BLOCK + 9, 1e-3, dtype=np.float32)
    update[0] = 100.0
    after, before = one(update)
    short = shorten(after, before, encoding="int8")
    assert len(short.update.body) == len(update) + 3 * 4
    np.testing.assert_allclose(arrived(short, before)[BLOCK:], 1e-3, rtol=1e-6)


def test_what_is_smaller_than_any_step_waits_for_the_next_round() -> None:
    after, before = one([1e-40, -1e-38, 0.0, 1e-31])
    short = shorten(after, before, encoding="int8")
    assert short.left is not None
    assert (arrived(short, before) == 0).all()
    np.testing.assert_array_equal(short.left, after.vector)


@forms
def test_what_is_left_and_what_is_sent_are_the_update_and_what_was_owed(encoding: str, compress: bool) -> None:
    after, before = some()
    owed = np.random.default_rng(7).standard_normal(SIZE).astype(np.float32) * np.float32(1e-4)
    short = shorten(after, before, owed, encoding=encoding, compress=compress)
    sent = arrived(short, parameters(np.zeros(SIZE))) if encoding != "float32" else None
    if sent is None:
        assert arrived(short, before).tobytes() == after.vector.tobytes()  # nothing is ever owed: it is not looked at
        return
    assert short.left is not None
    np.testing.assert_allclose(sent + short.left, after.vector - before.vector + owed, rtol=0, atol=1e-9)


@forms
def test_nothing_that_is_given_is_changed_and_the_same_comes_out_again(encoding: str, compress: bool) -> None:
    after, before = some()
    owed = np.full(SIZE, 1e-5, dtype=np.float32)
    copies = [array.copy() for array in (after.vector, before.vector, owed)]
    first, second = (shorten(after, before, owed, encoding=encoding, compress=compress) for _ in range(2))
    assert first.update.body.tobytes() == second.update.body.tobytes()
    assert all(np.array_equal(a, b) for a, b in zip(copies, (after.vector, before.vector, owed), strict=True))


# ---- what is no number -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, np.uint32(0xFFFFFFFF).view(np.float32)])
@forms
def test_no_number_is_made_of_what_is_none(encoding: str, compress: bool, value: float) -> None:
    after, before = some()
    vector = after.vector.copy()
    vector[100] = value
    short = shorten(parameters(vector), before, encoding=encoding, compress=compress)
    got = arrived(short, before)
    assert not np.isfinite(got[100])
    assert np.isfinite(got[:96] if encoding == "int8" else np.delete(got, 100)).all()
    assert short.left is None, "a NaN must not be added to the next update"


def test_what_bf16_cannot_hold_is_refused_rather_than_cut() -> None:
    after, before = one([3.4e38, 1.0])
    short = shorten(after, before, encoding="bf16")
    assert np.isinf(arrived(short, before)[0])
    assert short.left is None


# ---- bytes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_bytes_are_what_was_said_beforehand_and_never_more(encoding: str) -> None:
    after, before = some()
    plain, short = (shorten(after, before, encoding=encoding, compress=c).update for c in (False, True))
    assert len(plain.body) == most_bytes(MANIFEST, encoding)
    assert not any(plain.compressed)
    assert len(short.body) < len(plain.body)
    assert all(a <= b for a, b in zip(short.lengths, plain.lengths, strict=True))
    share = {"float32": 1.0, "bf16": 0.5, "int8": 0.26}[encoding]
    assert most_bytes(MANIFEST, encoding) <= share * most_bytes(MANIFEST, "float32")


def test_noise_travels_as_it_is() -> None:
    bits = np.random.default_rng(5).integers(0, 2**32, 4096, dtype=np.uint32).view(np.float32)
    manifest = Manifest(("w",), ((4096,),))
    after, before = Parameters(manifest, bits), Parameters(manifest, np.zeros(4096, np.float32))
    assert shorten(after, before, encoding="float32", compress=True).update.compressed == (False,)


@forms
def test_the_audit_names_every_tensor_and_the_bytes_that_leave(encoding: str, compress: bool) -> None:
    after, before = some()
    update = shorten(after, before, encoding=encoding, compress=compress).update
    parts = {p.name: p for p in parts_of(Updated("a", 1, 20, update, {})) if p.kind == "parameter"}
    assert list(parts) == [f"update.{name}" for name in MANIFEST.names]
    assert sum(p.bytes for p in parts.values()) == len(update.body)
    assert parts["update.tensor0"].shape == (40, 96)
    assert parts["update.tensor0"].dtype == encoding + "+zstd" * update.compressed[0]


def test_another_byte_or_another_encoding_is_another_digest() -> None:
    after, before = some()
    update = shorten(after, before, encoding="int8").update
    changed = update.body.copy()
    changed[-1] ^= 1
    digests = {digest_of(Updated("a", 1, 20, u, {})) for u in (update, replace(update, body=changed))}
    assert len(digests) == 2


def test_both_forms_of_a_reply_become_parameters() -> None:
    after, before = some()
    plain = Trained("a", 2, 20, after, {"auc": 0.7})
    assert expanded(plain, before) is plain
    exact = shorten(after, before, encoding="float32", compress=True).update
    got = expanded(Updated("a", 2, 20, exact, {"auc": 0.7}), before)
    assert digest_of(got) == digest_of(plain)


# ---- damage and malice -----------------------------------------------------------------------------------------------


def short_one(encoding: str = "float32") -> tuple[EncodedUpdate, Parameters]:
    """A compressed update of one tensor."""
    manifest = Manifest(("w",), ((64, 64),))
    before = Parameters(manifest, np.ones(4096, np.float32))
    after = Parameters(manifest, before.vector + np.float32(2.0**-10) * (np.arange(4096) % 7 == 0))
    update = shorten(after, before, encoding=encoding, compress=True).update
    assert update.compressed == (True,)
    return update, before


def with_piece(update: EncodedUpdate, piece: bytes) -> EncodedUpdate:
    return replace(update, lengths=(len(piece),), body=np.frombuffer(piece, np.uint8))


def unsized(data: bytes) -> bytes:
    """A frame that does not say how much it holds."""
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


def lying(data: bytes, claimed: bytes) -> bytes:
    """A frame of more than it says."""
    frame = zstandard.ZstdCompressor().compress(data)
    at = frame.index(len(data).to_bytes(4, "little"), 5, 12)
    return frame[:at] + claimed + frame[at + 4 :]


WHOLE = 4 * 4096
BOMB = 1 << 26


@pytest.mark.parametrize(
    "piece",
    [
        zstandard.ZstdCompressor().compress(bytes(BOMB)),
        zstandard.ZstdCompressor().compress(bytes(WHOLE - 1)),
        unsized(bytes(WHOLE)),
        unsized(bytes(BOMB)),
        lying(bytes(BOMB), WHOLE.to_bytes(4, "little")),
        lying(bytes(BOMB), (2**32 - 1).to_bytes(4, "little")),
        zstandard.ZstdCompressor().compress(bytes(WHOLE)) + b"more",
        zstandard.ZstdCompressor().compress(bytes(WHOLE))[:-3],
        b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip",
        b"no zstd at all",
        b"\x28\xb5\x2f\xfd",
    ],
    ids=[
        "bomb",
        "too little",
        "unsized",
        "unsized bomb",
        "lying",
        "4 GB claimed",
        "more",
        "cut",
        "skip",
        "text",
        "magic",
    ],
)
def test_a_piece_that_holds_anything_else_is_refused_before_memory_is_taken(piece: bytes) -> None:
    update, before = short_one()
    with pytest.raises(ProtocolError, match=r"a piece of (an update|\d+ bytes)"):
        lengthen(with_piece(update, piece), before)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_any_damaged_byte_is_refused_or_is_another_number(encoding: str) -> None:
    """zstd has no checksum here; transports and the audit's hash have."""
    update, before = short_one(encoding)
    rng = np.random.default_rng(8)
    refused = 0
    for at in rng.integers(0, len(update.body), 200):
        body = update.body.copy()
        body[at] ^= rng.integers(1, 256, dtype=np.uint8)
        try:
            got = lengthen(replace(update, body=body), before)
        except ProtocolError:
            refused += 1
        else:
            assert got.vector.shape == (4096,)
    assert refused > 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"encoding": "int4"}, "known are float32, bf16, int8"),
        ({"encoding": "bf16"}, "8192 bytes at most"),
        ({"lengths": (WHOLE - 1,)}, "the message is damaged"),
        ({"lengths": (WHOLE, 0)}, "in 2 pieces"),
        ({"lengths": (-1,), "body": np.empty(0, np.uint8)}, "the message is damaged"),
        ({"lengths": (0,), "body": np.empty(0, np.uint8)}, "16384 bytes at most, and 0 came"),
        ({"body": np.zeros(WHOLE, np.int8)}, "bytes it is"),
        ({"body": np.zeros((1, WHOLE), np.uint8)}, "bytes it is"),
        ({"manifest": Manifest(("w",), ((4095,),))}, "16380 bytes at most"),
        ({"manifest": Manifest(("w", "v"), ((4096,), (0,)))}, "an update of 2 tensors in 1 pieces"),
    ],
)
def test_what_does_not_fit_its_tensors_cannot_be_made(changes: dict[str, object], said: str) -> None:
    _, before = short_one()
    update = shorten(before, before, encoding="float32").update
    with pytest.raises(ProtocolError, match=said):
        replace(update, **changes)  # type: ignore[arg-type]


def test_an_update_of_other_tensors_is_refused() -> None:
    update, _ = short_one()
    other = Parameters(Manifest(("v",), ((64, 64),)), np.zeros(4096, np.float32))
    with pytest.raises(ProtocolError, match="another study or version"):
        lengthen(update, other)


# ---- over many rounds ------------------------------------------------------------------------------------------------


def descend(encoding: str, *, feedback: bool, rounds: int = 400) -> float:
    """Distance from the optimum after federated steps on a quadratic.

    Two sites agree on 63 of 64 numbers and pull the last one strongly to either side, as hospitals with different
    people do. In the average it cancels; in each site's row it makes the step of int8 coarse for all the others.
    """
    optimum = np.linspace(-1, 1, 64, dtype=np.float32)
    pulls = [optimum + np.float32(100) * np.eye(64, dtype=np.float32)[63] * side for side in (-1, 1)]
    manifest = Manifest(("w",), ((1, 64),))
    model = Parameters(manifest, np.zeros(64, np.float32))
    owed: list[NDArray[np.float32] | None] = [None, None]
    for round_ in range(rounds):
        rate = np.float32(0.2 / (1 + round_ / 20))
        came = []
        for site, pull in enumerate(pulls):
            trained = Parameters(manifest, model.vector - rate * (model.vector - pull))
            short = shorten(trained, model, owed[site] if feedback else None, encoding=encoding)
            owed[site] = short.left
            came.append(lengthen(short.update, model).vector)
        model = Parameters(manifest, np.mean(came, axis=0))
    return float(np.abs(model.vector - optimum).max())


def test_with_error_feedback_int8_reaches_the_optimum_and_without_it_stalls() -> None:
    assert descend("float32", feedback=True) < 1e-3
    assert descend("int8", feedback=True) < 2e-2
    assert descend("int8", feedback=False) > 0.3


def test_with_error_feedback_longer_is_nearer() -> None:
    assert descend("int8", feedback=True, rounds=2000) < 0.5 * descend("int8", feedback=True, rounds=200)
    assert descend("bf16", feedback=True, rounds=2000) < 1e-3


def test_who_only_passes_messages_on_needs_neither_torch_nor_zstandard() -> None:
    code = "import sys, sarco_models.encoding; print({'torch', 'zstandard'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.strip() == "set()"
