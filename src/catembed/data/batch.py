"""A batch: ``{"ids": {column: ids}, other column: numbers, …}``, made of some rows of a table.

Rules: columns that are not asked for are not looked at. ``others`` become tensors of their own dtype, as torch's
default collate makes them, or are refused by name: a missing integer does not become a float, and no integer loses
digits as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from catembed.errors import TableError
from catembed.functional import Jagged
from catembed.nn import EmbeddingCollection, Encoder
from catembed.nn.collection_inputs import naming
from catembed.nn.encoder import bags_of_ids
from catembed.vocabulary import columns_of

__all__ = ["IDS", "Batch", "encode_batch", "encoder_of", "names_of", "numbers", "rows_in", "table_of"]

IDS = "ids"  # where a batch has its ids
Batch = dict[str, Any]


def encoder_of(collection: Any) -> Encoder:
    """The encoder of a collection, or itself."""
    if isinstance(collection, EmbeddingCollection):
        return collection.encoder()
    if not isinstance(collection, Encoder):
        raise TypeError(
            f"columns are encoded by an EmbeddingCollection, or by its encoder() (got {type(collection).__name__})"
        )
    return collection


def names_of(encoder: Encoder, others: Sequence[str]) -> tuple[str, ...]:
    """``others`` as names, which are no columns of the collection.

    Raises:
        TypeError: something that is no list of names.
        TableError: a name that the collection reads or has, one given twice, or ``"ids"``.
    """
    if isinstance(others, str) or not all(isinstance(name, str) for name in others):
        raise TypeError(f"others= takes a list of columns' names, such as ['target'] (got {others!r:.100})")
    names = tuple(others)
    for name in names:
        if name in encoder.inputs or name in encoder.names:
            raise TableError(
                f"column {name!r} is among others=, and is one that the collection reads: give it under another name"
            )
        if name == IDS or names.count(name) > 1:
            raise TableError(f"others= has {name!r}" + (", the name of the ids" if name == IDS else " twice"))
    return names


def table_of(rows: Any, names: Sequence[str]) -> Mapping[str, Any]:
    """The columns ``names`` of a table, or of a list of rows, each a dict.

    Raises:
        TableError: no rows; a column that is not there, with the first row that lacks it.
        TypeError: rows that are no dicts.
    """
    if isinstance(rows, (list, tuple)):
        return _turned(rows, names)
    table = columns_of(rows)
    absent = [name for name in names if name not in table]
    if absent:
        has = ", ".join(map(repr, table)) or "none"
        raise TableError(f"the table has no column {', '.join(map(repr, absent))}; it has {has}")
    return {name: table[name] for name in names}


def _turned(rows: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    if not len(rows):
        raise TableError("a batch has no rows")
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for at, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise TypeError(f"a row is a dict, a value for each column (got {type(row).__name__} in row {at})")
        for name, column in columns.items():
            if name not in row:
                has = ", ".join(map(repr, row)) or "nothing"
                raise TableError(f"row {at} of the batch has no column {name!r}; it has {has}")
            column.append(row[name])
    return {name: _stacked(name, column) for name, column in columns.items()}


def _stacked(name: str, column: list[Any]) -> Any:
    """Rows that are tensors as one: it holds ids, as a tensor does everywhere."""
    if not all(isinstance(value, Tensor) for value in column):
        return column
    try:
        return torch.stack(column)
    except RuntimeError:
        raise TableError(f"column {name!r} has tensors of different shapes; bags are lists") from None


def encode_batch(encoder: Encoder, others: Sequence[str], table: Mapping[str, Any]) -> Batch:
    """A batch of a table that has the columns.

    Raises:
        TableError: columns of different lengths; others that are no numbers.
        UnseenCategoryError: as each column's vocabulary raises it, with the column's name; a ``VocabularyError`` too.
    """
    ids = dict(encoder.encode({name: table[name] for name in encoder.inputs}))
    for name, column in encoder.items():
        if column.bags and isinstance(ids[name], Tensor):  # a matrix, padded perhaps, or a nested tensor
            with naming(name):
                ids[name] = bags_of_ids(ids[name])
    batch = {IDS: ids, **{name: numbers(name, table[name]) for name in others}}
    sizes = {name: rows_in(name, column) for name, column in (*ids.items(), *((n, batch[n]) for n in others))}
    first = next(iter(sizes))
    for name, size in sizes.items():
        if size != sizes[first]:
            raise TableError(
                f"columns differ in length: column {first!r} has {sizes[first]:,} rows, column {name!r} {size:,}"
            )
    return batch


def rows_in(name: str, column: Any) -> int:
    """How many rows the ids or numbers of a column are of."""
    if isinstance(column, Jagged):
        return len(column.offsets) - 1
    if not column.dim():
        raise TableError(f"column {name!r} is a single value; a batch has one for each row")
    return len(column)


# Numbers


def numbers(name: str, column: Any) -> Tensor:
    """The numbers of a column among ``others``; raises ``TableError``."""
    if isinstance(column, Tensor):
        return column
    if any(hasattr(column, f"__arrow_{each}__") for each in ("c_stream", "c_array", "array")):
        return _of_arrow(name, column)
    try:
        values = np.array(column)
    except ValueError:
        raise TableError(
            f"column {name!r} among others= has rows of different shapes, of which no tensor is made"
        ) from None
    if values.dtype.kind == "O" and all(map(_is_number, values.flat)):
        raise TableError(f"column {name!r} among others= has an integer beyond 64 bits, or objects for numbers")
    if values.dtype.kind not in "biuf":
        raise TableError(_no_numbers(name, str(values.dtype), list(np.asarray(column, dtype=object))))
    if values.dtype.kind == "f" and not hasattr(column, "dtype"):
        _check_digits(name, column, values)
    return torch.from_numpy(values.astype(values.dtype.newbyteorder("="), copy=False))


def _check_digits(name: str, column: Any, values: np.ndarray) -> None:
    """Raise where integers of a list became floats, and not all of their digits are left."""
    exact = 2.0 ** (np.finfo(values.dtype).nmant + 1)
    if not (np.isfinite(values) & (np.abs(values) >= exact)).any():
        return
    given = np.asarray(column, dtype=object).ravel()
    whole = [isinstance(value, (int, np.integer)) for value in given]
    for at, (value, held) in enumerate(zip(given, values.ravel().tolist(), strict=True)):
        if whole[at] and (all(whole) or int(held) != int(value)):
            raise TableError(
                f"column {name!r} among others= has the integer {value} in row {at * len(values) // len(given)}, which "
                f"would become the {values.dtype} {held}: give an array or tensor of the type it is to have"
            )


def _of_arrow(name: str, column: Any) -> Tensor:
    import pyarrow as pa

    array: Any = pa.chunked_array(column) if hasattr(column, "__arrow_c_stream__") else pa.array(column)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    given = array.type
    if pa.types.is_fixed_size_list(given) and not array.null_count:
        return _of_arrow(name, array.flatten()).reshape(len(array), given.list_size)
    if not (pa.types.is_integer(given) or pa.types.is_floating(given) or pa.types.is_boolean(given)):
        raise TableError(_no_numbers(name, str(given), array))
    if array.null_count and not pa.types.is_floating(given):  # of a float, a missing value is NaN
        at = array.is_null().index(True).as_py()
        raise TableError(f"column {name!r} among others= lacks a value in row {at}: fill it, or make the column floats")
    return torch.from_numpy(np.array(array.to_numpy(zero_copy_only=False)))


def _no_numbers(name: str, held: str, values: Any) -> str:
    shown = next((f", {value!s:.50} in row {at}" for at, value in enumerate(values) if not _is_number(value)), "")
    return (
        f"column {name!r} among others= holds no numbers (got {held}{shown}): leave it out, or give it a layer in the "
        "collection"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number, np.bool_))
