"""What scikit-learn hands over, as an Arrow table of features: one for each column, or for each part of a date.

Rules: columns are known by place, and named as scikit-learn names them (``x0``, ``x1``, … without names of their own).
What a column becomes is decided once, when fitting; afterwards a value never seen is no error.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from catembed import tabular
from catembed.errors import TableError
from catembed.vocabulary import HashVocabulary, Vocabulary

CATEGORICAL, NUMERIC, DROPPED = "categorical", "numeric", "dropped"

_compute: Any = pyarrow.compute  # its functions are made while it is imported, unknown to type checkers

# What tabular's errors say of options of its command, and of a target that here is y.
_WORDS = {
    "--categorical ": "columns: ",
    "; take it as lists with --list": "",
    ", or --ignore the column": "",
    "(the )?target 'target_*'": "y",
}


@contextlib.contextmanager
def in_words() -> Iterator[None]:
    """Errors of ``tabular`` in the words of ``CategoryEmbedder``."""
    try:
        yield
    except TableError as fact:
        message = str(fact)
        for theirs, ours in _WORDS.items():
            message = re.sub(theirs, ours, message)
        raise TableError(message) from None


def is_frame(X: Any) -> bool:
    """Whether ``X`` has typed columns, which an array of one dtype would lose."""
    return hasattr(X, "columns") and (hasattr(X, "__arrow_c_stream__") or hasattr(X, "dtypes"))


def to_arrow(X: Any, names: Sequence[str]) -> pa.Table:
    """A data frame or a two-dimensional array, under these names.

    Raises:
        TableError: a column of values of several types.
    """
    if is_frame(X):
        return tabular.read(X).rename_columns(list(names))
    return pa.table({name: _column(name, X[:, place]) for place, name in enumerate(names)})


def _column(name: str, values: np.ndarray) -> pa.Array:
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError) as fact:
        raise TableError(
            f"column {name!r} cannot be read: {fact}; a column holds values of one type: text, numbers or booleans"
        ) from None


@dataclass(frozen=True)
class Roles:
    """What each column is.

    ``reasons`` tells of each column its role and why; ``features`` are those the model learns from, by name;
    ``passed`` are the columns of numbers that may pass through.
    """

    reasons: dict[str, str]
    features: list[tabular.Feature]
    passed: list[str]

    def table(self, table: pa.Table) -> pa.Table:
        """The features of a table."""
        return pa.table({feature.name: feature.values(table) for feature in self.features})  # distinct by classify

    @property
    def categorical(self) -> list[str]:
        """The names of the features that get vectors."""
        return [feature.name for feature in self.features if feature.role == CATEGORICAL]

    @property
    def numeric(self) -> list[str]:
        """The names of the features that are numbers."""
        return [feature.name for feature in self.features if feature.role == NUMERIC]


def roles(table: pa.Table, target: pa.Array, columns: str | Sequence[str]) -> Roles:
    """Decide what each column is: by ``tabular``'s rule (``"auto"``), all categories (``"all"``), or those named.

    A column without any value is none of them, whatever is asked.

    Raises:
        TableError: a column that cannot be what it is asked to be.
    """
    # The target is always a feature, so that classify finds one; the target it is told of is no column.
    whole = table.append_column(free_name(table.column_names), target)
    asked = table.column_names if columns == "all" else [] if columns == "auto" else list(columns)
    asked = [name for name in asked if not is_empty(table.column(name))]
    with in_words():
        schema = tabular.classify(whole, free_name(whole.column_names), categorical=asked)
    reasons, kept, passed = {}, [], []
    parts: dict[str, list[tabular.Feature]] = {}
    for feature in schema.features:
        parts.setdefault(feature.column, []).append(feature)
    for column in schema.columns[:-1]:
        number = _is_number(table.schema.field(column.name).type)
        if column.name in asked or (columns == "auto" and column.role in (CATEGORICAL, "date")):
            reasons[column.name] = f"{CATEGORICAL}: {column.reason}"
            kept += parts.get(column.name, [])
            continue
        if number:
            passed.append(column.name)
            reasons[column.name] = (
                f"{NUMERIC}: {column.reason if columns == 'auto' or not column.distinct else 'not asked for'}"
            )
            if column.role != "ignored":  # a constant passes through, but nothing is learned from it
                kept.append(tabular.Feature(column.name, NUMERIC))
        else:
            reason = column.reason if column.role == "ignored" else f"{column.type} values, not asked for"
            reasons[column.name] = f"{DROPPED}: {reason}"
    return Roles(reasons, kept, passed)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def is_empty(column: pa.ChunkedArray) -> bool:
    """Whether every value is missing."""
    return bool(_compute.all(column.is_null(nan_is_null=True)).as_py())


def free_name(names: Sequence[str]) -> str:
    """A name that no column has."""
    name = "target"
    while name in names:
        name += "_"
    return name


def comparable(values: pa.ChunkedArray, vocabulary: Vocabulary | HashVocabulary) -> pa.Array:
    """A column to be looked up: where categories are whole numbers, all others are made one that is no category.

    So are infinities, and numbers beyond int64. Missing values stay missing.
    """
    array = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
    if vocabulary.kind != "integer" or not (pa.types.is_floating(array.type) or pa.types.is_uint64(array.type)):
        return array
    unseen = next(number for number in range(-1, -len(vocabulary) - 2, -1) if number not in vocabulary)
    if pa.types.is_uint64(array.type):
        fits = _compute.less(array, pa.scalar(2**63, pa.uint64()))
    else:
        fits = _compute.and_(
            _compute.equal(array, _compute.round(array)), _compute.less(_compute.abs(array), float(2**53))
        )
    gone = array.is_null(nan_is_null=True)
    whole = _compute.if_else(fits, array, None).cast(pa.int64())
    return _compute.if_else(gone, None, _compute.fill_null(whole, unseen))


def numbers(table: pa.Table, names: Sequence[str]) -> np.ndarray:
    """Columns of numbers as they are, float32 if all of them are and float64 otherwise; missing values NaN.

    Raises:
        TableError: a column that holds no numbers.
    """
    columns = [table.column(name) for name in names]
    for name, column in zip(names, columns, strict=True):
        if not (_is_number(column.type) or pa.types.is_null(column.type)):
            raise TableError(f"column {name!r} held numbers when the model was trained, and now {column.type} values")
    single = all(pa.types.is_float32(column.type) for column in columns)
    kind, dtype = (pa.float32(), np.float32) if single else (pa.float64(), np.float64)
    out = np.empty((table.num_rows, len(names)), dtype)
    for place, column in enumerate(columns):
        out[:, place] = column.cast(kind, safe=False).to_numpy()
    return out
