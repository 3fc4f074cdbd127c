"""What features have to do with each other: columns that share a vocabulary, and crosses of columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from catembed.errors import TableError
from catembed.tabular.schema import CATEGORICAL, CROSS, DATE, LIST, Feature, Schema

_FEWEST = 2


def shared(schema: Schema, share: Iterable[Sequence[str]]) -> list[tuple[str, ...]]:
    """The groups of features that share a vocabulary, checked.

    Raises:
        TableError: a column that does not exist, has no categories or is given twice; a group of one.
    """
    groups = [_group(each, "share", "a vocabulary is shared by") for each in share]
    seen: set[str] = set()
    for group in groups:
        for name in group:
            _role(schema, name, "share", (CATEGORICAL, LIST))
            if name in seen:
                raise TableError(
                    f"--share: column {name!r} is in two groups; write all columns that share a vocabulary as one: "
                    "--share a,b,c"
                )
            seen.add(name)
    return groups


def crossed(schema: Schema, cross: Iterable[Sequence[str]], buckets: int | None) -> Schema:
    """The schema with a feature for each cross.

    Raises:
        TableError: a column that does not exist or has no categories; a cross of one column, or given twice.
    """
    if buckets is not None and buckets < 1:
        raise TableError(f"a cross needs 1 bucket or more, got {buckets}")
    features = list(schema.features)
    for each in cross:
        group = _group(each, "cross", "a cross is made of")
        for name in group:
            _role(schema, name, "cross", (CATEGORICAL,))
        name = "×".join(group)
        if any(feature.role == CROSS and set(feature.parts) == set(group) for feature in features):
            raise TableError(f"--cross {','.join(group)}: this cross is given twice; leave one out")
        if any(feature.name == name for feature in features):
            raise TableError(f"--cross {','.join(group)}: the table has a column {name!r} already; rename that one")
        features.append(Feature(name, CROSS, parts=group))
    return Schema(schema.columns, features)


def _group(given: Any, option: str, says: str) -> tuple[str, ...]:
    if isinstance(given, str) or not all(isinstance(name, str) for name in given):
        raise TableError(f"{option} takes groups of columns, such as {option}=[('origin', 'dest')]; got {given!r}")
    group = tuple(given)
    twice = [name for name in group if group.count(name) > 1]
    if twice:
        raise TableError(f"--{option} {','.join(group)}: column {twice[0]!r} is given twice; leave one out")
    if len(group) < _FEWEST:
        named = ",".join(group) or "nothing"
        raise TableError(f"--{option} {named}: {says} two columns or more; write --{option} first,second")
    return group


def _role(schema: Schema, name: str, option: str, allowed: Sequence[str]) -> None:
    """Refuse a feature that cannot be shared, or crossed."""
    roles = {each.name: each.role for each in schema.features}
    if roles.get(name) in allowed:
        return
    columns = {each.name: each for each in schema.columns}
    if name not in columns:
        raise TableError(f"--{option} {name!r}: the table has no such column; it has: {', '.join(columns)}")
    column = columns[name]
    if column.role == DATE:
        parts = [each.name for each in schema.features if each.column == name]
        raise TableError(f"--{option} {name!r}: a date is taken by its parts; name one of: {', '.join(parts)}")
    if column.role == LIST:
        raise TableError(f"--{option} {name!r}: a list has no single value to be combined; name another column")
    raise TableError(
        f"--{option} {name!r}: the column is taken as {column.role} ({column.reason}) and has no categories; "
        f"make it categories with --categorical {name}, or leave it out of --{option}"
    )
