"""What ``Vocabulary.fit`` learns from: a column, an iterator of columns, or files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from catembed.errors import VocabularyError
from catembed.vocabulary.arguments import ORDERS, check_choice
from catembed.vocabulary.encoding import label
from catembed.vocabulary.fitting import fit
from catembed.vocabulary.fitting.fit import Learned
from catembed.vocabulary.kinds import Column
from catembed.vocabulary.lists import read_values
from catembed.vocabulary.policies import Policies
from catembed.vocabulary.text import show

__all__ = ["from_column", "from_files"]


def from_column(column: Any, policies: Policies, order: str, name: str | None, separator: str | None = None) -> Learned:
    """Learn from a column in memory, or from an iterator of such columns, taken one after the other."""
    check_choice(order, "order", ORDERS)
    if isinstance(column, os.PathLike):
        raise VocabularyError(f"{label(name)}a path tells of files: name the column to read from them with field=")
    try:
        return fit.learn(_columns(column, separator), missing=_missing(policies), **_choice(policies, order))
    except VocabularyError as fact:
        raise VocabularyError(label(name) + str(fact)) from None


def _columns(column: Any, separator: str | None) -> Iterator[Column]:
    """The batches of an iterator, or the one column that is given; bags flat."""
    many = isinstance(column, Iterator)
    for batch in column if many else [column]:
        given = read_values(batch, separator)
        if given.shape == () and many:
            raise VocabularyError(
                f"an iterator gives batches, each of them a column, got a single value: {show(batch)}; pass a list of "
                "the values, made with list(…)"
            )
        if given.shape == ():
            raise VocabularyError(
                f"fit learns from a column, got a single value: {show(batch)}; files are named together with field="
            )
        yield given


def from_files(
    files: Any,
    fields: Sequence[str],
    policies: Policies,
    order: str,
    text: Sequence[str],
    progress: bool,
    separator: str | None = None,
) -> dict[str, Learned]:
    """Learn from columns of files, each by its name, in one pass."""
    check_choice(order, "order", ORDERS)
    for what, names in (("fields", fields), ("text", text)):
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise VocabularyError(f"{what} takes names of columns, in a list, got {names!r}")
    return fit.learn_files(
        files,
        fields,
        missing=_missing(policies),
        text=text,
        separator=separator,
        progress=progress,
        **_choice(policies, order),
    )


def _missing(policies: Policies) -> str:
    return "error" if policies.missing == "error" else "count"


def _choice(policies: Policies, order: str) -> dict[str, Any]:
    return {
        "min_count": policies.min_count,
        "max_size": policies.max_size,
        "order": order,
        "buckets": policies.buckets,
    }
