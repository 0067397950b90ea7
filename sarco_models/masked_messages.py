"""What secure aggregation adds to the messages of :mod:`sarco_models.messages`; the arithmetic is in ``masking.py``."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Masking:
    """How one attempt at a round is masked.

    Attributes:
        attempt: from 1; another set of sites, or keys made anew, is another attempt.
        total: training participants of all the sites named in ``keys``.
        keys: JSON, ``[[site, public key, signature], ...]`` in the order of the names, as the sites sent them.
    """

    attempt: int
    total: int
    keys: str


@dataclass(frozen=True)
class Keys:
    """Ask for a key of secure aggregation, for one attempt at one round."""

    study: str
    setup: str
    round: int
    attempt: int


@dataclass(frozen=True)
class Keyed:
    """A site's X25519 public key for this attempt, signed by the key that the site was enrolled with; both hex."""

    site: str
    round: int
    attempt: int
    public: str
    signature: str


@dataclass(frozen=True, eq=False)
class MaskedVector:
    """(numbers,) integers modulo 2**32 (uint32): a site's weighted update under its masks."""

    vector: NDArray[np.uint32]


@dataclass(frozen=True, eq=False)
class Masked:
    """A round's work under masks, and the metrics of the parameters that came down."""

    site: str
    round: int
    attempt: int
    participants: int
    update: MaskedVector
    metrics: Mapping[str, float]
    study: str | None = None


@dataclass(frozen=True)
class Reveal:
    """Ask for the seed of the site's own mask, once every site of the attempt has sent its masked update."""

    study: str
    setup: str
    round: int
    attempt: int


@dataclass(frozen=True)
class Revealed:
    """The seed of the site's own mask of this attempt (hex); it is given for one attempt of a round only."""

    site: str
    round: int
    attempt: int
    seed: str
