"""A hospital's side of secure aggregation: what it signs, what it sends under masks, and which seed it ever tells.

A coordinator that lies must not learn one hospital's update. What this hospital keeps to, whatever it is told:

* It masks only among sites whose keys are signed by hospitals that it has enrolled in site.toml: at least three,
  each once, itself among them with the key that it has just made.
* One attempt, one vector: under the keys of an attempt it answers one request only; the very same asked again gets the
  very same numbers, and a lost one is never made anew, since two vectors under the same masks tell their difference.
* One round, one group: it tells the seed of its own mask only for sums over the same sites. A coordinator that has the
  masked vectors of A, B, C and D and then says that D has left, to get the sum of A, B and C as well, would have D's
  update as the difference; A, B and C have told the seeds of one sum by then, and tell none of the other.
* A round's update is trained, and its privacy spent, once, whatever becomes of its attempts.

So a round out of which a site drops before seeds are asked for is repeated among the rest, under other masks. A site
that has sent its vector and does not tell its seed stops the round until it is back: to go on without it would be the
attack above. What must be remembered for this lies in the state folder, and is written before anything leaves; never
restore that folder from a backup in the middle of a study.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from client.identity import public_of
from client.once import settle
from client.policy import Refusal
from client.workspace import Site
from sarco_models.masking import (
    MIN_SITES,
    SEED_BYTES,
    Mask,
    Occasion,
    SignedKey,
    context_of,
    is_signed,
    masked_update,
    pair_masks,
    read_keys,
    signed_key,
)
from sarco_models.messages import expanded
from sarco_models.payload import digest_of
from sarco_models.wire import (
    Code,
    Keyed,
    Keys,
    Masked,
    MaskedVector,
    Masking,
    Reveal,
    Revealed,
    Train,
    Trained,
    Updated,
)

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 1000
"""Of one round; a coordinator must not fill the disk."""


@dataclass
class Attempt:
    """What must be kept of one attempt; in hexadecimal digits.

    Attributes:
        setup: digest of the setup it is under.
        private, public, signature: of the X25519 key made for it.
        seed: of the own mask; it leaves once every site's vector is in, for one group only.
        sites: named in the request that was answered; empty while none was.
        request: digest of that request.
        vector: SHA-256 of what was sent.
    """

    setup: str
    private: str
    public: str
    signature: str
    seed: str
    sites: tuple[str, ...] = ()
    request: str = ""
    vector: str = ""


@dataclass
class Book:
    """What must be kept of a round of a study, across setups and runs: a file of the state folder.

    Attributes:
        path: of the file.
        over: attempts up to this one are over and forgotten.
        opened: the sites of the sums whose seed was told; empty while none was.
        attempts: by number.
    """

    path: Path
    over: int = 0
    opened: tuple[str, ...] = ()
    attempts: dict[int, Attempt] = field(default_factory=dict)

    @staticmethod
    def read(path: Path) -> Book:
        """What the file says; a new book where there is none. Of a damaged one nothing is guessed."""
        if not path.is_file():
            return Book(path)
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            attempts = {int(k): Attempt(**{**a, "sites": tuple(a["sites"])}) for k, a in told["attempts"].items()}
            return Book(path, told["over"], tuple(told["opened"]), attempts)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Refusal(
                Code.INTERNAL,
                f"{path.name} in the state folder cannot be read: what was told in this round is not known any more: "
                "nothing of it leaves; the study goes on here after this round",
            ) from None

    def write(self, *, durable: bool = True) -> None:
        """Whole, and on the disk if ``durable``, for this account only.

        A key alone need not be: if a power cut takes it, it signs nothing any more. What says which vector or seed left
        must be.
        """
        told = {"over": self.over, "opened": self.opened, "attempts": {k: asdict(a) for k, a in self.attempts.items()}}
        writing = self.path.with_suffix(".writing")
        descriptor = os.open(writing, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(told, file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        writing.rename(self.path)
        if not durable:
            return
        settle(self.path.parent)

    def forget(self) -> None:
        """Let keys and seeds go; which attempts there were, and which group was opened, stays."""
        if self.attempts:
            self.over = max(self.over, *self.attempts)
            self.attempts = {}
            self.write(durable=False)


@contextmanager
def _book(site: Site, study: str, round_: int) -> Iterator[Book]:
    """The book of a round; a study's books are open to one process at a time."""
    site.state.mkdir(parents=True, exist_ok=True)
    with (site.state / f"masks-{study}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Book.read(_path(site, study, round_))


def _path(site: Site, study: str, round_: int) -> Path:
    return site.state / f"masks-{study}-{round_}.json"


def keys(site: Site, request: Keys) -> Keyed:
    """Make a key for one attempt, sign it, and keep it; asked again, the same key leaves again."""
    occasion = _occasion(request)
    if not 1 <= request.attempt <= MAX_ATTEMPTS:
        raise Refusal(Code.BAD_REQUEST, f"attempt {request.attempt}; from 1 to {MAX_ATTEMPTS}")
    with _book(site, request.study, request.round) as book:
        known = book.attempts.get(request.attempt)
        if request.attempt <= book.over or (known and known.setup != request.setup):
            raise Refusal(Code.ALREADY_REVEALED, f"attempt {request.attempt} at round {request.round} is over")
        if known is None:
            private = X25519PrivateKey.generate()
            key = signed_key(site.identity, private, occasion, site.name)
            seed = os.urandom(SEED_BYTES).hex()
            known = Attempt(request.setup, private.private_bytes_raw().hex(), key.public, key.signature, seed)
            book.attempts[request.attempt] = known
            book.write(durable=False)
    _forget_others(site, request)
    return Keyed(site.name, request.round, request.attempt, known.public, known.signature)


def _forget_others(site: Site, request: Keys) -> None:
    """A coordinator that was killed repeats one round; the keys and seeds of all others go."""
    _forget(site, request.study, lambda round_: abs(round_ - request.round) > 1)


def close(site: Site, study: str) -> None:
    """Let go all keys and seeds of a study whose last round is over."""
    _forget(site, study, lambda round_: True)


def _forget(site: Site, study: str, over: Callable[[int], bool]) -> None:
    for path in site.state.glob(f"masks-{study}-*.json"):
        round_ = int(path.stem.rpartition("-")[2])
        if over(round_):
            with suppress(Refusal), _book(site, study, round_) as book:  # a damaged one stops its round only
                book.forget()


def masked(site: Site, request: Train, train: Callable[[Site, Train], Trained | Updated]) -> Masked:
    """A round's update under masks.

    Args:
        site: this hospital.
        request: with ``masking``.
        train: trains the round, or gives what it gave before where this very round was trained already; so a
            repeated attempt neither trains nor spends anew.

    Raises:
        Refusal: the sites, the keys or the attempt are not what they should be, or the update is out of range.
    """
    masking = request.masking
    if masking is None:
        raise Refusal(Code.NOT_MASKED, "the update is asked for without masks")
    with _book(site, request.study, request.round) as book:
        named = trusted(site, request, masking, book)
        attempt = book.attempts[masking.attempt]
        work = digest_of(replace(request, masking=None))
        context = context_of(work, masking)
        sites = tuple(key.site for key in named)
        if attempt.request not in ("", context):
            raise Refusal(Code.ALREADY_REVEALED, f"attempt {masking.attempt} was answered for another request")
        if book.opened not in ((), sites):
            raise Refusal(
                Code.ALREADY_REVEALED,
                f"round {request.round}: the sum over {', '.join(book.opened)} was opened; that over "
                f"{', '.join(sites)} as well would tell their difference",
            )
        _share(len(site.split.train), masking.total)
        trained = expanded(train(site, replace(request, masking=None)), request.parameters)
        private = X25519PrivateKey.from_private_bytes(bytes.fromhex(attempt.private))
        masks = [Mask(bytes.fromhex(attempt.seed)), *pair_masks(private, site.name, named, context)]
        vector = _vector(site, request, trained, masks, share=_share(trained.participants, masking.total))
        digest = hashlib.sha256(vector.view(np.uint8).data).hexdigest()
        if attempt.vector not in ("", digest):
            raise Refusal(Code.ALREADY_REVEALED, f"attempt {masking.attempt}: the update is not the one sent before")
        if not attempt.vector:
            attempt.sites, attempt.request, attempt.vector = sites, context, digest
            book.write()
    return Masked(
        site.name,
        request.round,
        masking.attempt,
        trained.participants,
        MaskedVector(vector),
        trained.metrics,
        request.study,
    )


def _share(participants: int, total: int) -> float:
    if not 0 < participants <= total:
        raise Refusal(Code.BAD_REQUEST, f"a total of {total} participants; this site alone has {participants}")
    return participants / total


def _vector(site: Site, request: Train, trained: Trained, masks: Sequence[Mask], share: float) -> NDArray[np.uint32]:
    sent, update_range = request.parameters, site.study.federation.update_range
    try:
        return masked_update(
            sent.vector, trained.parameters.vector, share=share, update_range=update_range, masks=masks
        )
    except OverflowError as error:
        raise Refusal(
            Code.UPDATE_TOO_LARGE,
            f"round {request.round}: {error}: federation.update_range of the study is too small, or training diverged",
        ) from None


def trusted(site: Site, request: Train, masking: Masking, book: Book) -> tuple[SignedKey, ...]:
    """The named sites' keys, if this hospital may mask among them.

    Raises:
        Refusal: too few sites; a key that no enrolled hospital has signed for this very attempt; the own entry is
            not the key that was made here.
    """
    named = read_keys(masking.keys)
    names, publics = {key.site for key in named}, {key.public for key in named}
    needed = max(MIN_SITES, site.policy.min_sites, site.study.federation.min_sites)
    if len(names) < needed:
        raise Refusal(Code.TOO_FEW_SITES, f"{len(names)} sites under the masks, at least {needed} are needed")
    if len(names) < len(named) or len(publics) < len(named):
        raise Refusal(Code.KEYS_NOT_TRUSTED, "a site or a key is named twice")
    own = book.attempts.get(masking.attempt)
    if own is None or own.setup != request.setup:
        raise Refusal(Code.KEYS_NOT_TRUSTED, f"no key was made here for attempt {masking.attempt} under this setup")
    if SignedKey(site.name, own.public, own.signature) not in named:
        raise Refusal(Code.KEYS_NOT_TRUSTED, "the key in this hospital's name is not the one that was made here")
    occasion = Occasion(request.study, request.setup, request.round, masking.attempt)
    for key in named:
        if key.site != site.name:
            _check_peer(site, key, occasion)
    return named


def _check_peer(site: Site, key: SignedKey, occasion: Occasion) -> None:
    enrolled = site.peers.get(key.site)
    if enrolled is None:
        raise Refusal(Code.KEYS_NOT_TRUSTED, f"{key.site} is not among the [[peers]] of site.toml: enrol it first")
    if enrolled == public_of(site.identity) or not is_signed(key, enrolled, occasion):
        raise Refusal(
            Code.KEYS_NOT_TRUSTED,
            f"the key in the name of {key.site} was not signed by the key enrolled in site.toml: ask that hospital for "
            "its fingerprint (sarco-site key); somebody may be in between",
        )


def reveal(site: Site, request: Reveal) -> Revealed:
    """Tell the seed of the own mask, for sums over one group of sites only; which one is durable before it leaves."""
    _occasion(request)
    with _book(site, request.study, request.round) as book:
        attempt = book.attempts.get(request.attempt)
        if attempt is None or attempt.setup != request.setup or not attempt.vector:
            raise Refusal(Code.BAD_REQUEST, f"no update left here in attempt {request.attempt} at this round")
        if book.opened not in ((), attempt.sites):
            raise Refusal(
                Code.ALREADY_REVEALED,
                f"round {request.round}: the sum over {', '.join(book.opened)} was opened already",
            )
        if not book.opened:
            book.opened = attempt.sites
            book.write()
    return Revealed(site.name, request.round, request.attempt, attempt.seed)


def _occasion(request: Keys | Reveal) -> Occasion:
    return Occasion(request.study, request.setup, request.round, request.attempt)
