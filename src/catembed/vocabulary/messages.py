"""What a user is told about values that have no id, duplicates, and ids that have no category."""

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from catembed.vocabulary.text import PLURALS, number_of, show, where, where_all

if TYPE_CHECKING:
    import pyarrow as pa

    from catembed.vocabulary.kinds import Column

_MOST_SHOWN = 5
_MOST_GUESSED = 3

OWN_ROW = 'missing="own" (a row of their own)'
ROWS_FOR_MISSING = f'{OWN_ROW} or missing="unknown" (the unknown row)'


def missing(column: "Column", advice: str, *, own_only: bool = False) -> str:
    """Missing values where no row is for them; ``own_only`` where they can have no row but their own."""
    positions = np.flatnonzero(column.missing())
    some = number_of(len(positions), "missing value") + where_all(positions, column.shape)
    return f"{some} (None, NaN and the like): {advice} {OWN_ROW if own_only else ROWS_FOR_MISSING}"


def missing_bags(rows: np.ndarray, single: bool, advice: str) -> str:
    """Missing values in place of bags, at these rows, where no row of the table is for them."""
    shown = ", ".join(map(str, rows[:_MOST_SHOWN]))
    more = ", …" if len(rows) > _MOST_SHOWN else ""
    place = "" if single else f" at row{'s' if len(rows) > 1 else ''} {shown}{more}"
    some = "a bag is missing" if len(rows) == 1 else f"{len(rows):,} bags are missing"
    return f"{some}{place}: a bag without values is an empty list; {advice} {OWN_ROW}"


def mismatch(column: "Column", strange: np.ndarray, kind: str) -> str:
    """A column of another kind than the vocabulary; ``strange`` marks the values that were not found."""
    place, value = column.first(strange)
    return (
        f"the column holds {PLURALS[cast(str, column.kind)]} ({show(value)}{where(place, column.shape)}), but the "
        f"vocabulary holds {PLURALS[kind]}, and values of different types are never equal; convert the "
        "column, or fit the vocabulary on such values"
    )


def unseen(column: "Column", strange: np.ndarray, categories: "pa.Array") -> str:
    """Values that are no category, where ``unseen="error"``."""
    positions = np.flatnonzero(strange)
    counted = column.take(positions).value_counts()
    shown = ", ".join(
        show(entry["values"]) + (f" ({entry['counts']:,} times)" if entry["counts"] > 1 else "")
        for entry in counted[:_MOST_SHOWN].to_pylist()
    )
    more = f" and {len(counted) - _MOST_SHOWN:,} more" if len(counted) > _MOST_SHOWN else ""
    return (
        f"{number_of(len(positions), 'unseen value')}{where_all(positions, column.shape)}: "
        f"{shown}{more}{_guess(counted.field(0), categories)}; "
        f"the vocabulary holds {number_of(len(categories), 'category', 'categories')}. Correct the values, fit "
        'the vocabulary again, or make it with unseen="unknown", which gives unseen values a row'
    )


def _guess(values: "pa.Array", categories: "pa.Array") -> str:
    from catembed.vocabulary.suggest import closest

    guesses = {
        value: match
        for value in values[:_MOST_GUESSED].to_pylist()
        if isinstance(value, str) and (match := closest(value, categories)) is not None
    }
    if not guesses:
        return ""
    if len(values) == 1:
        return f" (did you mean {show(*guesses.values())}?)"
    pairs = ", ".join(f"{show(match)} for {show(value)}" for value, match in guesses.items())
    return f" (did you mean {pairs}?)"


def duplicates(categories: "pa.Array") -> str:
    """Which categories were given more than once, and where."""
    counted = categories.value_counts()
    twice = counted.field(0).filter(counted.field(1).to_numpy() > 1)
    shown = []
    for value in twice[:_MOST_SHOWN]:
        at = np.flatnonzero(_equal(categories, value))
        shown.append(f"{show(value.as_py())}{where_all(at, (len(categories),))}")
    more = f"; and {len(twice) - _MOST_SHOWN:,} more" if len(twice) > _MOST_SHOWN else ""
    return f"duplicate categories: {'; '.join(shown)}{more}. Give each once, or learn them with Vocabulary.fit(column)"


def _equal(values: "pa.Array", value: Any) -> np.ndarray:
    import pyarrow.compute as pc

    return pc.call_function("equal", [values, value]).to_numpy(zero_copy_only=False)


def out_of_range(ids: np.ndarray, outside: np.ndarray, size: int) -> str:
    """Ids that a vocabulary of ``size`` ids does not have."""
    first = int(outside.argmax())
    return (
        f"index out of range in self: id {ids.reshape(-1)[first]}{where(first, ids.shape)} "
        f"({int(outside.sum()):,} of {ids.size:,} ids are out of range); the vocabulary has the ids [0, {size})"
    )


def full(begin: str, values: "pa.Array", ids: np.ndarray, limit: int) -> str:
    """A growing vocabulary that has no room for some of these values, told once."""
    first = values[int((ids < 0).argmax())].as_py()
    return (
        f"{begin}the vocabulary is full: it has max_size={limit:,} categories, so {show(first)} and all other new "
        "values are unknown from now on. Prune it, or make it with a larger max_size"
    )
