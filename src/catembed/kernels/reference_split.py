"""The definition of splitting joined text: plain Python."""

from __future__ import annotations

import numpy as np

__all__ = ["split"]


def split(joined: bytes, count: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The bytes (uint8) and offsets (int64, ``count`` + 1) of ``count`` >= 1 values that were joined by NULs.

    None where there are more or fewer of them: then a value holds a NUL itself.
    """
    parts = joined.split(b"\0")
    if len(parts) != count:
        return None
    offsets = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    return np.frombuffer(b"".join(parts), np.uint8), offsets
