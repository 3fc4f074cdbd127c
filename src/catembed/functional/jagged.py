"""Bags of unequal length, in any form: lists of lists, list columns of tables, nested tensors.

Rules: pyarrow is loaded for nothing but list columns, and those are recognised by Arrow's C interface, which pyarrow,
pandas, polars and others have. What is no bag, such as a missing one, is refused with its position: a bag without ids
is an empty list.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from catembed.functional.ids import Place

__all__ = ["Jagged", "as_jagged", "place_in"]


class Jagged(NamedTuple):
    """Bags of any lengths: ``values (n,)`` one bag after the other, and ``offsets (B + 1,)``, where each begins.

    What ``CategoryEmbedding.encode`` gives for columns of lists, and what every function and layer for bags takes. The
    first offset is 0, none is smaller than the one before, and the last is the number of values. A tuple of tensors, it
    travels through the workers of a ``DataLoader`` and its ``pin_memory``.

    >>> from catembed.functional import embedding_bag
    >>> bags = Jagged(torch.tensor([0, 2, 1]), torch.tensor([0, 2, 2, 3]))  # [0, 2], [] and [1]
    >>> embedding_bag(bags, torch.eye(3), mode="sum")
    tensor([[1., 0., 1.],
            [0., 0., 0.],
            [0., 1., 0.]])
    >>> embedding_bag(Jagged(torch.tensor([0, 2, 1]), torch.tensor([0, 2])), torch.eye(3))
    Traceback (most recent call last):
    ValueError: offsets into the table must start at 0, never decrease and end at the number of ids, 3 (got 2 at [1] ...
    """

    values: Any  # a tensor; inside of this package also a list or a NumPy array
    offsets: Tensor

    def to(self, device: torch.device | str | int, *, non_blocking: bool = False) -> Jagged:
        """The same bags on another device."""
        return Jagged(
            self.values.to(device, non_blocking=non_blocking), self.offsets.to(device, non_blocking=non_blocking)
        )


def as_jagged(value: Any, what: str, *, rectangular: bool = False) -> Jagged | None:
    """``value`` as bags, or None for what is none of these forms, such as a matrix, a tensor or a flat list.

    A list of lists of one length is taken only if asked for: it is a matrix as well. ``what`` begins the message of
    errors.

    Raises:
        TypeError: something that holds no bags, with its position.
    """
    if isinstance(value, Jagged):
        return _of_jagged(value, what)
    if isinstance(value, Tensor):
        return _of_nested(value, what) if value.is_nested else None
    if torch.overrides.is_tensor_like(value):  # stand-ins for tensors have every attribute that is asked for
        return None
    if isinstance(value, (list, tuple)):
        return _of_lists(value, what, rectangular)
    if isinstance(value, np.ndarray):
        return _of_lists(value.tolist(), what, True) if value.dtype == object and value.ndim == 1 else None
    if hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__"):
        return _of_arrow(value, what)  # pyright: ignore[reportCallIssue]  (torch's decorator hides the signature)
    if hasattr(value, "iloc"):  # pandas before it spoke Arrow's interface
        return as_jagged(np.asarray(value), what)
    return None


def place_in(offsets: Tensor) -> Place:
    """Of a position among all values: which bag, and where in it."""

    def place(at: int) -> list[int]:
        bag = int(torch.searchsorted(offsets, int(at), right=True)) - 1
        return [bag, int(at) - int(offsets[bag])]

    return place


# Tensors


def _of_jagged(value: Jagged, what: str) -> Jagged:
    """What a caller made, if it has the form; whether the offsets fit the values is checked with all others."""
    values, offsets = value
    if not isinstance(values, (Tensor, np.ndarray)):
        values = torch.as_tensor(values)
    offsets = torch.as_tensor(offsets)
    if values.ndim != 1 or offsets.ndim != 1 or not len(offsets):
        raise ValueError(
            f"{what} as a Jagged have values of one dimension, and offsets that are one more than there are bags "
            f"(got shapes {tuple(values.shape)} and {tuple(offsets.shape)})"
        )
    return Jagged(values, offsets)


def _of_nested(value: Tensor, what: str) -> Jagged:
    if value.layout != torch.jagged or value.dim() != 2:
        raise TypeError(
            f"{what} as a nested tensor must be jagged and have two dimensions (got {value.layout}, {value.dim()}): "
            "torch.nested.nested_tensor(list_of_ids, layout=torch.jagged)"
        )
    nested: Any = value
    if nested.lengths() is None:
        return Jagged(nested.values(), nested.offsets())
    return Jagged(torch.cat(value.unbind()), torch.nn.functional.pad(nested.lengths().cumsum(0), (1, 0)))  # with holes


# Lists


def _of_lists(bags: Sequence[Any], what: str, rectangular: bool) -> Jagged | None:
    sizes = [_size(bag) for bag in bags]
    if all(size is None for size in sizes) and not (rectangular and any(bag is None for bag in bags)):
        return None
    for at, size in enumerate(sizes):
        if size is None:
            raise TypeError(_uneven(what, bags, at, sizes))
    if len(set(sizes)) <= 1 and not rectangular:
        return None
    flat = list(chain.from_iterable(bag.tolist() if hasattr(bag, "tolist") else bag for bag in bags))
    offsets = torch.tensor([0, *sizes]).cumsum(0)
    if any(issubclass(kind, (list, tuple)) for kind in set(map(type, flat))):
        at = next(at for at, item in enumerate(flat) if isinstance(item, (list, tuple)))
        raise TypeError(f"{what}: a bag is a list of numbers, one level deep (got a list at {place_in(offsets)(at)})")
    return Jagged(flat, offsets)


def _size(bag: Any) -> int | None:
    """How many values a bag holds; None for what is no bag."""
    if isinstance(bag, (np.ndarray, Tensor)):
        return len(bag) if bag.ndim else None
    return len(bag) if isinstance(bag, (list, tuple, range)) else None


def _uneven(what: str, bags: Sequence[Any], at: int, sizes: list[int | None]) -> str:
    if bags[at] is None:
        return f"{what}: a bag is missing (got None at [{at}]): a bag without ids is an empty list"
    other = next(place for place, size in enumerate(sizes) if size is not None)
    return f"{what}: lists of uneven depth (got a list at [{other}], {bags[at]!r:.50} at [{at}])"


# Columns of tables


@torch.compiler.disable
def _of_arrow(column: Any, what: str) -> Jagged:
    import pyarrow as pa

    from catembed.arrow_lists import flat_lists

    got = f"got {type(column).__name__}"
    try:
        array: Any = pa.chunked_array(column) if hasattr(column, "__arrow_c_stream__") else pa.array(column)
        values, cuts, missing = flat_lists(array)
    except (pa.ArrowException, TypeError, ValueError, AttributeError) as error:
        raise TypeError(f"{what}: a column of bags has lists in it ({got}): {error}") from None
    if missing.any():
        at = int(missing.argmax())
        raise TypeError(f"{what}: a bag is missing (got null at [{at}]): a bag without ids is an empty list")
    offsets = torch.from_numpy(cuts)
    if values.null_count:
        at = place_in(offsets)(values.is_valid().index(False).as_py())
        raise TypeError(f"{what}: a value is missing (got null at {at})")
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_null(values.type)):
        raise TypeError(f"{what}: bags hold numbers (got {array.type}, {got})")
    numbers = values.to_numpy()
    return Jagged(numbers if len(numbers) else [], offsets)
