"""Memory for rows that are written at once, and again at the next step: outputs of lookups, gradient rows.

From 32 MB on the allocator takes fresh pages from the system at every call and gives them back, and to have pages
cleared costs as much as to write them. ``room`` hands out memory that an earlier tensor of about this size has left.

Rules: memory is handed out again only when nothing holds the tensor's storage any more. At most 256 MB wait to be used
again, and none of a size that is no longer asked for. A forked child has its own copy.
"""

from __future__ import annotations

import math
import mmap
import weakref
from collections import deque

import torch
from torch import Tensor

from catembed.storage.memory import advise_huge

__all__ = ["room"]

_LARGE = 32 << 20  # bytes; what is smaller the allocator itself hands out again
_MOST = 256 << 20  # bytes that wait
_HUGE_PAGE = 2 << 20

_waiting: deque[mmap.mmap] = deque()


def room(rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """A CPU tensor ``(rows, columns)`` of whatever values, in huge pages where the system has them.

    >>> room(2, 3, torch.float32).shape
    torch.Size([2, 3])
    """
    size = rows * columns * dtype.itemsize
    if size < _LARGE or not hasattr(mmap, "MAP_ANONYMOUS"):
        tensor = torch.empty((rows, columns), dtype=dtype, device="cpu")
        if size >= _HUGE_PAGE:
            advise_huge(tensor)
        return tensor
    memory = _waiting_memory(size) or _fresh_memory(size)
    lease = memoryview(memory)  # the tensor holds it, and nothing else does
    weakref.finalize(lease, _take_back, memory).atexit = False
    return torch.frombuffer(lease, dtype=dtype, count=rows * columns).view(rows, columns)


def _waiting_memory(size: int) -> mmap.mmap | None:
    """Memory that is large enough, and not twice as large; else all that waits is given up."""
    others = []
    while _waiting:
        memory = _waiting.popleft()
        if size <= len(memory) <= 2 * size:
            _waiting.extend(others)
            return memory
        others.append(memory)
    return None


def _fresh_memory(size: int) -> mmap.mmap:
    """An eighth more than is asked for: a batch has not always the same number of distinct ids."""
    length = math.ceil(size * 1.125 / _HUGE_PAGE) * _HUGE_PAGE
    memory = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def _take_back(memory: mmap.mmap) -> None:
    if len(memory) + sum(map(len, list(_waiting))) <= _MOST:
        _waiting.append(memory)
