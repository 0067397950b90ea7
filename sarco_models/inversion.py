"""The image of one participant, computed back from the update that was sent: what an attacker gets from a gradient.

A gradient tells of the image that it is of. The attack looks for an image whose own gradient points the same way as the
one that was seen (Zhu et al. 2019; direction and total variation: Geiping et al. 2020), by L-BFGS from darkness on.
What need not be searched for is computed: a row of a table stands in the gradient of the layer that reads it.

The attacker is given everything but the image: the network before the step, its frozen layers, the label, and that
nobody else's image is in the update. With more people in an update the same attack finds less; of noise, nothing.
"""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import binary_cross_entropy_with_logits, unfold

from sarco_models.config import IMAGE
from sarco_models.devices import seeded
from sarco_models.errors import ProtocolError
from sarco_models.fusion import FusionNet, Inputs, Model, TableBranch
from sarco_models.parameters import trained_tensors

Picture = NDArray[np.float64]
"""(height, width) grey values in [0, 1]."""

SMOOTH = 1e-3
"""Weight of the total variation beside the distance."""

EDGE = 1e-3
"""Grey value below which a difference counts by its square: L-BFGS needs a total variation without corners."""

START = 0.02
"""Grey value that the search begins below: an ultrasound is dark, and most of a muscle's square is black."""

_TINY = 1e-30


@dataclass(frozen=True, eq=False)
class Inversion:
    """What the attack has found.

    Attributes:
        image: (height, width) in [0, 1]; the last image that is better than all before it.
        distance: 1 minus the cosine between its gradient and the observed one; 0 where the image explains all of it,
            1 where nothing.
        rows: branch -> (columns,) the participant's scaled table values, as they stood in the gradient.
        seconds: that it took.
    """

    image: Picture
    distance: float
    rows: Mapping[str, NDArray[np.float64]]
    seconds: float


def invert(  # noqa: PLR0913 - the last three are options
    model: Model,
    observed: Mapping[str, Tensor],
    label: float,
    shape: tuple[int, int],
    *,
    steps: int = 300,
    seed: int = 0,
    restarts: int = 1,
) -> Inversion:
    """Look for the image that one participant's gradient was computed from.

    Args:
        model: as it was before the step, with its frozen layers; it is left as it is.
        observed: gradient of what trains, by name, up to a positive factor; see :func:`from_update`.
        label: 0 or 1; see :func:`label_of`.
        shape: (height, width) of the image that the network reads.
        steps: gradients of candidates that are computed, for each start.
        seed: of the first candidates.
        restarts: starts of the search; the result that explains most is returned.

    Raises:
        ProtocolError: ``observed`` is of another network, or the network reads no image.
    """
    started = time.monotonic()
    net = _still(model)
    if IMAGE not in net.branches:
        raise ProtocolError("this network reads no image, so there is none to be found: use table_rows")
    expected = trained_tensors(net)
    if set(observed) != set(expected):
        raise ProtocolError(f"a gradient of {len(observed)} tensors; the network trains {len(expected)}: take its own")
    rows = table_rows(model, observed)
    goal = _unit([observed[name].detach().float() for name in expected])
    search = _Search(model, net, goal, rows, torch.tensor([label], device=model.device))
    starts = np.random.default_rng([seed, 97]).integers(2**31, size=restarts)
    found = min((search.run(shape, steps, int(start)) for start in starts), key=lambda each: each[1])
    values = {name: row.double().cpu().numpy() for name, row in rows.items()}
    return Inversion(found[0].double().clamp(0, 1).cpu().numpy(), found[1], values, time.monotonic() - started)


def gradient(
    model: Model, image: Picture, label: float, rows: Mapping[str, NDArray[np.float64]] | None = None
) -> dict[str, Tensor]:
    """Gradient of what trains, by name, for one participant with one image: what the attack is given.

    Args:
        model: the network; it is left as it is.
        image: (height, width) in [0, 1].
        label: 0 or 1.
        rows: branch -> (columns,) scaled table values; a branch that is not named is absent.
    """
    net = _still(model)
    tables = {name: torch.from_numpy(np.asarray(row)).float().to(model.device) for name, row in (rows or {}).items()}
    pixels = torch.from_numpy(image).float()[None, None].to(model.device)
    with _exact_attention():
        found = _gradient(model, net, pixels, torch.tensor([label], device=model.device), tables)
    return {name: g.detach() for name, g in zip(trained_tensors(net), found, strict=True)}


def from_update(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], rates: Mapping[str, float], *, decay: float, adamw: bool
) -> dict[str, Tensor]:
    """The gradient of the first step, from the parameters before and after it.

    Plain SGD moves by the gradient itself. AdamW's first step is g / (abs(g) + 1e-8), from which g follows where that
    is not yet 1 to the last bit; beyond, its sign is left, which tells as much of the image (Geiping et al. 2020 use
    the sign themselves).

    Args:
        before: by name.
        after: by name.
        rates: learning rate of each tensor in that step.
        decay: the optimizer's weight decay.
        adamw: whether it was AdamW; else SGD, with momentum or without.
    """
    found = {}
    for name, old in before.items():
        start = old.detach().double()
        if adamw:
            moved = (start * (1 - rates[name] * decay) - after[name].detach().double()) / rates[name]
            # Half a unit in the last place of a float32 parameter, in units of the step.
            blur = start.abs().clamp(min=_TINY) * 2**-24 / rates[name]
            found[name] = (1e-8 * moved / (1 - moved.abs()).clamp(min=0).add(blur)).float()
        else:
            found[name] = ((start - after[name].detach().double()) / rates[name] - decay * start).float()
    return found


def label_of(observed: Mapping[str, Tensor]) -> float:
    """The label of the one participant of an update: of the output's bias the gradient is p - y (Zhao et al. 2020)."""
    return float(observed["output.bias"].sum() < 0)


def table_rows(model: Model, observed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The scaled table values of the one participant of an update, exactly, without any search.

    A layer W x + b has the gradient d x for W and d for b, with d of the layer's output: x stands in it, once for each
    unit (known since Phong et al. 2018). A branch that took no part has no such gradient and is not returned.
    """
    rows = {}
    for name, branch in model.fusion.branches.items():
        if not isinstance(branch, TableBranch):
            continue
        weight = observed[f"branches.{name}.layers.0.weight"].detach()
        bias = observed[f"branches.{name}.layers.0.bias"].detach()
        power = (bias * bias).sum()
        if float(power) > _TINY:
            rows[name] = bias @ weight / power
    return rows


class _Search:
    """Candidates and their distance from what was observed."""

    def __init__(
        self, model: Model, net: FusionNet, goal: list[Tensor], rows: Mapping[str, Tensor], label: Tensor
    ) -> None:
        self.model, self.net, self.goal, self.rows, self.label = model, net, goal, rows, label

    def run(self, shape: tuple[int, int], steps: int, seed: int) -> tuple[Tensor, float]:
        """The best image of one start, and its distance."""
        device = self.model.device
        with seeded(seed, device):
            image = (START * torch.rand(1, 1, *shape)).to(device).requires_grad_(True)
        with _exact_attention():
            best = self._descend(image, steps)
            distance = self.distance(best)
        return best[0, 0], float(distance.detach())

    def distance(self, image: Tensor) -> Tensor:
        """1 minus the cosine between the image's gradient and the observed one."""
        mine = _gradient(self.model, self.net, image, self.label, self.rows, differentiable=True)
        found: Tensor = _Distance.apply(self.goal, *mine)
        return found

    def _descend(self, image: Tensor, steps: int) -> Tensor:
        """So many candidates of L-BFGS; returns the best one."""
        best, least = image.detach().clone(), float("inf")
        limits: dict[str, Any] = {"max_iter": steps, "max_eval": steps, "tolerance_grad": 0, "tolerance_change": 0}
        optimizer = torch.optim.LBFGS([image], history_size=50, line_search_fn="strong_wolfe", **limits)

        def closure() -> float:
            nonlocal best, least
            loss = self.distance(image) + SMOOTH * total_variation(image)
            (image.grad,) = torch.autograd.grad(loss, image)
            value = float(loss.detach())
            if value < least:
                best, least = image.detach().clone(), value
            return value

        optimizer.step(closure)  # type: ignore[no-untyped-call]
        return best


def _gradient(  # noqa: PLR0913 - the last is an option
    model: Model,
    net: FusionNet,
    image: Tensor,
    label: Tensor,
    rows: Mapping[str, Tensor],
    *,
    differentiable: bool = False,
) -> list[Tensor]:
    """Of one participant's loss, for everything that trains; zero where it took no part."""
    read = image if model.frozen is None else model.frozen(image)
    here, absent = (torch.tensor([value], device=image.device) for value in (True, False))
    tables = {name: rows[name][None] for name in rows}
    for name, columns in model.table_columns.items():
        tables.setdefault(name, image.new_zeros(1, len(columns)))
    present = {IMAGE: here, **{name: here if name in rows else absent for name in model.table_columns}}
    loss = binary_cross_entropy_with_logits(net(Inputs(read, tables, present)), label)
    trained = list(trained_tensors(net).values())
    return list(
        torch.autograd.grad(loss, trained, create_graph=differentiable, allow_unused=True, materialize_grads=True)
    )


class _Distance(torch.autograd.Function):
    """1 minus the cosine between some tensors, taken as one vector, and a goal of length 1.

    As half the squared distance of the two directions it is exact also where it is nearly 0. Written out, because the
    millions of parameters pass through memory five times a step instead of twenty.
    """

    @staticmethod
    def forward(ctx: Any, goal: list[Tensor], *mine: Tensor) -> Tensor:
        inverse = sum(float(t.ravel() @ t.ravel()) for t in mine)
        ctx.inverse, ctx.goal = max(inverse, _TINY) ** -0.5, goal
        ctx.save_for_backward(*mine)
        apart = 0.0
        for a, b in zip(mine, goal, strict=True):
            rest = torch.sub(b, a, alpha=ctx.inverse).ravel()
            apart += float(rest @ rest)
        ctx.apart = apart / 2
        return mine[0].new_tensor(ctx.apart)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        cosine, scale = 1 - ctx.apart, -ctx.inverse * float(outer[0])
        pairs = zip(ctx.saved_tensors, ctx.goal, strict=True)
        return None, *(torch.sub(b, a, alpha=cosine * ctx.inverse).mul_(scale) for a, b in pairs)


def _unit(tensors: list[Tensor]) -> list[Tensor]:
    """All of them as one vector of length 1."""
    length = torch.stack([(t * t).sum() for t in tensors]).sum().clamp(min=_TINY).sqrt()
    return [t / length for t in tensors]


def _still(model: Model) -> FusionNet:
    """A copy of the net that does the same every time: nothing dropped, nobody hidden."""
    net = deepcopy(model.fusion).train()
    net.modality_dropout = 0.0
    for module in list(net.modules()):
        if isinstance(module, nn.Dropout):
            module.eval()
        for name, child in module.named_children():
            if type(child) is nn.Conv2d and child.groups == child.in_channels == child.out_channels > 1:
                setattr(module, name, _Depthwise(child))
    return net


class _Depthwise(nn.Module):
    """A depth-wise convolution as products of matrices, with the parameters of the original under their names.

    torch takes the second derivative of the original channel by channel, which is half of the search's time.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.reach: dict[str, Any] = {k: getattr(conv, k) for k in ("kernel_size", "dilation", "padding", "stride")}

    def forward(self, x: Tensor) -> Tensor:
        images, channels, size = *x.shape[:2], self._size(x)
        patches = unfold(x, **self.reach).view(images, channels, -1, math.prod(size))
        summed = (self.weight.view(channels, 1, -1) @ patches).view(images, channels, *size)
        return summed if self.bias is None else summed + self.bias[:, None, None]

    def _size(self, x: Tensor) -> tuple[int, ...]:
        """(height, width) of the output."""
        sides = zip(
            x.shape[2:], *(self.reach[k] for k in ("kernel_size", "dilation", "padding", "stride")), strict=True
        )
        return tuple((side + 2 * pad - far * (size - 1) - 1) // step + 1 for side, size, far, pad, step in sides)


@contextmanager
def _exact_attention() -> Iterator[None]:
    """Fused attention has no second derivative, and the search needs one."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


# --- how near two pictures are ----------------------------------------------------------------------------------------


def total_variation(image: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, along both sides (Rudin et al. 1992); rounded below ``EDGE``."""
    down, across = image[..., 1:, :] - image[..., :-1, :], image[..., 1:] - image[..., :-1]
    return sum(((d * d + EDGE * EDGE).sqrt() - EDGE).mean() for d in (down, across))  # type: ignore[return-value]


def psnr(image: Picture, truth: Picture) -> float:
    """Peak signal-to-noise ratio in dB for grey values in [0, 1]; infinite where nothing differs."""
    error = float(((image - truth) ** 2).mean())
    return float("inf") if error == 0 else float(-10 * np.log10(error))


def ssim(image: Picture, truth: Picture) -> float:
    """Structural similarity, mean over the picture; 1 = the same (Wang et al. 2004: Gaussian window of 1.5 pixels)."""
    return float(_ssim_map(image, truth).mean())


def _ssim_map(image: Picture, truth: Picture) -> Picture:
    def blurred(values: Picture) -> Picture:
        return np.asarray(gaussian_filter(values, 1.5, truncate=3.5))

    first, second = blurred(image), blurred(truth)
    spread_first, spread_second = blurred(image**2) - first**2, blurred(truth**2) - second**2
    together = blurred(image * truth) - first * second
    small, smaller = 0.01**2, 0.03**2
    light = (2 * first * second + small) / (first**2 + second**2 + small)
    return np.asarray(light * (2 * together + smaller) / (spread_first + spread_second + smaller))
