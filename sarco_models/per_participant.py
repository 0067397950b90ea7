"""One gradient for each participant: of the mean loss over that person's rows, whatever the network.

A person's gradient is what ordinary autograd gives for a batch of that person alone, so that it is exact for every
network and every loss: nothing is assumed about layers (Opacus' hooks are wrong for ConvNeXt, STYLE 7.2, and cannot
follow Swin's windows, STYLE 7.4). Where nothing but linear layers trains (tables, a head on kept features), the norm of
every person's gradient and any weighted sum of them follow from one pass over all people (Goodfellow 2015; Bu et al.
2023), and no person's gradient is ever written out.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import binary_cross_entropy_with_logits

from sarco_models.config import IMAGE
from sarco_models.fusion import FusionNet, TableBranch
from sarco_models.reader import Batch
from sarco_models.training import AnyBatch, Loss, participant_loss

_LINEAR = (nn.Linear, nn.GELU, nn.Dropout, nn.Identity)
_AROUND_THEM = (FusionNet, TableBranch, nn.Sequential, nn.ModuleDict, nn.ParameterDict)


class Gradients(Protocol):
    """Gradients of some participants, each over all trained parameters together."""

    def norms(self) -> Tensor:
        """(participants,) Euclidean norm of each person's gradient."""

    def add_to(self, sums: Sequence[Tensor], weights: Tensor) -> None:
        """Add every person's gradient times its weight to ``sums``, in the order of the trained parameters.

        A participant whose weight is 0 adds nothing, even where that person's gradient is not finite.
        """


def trained_parameters(net: nn.Module) -> list[nn.Parameter]:
    """What training changes, in order."""
    return [p for p in net.parameters() if p.requires_grad]


def gradients_of(net: nn.Module, loss: Loss) -> Callable[[AnyBatch], Iterator[Gradients]]:
    """How to every participant's gradient: all at once where only linear layers train, else one after another."""
    parameters = trained_parameters(net)
    if loss is participant_loss and isinstance(net, FusionNet) and only_linear(net):
        return lambda batch: all_at_once(net, _rows(batch))
    return lambda batch: one_by_one(parameters, (loss(net, bag) for bag in batch.bags()))


def _rows(batch: AnyBatch) -> Batch:
    if not isinstance(batch, Batch):
        raise TypeError("muscles are found by no network of linear layers alone")
    return batch


def only_linear(net: nn.Module) -> bool:
    """Whether all layers are linear, and train, and read every row: no convolution, no attention, nothing unknown."""
    reads_all = not any(name.startswith(f"branches.{IMAGE}.") for name, _ in net.named_modules())
    known = all(isinstance(module, _LINEAR + _AROUND_THEM) for module in net.modules())
    return known and reads_all and all(p.requires_grad for p in net.parameters())


# ---- one after another -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Single:
    """The gradient of one participant, one tensor for each trained parameter."""

    tensors: tuple[Tensor, ...]

    def norms(self) -> Tensor:
        """(1,) the norm."""
        each = torch.stack(torch._foreach_norm(self.tensors))
        norm: Tensor = torch.linalg.vector_norm(each, dim=0, keepdim=True)
        return norm

    def add_to(self, sums: Sequence[Tensor], weights: Tensor) -> None:
        """Add the gradient times its weight."""
        weight = float(weights[0])
        if weight:  # not in place: autograd may give two parameters one and the same tensor
            torch._foreach_add_(list(sums), self.tensors, alpha=weight)


def one_by_one(parameters: Sequence[nn.Parameter], losses: Iterable[Tensor]) -> Iterator[Single]:
    """Gradients of one participant after another, for any network and any loss.

    Args:
        parameters: what is trained.
        losses: one for each participant, of that person's data alone; made when asked for, so that the memory of one
            is free before the next.
    """
    for loss in losses:
        yield Single(torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True))


# ---- all at once -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Linear:
    """What the gradients of a linear layer are made of: the sum over rows of ``change`` times ``read`` transposed.

    Attributes:
        read: (participants, rows, inputs) what the layer read.
        change: (participants, rows, outputs) the loss's derivative by what it wrote; 0 in rows that fill up a bag.
        bias: whether it has one.
    """

    read: Tensor
    change: Tensor
    bias: bool

    def squares(self) -> Tensor:
        """(participants,) squared norms: of products, or of rows with rows where gradients would be larger.

        Rows that cancel each other leave less than rounding shows. A coordinator can send weights that make them, so
        what rounding may hide, here and in the sum, is added: never is a norm told smaller than what is summed.
        """
        rows, inputs, outputs = *self.read.shape[1:], self.change.shape[2]
        each = self.change.square().sum(2) * (self.read.square().sum(2) + self.bias)
        if rows == 1:
            return each[:, 0]
        hidden = 2 * torch.finfo(self.read.dtype).eps * (rows + inputs + outputs) * each.sqrt().sum(1).square()
        if inputs * outputs <= rows * (inputs + outputs):
            return _squares(self.change.mT @ self.read) + self.bias * _squares(self.change.sum(1)) + hidden
        alike = torch.bmm(self.read, self.read.mT) + self.bias
        return (torch.bmm(self.change, self.change.mT) * alike).sum((1, 2)).clamp(min=0) + hidden

    def weighted_sum(self, weights: Tensor) -> list[Tensor]:
        change = (weights.view(-1, 1, 1) * self.change).flatten(0, 1)
        weight = change.T @ self.read.flatten(0, 1)
        return [weight, change.sum(0)] if self.bias else [weight]

    def of(self, people: Tensor) -> "_Linear":
        return _Linear(self.read[people], self.change[people], self.bias)


@dataclass(frozen=True)
class _Vector:
    """Gradients of a vector that stands for an absent modality, (participants, width)."""

    change: Tensor

    def squares(self) -> Tensor:
        return _squares(self.change)

    def weighted_sum(self, weights: Tensor) -> list[Tensor]:
        return [weights @ self.change]

    def of(self, people: Tensor) -> "_Vector":
        return _Vector(self.change[people])


def _squares(values: Tensor) -> Tensor:
    """(participants,) sum of squares of each person's values."""
    return values.flatten(1).square().sum(1)


@dataclass(frozen=True)
class Factored:
    """Gradients of many participants in a network of linear layers, never written out."""

    parts: Sequence[_Linear | _Vector]
    order: Sequence[int]

    def norms(self) -> Tensor:
        """(participants,) Euclidean norm of each person's gradient."""
        return torch.stack([part.squares() for part in self.parts]).sum(0).sqrt()

    def add_to(self, sums: Sequence[Tensor], weights: Tensor) -> None:
        """Add every person's gradient times its weight."""
        parts, counted = self.parts, weights != 0
        if not bool(counted.all()):  # what is not finite is left out, for 0 times it is not 0
            parts, weights = [part.of(counted) for part in parts], weights[counted]
        found = [tensor for part in parts for tensor in part.weighted_sum(weights)]
        torch._foreach_add_(list(sums), [found[i] for i in self.order])


def all_at_once(net: FusionNet, batch: Batch) -> Iterator[Factored]:
    """Gradients of all participants from one pass, for :func:`participant_loss`; of nobody there are none.

    Raises:
        RuntimeError: a linear layer was used twice or never, which the products do not know of.
    """
    if not len(batch.labels):
        return
    # A vector of each row's own in place of the common one, with the same values: its derivative is each row's.
    absent = {f"absent.{name}": v.detach().expand(len(batch.owner), -1) for name, v in net.absent.items()}
    own = {name: rows.requires_grad_() for name, rows in absent.items()}
    uses: list[tuple[nn.Linear, Tensor, Tensor]] = []
    layers = [module for module in net.modules() if isinstance(module, nn.Linear)]
    hooks = [m.register_forward_hook(lambda m, read, wrote: uses.append((m, read[0], wrote))) for m in layers]
    try:
        logits: Tensor = functional_call(net, own, (batch.inputs,))
    finally:
        for hook in hooks:
            hook.remove()
    if sorted(id(m) for m, _, _ in uses) != sorted(map(id, layers)):
        raise RuntimeError("a linear layer was used twice or never: take one participant after another")
    rows = binary_cross_entropy_with_logits(logits, batch.labels[batch.owner], reduction="none")
    bagged = _Bagged.of(batch.owner, len(batch.labels))
    total = (rows / bagged.counts[batch.owner]).sum()
    changes = torch.autograd.grad(total, [*(wrote for _, _, wrote in uses), *own.values()])
    parts: list[_Linear | _Vector] = [
        _Linear(bagged.read(read.detach()), bagged.change(change), layer.bias is not None)
        for (layer, read, _), change in zip(uses, changes[: len(uses)], strict=True)
    ]
    parts += [_Vector(bagged.change(change).sum(1)) for change in changes[len(uses) :]]
    held = [*(p for layer, _, _ in uses for p in (layer.weight, layer.bias) if p is not None), *net.absent.values()]
    place = {id(p): i for i, p in enumerate(held)}
    yield Factored(parts, [place[id(p)] for p in trained_parameters(net)])


@dataclass(frozen=True)
class _Bagged:
    """Puts rows into a rectangle, (participants, rows, ...); a shorter bag is filled up with its first row.

    Attributes:
        counts: (participants,) rows of each.
        rows: (participants, rows) which row is where.
        counted: (participants, rows, 1) 0 for those that fill up.
    """

    counts: Tensor
    rows: Tensor
    counted: Tensor

    @staticmethod
    def of(owner: Tensor, people: int) -> "_Bagged":
        counts = torch.bincount(owner, minlength=people)
        place = torch.arange(int(counts.max()), device=owner.device).expand(people, -1)
        counted = place < counts[:, None]
        first = torch.cumsum(counts, 0) - counts
        return _Bagged(counts, first[:, None] + place * counted, counted[:, :, None])

    def read(self, rows: Tensor) -> Tensor:
        """What a layer read."""
        if self.rows.shape[1] == 1:
            return rows[:, None]
        return rows.index_select(0, self.rows.flatten()).view(*self.rows.shape, -1)

    def change(self, rows: Tensor) -> Tensor:
        """Derivatives by what it wrote: none of those rows that fill up."""
        return self.read(rows) if self.rows.shape[1] == 1 else self.read(rows) * self.counted
