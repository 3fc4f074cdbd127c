"""The definition of the kernels of columns: rows of many tables side by side, and the gradients of that; plain torch.

Tables and output have one dtype; a table may be that of several columns.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from catembed.kernels.columns import Columns

__all__ = ["column_grads", "columns"]


def columns(tables: Sequence[Tensor], columns: Columns, out: Tensor) -> None:
    """Write row ``ids[b]`` of each column's table ``(N, D)`` into ``out[b, start : start + D]``; ``out (B, W)``.

    Raises ``IndexError(column, position)`` for an id outside ``[0, N)``, the first of the first such column.
    """
    for at, (table, ids, start) in enumerate(zip(tables, columns.ids, columns.starts, strict=True)):
        bad = ((ids < 0) | (ids >= len(table))).nonzero()
        if len(bad):
            raise IndexError(at, int(bad[0]))
        out[:, start : start + table.shape[1]] = table[ids.long()]


def column_grads(grad: Tensor, columns: Columns, outs: Sequence[Tensor]) -> None:
    """Fill ``outs``, one for each column, with its table's gradient ``(N, D)``: sums of rows of ``grad (B, W)``.

    Columns of one table have the same tensor there. Raises ``IndexError(column)`` for an id outside ``[0, N)``.
    """
    for out in outs:
        out.zero_()
    for at, (ids, start, padding, out) in enumerate(zip(*columns, outs, strict=True)):
        if ((ids < 0) | (ids >= len(out))).any():
            raise IndexError(at)
        kept = ids != padding
        out.index_add_(0, ids[kept].long(), grad[kept, start : start + out.shape[1]])
