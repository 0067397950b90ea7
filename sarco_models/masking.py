"""Secure aggregation's arithmetic: updates in fixed point under masks that cancel in the sum, and only there.

The design is that of Bonawitz et al. (2017), without secret sharing: masks between every two sites, and one of each
site's own. Site i, of the sites named in a round, sends

    y_i = q_i + s_i + sum of m_ij over j > i - sum of m_ij over j < i        modulo 2**32, number by number

where q_i is its weighted update in steps of ``update_range / 2**30``, m_ij a stream that only i and j know and s_i one
that only i knows. The sum over all named sites is the sum of q_i + s_i; the sites then tell the seeds of s_i.

* m_ij: X25519 between keys made for this attempt only -> HKDF-SHA256 -> ChaCha20 (RFC 7748, 5869, 8439). The keys are
  signed with the sites' enrolled Ed25519 keys (RFC 8032), so that whoever carries them cannot put his own in between.
* Everything that the sites must agree on goes into HKDF: study, setup, round, attempt, who takes part, the total weight
  and the very parameters that came down. Sites that were told different things have masks that do not cancel: a
  coordinator that sends one site another model than the others (Pasquini et al. 2022), or another total, to make that
  site's update stand out in the sum, receives noise.
* Each m_ij and s_i is a stream of 256-bit keys, uniform over the integers modulo 2**32: y_i says nothing of q_i.

What it does not do: the sum is exact and is seen. A coordinator and all sites but one together learn that one's update;
sums over changing sites, from round to round, tell about those who left. That is for differential privacy.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from sarco_models.errors import ProtocolError
from sarco_models.messages import Masking

STEPS = 1 << 30
"""Steps from 0 to ``update_range``; shares sum to 1, so a sum stays far from 2**31, where its sign would turn."""

MIN_SITES = 3
"""Of two sites, each would know the other's update from the sum."""

SEED_BYTES = 32
_VERSION = "sarco-fl secure aggregation v1"
_BLOCK = 1 << 15
"""Numbers masked at once: 128 kB and its streams stay in the processor's cache."""
_HEX = {size: re.compile(rf"[0-9a-f]{{{2 * size}}}") for size in (32, 64)}


@dataclass(frozen=True)
class Occasion:
    """What a key is made for: one attempt at one round of one study under one setup."""

    study: str
    setup: str
    round: int
    attempt: int

    def __post_init__(self) -> None:
        """Digests are digests: nothing else may slip into what is signed."""
        if not _is_hex(self.study, 32) or not _is_hex(self.setup, 32):
            raise ProtocolError("secure aggregation: study and setup are SHA-256 digests in small hexadecimal digits")

    def statement(self, site: str, public: str) -> bytes:
        """The words that a site signs with its enrolled key."""
        words = (_VERSION, self.study, self.setup, str(self.round), str(self.attempt), site, public)
        return " | ".join(words).encode()


@dataclass(frozen=True)
class SignedKey:
    """A site's X25519 public key for one occasion, and its signature; both in hexadecimal."""

    site: str
    public: str
    signature: str


def keys_text(keys: Iterable[SignedKey]) -> str:
    """``Masking.keys``: in the order of the sites' names, so that all are told the same."""
    return json.dumps([[k.site, k.public, k.signature] for k in sorted(keys, key=lambda k: k.site)])


def read_keys(text: str) -> tuple[SignedKey, ...]:
    """Inverse of :func:`keys_text`.

    Raises:
        ProtocolError: it is something else.
    """
    try:
        found = tuple(SignedKey(*entry) for entry in json.loads(text) if isinstance(entry, list))
    except (ValueError, TypeError):
        found = ()
    sound = all(isinstance(k.site, str) and _is_hex(k.public, 32) and _is_hex(k.signature, 64) for k in found)
    if not found or not sound or keys_text(found) != text:
        raise ProtocolError("the keys of secure aggregation are no list of site, key, signature in order of the names")
    return found


def signed_key(identity: Ed25519PrivateKey, private: X25519PrivateKey, occasion: Occasion, site: str) -> SignedKey:
    """The public half of a key made for one occasion, signed by the site's enrolled key."""
    public = private.public_key().public_bytes_raw().hex()
    return SignedKey(site, public, identity.sign(occasion.statement(site, public)).hex())


def is_signed(key: SignedKey, enrolled: str, occasion: Occasion) -> bool:
    """Whether the holder of the enrolled Ed25519 key (hexadecimal) signed this key, in this name, for this occasion."""
    if not (_is_hex(enrolled, 32) and _is_hex(key.public, 32) and _is_hex(key.signature, 64)):
        return False
    try:
        verifier = Ed25519PublicKey.from_public_bytes(bytes.fromhex(enrolled))
        verifier.verify(bytes.fromhex(key.signature), occasion.statement(key.site, key.public))
    except (InvalidSignature, ValueError):
        return False
    return True


def _is_hex(text: object, size: int) -> bool:
    return isinstance(text, str) and _HEX[size].fullmatch(text) is not None


def context_of(work: str, masking: Masking) -> str:
    """Digest of everything that the sites of one attempt must have been told alike.

    Args:
        work: digest of the training that is asked for, the parameters included.
        masking: who takes part under which keys, attempt and total.
    """
    words = json.dumps([_VERSION, work, masking.attempt, masking.total, masking.keys])
    return hashlib.sha256(words.encode()).hexdigest()


class Mask:
    """A stream of integers, uniform modulo 2**32, that is added or taken away; it is used once, from its beginning."""

    def __init__(self, key: bytes, sign: int = 1) -> None:
        """``key`` has 32 bytes and belongs to this stream alone, so ChaCha20's counter and nonce may begin at 0."""
        self._stream = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()
        self._apply = np.add if sign > 0 else np.subtract
        self._bytes = bytearray(4 * _BLOCK)
        self._numbers = np.frombuffer(self._bytes, dtype="<u4")

    def add_to(self, block: NDArray[np.uint32]) -> None:
        """Continue the stream over a block of at most 32,768 numbers, in place."""
        self._stream.update_into(_ZEROS[: 4 * len(block)], self._bytes)
        self._apply(block, self._numbers[: len(block)], out=block)


_ZEROS = memoryview(bytes(4 * _BLOCK))


def pair_masks(private: X25519PrivateKey, own: str, keys: Sequence[SignedKey], context: str) -> list[Mask]:
    """The masks that a site shares with each of the others; of two sites, the first by name adds, the other subtracts.

    Raises:
        ProtocolError: a key is a point that gives no secret.
    """
    return [Mask(_shared(private, own, key, context), 1 if own < key.site else -1) for key in keys if key.site != own]


def _shared(private: X25519PrivateKey, own: str, key: SignedKey, context: str) -> bytes:
    try:
        secret = private.exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(key.public)))
    except ValueError:
        raise ProtocolError(f"the key of {key.site} is no key of X25519") from None
    info = json.dumps([_VERSION, "mask of two sites", context, *sorted((own, key.site))])
    return HKDF(SHA256(), length=32, salt=None, info=info.encode()).derive(secret)


def masked_update(
    sent: NDArray[np.float32],
    trained: NDArray[np.float32],
    *,
    share: float,
    update_range: float,
    masks: Sequence[Mask] = (),
) -> NDArray[np.uint32]:
    """A site's weighted update in fixed point, under its masks.

    Args:
        sent: (numbers,) parameters that came down.
        trained: (numbers,) parameters after training.
        share: the site's training participants divided by those of all named sites, 0 to 1.
        update_range: greatest change of any parameter.
        masks: streams that were not used yet; without any, the bare update, as tests compare it.

    Raises:
        OverflowError: a change is beyond ``update_range`` or not finite; nothing is ever clipped.
    """
    result = np.empty(len(sent), dtype=np.uint32)
    work = np.empty(min(_BLOCK, len(sent)), dtype=np.float64)
    for start in range(0, len(sent), _BLOCK):
        here = slice(start, start + _BLOCK)
        block = result[here]
        with np.errstate(invalid="ignore"):
            change = np.subtract(trained[here], sent[here], out=work[: len(block)], dtype=np.float64)
        # so written, a NaN is refused as well
        if not max(change.max(), -change.min()) <= update_range:
            raise OverflowError(f"a parameter changed by more than {update_range:g}, or is not finite")
        change *= share * STEPS / update_range
        block[:] = np.rint(change, out=change).astype(np.int32).view(np.uint32)
        for mask in masks:
            mask.add_to(block)
    return result


def sum_of(vectors: Sequence[NDArray[np.uint32]], seeds: Iterable[bytes]) -> NDArray[np.int32]:
    """The sum of the updates of all sites of an attempt, in steps.

    Args:
        vectors: (numbers,) of every site, as they came.
        seeds: of every site's own mask.

    Raises:
        ProtocolError: the masks do not cancel.
    """
    total = np.zeros(len(vectors[0]), dtype=np.uint32)
    own_masks = [Mask(seed, -1) for seed in seeds]
    limit = STEPS + len(vectors)
    for start in range(0, len(total), _BLOCK):
        here = slice(start, start + _BLOCK)
        block = total[here]
        for vector in vectors:
            block += vector[here]
        for mask in own_masks:
            mask.add_to(block)
        steps = block.view(np.int32)
        if steps.max() > limit or steps.min() < -limit:
            raise ProtocolError(
                "the masks do not cancel: the sites were told different things, or one of them sent something else "
                "than its update"
            )
    return total.view(np.int32)


def moved(sent: NDArray[np.float32], steps: NDArray[np.int32], update_range: float) -> NDArray[np.float32]:
    """Parameters after the weighted mean update, rounded once; within sites / 2 steps of the plain weighted mean.

    Args:
        sent: (numbers,) parameters that went down.
        steps: (numbers,) as :func:`sum_of` says; used up, for the result takes their place in memory.
        update_range: of the study.
    """
    result = steps.view(np.float32)
    work = np.empty(min(_BLOCK, len(sent)), dtype=np.float64)
    for start in range(0, len(sent), _BLOCK):
        here = slice(start, start + _BLOCK)
        change = np.multiply(steps[here], update_range / STEPS, out=work[: len(steps[here])])
        np.add(change, sent[here], out=change)
        result[here] = change
    return result
