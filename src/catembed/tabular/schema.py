"""Which columns become what: categories, numbers, parts of a date, or nothing.

By type first, then by how many distinct values there are; the caller's word goes before both. Each decision carries its
reason, so that it can be read and overruled.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from catembed.errors import TableError
from catembed.tabular.arrow import compute as pc
from catembed.tabular.target import combined

CATEGORICAL, NUMERIC, DATE, IGNORED, TARGET = "categorical", "numeric", "date", "ignored", "target"
LIST, CROSS = "list", "cross"

AS_ASKED = "as asked"  # the reason for a role that the caller gave
SEPARATOR = "|"  # of text that is a list
FEW = 32  # whole numbers with at most so many distinct values are read as codes, not as quantities
_IDENTIFIER = re.compile(r"(^|[\W_])(id|code|key|zip|zipcode|postcode)$|[a-z](Id|ID|Code|Key)$")

# The parts of a date, as categories. There is no year: the years of training do not come back.
_DATE_PARTS = {"month": pc.month, "day": pc.day, "weekday": pc.day_of_week}
_TIME_PARTS = {"hour": pc.hour}


@dataclass(frozen=True)
class Column:
    """What was made of one column of the table, and why."""

    name: str
    type: str
    role: str
    distinct: int
    missing: int
    reason: str


@dataclass(frozen=True)
class Feature:
    """One input of the model: a column, one part of a date column, or a cross of other features, ``parts``.

    ``separator`` divides the text of a list column. ``zone`` is the time zone of dates when the model was trained,
    empty for those without one; None where it is unknown.

    >>> Feature("time", "categorical", "hour").name
    'time:hour'
    """

    column: str
    role: str
    part: str | None = None
    separator: str | None = None
    parts: tuple[str, ...] = ()
    zone: str | None = None

    @property
    def name(self) -> str:
        """The column's name, with the part of the date where it is one."""
        return self.column if self.part is None else f"{self.column}:{self.part}"

    def values(self, table: pa.Table) -> pa.Array:
        """This feature of every row; a column of missing values alone may be of any type.

        Raises:
            TableError: the table lacks the column, or it holds no dates where they are needed, or dates with a time
                zone where there was none, or the other way round.
        """
        if self.column not in table.column_names:
            raise TableError(
                f"the table has no column {self.column!r}, which the model was trained on; "
                f"it has: {', '.join(table.column_names)}"
            )
        column = combined(table.column(self.column))
        if _is_empty(column):
            # Of categories the type stays, which an empty vocabulary is of.
            typed = _is_list(column.type) if self.role == LIST else self.role == CATEGORICAL and self.part is None
            return column if typed else pa.nulls(len(column), None if self.part is None else pa.int64())
        if self.role == LIST:
            return _as_lists(column, self.column, self.separator)
        column = self._in_zone(column)
        if self.part is None:
            return column
        try:
            return (_DATE_PARTS | _TIME_PARTS)[self.part](column)
        except pa.ArrowNotImplementedError:
            raise TableError(
                f"column {self.column!r} held dates when the model was trained, and now {column.type} values"
            ) from None

    def _in_zone(self, column: pa.Array) -> pa.Array:
        """Times by the clocks of the zone that the model was trained in."""
        zone = _zone(column.type)
        if self.zone is None or zone is None or zone == self.zone:
            return column
        if zone and self.zone:
            return column.cast(pa.timestamp(column.type.unit, self.zone))
        was, now = (f"in the time zone {each}" if each else "without a time zone" for each in (self.zone, zone))
        raise TableError(
            f"column {self.column!r} held times {was} when the model was trained, and now times {now}; convert them"
        )


@dataclass(frozen=True)
class Schema:
    """Every column's part in the model, and the features that follow."""

    columns: list[Column]
    features: list[Feature]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Schema:
        """What ``to_dict`` gave."""
        features = [Feature(**each | {"parts": tuple(each.get("parts", ()))}) for each in stored["features"]]
        return cls([Column(**each) for each in stored["columns"]], features)


def classify(
    table: pa.Table,
    target: str,
    *,
    categorical: Sequence[str] = (),
    numeric: Sequence[str] = (),
    ignore: Sequence[str] = (),
    lists: Sequence[str] = (),
    separator: str = SEPARATOR,
) -> Schema:
    """Decide what each column is.

    Args:
        table: with distinct column names.
        target: the column that the target is made of; it is never a feature.
        categorical: columns that are categories, whatever they look like.
        numeric: columns that are quantities.
        ignore: columns to leave out.
        lists: columns of several categories each: lists, or text that ``separator`` divides.
        separator: of the text in ``lists``.

    Raises:
        TableError: a named column that does not exist, is named twice, is the target or cannot be what it is said to
            be; two features of one name; no column left to learn from.
    """
    if not isinstance(separator, str) or not separator:
        got = "an empty one" if separator == "" else repr(separator)
        raise TableError(f"--separator must be a text of one character or more, such as '|'; got {got}")
    wishes = _wishes(table, target, {CATEGORICAL: categorical, NUMERIC: numeric, IGNORED: ignore, LIST: lists})
    columns, features = [], []
    for name in table.column_names:
        array = combined(table.column(name))
        facts = _Facts(array)
        role, reason = (TARGET, "never a feature") if name == target else _role(name, facts, wishes.get(name))
        columns.append(Column(name, str(array.type), role, facts.distinct, facts.missing, reason))
        if role in (CATEGORICAL, NUMERIC):
            features.append(Feature(name, role, zone=_zone(array.type)))
        elif role == LIST:
            features.append(Feature(name, LIST, separator=separator if facts.text else None))
        elif role == DATE:
            features += [Feature(name, CATEGORICAL, part, zone=_zone(array.type)) for part in _varying_parts(array)]
    _check_names(features)
    if separator != SEPARATOR and all(each.separator is None for each in features):
        raise TableError(
            f"--separator {separator!r}: there is no column of text for it to divide; name one with --list, or leave "
            "--separator out"
        )
    if not features:
        raise TableError(
            f"no column is left to learn from besides the target {target!r}: "
            + "; ".join(f"{each.name!r} is ignored ({each.reason})" for each in columns if each.role == IGNORED)
        )
    return Schema(columns, features)


def _check_names(features: Sequence[Feature]) -> None:
    """Refuse a part of a date that is named as another column is."""
    whole = {each.name for each in features if each.part is None}
    for each in features:
        if each.part is not None and each.name in whole:
            raise TableError(
                f"column {each.name!r} and the {each.part} of the date in column {each.column!r} have one name; "
                "rename one of the two columns"
            )


def _wishes(table: pa.Table, target: str, given: dict[str, Sequence[str]]) -> dict[str, str]:
    wishes: dict[str, str] = {}
    for role, names in given.items():
        for name in names:
            option = "ignore" if role == IGNORED else role
            if name not in table.column_names:
                raise TableError(f"--{option} {name!r}: the table has no such column; it has: {_list(table)}")
            if name == target and role != IGNORED:
                raise TableError(f"--{option} {name!r}: this column makes the target and cannot be a feature")
            if wishes.setdefault(name, role) != role:
                raise TableError(f"column {name!r} is asked to be both {wishes[name]} and {role}")
    return wishes


def _list(table: pa.Table) -> str:
    return ", ".join(table.column_names)


class _Facts:
    """What a decision about a column rests on."""

    def __init__(self, array: pa.Array) -> None:
        self.type = array.type
        gone = array.is_null(nan_is_null=True)
        self.rows = len(array)
        self.missing = pc.sum(gone).as_py() or 0
        self.known = self.rows - self.missing
        present = array.filter(pc.invert(gone))
        self.list = _is_list(self.type)
        self.opaque = _is_opaque(self.type)
        counted = self.list or not (self.opaque or pa.types.is_nested(self.type))
        self.distinct = len((present.flatten() if self.list else present).unique()) if counted else 0
        self.whole = pa.types.is_integer(self.type) or (
            pa.types.is_floating(self.type)
            and self.known > 0
            and pc.all(pc.equal(present, pc.round(present))).as_py()
            and pc.all(pc.is_finite(present)).as_py()
        )
        self.number = (
            pa.types.is_integer(self.type)
            or pa.types.is_floating(self.type)
            or pa.types.is_decimal(self.type)
            or pa.types.is_duration(self.type)
        )
        self.text = any(is_text(self.type) for is_text in _TEXT)
        self.date = pa.types.is_date(self.type) or pa.types.is_timestamp(self.type)
        self.numbers_in_text = _numbers_in(present) if self.text else 0

    @property
    def all_different(self) -> bool:
        return self.known > 100 and self.distinct > 0.9 * self.known


_TEXT = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
)


def _numbers_in(text: pa.Array) -> int:
    if pa.types.is_binary(text.type) or pa.types.is_large_binary(text.type):
        return 0
    return pc.sum(pc.match_substring_regex(text.cast(pa.string()), r"^\s*[-+]?\d+(\.\d*)?\s*$")).as_py() or 0


def _role(name: str, facts: _Facts, wish: str | None) -> tuple[str, str]:
    """The role of a column, and the reason."""
    if wish is not None:
        problem = _obstacle(facts, wish)
        if problem:
            raise TableError(f"--{wish} {name!r}: {problem}")
        return wish, AS_ASKED
    if facts.known == 0:
        return IGNORED, "every value is missing"
    if facts.list:
        return (LIST, "lists") if facts.distinct else (IGNORED, "every list is empty")
    if facts.opaque or pa.types.is_nested(facts.type) or pa.types.is_time(facts.type):
        return IGNORED, f"{facts.type} values are not supported"
    if facts.distinct == 1 and not facts.missing:
        return IGNORED, "constant"
    if facts.date:
        return DATE, "dates: by their parts"
    if facts.text:
        if facts.all_different:
            return IGNORED, "text, nearly all different"
        if 2 * facts.numbers_in_text > facts.known:
            return (
                CATEGORICAL,
                f"mixed: {facts.numbers_in_text:,} numbers, {facts.known - facts.numbers_in_text:,} texts",
            )
        return CATEGORICAL, "text"
    if pa.types.is_boolean(facts.type):
        return CATEGORICAL, "true or false"
    if not facts.number:
        return IGNORED, f"{facts.type} values are not supported"
    if facts.whole and _IDENTIFIER.search(name):
        if facts.all_different:
            return IGNORED, "an identifier, all different"
        return CATEGORICAL, "named as an identifier"
    if facts.whole and facts.distinct <= FEW:
        return CATEGORICAL, "few whole numbers"
    return NUMERIC, "many whole numbers" if facts.whole else "numbers"


def _obstacle(facts: _Facts, wish: str) -> str | None:
    """Why a column cannot be what it is asked to be, or None."""
    if wish == IGNORED:
        return None
    if facts.known == 0:
        return "every value is missing; leave the column out with --ignore"
    if wish == NUMERIC and not facts.number and not pa.types.is_boolean(facts.type):
        found = f"; only {facts.numbers_in_text:,} of {facts.known:,} values are numbers" if facts.text else ""
        return f"the column holds {facts.type} values, not numbers{found}"
    if wish == CATEGORICAL and (facts.opaque or (facts.number and not facts.whole)):
        return f"categories are text, whole numbers, booleans or dates; the column holds {facts.type} values"
    if wish == CATEGORICAL and pa.types.is_nested(facts.type):
        return f"the column holds {facts.type} values" + ("; take it as lists with --list" if facts.list else "")
    if wish == LIST and not facts.list and is_any_list(facts.type):
        return (
            f"the members of a list are categories: text, whole numbers or booleans; they are {facts.type.value_type} "
            "values; convert them, or leave the column out with --ignore"
        )
    if wish == LIST and not facts.list and not facts.text:
        return f"a list is a column of lists, or text that --separator divides; the column holds {facts.type} values"
    return None


def not_categories(table: pa.Table, name: str) -> str | None:
    """Why a column cannot be categories, or None."""
    return _obstacle(_Facts(combined(table.column(name))), CATEGORICAL)


def _is_opaque(type: pa.DataType) -> bool:
    """Whether it is an extension type, such as pandas' periods and intervals: Arrow's functions do not take them."""
    value = type.value_type if pa.types.is_dictionary(type) else type
    return isinstance(value, pa.BaseExtensionType)


def _zone(type: pa.DataType) -> str | None:
    """The time zone of dates, empty without one; None for other types."""
    if pa.types.is_timestamp(type):
        return type.tz or ""
    return "" if pa.types.is_date(type) else None


def _is_empty(array: pa.Array) -> bool:
    """Whether every value is missing."""
    if pa.types.is_floating(array.type):
        array = pc.if_else(pc.is_nan(array), None, array)
    return array.null_count == len(array)


def is_any_list(type: pa.DataType) -> bool:
    """Whether it is a list, of whatever there is."""
    return pa.types.is_list(type) or pa.types.is_large_list(type) or pa.types.is_fixed_size_list(type)


def _is_list(type: pa.DataType) -> bool:
    """Whether it is a list of what can be categories."""
    if not is_any_list(type):
        return False
    value = type.value_type.value_type if pa.types.is_dictionary(type.value_type) else type.value_type
    return any(each(value) for each in (*_TEXT, pa.types.is_integer, pa.types.is_boolean, pa.types.is_null))


def _as_lists(column: pa.Array, name: str, separator: str | None) -> pa.Array:
    """A column of lists; text is divided, blanks around its parts are cut and empty parts left out.

    Raises:
        TableError: it holds neither, or bytes that are no text.
    """
    if _is_list(column.type) or pa.types.is_null(column.type):
        return column
    if separator is None or not any(is_text(column.type) for is_text in _TEXT):
        raise TableError(f"column {name!r} held lists when the model was trained, and now {column.type} values")
    try:
        text = column.cast(pa.large_string())
    except pa.ArrowInvalid:
        raise TableError(f"column {name!r} holds bytes that are no UTF-8 text; decode them to divide them") from None
    divided = pc.split_pattern(text, separator)
    parts = pc.utf8_trim_whitespace(divided.values)
    kept = pc.not_equal(parts, "")
    before = np.concatenate([[0], np.cumsum(kept.to_numpy(zero_copy_only=False))])
    offsets = pa.array(before[divided.offsets.to_numpy()].astype(np.int64), mask=_missing_ends(column))
    return pa.LargeListArray.from_arrays(offsets, parts.filter(kept))


def _missing_ends(column: pa.Array) -> np.ndarray:
    """Which offsets begin a missing list: Arrow's way to say that a list is missing."""
    return np.append(column.is_null().to_numpy(zero_copy_only=False), False)


def _varying_parts(array: pa.Array) -> list[str]:
    parts = _DATE_PARTS | (_TIME_PARTS if pa.types.is_timestamp(array.type) else {})
    return [name for name, part in parts.items() if len(part(array).drop_null().unique()) > 1]
