"""Run a kernel on several threads: ``nogil`` functions on a small pool of our own.

The pool follows ``torch.get_num_threads()``, is made on first use, and is made anew after ``fork``. It stands beside
no second OpenMP pool. The caller's own thread takes the first share, so a single share never leaves it. Kernels give
each thread rows of its own: results never depend on how many threads there are.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch

__all__ = ["parallel", "shares"]

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_size = 0


def _forget() -> None:
    """A forked child has none of its parent's threads: start without a pool and with a fresh lock."""
    global _lock, _pool, _size
    _lock, _pool, _size = threading.Lock(), None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _submit(function: Callable[[int], object], count: int) -> list[Future[object]]:
    """Start ``function(1)`` to ``function(count - 1)``; an outgrown pool ends by itself once its work is done."""
    global _pool, _size
    with _lock:
        if _pool is None or _size < count - 1:
            if _pool is not None:
                _pool.shutdown(wait=False)
            _pool, _size = ThreadPoolExecutor(count - 1, thread_name_prefix="catembed"), count - 1
        return [_pool.submit(function, share) for share in range(1, count)]


def shares(work: int, at_least: int) -> int:
    """How many threads ``work`` items are worth, when a thread should get ``at_least`` of them."""
    return max(1, min(torch.get_num_threads(), work // max(1, at_least)))


def parallel(function: Callable[[int], object], count: int) -> None:
    """Call ``function(0)`` to ``function(count - 1)`` at the same time; return when all are done.

    An error in any of them is raised here, after the others have ended.
    """
    if count <= 1:
        function(0)
        return
    futures = _submit(function, count)
    try:
        function(0)
    finally:
        for future in futures:
            future.exception()
    for future in futures:
        future.result()
