"""Memory whose pages appear when they are touched.

``zeros`` maps anonymous memory without commit: a huge table's optimiser state costs only the pages of the rows that
moved, and it has room to grow (``reservation.py``). The storage is exactly as long as the tensor, so ``deepcopy``,
``torch.save`` and pickle copy no more than that.

Huge pages make random rows miss the address translation cache far less often, but on a sparsely touched range every
touched row would cost 2 MB. So ``advise_huge`` is for memory that is at once fully used, such as a fresh weight, and
``HugeWhenFull`` watches memory that fills up by and by, such as an optimiser's state. Linux only; elsewhere both do
nothing.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import sys
import threading
from functools import cache

import torch
from torch import Tensor

from catembed.storage.reservation import reserve

__all__ = ["HugeWhenFull", "advise_huge", "zeros"]

_LAZY_ABOVE = 1 << 20  # bytes; smaller tensors share the allocator's pages
_HUGE_PAGE = 2 << 20
_MADV_HUGEPAGE = 14
_MADV_COLLAPSE = 25  # Linux 6.1; before that the kernel's own thread gathers the pages, slowly
_FULL = 0.9  # share of pages in use from which on huge ones waste little


def zeros(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """A CPU tensor of zeros; above 1 MB its pages are made only when first touched.

    Raises ``MemoryError`` where the address space for it cannot be had.

    >>> zeros((2, 3)).sum()
    tensor(0.)
    >>> zeros((1_000_000_000, 64)).shape  # 256 GB of addresses, no memory yet
    torch.Size([1000000000, 64])
    """
    if math.prod(shape) * dtype.itemsize < _LAZY_ABOVE:
        return torch.zeros(shape, dtype=dtype)
    return reserve(shape, dtype)


def advise_huge(tensor: Tensor) -> bool:
    """Ask for huge pages under a contiguous CPU tensor that is, or will at once be, fully used; True if granted."""
    start, stop = _huge_range(tensor)
    return start < stop and _advise(start, stop, _MADV_HUGEPAGE)


class HugeWhenFull:
    """Gives a tensor made by ``zeros`` huge pages once nearly all of its pages are in use.

    ``visited`` costs a subtraction; now and then it asks the system how many pages are in use. The pages are then
    gathered by a thread in the background; who reads or writes them meanwhile waits for a page at most.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._watch(tensor)

    def _watch(self, tensor: Tensor) -> None:
        self._tensor: Tensor | None = tensor
        self._place, self._rows = tensor.data_ptr(), len(tensor)
        start, stop = _huge_range(tensor)
        self._next = self._left = (stop - start) // mmap.PAGESIZE
        if self._left <= 0:
            self._tensor = None

    def follow(self, tensor: Tensor) -> None:
        """Watch ``tensor`` from now on: another one, or what the tensor watched so far has grown to in place.

        Where nothing was left to watch (the pages are huge, or were too few), growing in place means nothing until the
        tensor is twice as long.
        """
        if tensor.data_ptr() != self._place or (self._tensor is None and len(tensor) >= 2 * max(1, self._rows)):
            self._watch(tensor)
        elif self._tensor is not None:
            self._tensor = tensor  # the countdown goes on, and will ask about all of it

    def visited(self, rows: int) -> None:
        """Note that ``rows`` rows have been written since the last call."""
        if self._tensor is None:
            return
        self._left -= rows
        if self._left > 0:
            return
        self._next = self._left = 2 * self._next
        if _share_in_use(self._tensor) >= _FULL:
            tensor, self._tensor = self._tensor, None
            if advise_huge(tensor):
                threading.Thread(target=_gather, args=(tensor,), name="catembed-pages", daemon=True).start()


def _gather(tensor: Tensor) -> None:
    """Turn the small pages under ``tensor`` into huge ones, one at a time; stops where the system cannot."""
    start, stop = _huge_range(tensor)
    for page in range(start, stop, _HUGE_PAGE):
        if not _advise(page, page + _HUGE_PAGE, _MADV_COLLAPSE):
            return


def _share_in_use(tensor: Tensor) -> float:
    """The share of the tensor's pages that hold memory."""
    start, stop = _huge_range(tensor)
    pages = (ctypes.c_ubyte * ((stop - start) // mmap.PAGESIZE))()
    if _libc().mincore(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), pages) != 0:
        return 0.0
    return bytes(pages).count(1) / len(pages)


def _huge_range(tensor: Tensor) -> tuple[int, int]:
    """The addresses of the whole huge pages inside a tensor; empty where there can be none."""
    if sys.platform != "linux" or tensor.device.type != "cpu" or tensor.is_meta:
        return 0, 0
    first = -(-tensor.data_ptr() // _HUGE_PAGE) * _HUGE_PAGE
    last = (tensor.data_ptr() + tensor.numel() * tensor.element_size()) // _HUGE_PAGE * _HUGE_PAGE
    return first, max(first, last)


def _advise(start: int, stop: int, advice: int) -> bool:
    return _libc().madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), advice) == 0


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
