"""The clipping norm finds its quantile under noise that is paid for, and persists from round to round."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from opacus.optimizers import AdaClipDPOptimizer
from torch import Tensor, nn

from sarco_models.clipping import (
    CLIPPING_RANGE,
    AdaptiveOptimizer,
    ClipState,
    ParticipantOptimizer,
    count_noise,
    gradient_noise,
    moved,
)
from sarco_models.cohort import split
from sarco_models.config import SplitConfig
from sarco_models.fusion import build_model
from sarco_models.per_participant import Gradients
from sarco_models.privacy import clip_after, noised
from sarco_models.reader import Reader
from sarco_models.schema import design_columns
from sarco_models.secret import Secret
from sarco_models.summaries import Moments, agreed_scaling
from sarco_models.training import Training, build_optimizer, fit, participant_loss
from tests.sites import opened, tables_site, tables_study


def adaptive(net: nn.Module, *, noise: float, quantile: float, expected: float, norm: float) -> AdaptiveOptimizer:
    return AdaptiveOptimizer(
        torch.optim.SGD(net.parameters(), lr=0.0),
        noise_multiplier=noise,
        quantile=quantile,
        max_grad_norm=norm,
        expected_batch_size=expected,
        generator=torch.Generator().manual_seed(1),
    )


@dataclass(frozen=True)
class Crowd:
    """People whose gradients point one way and have these norms."""

    lengths: Tensor

    def norms(self) -> Tensor:
        return self.lengths

    def add_to(self, sums: Sequence[Tensor], weights: Tensor) -> None:
        counted = weights != 0
        total = float((self.lengths[counted] * weights[counted]).sum())
        sums[0].add_(torch.tensor([0.6, 0.8], dtype=torch.float64) * total)


def synthetic(norms: np.ndarray) -> Iterator[Gradients]:
    yield Crowd(torch.from_numpy(norms))


def settled(*, noise: float, quantile: float, start: float, people: int = 400, rate: float = 1.0) -> list[float]:
    """Clipping norms of 150 steps on people whose gradients' norms are log-normal, median 2."""
    net, rng, path = nn.Linear(2, 1, bias=False).double(), np.random.default_rng(0), []
    optimizer = adaptive(net, noise=noise, quantile=quantile, expected=rate * people, norm=start)
    for _ in range(150):
        drawn = 2 * np.exp(0.7 * rng.standard_normal(people))[rng.random(people) < rate]
        optimizer.gather(list(net.parameters()), synthetic(drawn))
        optimizer.release()
        path.append(optimizer.state_of_clip.norm)
    return path


@pytest.mark.parametrize("quantile", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("start", [0.1, 30.0])
def test_the_norm_comes_to_its_quantile(quantile: float, start: float) -> None:
    """Andrew et al. 2021: from far below and far above, with the noise of a strict study."""
    path = settled(noise=4.0, quantile=quantile, start=start)
    normal = {0.3: -0.5244, 0.5: 0.0, 0.8: 0.8416}[quantile]
    assert np.mean(path[-50:]) == pytest.approx(2 * math.exp(0.7 * normal), rel=0.12)


def test_poisson_batches_do_not_bias_the_norm() -> None:
    """Each person counts as plus or minus a half over the expected number, so that who was not drawn says nothing."""
    path = settled(noise=1.0, quantile=0.5, start=0.5, rate=0.5)
    assert np.mean(path[-50:]) == pytest.approx(2.0, rel=0.12)


def test_without_noise_one_step_is_the_papers_formula() -> None:
    net = nn.Linear(2, 1, bias=False).double()
    optimizer = adaptive(net, noise=0.0, quantile=0.5, expected=4, norm=1.0)
    optimizer.count_noise = 0.0
    optimizer.gather(list(net.parameters()), synthetic(np.array([0.5, 0.9, 0.95, 7.0])))
    optimizer.release()
    assert optimizer.state_of_clip.norm == pytest.approx(math.exp(-0.2 * (0.75 - 0.5)))


@pytest.mark.parametrize("noise", [0.6, 1.0, 8.0, 40.0])
@pytest.mark.parametrize("expected", [5.0, 100.0, 5000.0])
def test_count_and_gradients_together_cost_what_one_step_is_accounted_for(noise: float, expected: float) -> None:
    """Gaussian mechanisms compose by the squares of sensitivity over noise (Dong et al. 2022, corollary 3.3)."""
    count = count_noise(noise, expected)
    gradients = gradient_noise(noise, count)
    of_gradients, of_count = 1 / gradients, 0.5 / count  # a person counts as plus or minus a half
    assert of_gradients**2 + of_count**2 == pytest.approx(1 / noise**2, rel=1e-12)
    assert noise < gradients < 1.021 * noise


def test_the_noise_that_is_added_is_the_one_that_is_accounted_for() -> None:
    """Measured, of the gradients by the norm that clipped them, and of the count."""
    net = nn.Linear(400, 50, bias=False).double()
    before = net.weight.detach().clone()
    sgd = torch.optim.SGD(net.parameters(), lr=1.0)
    optimizer = AdaptiveOptimizer(
        sgd, noise_multiplier=2.0, quantile=0.5, max_grad_norm=3.0, expected_batch_size=10.0,
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    optimizer.gather(list(net.parameters()), iter(()))
    optimizer.release()
    noise = net.weight.detach() - before
    assert float(noise.std()) == pytest.approx(gradient_noise(2.0, count_noise(2.0, 10.0)) * 3.0 / 10.0, rel=0.02)
    logs = []
    for seed in range(400):
        small = nn.Linear(1, 1, bias=False)
        optimizer = adaptive(small, noise=2.0, quantile=0.5, expected=10.0, norm=3.0)
        optimizer.generator.manual_seed(seed)
        optimizer.gather(list(small.parameters()), iter(()))
        optimizer.release()
        logs.append(math.log(optimizer.state_of_clip.norm / 3.0) / -0.2)
    assert np.std(logs) == pytest.approx(count_noise(2.0, 10.0) / 10.0, rel=0.12)
    assert abs(np.mean(logs)) < 4 * np.std(logs) / 20


def test_opacus_splits_the_noise_in_the_same_way() -> None:
    net = nn.Linear(2000, 1, bias=False)
    theirs = AdaClipDPOptimizer(
        torch.optim.SGD(net.parameters(), lr=1.0), noise_multiplier=2.0, target_unclipped_quantile=0.5,
        clipbound_learning_rate=0.2, max_clipbound=10.0, min_clipbound=0.1, unclipped_num_std=5.0, max_grad_norm=1.0,
        expected_batch_size=1, generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    net.weight.summed_grad = torch.zeros_like(net.weight)  # type: ignore[attr-defined]
    theirs.unclipped_num = torch.zeros(())
    theirs.add_noise()
    expected = gradient_noise(2.0, 5.0) * torch.randn(net.weight.shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(net.weight.grad, expected)


def test_the_norm_stays_in_its_range() -> None:
    low, high = CLIPPING_RANGE
    assert moved(low, 50.0, 0.5) == low
    assert moved(high, -50.0, 0.5) == high
    for norm in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="begin at max_grad_norm"):
            ClipState(norm)


def test_a_persons_count_is_bounded_however_large_the_gradient() -> None:
    net = nn.Linear(2, 1, bias=False).double()
    counts = []
    for hers in ([], [1e-9], [1e300], [math.nan], [math.inf]):
        optimizer = adaptive(net, noise=1.0, quantile=0.5, expected=4, norm=1.0)
        optimizer.gather(list(net.parameters()), synthetic(np.array([0.5, 2.0, *hers])))
        counts.append(float(optimizer._within))
    assert [abs(c - counts[0]) for c in counts[1:]] == [0.5] * 4


def test_the_norm_goes_on_from_round_to_round(tmp_path: Path) -> None:
    """What a round leaves is what the next begins with; without adaptive clipping it is the study's."""
    privacy: dict[str, Any] = {"epsilon": 3.0, "delta": 1e-3, "max_grad_norm": 0.05, "adaptive_clipping": True}
    study = tables_study(privacy=privacy, training={"balance_classes": False, "local_steps": 5})
    people = split(opened(tables_site(tmp_path / "site"), study), SplitConfig(), 1).train
    model = build_model(study)
    moments = Moments.of(people, design_columns(study.features), extremes=False)
    reader = Reader.of(model, agreed_scaling(study, moments), study)

    def round_(clip: ClipState | None, **changes: Any) -> tuple[float, ClipState]:
        config = study.model_copy(update={"privacy": study.privacy.model_copy(update=changes)})  # type: ignore[union-attr]
        make = noised(config, reader, people, Secret(2), noise_multiplier=0.5, clip=clip)
        net = model.net
        training = make(Training(net, build_optimizer(net, study.training), [], participant_loss, lambda _: 1.0))
        begins = clip_after(training).norm
        fit(training, seed=1)
        return begins, clip_after(training)

    began, first = round_(None)
    assert began == 0.05
    assert first.norm != 0.05
    began, second = round_(first)
    assert began == first.norm != second.norm
    assert round_(first, adaptive_clipping=False) == (0.05, ClipState(0.05))


def test_a_training_without_privacy_has_no_clipping_norm() -> None:
    net = build_model(tables_study()).net
    plain = Training(net, torch.optim.SGD(net.parameters(), lr=1.0), [], participant_loss, lambda _: 1.0)
    with pytest.raises(TypeError, match="without privacy"):
        clip_after(plain)


def test_the_plain_optimizer_keeps_its_norm() -> None:
    net = nn.Linear(2, 1, bias=False).double()
    optimizer = ParticipantOptimizer(
        torch.optim.SGD(net.parameters(), lr=1.0), noise_multiplier=1.0, max_grad_norm=0.7, expected_batch_size=2
    )
    optimizer.gather(list(net.parameters()), synthetic(np.array([9.0, 0.1])))
    optimizer.release()
    assert optimizer.state_of_clip == ClipState(0.7)
    sums: list[Tensor | None] = [p.grad for p in net.parameters()]
    assert sums == [None]
