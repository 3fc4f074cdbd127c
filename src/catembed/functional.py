"""Lookup as functions: torch's own kernels, any integer index, and range errors that say what was wrong.

Rules: the good path costs what torch costs, because ids are inspected only after torch has refused them. The two
inputs torch does not refuse are checked first: bag offsets that step back or leave the input, and, where
``max_norm`` edits rows before the lookup, the ids (torch renormalises the last row for -1, then raises).

Known limits: under ``torch.compile`` a bad id raises Inductor's own error, and on CUDA a bad id is still a device-side
assertion. A meta tensor has no values to check.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from catembed.errors import OutOfRangeError

__all__ = ["embedding", "embedding_bag"]

_NATIVE = (torch.int64, torch.int32)  # the index types that torch's kernels take
_WIDENED = (torch.uint8, torch.int8, torch.int16, torch.uint16, torch.uint32, torch.uint64)
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
        TypeError: anything that holds no integers.

    >>> weight = torch.arange(6.0).view(3, 2)
    >>> embedding([[2], [0]], weight)
    tensor([[[4., 5.]],
            [[0., 1.]]])
    """
    ids = as_ids(input, weight)
    if max_norm is not None:
        _refuse_out_of_range(input, weight, name)
    try:
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
    """Sums, means or maxima of bags of rows: ``(B, N)``, or ``(N,)`` with ``offsets`` of ``B`` bags, give ``(B, D)``.

    Means what :func:`torch.nn.functional.embedding_bag` means by the same arguments; ids and ``offsets`` may have any
    integer dtype or be lists.

    Raises:
        OutOfRangeError: an id outside ``[0, len(weight))``.
        ValueError: offsets that do not start at 0, decrease, or go past the end of the input.

    >>> weight = torch.arange(6.0).view(3, 2)
    >>> embedding_bag([0, 2, 1], weight, [0, 2], mode="sum")
    tensor([[4., 6.],
            [2., 3.]])
    """
    ids = as_ids(input, weight)
    if offsets is not None:
        offsets = as_ids(offsets, weight)
        _refuse_bad_offsets(offsets, ids, name)
    if max_norm is not None:
        _refuse_out_of_range(input, weight, name)
    try:
        return F.embedding_bag(
            ids,
            weight,
            offsets,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            mode,
            sparse,
            per_sample_weights,
            include_last_offset,
            padding_idx,
        )
    except (IndexError, RuntimeError) as error:
        _explain(error, input, ids, weight, name)
        raise


def as_ids(input: Any, weight: Tensor) -> Tensor:
    """``input`` as a tensor of an index type torch takes, on the device of ``weight``; other tensors as they are.

    Values are kept, never rounded or clamped. A uint64 above the int64 range becomes negative, hence is refused.
    """
    if isinstance(input, Tensor):
        return input.long() if input.dtype in _WIDENED else input
    if torch.overrides.is_tensor_like(input):  # torch.fx proxies and other stand-ins for tensors
        return input
    values = _as_array(input)
    if values.dtype.kind in "iu":
        return torch.from_numpy(np.array(values, dtype=np.int64, order="C")).to(weight.device)
    return torch.as_tensor(values, device=weight.device)  # floats and bools: torch refuses them by name


def _as_array(input: Any) -> np.ndarray:
    """Ids that came as Python or NumPy numbers, as an array of numbers."""
    if not isinstance(input, (int, float, list, tuple, np.generic, np.ndarray)):
        hint = "; categories are looked up by CategoryEmbedding" if isinstance(input, (str, bytes)) else ""
        raise TypeError(
            "embedding(): argument 'indices' must be Tensor, an integer, a list of integers or a NumPy array of "
            f"integers (got {type(input).__name__}){hint}"
        )
    values = np.asarray(input)
    if values.size == 0 and not isinstance(input, np.ndarray):
        return values.astype(np.int64)  # an empty list holds no floats, whatever NumPy takes it for
    if values.dtype.kind not in "iufcb":
        raise TypeError(f"embedding(): argument 'indices' must hold integers (got a NumPy array of {values.dtype})")
    return values


def _explain(error: Exception, input: Any, ids: Tensor, weight: Tensor, name: str | None) -> None:
    """Raise in place of torch's ``error`` one that says more, if the ids are to blame."""
    if ids.dtype not in _NATIVE:
        hint = "a mask is not ids" if ids.dtype == torch.bool else "a category id is a whole number, never rounded here"
        raise RuntimeError(
            f"{error}. Ids must be integers (got {ids.dtype}): {hint}; use .long() to mean it."
        ) from error
    message = _out_of_range_message(input, weight, name)
    if message:
        raise OutOfRangeError(message) from error


def _refuse_out_of_range(input: Any, weight: Tensor, name: str | None) -> None:
    if torch.compiler.is_compiling():
        return
    message = _out_of_range_message(input, weight, name)
    if message:
        raise OutOfRangeError(message)


def _out_of_range_message(input: Any, weight: Tensor, name: str | None) -> str | None:
    """What is wrong with the ids, or None if all are in range or they cannot be read (meta tensors, transforms)."""
    values = _readable(input)
    if values is None or values.dtype.kind not in "iu":
        return None
    rows = weight.shape[0]
    bad = (values < 0) | (values >= rows)
    count = int(bad.sum())
    if not count:
        return None
    shown = ", ".join(
        f"{values[tuple(at)]} at {at.tolist()}" if values.ndim else str(values) for at in np.argwhere(bad)[:_SHOWN]
    )
    more = f" and {count - _SHOWN} more" if count > _SHOWN else ""
    table = f"table {name!r}" if name else "the table"
    return (
        f"index out of range in self: {count} of {values.size} ids have no row in {table}, "
        f"allowed are [0, {rows}) (got {shown}{more}). {_likely_causes(values[bad], rows)}"
    )


def _likely_causes(bad: np.ndarray, rows: int) -> str:
    causes = []
    if (bad == -1).any():
        causes.append("-1 is the code pandas and Arrow give a missing value: give missing values their own row.")
    if (bad < -1).any():
        causes.append("A negative id does not count from the end.")
    if (bad == rows).any():
        causes.append(f"{rows} is num_embeddings: an unseen category, or ids that count from 1.")
    if (bad > rows).any():
        causes.append("Larger ids come from another vocabulary, or are raw keys that were never encoded.")
    return " ".join(causes)


def _readable(input: Any) -> np.ndarray | None:
    if not isinstance(input, Tensor):
        return _as_array(input)
    try:
        return input.detach().cpu().numpy()
    except (RuntimeError, NotImplementedError, TypeError):
        return None


def _refuse_bad_offsets(offsets: Tensor, ids: Tensor, name: str | None) -> None:
    values = None if torch.compiler.is_compiling() else _readable(offsets)
    if values is None or values.ndim != 1 or values.size == 0 or values.dtype.kind not in "iu":
        return  # torch checks the shape and the dtype
    steps_back = np.flatnonzero(values[1:] < values[:-1])
    if values[0] == 0 and values[-1] <= ids.numel() and not steps_back.size:
        return
    at = int(steps_back[0]) + 1 if steps_back.size else (0 if values[0] else len(values) - 1)
    raise ValueError(
        f"offsets{f' of table {name!r}' if name else ''} must start at 0, never decrease and end within the "
        f"{ids.numel()} ids (got {values[at]} at [{at}]{f' after {values[at - 1]}' if at else ''})"
    )
