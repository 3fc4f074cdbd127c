"""Row state in the layout that the kernels want: allocated lazily, grown in place of the old, moments side by side.

`exp_avg` and `exp_avg_sq` are views of one tensor ``(N, 2, D)``: a touched row then costs one run of memory, not two.
"""

from __future__ import annotations

import torch
from torch import Tensor

from catembed import storage

__all__ = ["interleaved", "resized", "zeros"]


def zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros; on the CPU their memory appears, page by page, when written."""
    if device.type == "cpu":
        return storage.zeros(shape, dtype)
    return torch.zeros(shape, dtype=dtype, device=device)


def resized(old: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, fill: float = 0.0):
    """State of ``shape`` that keeps the rows of ``old``; rows that are new hold ``fill``."""
    if old is not None and old.is_sparse:  # the momentum buffer of torch's sparse SGD
        old = old.to_dense()
    kept = 0 if old is None else _refuse_shrunk(old, shape[0])
    alike = old is not None and (old.shape[1:], old.dtype, old.device) == (shape[1:], dtype, device)
    if old is not None and alike and old.is_contiguous():
        new = storage.grow_rows(old, shape[0])
    else:
        new = zeros(shape, dtype, device)
        if old is not None:
            new[:kept] = old
    if fill:
        new[kept:] = fill
    return new


def interleaved(first: Tensor | None, second: Tensor | None, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Both moments of ``weight (N, D)`` as one tensor ``(N, 2, D)``: the memory they share already, or their copy."""
    rows, columns = weight.shape
    if first is None or second is None:
        return zeros((rows, 2, columns), dtype, weight.device)
    _refuse_shrunk(first, rows)
    if first.dtype == dtype and _side_by_side(first, second, columns):
        return storage.grow_rows(first.as_strided((len(first), 2, columns), (2 * columns, columns, 1)), rows)
    new = zeros((rows, 2, columns), dtype, weight.device)
    new[: len(first), 0] = first.reshape(len(first), columns)
    new[: len(second), 1] = second.reshape(len(second), columns)
    return new


def _refuse_shrunk(old: Tensor, rows: int) -> int:
    """The rows of the old state, of which the weight must still have all."""
    if len(old) > rows:
        raise RuntimeError(
            f"the optimizer's state has {len(old):,} rows and the weight {rows:,}: tables may gain rows, not lose any; "
            "make a new optimizer"
        )
    return len(old)


def _side_by_side(first: Tensor, second: Tensor, columns: int) -> bool:
    return (
        first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
        and first.stride(0) == second.stride(0) == 2 * columns
        and second.storage_offset() - first.storage_offset() == columns
    )
