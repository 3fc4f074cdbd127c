"""Lookup as functions: torch's own kernels, any integer index, and range errors that say what was wrong.

Rules: the good path costs what torch costs, because ids are looked at only after torch has refused them. What torch
does not refuse is checked before: bag offsets that step back or leave the ids (torch reads other memory or pools other
rows), and ids where ``max_norm`` edits rows ahead of the lookup (torch edits the last row for -1, then raises).

Known limits: code under ``torch.compile`` refuses bad ids with Inductor's own error; on CUDA they are still a
device-side assertion; inside ``torch.func.vmap`` ids are refused without details and offsets are not checked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from catembed.errors import OutOfRangeError
from catembed.storage import advise_huge

__all__ = ["as_ids", "embedding", "embedding_bag"]

_NATIVE = frozenset({torch.int64, torch.int32})  # what torch's kernels take
_WIDENED = frozenset({torch.uint8, torch.int8, torch.int16, torch.uint16, torch.uint32, torch.uint64})
_INTEGER = (int, np.integer)
_INT64 = np.iinfo(np.int64)
_SHOWN = 5  # how many bad ids an error message lists


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
        _refuse_out_of_range(input, weight, name)
    try:
        plain = type(ids) is Tensor and torch._C._get_tracing_state() is None
        if plain and ids.numel() > _MANY_IDS and _is_large(ids, weight, max_norm, scale_grad_by_freq):
            return _LargeLookup.apply(ids, weight, _padding(padding_idx, weight), sparse)
        return F.embedding(ids, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
    except (IndexError, RuntimeError) as error:
        _explain(error, input, ids, weight, name)
        raise


def embedding_bag(
    input: Any,
    weight: Tensor,
    offsets: Any = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
    *,
    name: str | None = None,
) -> Tensor:
    """Sums, means or maxima over bags of rows: ``(B, N)``, or ``(N,)`` with offsets of ``B`` bags, give ``(B, D)``.

    Means what :func:`torch.nn.functional.embedding_bag` means by the same arguments; ids and ``offsets`` may have any
    integer dtype, or be lists.

    Raises:
        OutOfRangeError: an id outside ``[0, len(weight))``.
        ValueError: offsets that do not start at 0, decrease, pass the last id or (``include_last_offset``) stop short.

    >>> weight = torch.arange(6.0).view(3, 2)
    >>> embedding_bag([0, 2, 1], weight, [0, 2], mode="sum")
    tensor([[4., 6.],
            [2., 3.]])
    """
    ids = as_ids(input, weight)
    if offsets is not None:
        offsets = as_ids(offsets, weight)
        _check_offsets(offsets, ids, include_last_offset, name)
    if max_norm is not None and not torch.compiler.is_compiling():
        _refuse_out_of_range(input, weight, name)
    no_width = isinstance(weight, Tensor) and weight.ndim == 2 and weight.shape[1] == 0
    try:
        pooled = F.embedding_bag(
            ids,
            F.pad(weight, (0, 1)) if no_width else weight,  # torch's own fails on several threads without a column
            offsets,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            mode,
            sparse and not no_width,
            per_sample_weights,
            include_last_offset,
            padding_idx,
        )
    except (IndexError, RuntimeError) as error:
        _explain(error, input, ids, weight, name)
        raise
    return pooled[..., :0] if no_width else pooled


# Large lookups

_MANY_IDS = 4096  # fewer are never a large lookup: one comparison is all that a small one pays
_LARGE = 32 << 20  # bytes of output from which on the allocator takes fresh pages from the system at every call


class _LargeLookup(torch.autograd.Function):
    """Torch's lookup into huge pages: an output of fresh small pages costs more in page faults than in copying."""

    @staticmethod
    def forward(ctx: Any, ids: Tensor, weight: Tensor, padding_idx: int, sparse: bool) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.count, ctx.padding_idx, ctx.sparse = len(weight), padding_idx, sparse
        rows = torch.empty((ids.numel(), weight.shape[1]), dtype=weight.dtype)
        advise_huge(rows)
        return torch.index_select(weight, 0, ids.reshape(-1), out=rows).view(*ids.shape, -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (ids,) = ctx.saved_tensors
        grad = torch.ops.aten.embedding_backward(grads[0], ids, ctx.count, ctx.padding_idx, False, ctx.sparse)
        return None, grad, None, None


def _padding(padding_idx: int | None, weight: Tensor) -> int:
    """The padding row as torch's backward takes it: -1 for none."""
    if padding_idx is None:
        return -1
    return padding_idx if padding_idx >= 0 else padding_idx + len(weight)


def _is_large(ids: Tensor, weight: Tensor, max_norm: float | None, scale_grad_by_freq: bool) -> bool:
    """Whether a lookup is a large plain one on the CPU, outside compilers and transforms."""
    return (
        not torch.compiler.is_compiling()
        and max_norm is None
        and not scale_grad_by_freq
        and type(weight) in (Tensor, torch.nn.Parameter)
        and ids.dtype in _NATIVE
        and ids.device.type == weight.device.type == "cpu"
        and weight.ndim == 2
        and ids.numel() * weight.shape[1] * weight.element_size() >= _LARGE
        and torch._C._functorch.peek_interpreter_stack() is None  # pyright: ignore[reportAttributeAccessIssue]
        and torch.autograd.forward_ad._current_level < 0
    )


# Ids in


def as_ids(input: Any, weight: Tensor) -> Tensor:
    """``input`` as a tensor of an index type torch takes, lists and arrays on the device of ``weight``.

    Integers keep their value, except those beyond int64: they become negative, hence are refused, and the message
    reads the original. Floats and bools stay what they are: torch refuses them.
    """
    if isinstance(input, Tensor):
        if input.is_meta and not weight.is_meta:  # torch would answer with uninitialised memory
            raise RuntimeError(f"ids are on the meta device and have no values, the table is on {weight.device}")
        return input.long() if input.dtype in _WIDENED else input
    if torch.overrides.is_tensor_like(input):  # stand-ins for tensors, such as those of torch.fx
        return input
    if torch.compiler.is_compiling():
        return torch.as_tensor(input, device=weight.device)
    values = _as_array(input)
    if values.dtype == object:
        values = np.where((values < _INT64.min) | (values > _INT64.max), -1, values)
    if values.dtype.kind in "iuO":
        values = np.array(values, dtype=np.int64, order="C")
    return torch.as_tensor(values, device=weight.device)


def _as_array(input: Any) -> np.ndarray:
    """Ids that came as Python or NumPy numbers, as an array of numbers; of objects if some are beyond 64 bits."""
    if isinstance(input, (np.ndarray, np.generic)):
        values = np.asarray(input)
        if values.dtype.kind not in "iufcb":
            raise TypeError(_not_ids(f"a NumPy array of {values.dtype}"))
        return values
    if not isinstance(input, (int, float, complex, list, tuple)):
        hint = "; CategoryEmbedding looks up categories" if isinstance(input, (str, bytes)) else ""
        raise TypeError(_not_ids(type(input).__name__) + hint)
    try:
        values = np.asarray(input)
    except ValueError as error:
        raise ValueError(_not_ids("a nested list whose rows differ in length")) from error
    if values.dtype.kind not in "iu":
        return _as_integers_or_numbers(input, values)
    return values


def _as_integers_or_numbers(input: Any, values: np.ndarray) -> np.ndarray:
    """The list that NumPy did not take for integers: empty, or with ints beyond 64 bits, floats or no numbers."""
    items = np.asarray(input, dtype=object)
    others = [at for at, item in np.ndenumerate(items) if isinstance(item, bool) or not isinstance(item, _INTEGER)]
    if not others:
        return items
    if values.dtype.kind in "fcb":
        return values
    raise TypeError(_not_ids(f"{items[others[0]]!r} at {list(others[0])}"))


def _not_ids(got: str) -> str:
    return (
        "embedding(): argument 'indices' must be Tensor, an integer, a (nested) list of integers or a NumPy array of "
        f"integers (got {got})"
    )


# Ids refused


def _explain(error: Exception, input: Any, ids: Tensor, weight: Tensor, name: str | None) -> None:
    """Raise, in place of torch's ``error``, one that says more, if the ids are to blame."""
    if ids.dtype not in _NATIVE:
        hint = "a mask is not ids" if ids.dtype == torch.bool else "nothing is rounded to an id"
        raise RuntimeError(
            f"{error}. Ids must be integers (got {ids.dtype}): {hint}; .long() makes them ids."
        ) from error
    message = _out_of_range_message(input, weight, name)
    if message:
        raise OutOfRangeError(message) from error


def _refuse_out_of_range(input: Any, weight: Tensor, name: str | None) -> None:
    message = _out_of_range_message(input, weight, name)
    if message:
        raise OutOfRangeError(message)


def _out_of_range_message(input: Any, weight: Tensor, name: str | None) -> str | None:
    """What is wrong with the ids, or None if all are in range or they cannot be read."""
    values = _readable(input)
    if values is None or values.dtype.kind not in "iuO" or weight.ndim != 2:
        return None
    rows = weight.shape[0]
    bad = ((values < 0) | (values >= rows)).astype(bool)
    count = int(bad.sum())
    if not count:
        return None
    shown = ", ".join(
        f"{values[tuple(at)]} at {at.tolist()}" if values.ndim else f"{values}" for at in np.argwhere(bad)[:_SHOWN]
    )
    more = f" and {count - _SHOWN} more" if count > _SHOWN else ""
    return (
        f"index out of range in self: {count} of {values.size} ids {'has' if count == 1 else 'have'} no row in "
        f"{_table(name)}, allowed are [0, {rows}) (got {shown}{more}). {_likely_causes(values[bad], rows)}"
    )


def _likely_causes(bad: np.ndarray, rows: int) -> str:
    causes = []
    if (bad == -1).any():
        causes.append("-1 is the code pandas and Arrow give a missing value: give missing values a row of their own.")
    if (bad < -1).any():
        causes.append("A negative id does not count from the end.")
    if (bad == rows).any():
        causes.append(f"{rows} is num_embeddings: an unseen category, or ids that count from 1.")
    if (bad > rows).any():
        causes.append("Larger ids come from another vocabulary, or are raw keys that were never encoded.")
    return " ".join(causes)


def _table(name: str | None) -> str:
    return "the table" if name is None else f"table {name!r}"


def _readable(input: Any) -> np.ndarray | None:
    """The values of ids, or None where they cannot be read: on the meta device, inside a transform."""
    if not isinstance(input, Tensor):
        return None if torch.overrides.is_tensor_like(input) else _as_array(input)
    try:
        return input.cpu().numpy()
    except (RuntimeError, TypeError):
        return None


# Offsets


def _check_offsets(offsets: Tensor, ids: Tensor, include_last: bool, name: str | None) -> None:
    """Refuse offsets that torch takes and then reads memory beyond the ids, or pools other rows than those meant."""
    if not isinstance(offsets, Tensor) or offsets.ndim != 1 or ids.ndim != 1 or offsets.numel() == 0:
        return  # torch refuses these by shape
    if offsets.dtype not in _NATIVE:
        raise RuntimeError(f"offsets must be integers (got {offsets.dtype})")
    end = ids.numel()
    if torch.compiler.is_compiling() or offsets.device.type != "cpu":
        last = offsets[-1] == end if include_last else offsets[-1] <= end
        sound = (offsets[0] == 0) & (offsets.diff() >= 0).all() & last
        torch.ops.aten._assert_async.msg(sound, f"offsets must {_offsets_rule(end, include_last)}")
        return
    values = _readable(offsets)
    if values is None:
        return
    steps_back = values[1:] < values[:-1]
    if np.count_nonzero(steps_back):
        at = int(steps_back.argmax()) + 1
    elif values[0] != 0:
        at = 0
    elif values[-1] > end or (include_last and values[-1] != end):
        at = len(values) - 1
    else:
        return
    after = f" after {values[at - 1]}" if at else ""
    raise ValueError(
        f"offsets into {_table(name)} must {_offsets_rule(end, include_last)} (got {values[at]} at [{at}]{after})"
    )


def _offsets_rule(end: int, include_last: bool) -> str:
    return f"start at 0, never decrease and {'end at' if include_last else 'stay within'} the number of ids, {end}"
