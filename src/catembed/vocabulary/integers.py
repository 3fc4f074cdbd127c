"""``integers``: a column of ids of any library as a tensor; nothing is rounded, and nothing is missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from catembed.errors import VocabularyError
from catembed.vocabulary.encoding import label, read
from catembed.vocabulary.text import PLURALS, where

__all__ = ["integers"]


def integers(column: Any, name: str | None = None) -> torch.Tensor:
    """The whole numbers of a column, int64, of its shape.

    Raises:
        VocabularyError: a value that is missing or no whole number, told with its position.

    >>> integers([[1, 2], [3, 4]]).shape
    torch.Size([2, 2])
    """
    given = read(column, name)
    gone = given.missing()
    if gone.any():
        raise VocabularyError(
            f"{label(name)}a value is missing{where(int(gone.argmax()), given.shape)}; ids are integers"
        )
    if given.kind not in (None, "integer"):
        raise VocabularyError(f"{label(name)}ids are integers (got {PLURALS[given.kind]})")
    values = given.plain().to_numpy() if given.kind else np.empty(0, np.int64)
    return torch.from_numpy(values.copy()).reshape(given.shape)
