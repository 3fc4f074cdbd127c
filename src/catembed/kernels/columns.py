"""`Columns`: many tables, each looked up by a column of ids, vectors laid side by side; what the kernels take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

__all__ = ["Columns"]


class Columns(NamedTuple):
    """One entry for each column."""

    ids: Sequence[Tensor]  # (B,), int64 or int32
    starts: Sequence[int]  # where in a row of the output its vector begins
    paddings: Sequence[int]  # the id that gets no gradient, -1 for none
