"""What an unseen value is told: which values, how often, where, and what was probably meant.

Close matches are those of ``difflib``, without regard to case. Its cost per candidate is high, so at most
``_MOST_CANDIDATES`` categories are compared, those nearest in length with the same first or last letter: the
message stays quick with a million categories and may then miss a match.
"""

import difflib
from collections import Counter
from collections.abc import Hashable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catembed.vocabulary.columns import Column
from catembed.vocabulary.kinds import show, show_positions

_MOST_VALUES = 5
_MOST_COUNTED = 100_000
_MOST_CANDIDATES = 2_000


def missing_message(positions: np.ndarray, column: Column) -> str:
    """The message for missing values where ``missing="error"``."""
    some = show_positions(positions[:_MOST_VALUES].tolist(), column.shape, len(positions))
    return (
        f"{_plural(len(positions), 'missing value')} (None or NaN) at {some}, and the vocabulary has no row for "
        'them; drop or fill them, or make the vocabulary with missing="own" (a row of their own) or '
        'missing="unknown" (the unknown row)'
    )


def unseen_message(positions: np.ndarray, column: Column, categories: pa.Array) -> str:
    """The message for values that are no category where ``unseen="error"``."""
    values = column.at(positions[:_MOST_COUNTED])
    often: Counter[Hashable] = Counter(values)
    shown = ", ".join(
        f"{show(value)}{f' ({times} times)' if times > 1 else ''}"
        for value, times in list(often.items())[:_MOST_VALUES]
    )
    more = f" and {len(often) - _MOST_VALUES} more" if len(often) > _MOST_VALUES else ""
    some = show_positions(positions[:_MOST_VALUES].tolist(), column.shape, len(positions))
    return (
        f"{_plural(len(positions), 'unseen value')} at {some}: {shown}{more}{_guess(list(often), categories)}; "
        f"the vocabulary holds {_plural(len(categories), 'category', 'categories')}; correct the values, fit the "
        'vocabulary again, or make it with unseen="unknown" to give unseen values a row'
    )


def _plural(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _guess(values: list[Hashable], categories: pa.Array) -> str:
    guesses = {}
    for value in values[:3]:
        if isinstance(value, str) and (match := _closest(value, categories)) is not None:
            guesses[value] = match
    if not guesses:
        return ""
    if len(values) == 1:
        return f" (did you mean {show(next(iter(guesses.values())))}?)"
    pairs = ", ".join(f"{show(match)} for {show(value)}" for value, match in guesses.items())
    return f" (did you mean {pairs}?)"


def _closest(value: str, categories: pa.Array) -> str | None:
    if len(value) > 200:
        return None
    folded = {text.casefold().strip(): text for text in _candidates(value, categories)}
    match = difflib.get_close_matches(value.casefold().strip(), folded, n=1, cutoff=0.6)
    return folded[match[0]] if match else None


def _candidates(value: str, categories: pa.Array) -> list[str]:
    if not value or len(categories) <= _MOST_CANDIDATES:
        return categories.slice(0, _MOST_CANDIDATES).to_pylist()
    distance = pc.abs(pc.subtract(pc.utf8_length(categories), len(value)))
    ends = [
        pc.starts_with(categories, value[0], ignore_case=True),
        pc.ends_with(categories, value[-1], ignore_case=True),
    ]
    near = pc.and_(pc.less_equal(distance, 3), pc.or_(*ends))
    table = pa.record_batch({"text": categories, "distance": distance}).filter(near)
    order = pc.sort_indices(table, sort_keys=[("distance", "ascending")])[:_MOST_CANDIDATES]
    return table.column("text").take(order).to_pylist()
