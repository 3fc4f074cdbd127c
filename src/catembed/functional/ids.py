"""Ids: what is taken for them, and what is said of those that have no row.

Rule: the good path costs what torch costs, because ids are looked at only after a kernel has refused them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from catembed.errors import OutOfRangeError

__all__ = [
    "NATIVE",
    "Place",
    "as_array",
    "as_ids",
    "explain",
    "padding_row",
    "readable",
    "refuse_out_of_range",
    "table_words",
]

NATIVE = frozenset({torch.int64, torch.int32})  # what torch's kernels take
_WIDENED = frozenset({torch.uint8, torch.int8, torch.int16, torch.uint16, torch.uint32, torch.uint64})
_INTEGER = (int, np.integer)
_INT64 = np.iinfo(np.int64)
_SHOWN = 5  # how many bad ids an error message lists

Place = Callable[[int], list[int]]  # where the id at a position of flat ids stood in what the user gave


# Ids in


def as_ids(input: Any, weight: Tensor, place: Place | None = None) -> Tensor:
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
    values = as_array(input, place)
    if values.dtype == object:
        values = np.where((values < _INT64.min) | (values > _INT64.max), -1, values)
    if values.dtype.kind in "iuO":
        values = np.array(values, dtype=np.int64, order="C")
    return torch.as_tensor(values, device=weight.device)


def as_array(input: Any, place: Place | None = None) -> np.ndarray:
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
        return _as_integers_or_numbers(input, values, place)
    return values


def _as_integers_or_numbers(input: Any, values: np.ndarray, place: Place | None) -> np.ndarray:
    """The list that NumPy did not take for integers: empty, or with ints beyond 64 bits, floats or no numbers."""
    items = np.asarray(input, dtype=object)
    others = [at for at, item in np.ndenumerate(items) if isinstance(item, bool) or not isinstance(item, _INTEGER)]
    if not others:
        return items
    if values.dtype.kind in "fcb":
        return values
    at = list(others[0]) if place is None else place(others[0][0])
    raise TypeError(_not_ids(f"{items[others[0]]!r} at {at}"))


def _not_ids(got: str) -> str:
    return (
        "embedding(): argument 'indices' must be Tensor, an integer, a (nested) list of integers or a NumPy array of "
        f"integers (got {got})"
    )


# Ids refused


def explain(
    error: Exception, input: Any, ids: Tensor, weight: Tensor, name: str | None, place: Place | None = None
) -> None:
    """Raise, in place of torch's ``error``, one that says more, if the ids are to blame."""
    if ids.dtype not in NATIVE:
        hint = "a mask is not ids" if ids.dtype == torch.bool else "nothing is rounded to an id"
        raise RuntimeError(
            f"{error}. Ids must be integers (got {ids.dtype}): {hint}; .long() makes them ids."
        ) from error
    message = _out_of_range_message(input, weight, name, place)
    if message:
        raise OutOfRangeError(message) from error


def refuse_out_of_range(input: Any, weight: Tensor, name: str | None, place: Place | None = None) -> None:
    """Raise for ids that have no row, before anything is done with them."""
    message = _out_of_range_message(input, weight, name, place)
    if message:
        raise OutOfRangeError(message)


def _out_of_range_message(input: Any, weight: Tensor, name: str | None, place: Place | None) -> str | None:
    """What is wrong with the ids, or None if all are in range or they cannot be read."""
    values = readable(input)
    if values is None or values.dtype.kind not in "iuO" or weight.ndim != 2:
        return None
    rows = weight.shape[0]
    bad = ((values < 0) | (values >= rows)).astype(bool)
    count = int(bad.sum())
    if not count:
        return None
    shown = ", ".join(
        f"{values[tuple(at)]} at {at.tolist() if place is None else place(at[0])}" if values.ndim else f"{values}"
        for at in np.argwhere(bad)[:_SHOWN]
    )
    more = f" and {count - _SHOWN} more" if count > _SHOWN else ""
    return (
        f"index out of range in self: {count} of {values.size} ids {'has' if count == 1 else 'have'} no row in "
        f"{table_words(name)}, allowed are [0, {rows}) (got {shown}{more}). {_likely_causes(values[bad], rows)}"
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


def table_words(name: str | None) -> str:
    """How a message calls the table."""
    return "the table" if name is None else f"table {name!r}"


def readable(input: Any) -> np.ndarray | None:
    """The values of ids, or None where they cannot be read: on the meta device, inside a transform."""
    if not isinstance(input, Tensor):
        return None if torch.overrides.is_tensor_like(input) else as_array(input)
    try:
        return input.cpu().numpy()
    except (RuntimeError, TypeError):
        return None


def padding_row(padding_idx: int | None, weight: Tensor) -> int:
    """The padding row as torch's backward takes it: -1 for none."""
    if padding_idx is None:
        return -1
    return padding_idx if padding_idx >= 0 else padding_idx + len(weight)
