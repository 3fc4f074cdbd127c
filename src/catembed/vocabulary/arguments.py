"""What a caller may pass to a vocabulary besides a column, and the refusal of anything else."""

import operator
from typing import Any

import numpy as np
import torch

from catembed.errors import VocabularyError

UNSEEN = ("error", "unknown", "hash", "grow")
MISSING = ("error", "unknown", "own")
ORDERS = ("frequency", "sorted", "first")


def check_name(name: Any) -> None:
    """Raise ``VocabularyError`` unless this is a name, or None."""
    if name is not None and not isinstance(name, str):
        raise VocabularyError(f"name must be a string or None, got {name!r}")


def check_separator(separator: Any) -> None:
    """Raise ``VocabularyError`` unless this is what strings can be split at, or None."""
    if separator is not None and (not isinstance(separator, str) or not separator):
        raise VocabularyError(f"separator must be a string of at least one character, or None (got {separator!r})")


def check_choice(value: Any, what: str, allowed: tuple[str, ...]) -> None:
    """Raise ``VocabularyError`` unless ``value`` is one of ``allowed``."""
    if not isinstance(value, str) or value not in allowed:
        choices = ", ".join(f'"{choice}"' for choice in allowed)
        raise VocabularyError(f"{what} must be one of {choices}, got {value!r}")


def positive(value: Any, what: str) -> int:
    """``value`` as an integer of at least 1; raises ``VocabularyError`` otherwise."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool):
        raise VocabularyError(f"{what} must be an integer of at least 1, got {value!r}")
    return number


def id_array(ids: Any) -> np.ndarray:
    """Ids in a tensor, an array, a nested list or alone, as an array; raises ``TypeError`` for other things."""
    try:
        array = ids.detach().cpu().numpy() if isinstance(ids, torch.Tensor) else np.asarray(ids)
    except ValueError as error:
        raise TypeError(f"ids must be integers of one shape: {error}") from None
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"ids must be integers of at most 64 bits, got {array.dtype}")
    return array


def column_name(column: Any) -> str | None:
    """The name that a pandas or polars column brings with it."""
    if type(column).__module__.split(".")[0] not in ("pandas", "polars"):
        return None
    name = getattr(column, "name", None)
    return name if isinstance(name, str) and name else None
