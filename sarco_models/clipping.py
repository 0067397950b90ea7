"""Clipping each participant's gradient, adding noise to the sum, and where the clipping norm goes from step to step.

The noise is Opacus' (``DPOptimizer``): its standard deviation is the noise multiplier times the clipping norm, which is
the sensitivity of the sum to one participant, so that the two cannot be set apart. Clipping is Opacus' formula on
:class:`~sarco_models.per_participant.Gradients` (test: equal to ``DPOptimizer.clip_and_accumulate``).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

from sarco_models.per_participant import Gradients

CLIPPING_RATE = 0.2
"""Adaptive clipping: how fast the norm follows its quantile (Andrew et al. 2021, section 3.1: eta_C)."""

CLIPPING_RANGE = (1e-4, 1e4)
"""Adaptive clipping: the norm stays between these."""

_COUNT_SHARE = 20
_COUNT_NOISE = 2.5


@dataclass(frozen=True)
class ClipState:
    """What adaptive clipping remembers at a hospital from round to round; it is private already, and never sent."""

    norm: float

    def __post_init__(self) -> None:
        """A norm of 0 would stop all training, and none would stop nobody."""
        if not 0 < self.norm < math.inf:
            raise ValueError(f"a clipping norm of {self.norm} clips everything or nothing: begin at max_grad_norm")


class ParticipantOptimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus' optimizer, fed with the gradients of participants in as many parts as memory asks for."""

    def gather(self, parameters: Sequence[nn.Parameter], parts: Iterable[Gradients]) -> None:
        """Clip every participant's gradient and add it to the sum, which is 0 before the first.

        A gradient that is not finite is no gradient: that person adds 0, and changes nothing for the others.

        Args:
            parameters: the trained ones, in the order of the gradients; all that this optimizer changes.
            parts: together every participant of this step once.
        """
        sums = [torch.zeros_like(p) for p in parameters]
        for part in parts:
            norms = part.norms()
            factors = (self.max_grad_norm / (norms + 1e-6)).clamp(max=1.0)
            self._see(norms)
            part.add_to(sums, torch.where(norms.isfinite(), factors, 0))
        for parameter, total in zip(parameters, sums, strict=True):
            parameter.summed_grad = total  # type: ignore[attr-defined]
            parameter.grad_sample = total.new_empty(0, *total.shape)  # type: ignore[attr-defined]  # all are in the sum

    def release(self, pull: Sequence[Tensor] = ()) -> None:
        """Add noise to the sum, divide it by the expected number of participants, and step.

        Args:
            pull: gradients that depend on nobody's data, in the order of :attr:`params`; added after the noise.
        """
        self.pre_step()
        for parameter, public in zip(self.params, pull, strict=False):
            parameter.grad += public
        self.original_optimizer.step()
        for parameter in self.params:
            parameter.grad = parameter.summed_grad = parameter.grad_sample = None

    def clip_and_accumulate(self) -> None:
        """Nothing is left to do: :meth:`gather` has."""

    @property
    def state_of_clip(self) -> ClipState:
        """The clipping norm of the next step."""
        return ClipState(float(self.max_grad_norm))

    def _see(self, norms: Tensor) -> None:
        """Norms of some participants, before they are clipped."""


class AdaptiveOptimizer(ParticipantOptimizer):
    """The clipping norm moves towards a quantile of the participants' norms (Andrew et al. 2021, algorithm 1).

    In every step it is counted how many gradients were within the norm, each as plus or minus a half; the count gets
    noise of its own. Both together are one Gaussian mechanism with the step's noise multiplier (theorem 1), for which
    the gradients get more noise: :func:`gradient_noise`. Opacus' own class divides the count by the number of people
    who were drawn, which is private; here it is the expected number, as in the paper.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, *, noise_multiplier: float, quantile: float, **rest: Any
    ) -> None:
        """``noise_multiplier`` is of the whole step; ``quantile`` the share of participants left unclipped."""
        self.count_noise = count_noise(noise_multiplier, rest["expected_batch_size"])
        noise = gradient_noise(noise_multiplier, self.count_noise)
        super().__init__(optimizer, noise_multiplier=noise, **rest)
        self.quantile = quantile
        self._within: Tensor | float = 0.0

    def gather(self, parameters: Sequence[nn.Parameter], parts: Iterable[Gradients]) -> None:
        """See there; the count begins anew."""
        self._within = 0.0
        super().gather(parameters, parts)

    def _see(self, norms: Tensor) -> None:
        self._within += ((norms <= self.max_grad_norm) & norms.isfinite()).double().sum() - len(norms) / 2

    def add_noise(self) -> None:
        """Noise for the gradients by the norm that clipped them; then the norm of the next step."""
        super().add_noise()
        device = self.params[0].device
        noise = self.count_noise * torch.randn((), generator=self.generator, device=device, dtype=torch.float64)
        share = float(self._within + noise) / self.expected_batch_size + 0.5
        self.max_grad_norm: float = moved(self.max_grad_norm, share, self.quantile)


def moved(norm: float, share: float, quantile: float) -> float:
    """The clipping norm after a step in which ``share`` of the gradients were within it."""
    low, high = CLIPPING_RANGE
    return min(max(norm * math.exp(-CLIPPING_RATE * (share - quantile)), low), high)


def count_noise(noise_multiplier: float, expected: float) -> float:
    """Standard deviation of the count's noise: Andrew et al.'s twentieth of the batch, more where noise is large.

    Two and a half times the noise multiplier costs the gradients 2 % more noise, whatever the size of the hospital.
    """
    return max(expected / _COUNT_SHARE, _COUNT_NOISE * noise_multiplier)


def gradient_noise(noise_multiplier: float, count: float) -> float:
    """The gradients' noise multiplier where a count with noise ``count`` shares the step (theorem 1)."""
    return (noise_multiplier**-2 - (2 * count) ** -2) ** -0.5 if noise_multiplier else 0.0
