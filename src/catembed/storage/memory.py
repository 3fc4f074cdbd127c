"""Memory whose pages appear when they are touched.

``zeros`` maps anonymous memory without commit: a huge table's optimiser state costs only the pages of the rows that
moved. The storage is exactly as long as the tensor, so ``deepcopy``, ``torch.save`` and pickle copy no more than that.

``advise_huge`` asks Linux for huge pages: random rows then miss the address translation cache far less often. It is
only for memory that is fully used: on a sparsely touched range every touched row would cost 2 MB. On other systems it
does nothing.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import sys
from functools import cache

import torch
from torch import Tensor

__all__ = ["advise_huge", "zeros"]

_LAZY_ABOVE = 1 << 20  # bytes; smaller tensors share the allocator's pages
_NO_RESERVE = 0x4000 if sys.platform == "linux" else 0  # MAP_NORESERVE, which Python's mmap does not name everywhere
_HUGE_PAGE = 2 << 20
_MADV_HUGEPAGE = 14


def zeros(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """A CPU tensor of zeros; above 1 MB its pages are made only when first touched.

    Raises ``MemoryError`` where the address space for it cannot be had.

    >>> zeros((2, 3)).sum()
    tensor(0.)
    >>> zeros((1_000_000_000, 64)).shape  # 256 GB of addresses, no memory yet
    torch.Size([1000000000, 64])
    """
    count = math.prod(shape)
    size = count * dtype.itemsize
    if size < _LAZY_ABOVE:
        return torch.zeros(shape, dtype=dtype)
    try:
        if sys.platform == "win32":
            memory = mmap.mmap(-1, size)
        else:
            memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE)
    except (OSError, OverflowError, ValueError) as error:
        raise MemoryError(
            f"no address space for {size:,} bytes of {dtype} with shape {tuple(shape)}: {error}"
        ) from error
    return torch.frombuffer(memory, dtype=dtype, count=count).view(shape)


def advise_huge(tensor: Tensor) -> bool:
    """Ask for huge pages under a contiguous CPU tensor that is, or will at once be, fully used; True if granted."""
    if sys.platform != "linux" or tensor.device.type != "cpu":
        return False
    first = -(-tensor.data_ptr() // _HUGE_PAGE) * _HUGE_PAGE
    last = (tensor.data_ptr() + tensor.numel() * tensor.element_size()) // _HUGE_PAGE * _HUGE_PAGE
    if last <= first:
        return False
    return _libc().madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _MADV_HUGEPAGE) == 0


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
