"""`column_grads`: gradients of many tables from that of their rows side by side. Definition: reference_columns.py.

How: each thread owns tables, and goes through the rows of the gradient in tiles that stay in its cache, column after
column in a tile. A table's sums are taken column by column within a tile: same bits for any number of threads.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from catembed.kernels.columns import Columns
from catembed.kernels.threads import parallel, shares

from .columns import AHEAD, ALONG, TILE, places
from .compile import jit
from .memory import add_lanes, add_one, clear, load_id, prefetch_address

__all__ = ["column_grads"]

_AT_LEAST = 1 << 16  # numbers of the gradient that are worth a thread


@jit
def _column_grads(places, grad, stride, count, single, number):
    """Add all rows of the gradient to the tables of these places; ``number`` is of its type, ``single`` bytes long.

    Returns the number of the first column with an id that has no row, or -1.
    """
    for column in range(len(places)):  # of a table's columns, each clears it before any has written
        clear(places[column][0], places[column][4] * places[column][5])
    for begin in range(0, count, TILE):
        end = min(begin + TILE, count)
        for column in range(len(places)):
            table, ids, step, size, rows, width, start, padding = places[column]
            for b in range(begin, end):
                if b + AHEAD < end:
                    prefetch_address(table + load_id(ids + step * (b + AHEAD), size) * width)
                prefetch_address(grad + stride * (b + ALONG) + start)
                row = load_id(ids + step * b, size)
                if row == padding:
                    continue
                if row < 0 or row >= rows:
                    return column
                source, target, at = grad + stride * b + start, table + row * width, 0
                while at + 16 <= width:
                    add_lanes(source + at, target + at, number)
                    at += 16
                while at < width:
                    add_one(source + at, target + at, number)
                    at += single
    return -1


def column_grads(grad: Tensor, columns: Columns, outs: Sequence[Tensor]) -> None:
    """See ``kernels.reference_columns.column_grads``."""
    size, stride = grad.element_size(), grad.stride(0) * grad.element_size()
    number = np.zeros((), np.float64 if grad.dtype == torch.float64 else np.float32)[()]
    tables: dict[int, list[int]] = {}
    for at, out in enumerate(outs):
        tables.setdefault(out.data_ptr(), []).append(at)
    where = places(outs, columns, size)
    threads = min(len(tables), shares(grad.numel(), _AT_LEAST))
    shared = _divided(list(tables.values()), [out.shape[1] for out in outs], threads)

    bad: list[int] = []

    def run(share: int) -> None:
        found = _column_grads(where[shared[share]], grad.data_ptr(), stride, len(grad), size, number)
        if found >= 0:
            bad.append(shared[share][found])

    parallel(run, threads)
    if bad:
        raise IndexError(min(bad))


def _divided(tables: list[list[int]], widths: list[int], threads: int) -> list[list[int]]:
    """The columns of each thread: all of a table's with one of them, the widest tables first to whom has least."""
    shared, loads = [[] for _ in range(threads)], [0] * threads
    for columns in sorted(tables, key=lambda columns: -sum(widths[at] for at in columns)):
        least = loads.index(min(loads))
        shared[least] += columns
        loads[least] += sum(widths[at] for at in columns)
    return [sorted(columns) for columns in shared]
