"""`Lock`: what whoever changes a vocabulary holds. A forked child has its own: its parent's threads are not there."""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager
from typing import Any

__all__ = ["Lock"]


class Lock:
    """``with lock():``, by one thread at a time, which may do so again inside."""

    def __init__(self) -> None:
        self._lock, self._process = threading.RLock(), os.getpid()

    def __call__(self) -> AbstractContextManager[Any]:
        """The lock itself."""
        if self._process != os.getpid():
            self.__init__()
        return self._lock
