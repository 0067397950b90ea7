"""Chance that nobody can repeat: noise, and who takes part in a step, as differential privacy needs them.

A study's seed is public. Noise that follows from it could be subtracted by everybody who reads the study, so what
protects a participant is drawn from the operating system's entropy, and no draw of it is stored or sent.
"""

import secrets

import numpy as np
import torch
from torch import Tensor

_POOL_WORDS = 8
"""256 bits: what the operating system gives, and what every generator made here can differ by."""

Place = torch.device | str
"""A device of torch, or its name."""

_BEGUN = torch.Generator().manual_seed(0).get_state()
"""A state of torch's processor generator before its first draw: a head, the words of a Mersenne twister, a tail."""

_FIRST_WORD, _WORDS = 24, 624
"""Byte of its first word, and words, each in the lower half of 8 bytes."""


class Secret:
    """A source of generators that are independent of each other and of every seed in a file."""

    def __init__(self, seed: int | None = None) -> None:
        """``seed`` is for tests and for simulation, where nobody is protected; None: the operating system's entropy."""
        entropy = secrets.randbits(32 * _POOL_WORDS) if seed is None else seed
        self._sequence = np.random.SeedSequence(entropy, pool_size=_POOL_WORDS)
        self._own = self.numpy()

    def numpy(self) -> np.random.Generator:
        """A new generator, for sampling participants and for noise on statistics."""
        (child,) = self._sequence.spawn(1)
        return np.random.Generator(np.random.PCG64DXSM(child))

    def torch(self, device: Place = "cpu") -> torch.Generator:
        """A new generator on ``device``, for noise on gradients.

        torch seeds its processor generator with 32 bits, whatever is asked: noise of one of four billion streams can be
        found by trying them all. The whole state is set instead. A GPU's generator takes a seed of 64 bits as it is.
        """
        generator = torch.Generator(device)
        generator.manual_seed(int(self._own.integers(2**63)))
        if generator.device.type == "cpu":
            generator.set_state(self._state())
        return generator

    def reseed(self, device: Place) -> None:
        """Let torch's own generators, here and on ``device``, go on from this secret: dropout, hidden modalities."""
        torch.set_rng_state(self._state())
        if torch.device(device).type == "cuda":
            torch.cuda.set_rng_state(self.torch(device).get_state(), device)

    def _state(self) -> Tensor:
        """A state of torch's processor generator of which every word is drawn."""
        state = _BEGUN.clone()
        words = self._own.integers(2**32, size=_WORDS, dtype=np.uint64)
        state[_FIRST_WORD : _FIRST_WORD + 8 * _WORDS] = torch.from_numpy(words.view(np.uint8))
        return state
