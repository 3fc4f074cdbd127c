"""``embedding``: torch's own lookup, with any integer as id and range errors that say what was wrong.

What torch does not refuse is checked before: ids where ``max_norm`` edits rows ahead of the lookup (torch edits the
last row for -1, then raises).

Known limits: code under ``torch.compile`` refuses bad ids with Inductor's own error; on CUDA they are still a
device-side assertion; inside ``torch.func.vmap`` ids are refused without details.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from catembed.functional.ids import NATIVE, as_ids, explain, padding_row, refuse_out_of_range
from catembed.storage import room

__all__ = ["embedding", "is_plain", "is_plain_gradient"]


def embedding(
    input: Any,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
    *,
    name: str | None = None,
) -> Tensor:
    """Rows of ``weight``: ids of shape ``(*)`` give ``(*, D)``.

    Means what :func:`torch.nn.functional.embedding` means by the same arguments. ``input`` may have any integer
    dtype, and may be an int, a (nested) list of ints or a NumPy array of integers.

    Raises:
        OutOfRangeError: an id outside ``[0, len(weight))``, told with its position and the table's ``name``.
        RuntimeError: ids that are floats, complex numbers or bools.
        TypeError: anything that holds no numbers.

    >>> weight = torch.arange(6.0).view(3, 2)
    >>> embedding([[2], [0]], weight)
    tensor([[[4., 5.]],
            [[0., 1.]]])
    """
    ids = as_ids(input, weight)
    if max_norm is not None and not torch.compiler.is_compiling():
        refuse_out_of_range(input, weight, name)
    try:
        plain = type(ids) is Tensor and torch._C._get_tracing_state() is None
        if plain and ids.numel() > _MANY_IDS and _is_large(ids, weight, max_norm, scale_grad_by_freq):
            return _LargeLookup.apply(ids, weight, padding_row(padding_idx, weight), sparse)
        return F.embedding(ids, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
    except (IndexError, RuntimeError) as error:
        explain(error, input, ids, weight, name)
        raise


# Large lookups

_MANY_IDS = 4096  # fewer are never a large lookup: one comparison is all that a small one pays
_LARGE = 32 << 20  # bytes of output from which on the allocator takes fresh pages from the system at every call


class _LargeLookup(torch.autograd.Function):
    """Torch's lookup into memory that is used again: fresh pages cost more in page faults than in copying."""

    @staticmethod
    def forward(ctx: Any, ids: Tensor, weight: Tensor, padding_idx: int, sparse: bool) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.count, ctx.padding_idx, ctx.sparse = len(weight), padding_idx, sparse
        rows = room(ids.numel(), weight.shape[1], weight.dtype)
        return torch.index_select(weight, 0, ids.reshape(-1), out=rows).view(*ids.shape, -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (ids,) = ctx.saved_tensors
        grad = torch.ops.aten.embedding_backward(grads[0], ids, ctx.count, ctx.padding_idx, False, ctx.sparse)
        return None, grad, None, None


def _is_large(ids: Tensor, weight: Tensor, max_norm: float | None, scale_grad_by_freq: bool) -> bool:
    """Whether a lookup is a large plain one on the CPU."""
    return (
        max_norm is None
        and not scale_grad_by_freq
        and ids.dtype in NATIVE
        and weight.ndim == 2
        and ids.numel() * weight.shape[1] * weight.element_size() >= _LARGE
        and is_plain(ids, weight)
    )


_PLAIN = (Tensor, torch.nn.Parameter)


def is_plain(*tensors: Tensor) -> bool:
    """Whether tensors are plain ones on the CPU, outside compilers, tracers, transforms and dispatch modes."""
    for tensor in tensors:
        if type(tensor) not in _PLAIN or not tensor.is_cpu or tensor.is_nested:
            return False
    return (
        not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and torch._C._functorch.peek_interpreter_stack() is None  # pyright: ignore[reportAttributeAccessIssue]
        and torch._C._len_torch_dispatch_stack() == 0
        and torch.autograd.forward_ad._current_level < 0
    )


def is_plain_gradient(grad: Tensor) -> bool:
    """Whether a gradient is numbers in memory: it may be none at all, many of them in a batch, or negated lazily."""
    return (
        is_plain(grad)
        and not grad._is_zerotensor()  # pyright: ignore[reportAttributeAccessIssue]
        and not grad.is_neg()
        and not torch._C._functorch.is_legacy_batchedtensor(grad)  # pyright: ignore[reportAttributeAccessIssue]
    )
