"""What features have to do with each other: columns that share a vocabulary, and crosses of columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from catembed.errors import TableError
from catembed.tabular.schema import (
    AS_ASKED,
    CATEGORICAL,
    CROSS,
    DATE,
    LIST,
    TARGET,
    Feature,
    Schema,
    is_any_list,
    not_categories,
)

_FEWEST = 2
_MOST_BUCKETS = 1 << 27
_AS_AN_EXAMPLE = 16  # the length of a vector


def shared(schema: Schema, share: Iterable[Sequence[str]], table: pa.Table) -> list[tuple[str, ...]]:
    """The groups of features that share a vocabulary, checked.

    Raises:
        TableError: a column that does not exist, has no categories or is given twice; a group of one.
    """
    groups = _groups(share, "share", "a vocabulary is shared by")
    seen: set[str] = set()
    for group in groups:
        for name in group:
            _role(schema, name, "share", (CATEGORICAL, LIST), table)
            if name in seen:
                raise TableError(
                    f"--share: column {name!r} is in two groups; write all columns that share a vocabulary as one: "
                    "--share a,b,c"
                )
            seen.add(name)
    return groups


def crossed(schema: Schema, cross: Iterable[Sequence[str]], buckets: int | None, table: pa.Table) -> Schema:
    """The schema with a feature for each cross.

    Raises:
        TableError: a column that does not exist or has no categories; a cross of one column, or given twice; buckets
            that are too many, or without a cross.
    """
    groups = _groups(cross, "cross", "a cross is made of")
    _check_buckets(buckets, groups)
    features = list(schema.features)
    for group in groups:
        for name in group:
            _role(schema, name, "cross", (CATEGORICAL,), table)
        name = "×".join(group)
        if any(feature.role == CROSS and set(feature.parts) == set(group) for feature in features):
            raise TableError(f"--cross {','.join(group)}: this cross is given twice; leave one out")
        if any(feature.name == name for feature in features):
            raise TableError(f"--cross {','.join(group)}: the table has a column {name!r} already; rename that one")
        features.append(Feature(name, CROSS, parts=group))
    return Schema(schema.columns, features)


def _check_buckets(buckets: Any, groups: Sequence[tuple[str, ...]]) -> None:
    if buckets is None:
        return
    if isinstance(buckets, bool) or not isinstance(buckets, (int, np.integer)):
        raise TableError(f"--cross-buckets must be a whole number, got {buckets!r}")
    if buckets < 1:
        raise TableError(f"a cross needs 1 bucket or more, got {buckets}")
    if buckets > _MOST_BUCKETS:
        size = 4 * _AS_AN_EXAMPLE * int(buckets) / 1e9
        raise TableError(
            f"--cross-buckets may be {_MOST_BUCKETS:,} at most, got {buckets:,}: a table takes rows × length × 4 "
            f"bytes, here {size:,.0f} GB for vectors of length {_AS_AN_EXAMPLE}"
        )
    if not groups:
        raise TableError(f"--cross-buckets {buckets}: there is no cross; ask for one with --cross first,second")


def _groups(given: Any, option: str, says: str) -> list[tuple[str, ...]]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise _no_groups(option, given)
    return [_group(each, option, says) for each in given]


def _no_groups(option: str, given: Any) -> TableError:
    return TableError(f"{option} takes groups of columns, such as {option}=[('origin', 'dest')]; got {given!r}")


def _group(given: Any, option: str, says: str) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise _no_groups(option, given)
    group = tuple(given)
    if not all(isinstance(name, str) for name in group):
        raise _no_groups(option, given)
    twice = [name for name in group if group.count(name) > 1]
    if twice:
        raise TableError(f"--{option} {','.join(group)}: column {twice[0]!r} is given twice; leave one out")
    if len(group) < _FEWEST:
        named = f"--{option} {group[0]}" if group else f"--{option} names no column"
        raise TableError(f"{named}: {says} two columns or more; write --{option} first,second")
    return group


def _role(schema: Schema, name: str, option: str, allowed: Sequence[str], table: pa.Table) -> None:
    """Refuse a feature that cannot be shared, or crossed."""
    roles = {each.name: each.role for each in schema.features}
    if roles.get(name) in allowed:
        return
    columns = {each.name: each for each in schema.columns}
    if name not in columns:
        raise TableError(f"--{option} {name!r}: the table has no such column; it has: {', '.join(columns)}")
    column = columns[name]
    if column.role == TARGET:
        raise TableError(f"--{option} {name!r}: this column makes the target and is no feature; name another column")
    if column.role == DATE:
        parts = [each.name for each in schema.features if each.column == name]
        raise TableError(f"--{option} {name!r}: a date is taken by its parts; name one of: {', '.join(parts)}")
    if option == "cross" and is_any_list(table.column(name).type):
        raise TableError(f"--{option} {name!r}: a list has no single value to be combined; name another column")
    problem = not_categories(table, name)
    if column.reason == AS_ASKED:
        advice = f"leave it out of --{option}, or of the option that asks for that"
    elif problem is None:
        advice = f"make it categories with --categorical {name}, or leave it out of --{option}"
    else:
        advice = f"{problem}; leave it out of --{option}"
    raise TableError(
        f"--{option} {name!r}: the column is taken as {column.role} ({column.reason}) and has no categories; {advice}"
    )
