"""`Reservation`: address space of which the first part is a tensor's memory, and the rest its room to grow.

Pages appear when they are touched and hold zeros, so room costs nothing until it is used.

Rules: a storage over a reservation is as long as its tensor, never as long as the reservation, because ``deepcopy``,
``torch.save`` and pickle copy whole storages. Only the tensor that reaches the end of what was ever handed out may take
more: no two tensors get the same new rows, and what they get has never been written. The mapping lives as long as any
storage over it.
"""

from __future__ import annotations

import math
import mmap
import sys
import weakref
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["Reservation", "reserve"]

_NO_RESERVE = 0x4000 if sys.platform == "linux" else 0  # MAP_NORESERVE, which Python's mmap does not name everywhere


class Reservation(mmap.mmap):
    """An anonymous mapping; ``used`` counts its bytes from the start that tensors were given."""

    used: int

    @classmethod
    def of(cls, tensor: Tensor) -> Reservation | None:
        """The reservation in which a CPU tensor lies, or None."""
        return _reservations.get(tensor.untyped_storage().data_ptr())

    def lend(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor over the first bytes, with a storage just as long."""
        count = math.prod(shape)
        tensor = torch.frombuffer(self, dtype=dtype, count=count).view(shape)
        self.used = count * dtype.itemsize
        return tensor

    def extends(self, tensor: Tensor, size: int) -> bool:
        """Whether ``tensor`` may become ``size`` bytes long in place: there is room, and it is the tensor's to take."""
        is_last = tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes() == self.used
        return is_last and tensor.is_contiguous() and size <= len(self)


_reservations: weakref.WeakValueDictionary[int, Reservation] = weakref.WeakValueDictionary()  # by address


def reserve(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor of zeros at the start of a new reservation, with as much room to grow as can be had.

    Raises ``MemoryError`` where the address space for the tensor itself cannot be had.
    """
    size = math.prod(shape) * dtype.itemsize
    for times in _sizes():
        try:
            memory = _map(times * size)
        except (OSError, OverflowError, ValueError) as error:
            if times > 1:
                continue
            raise MemoryError(
                f"no address space for {size:,} bytes of {dtype} with shape {tuple(shape)}: {error}"
            ) from error
        tensor = memory.lend(shape, dtype)
        _reservations[tensor.data_ptr()] = memory
        return tensor
    raise AssertionError  # _sizes ends with 1


def _map(size: int) -> Reservation:
    if sys.platform == "win32":
        return Reservation(-1, size)
    return Reservation(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE)


@cache
def _sizes() -> tuple[int, ...]:
    """How many times a tensor's own size to ask for, one after the other: no room where room counts as memory."""
    if sys.platform == "win32":
        return (1,)
    try:
        counted = Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "2"
    except OSError:
        counted = False
    return (1,) if counted else (4, 2, 1)
