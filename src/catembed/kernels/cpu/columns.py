"""`columns`: rows of many tables copied side by side, in one call. Definition: kernels/reference_columns.py.

How: each thread owns rows of the output and goes through them in tiles that stay in its cache, column after column in
a tile; rows of tables, and of the output, are asked for some places ahead.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from catembed.kernels.columns import Columns
from catembed.kernels.threads import parallel, shares

from .compile import jit
from .memory import copy16, copy32, load_id, prefetch_address

__all__ = ["AHEAD", "ALONG", "TILE", "columns", "places"]

TILE = 32  # rows
AHEAD = 8  # rows of a table that are asked for before they are needed
ALONG = 16  # and those that lie side by side, each in another page
_AT_LEAST = 1 << 18  # bytes of output that are worth a thread


def places(tables: Sequence[Tensor], columns: Columns, size: int) -> np.ndarray:
    """For each column, as the kernels take it: where table and ids lie, rows, bytes of a row, and so on; int64."""
    return np.array(
        [
            (
                table.data_ptr(),
                ids.data_ptr(),
                ids.stride(0) * ids.element_size(),
                ids.element_size(),
                table.shape[0],
                table.shape[1] * size,
                start * size,
                padding,
            )
            for table, ids, start, padding in zip(tables, *columns, strict=True)
        ],
        np.int64,
    )


@jit
def _columns(places, out, stride, first, last):
    """Fill rows of ``out``; the number of the first column with an id that has no row, or -1."""
    for begin in range(first, last, TILE):
        end = min(begin + TILE, last)
        for column in range(len(places)):
            table, ids, step, size, count, width, start, _ = places[column]
            for b in range(begin, end):
                if b + AHEAD < end:
                    prefetch_address(table + load_id(ids + step * (b + AHEAD), size) * width)
                prefetch_address(out + stride * (b + ALONG) + start)
                row = load_id(ids + step * b, size)
                if row < 0 or row >= count:
                    return column
                source, target, at = table + row * width, out + stride * b + start, 0
                while at + 16 <= width:
                    copy16(source + at, target + at)
                    at += 16
                while at < width:
                    copy32(source + at, target + at)
                    at += 4
    return -1


def columns(tables: Sequence[Tensor], columns: Columns, out: Tensor) -> None:
    """See ``kernels.reference_columns.columns``."""
    size, stride = out.element_size(), out.stride(0) * out.element_size()
    where, count = places(tables, columns, size), len(out)
    threads = shares(count * out.shape[1] * size, _AT_LEAST)
    bounds = [count * share // threads for share in range(threads + 1)]
    bad = [-1] * threads

    def run(share: int) -> None:
        bad[share] = _columns(where, out.data_ptr(), stride, bounds[share], bounds[share + 1])

    parallel(run, threads)
    found = [column for column in bad if column >= 0]
    if found:
        column = min(found)
        ids = columns.ids[column]
        raise IndexError(column, int(((ids < 0) | (ids >= len(tables[column]))).nonzero()[0]))
