"""A second device that computes, on a machine that has none: whoever mixes it with the processor is caught.

It calls itself ``meta``, the one device that every torch knows, and holds its numbers in memory. As on a GPU, tensors
of both sides cannot be added, and NumPy reads only the processor's; moving (``to``, ``copy_``) goes both ways.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

THERE = torch.device("meta")
_MOVES = {"aten::_to_copy", "aten::copy_"}
_INDEXING = {"aten::index.Tensor", "aten::index_put.default", "aten::index_put_.default"}


class _There(Tensor):
    """A tensor of the other device; ``held`` has its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls: type, held: Tensor) -> "_There":
        made: _There = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, strides=held.stride(), dtype=held.dtype, device=THERE
        )
        made.held = held
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"_There({self.held})"

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, dict(kwargs or {}))


class _Mode(TorchDispatchMode):
    """Sees what makes tensors out of nothing, too."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, dict(kwargs or {}))


def _run(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    name = func._schema.name
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    there = [isinstance(t, _There) for t in tensors]
    # As in torch: a number may come along, and a tensor may be indexed by positions of the processor.
    counted = [side for t, side in zip(tensors, there, strict=True) if t.dim() and not _is_index(func, t)]
    if name not in _MOVES and len(set(counted)) > 1:
        raise RuntimeError(f"{name}: tensors on two devices")
    named = kwargs.get("device")
    out_there = named.type == THERE.type if named is not None else there[0] if name == "aten::copy_" else any(there)
    if named is not None:
        kwargs["device"] = torch.device("cpu")
    found = func(*tree_map(_held, args), **tree_map(_held, kwargs))
    if name == "aten::_to_copy":
        return _There(found) if out_there else found
    if not out_there:
        return found
    if func._schema.name.endswith("_"):  # in place: the same tensor is given back
        return args[0]
    return tree_map(_put, found)


def _is_index(func: Any, tensor: Tensor) -> bool:
    """Whether it is a position of the processor's; positions of the other device are for its own tensors alone."""
    if isinstance(tensor, _There):
        return False
    return str(func) in {f.replace("::", ".") for f in _INDEXING} and tensor.dtype in (torch.int64, torch.bool)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, _There) else value


def _put(value: Any) -> Any:
    return _There(value) if isinstance(value, Tensor) else value


@contextmanager
def other_device() -> Iterator[torch.device]:
    """While it lasts, the other device is there; gives it."""
    with _Mode():
        yield THERE
