"""What is to be predicted: a column, or a comparison of a column with a value.

A comparison is read as column, operator and literal; nothing is evaluated. The column that the target is made
of is never a feature.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from catembed.errors import TableError
from catembed.tabular.arrow import compute as pc

TASKS = ("regression", "binary", "multiclass")
MAX_CLASSES = 1000

_OPERATORS = {
    ">=": pc.greater_equal,
    "<=": pc.less_equal,
    "==": pc.equal,
    "!=": pc.not_equal,
    ">": pc.greater,
    "<": pc.less,
}
_OPERATOR = re.compile("|".join(_OPERATORS))
_QUOTED = re.compile(r"""(["'])(.*)\1""", re.DOTALL)


@dataclass(frozen=True)
class Target:
    """A column, or a column compared with a value.

    >>> Target.parse("arr_delay > 15", ["month", "arr_delay"])
    Target(column='arr_delay', operator='>', value=15)
    >>> Target.parse("income == '>50K'", ["income"]).value
    '>50K'
    """

    column: str
    operator: str | None = None
    value: Any = None

    @classmethod
    def parse(cls, text: str, columns: list[str]) -> Target:
        """Read a target; a column of exactly this name goes before a comparison.

        Raises:
            TableError: neither a column nor a comparison of one with a value.
        """
        if text in columns:
            return cls(text)
        found = None
        for found in _OPERATOR.finditer(text):
            column = text[: found.start()].strip()
            if column in columns:
                return cls(column, found.group(), _literal(text[found.end() :].strip(), text))
        listed = ", ".join(columns)
        if found is None:
            raise TableError(f"the table has no column {text!r} to be the target; it has: {listed}")
        raise TableError(
            f"target {text!r}: no column of the table stands before the operator; the table has: {listed}; "
            f"a comparison is written COLUMN OPERATOR VALUE, with one of {' '.join(_OPERATORS)}"
        )

    def __str__(self) -> str:
        return self.column if self.operator is None else f"{self.column} {self.operator} {self.value!r}"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    def values(self, table: pa.Table) -> pa.Array:
        """The target of every row, missing where the column is missing."""
        column = combined(table.column(self.column))
        if self.operator is None:
            return column
        if pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_nan(column), None, column)
        try:
            value = pa.scalar(self.value)
            if pa.types.is_temporal(column.type):
                value = value.cast(column.type)
            return _OPERATORS[self.operator](column, value)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
            raise TableError(
                f"target {str(self)!r}: column {self.column!r} holds {column.type} values, which cannot be compared "
                f"with {self.value!r}; write a number bare, a text in quotes, a date as '2013-01-31'"
            ) from None


def _literal(text: str, target: str) -> Any:
    if not text:
        raise TableError(f"target {target!r}: no value stands after the operator")
    if quoted := _QUOTED.fullmatch(text):
        return quoted.group(2)
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        try:
            value = number(text)
        except ValueError:
            continue
        if not math.isfinite(value):
            raise TableError(f"target {target!r}: {text} is no value to compare with; write a finite number")
        return value
    return text


def _constant(target: Target, value: Any) -> str:
    if target.operator is None:
        return f"target {str(target)!r} is constant: every value is {value!r}; nothing to learn"
    return (
        f"target {str(target)!r} is constant: it is {'true' if value else 'false'} of every row; compare "
        f"{target.column!r} with a value that divides its rows"
    )


def combined(column: pa.ChunkedArray) -> pa.Array:
    """A table's column as one array."""
    array = column.combine_chunks()
    return pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array


@dataclass(frozen=True)
class Labels:
    """A target made ready for a loss.

    ``values`` is float32 for regression and int64 class numbers otherwise; ``present`` marks the rows of the table that
    have a target, and ``values`` has only those. ``classes`` are the target's values in the order of the class numbers.
    """

    task: str
    values: np.ndarray
    present: np.ndarray
    classes: list[Any]


def labels(target: Target, column: pa.Array, task: str | None = None, classes: list[Any] | None = None) -> Labels:
    """Recognise the task and number the classes.

    Numbers of more than two values are regression; text, booleans and categories are classes. Given ``classes`` (of
    another table), the numbers are theirs and a value that is none of them is refused.

    Raises:
        TableError: an unknown task, a constant or empty target, a target of a type that cannot be one.
    """
    if task is not None and task not in TASKS:
        raise TableError(f"task {task!r} is none of {', '.join(TASKS)}")
    missing = column.is_null(nan_is_null=True)
    present = ~missing.to_numpy(zero_copy_only=False)
    column = column.filter(pc.invert(missing))
    if not len(column):
        raise TableError(f"target {str(target)!r}: every value is missing")
    number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)
    kinds = (pa.types.is_boolean, pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    if not number and not any(kind(column.type) for kind in kinds):
        raise TableError(
            f"target {str(target)!r}: {column.type} values cannot be predicted; compare them with a value "
            f"(--target \"{target.column} > '…'\"), or choose a column of numbers, text or booleans"
        )
    unique = column.unique()
    if classes is None and len(unique) == 1:
        raise TableError(_constant(target, unique[0].as_py()))
    if task is None:
        task = "regression" if number and len(unique) > 2 else "binary" if len(unique) == 2 else "multiclass"
    if task == "regression":
        if not number and not pa.types.is_boolean(column.type):
            raise TableError(f"target {str(target)!r}: regression needs numbers, got {column.type} values")
        values = column.cast(pa.float64()).to_numpy()
        if not np.isfinite(values).all():
            raise TableError(f"target {str(target)!r} has infinite values; drop or replace them")
        return Labels(task, values.astype(np.float32), present, [])
    known = unique.take(pc.array_sort_indices(unique)) if classes is None else pa.array(classes).cast(column.type)
    if task == "binary" and len(known) != 2:
        raise TableError(
            f"target {str(target)!r}: a binary task needs two values, got {len(known):,}; compare them with one "
            f'(--target "{target.column} == …"), or use --task multiclass'
        )
    if len(known) > MAX_CLASSES:
        raise TableError(
            f"target {str(target)!r} has {len(known):,} classes, more than {MAX_CLASSES:,}; is it an identifier? "
            "Compare it with a value, or choose another column"
        )
    numbers = pc.index_in(column, known)
    if numbers.null_count:
        strange = column.filter(numbers.is_null()).unique()[:3].to_pylist()
        raise TableError(f"target {str(target)!r} has values that were no class in training: {strange}")
    return Labels(task, numbers.to_numpy().astype(np.int64), present, known.to_pylist())
