"""`grow_rows`: more rows for a tensor, in time that depends on the rows that come, not on those that are there.

A tensor above 1 MB moves once into a reservation with room for several times its rows; from then on it grows where it
lies. Each move makes the room several times larger, so all moves together copy less than the tensor holds in the end.
Smaller tensors are copied.
"""

from __future__ import annotations

import torch
from torch import Tensor

from catembed.storage.memory import advise_huge, zeros
from catembed.storage.reservation import Reservation

__all__ = ["grow_rows"]

_STRETCH = 1 << 20  # bytes that are looked at together for being zero


def grow_rows(tensor: Tensor, rows: int) -> Tensor:
    """``tensor`` (any shape but a scalar's, any dtype) with ``rows`` rows: its own first, then zeros.

    On the CPU the result may lie over the same memory as ``tensor``, which then shows its first rows; its storage is
    always as long as itself. Without new rows it is ``tensor`` itself. Gradients do not flow through it. On other
    devices the rows are copied.

    Raises:
        ValueError: fewer rows than there are, or a scalar.
        MemoryError: the address space for the rows cannot be had.

    >>> import torch
    >>> grow_rows(torch.ones(2, 3), 3)
    tensor([[1., 1., 1.],
            [1., 1., 1.],
            [0., 0., 0.]])
    >>> table = grow_rows(torch.ones(1_000_000, 4), 1_000_001)
    >>> grow_rows(table, 2_000_000).data_ptr() == table.data_ptr()  # there was room
    True
    """
    if tensor.dim() == 0 or rows < len(tensor):
        raise ValueError(f"a tensor of shape {tuple(tensor.shape)} cannot grow to {rows:,} rows: growing loses none")
    if rows == len(tensor):
        return tensor
    tensor = tensor.detach()
    shape = (rows, *tensor.shape[1:])
    if tensor.device.type != "cpu":
        grown = tensor.new_zeros(shape)
        grown[: len(tensor)] = tensor
        return grown
    reservation = Reservation.of(tensor)
    if reservation is not None and reservation.extends(tensor, rows * tensor[:1].numel() * tensor.element_size()):
        return reservation.lend(shape, tensor.dtype)
    grown = zeros(shape, tensor.dtype)
    if reservation is not None and tensor.is_contiguous():
        _copy_touched(tensor, grown)
    else:
        advise_huge(grown[: len(tensor)])  # ordinary memory is in use, and so will its copy be
        grown[: len(tensor)] = tensor
    return grown


def _copy_touched(tensor: Tensor, grown: Tensor) -> None:
    """Copy all rows, but leave stretches of zeros untouched: in state that few rows have used, they have no pages."""
    step = max(1, _STRETCH // max(1, tensor[:1].nbytes))
    for first in range(0, len(tensor), step):
        rows = tensor[first : first + step]
        if rows.view(-1).view(torch.uint8).any():
            grown[first : first + len(rows)] = rows
