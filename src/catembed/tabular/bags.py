"""Lists of ids, one for each row of a table; equal ones are kept, and pooled, once.

In a table of events the lists are often attributes of something that many rows share, such as the films that a user has
rated: then a batch has far fewer different lists than rows.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Bags(NamedTuple):
    """The list of row ``r`` is ``values[offsets[b] : offsets[b + 1]]`` with ``b = rows[r]``; all are int64."""

    values: Tensor
    offsets: Tensor
    rows: Tensor

    @classmethod
    def of(cls, values: Tensor, lengths: Tensor) -> Bags:
        """Lists one after the other, of these lengths: those of equal ids, in equal order, become one.

        >>> Bags.of(torch.tensor([3, 1, 5, 3, 1]), torch.tensor([2, 1, 2]))
        Bags(values=tensor([3, 1, 5]), offsets=tensor([0, 2, 3]), rows=tensor([0, 1, 0]))
        """
        ends = lengths.cumsum(0)
        width = values.element_size()
        content = memoryview(values.numpy().tobytes())
        number: dict[bytes, int] = {}
        bounds = pairwise([0, *(ends * width).tolist()])
        rows = [number.setdefault(bytes(content[start:end]), len(number)) for start, end in bounds]
        kept = np.frombuffer(bytearray(b"".join(number)), np.int64)
        sizes = torch.tensor([len(each) // width for each in number], dtype=torch.int64)
        return cls(torch.from_numpy(kept), _offsets(sizes), torch.tensor(rows, dtype=torch.int64))

    def take(self, rows: Tensor) -> Bags:
        """The lists of these rows, in this order."""
        used, places = self.rows[rows].unique(return_inverse=True)
        starts, ends = self.offsets[used], self.offsets[used + 1]
        offsets = _offsets(ends - starts)
        shift = (starts - offsets[:-1]).repeat_interleave(ends - starts)
        return Bags(self.values[torch.arange(len(shift)) + shift], offsets, places)

    def counts(self, size: int) -> Tensor:
        """In how many rows each of ``size`` ids is, int64; an id that a list has twice counts twice."""
        often = torch.bincount(self.rows, minlength=len(self.offsets) - 1)
        weights = often.repeat_interleave(self.offsets.diff()).double()
        return torch.bincount(self.values, weights, size).long()


def _offsets(lengths: Tensor) -> Tensor:
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
