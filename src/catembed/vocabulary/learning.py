"""What ``Vocabulary.fit`` learns from: a column, an iterator of columns, or files."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from catembed.errors import VocabularyError
from catembed.vocabulary import fit, messages
from catembed.vocabulary.arguments import ORDERS, check_choice
from catembed.vocabulary.encoding import label, read
from catembed.vocabulary.policies import Policies
from catembed.vocabulary.text import show


class Learned(NamedTuple):
    """X."""

    values: pa.Array
    counts: np.ndarray
    missing: int
    cut: np.ndarray
    kind: str | None


def from_column(column: Any, policies: Policies, order: str, name: str | None) -> Learned:
    """X."""
    check_choice(order, "order", ORDERS)
    given = read(column, name)
    if given.shape == ():
        raise VocabularyError(f"{label(name)}fit learns from a column, got a single value: {show(column)}")
    gone = int(given.missing().sum())
    if gone and policies.missing == "error":
        raise VocabularyError(label(name) + messages.missing(given, "drop or fill them, or choose"))
    values, often = fit.count(given.plain())
    kept = fit.select(values, often, min_count=policies.min_count, max_size=policies.max_size, order=order)
    cut = int(often.sum() - often[kept].sum())
    return Learned(values.take(kept), often[kept], gone, np.array([cut]), given.kind)
