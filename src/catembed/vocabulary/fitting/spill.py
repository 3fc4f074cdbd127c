"""Records that went to disk because memory is for fewer: one nameless temporary file for each counter.

The file has no name from the start, so it goes with the process, whatever ends it. It holds the records of each part
as they lay in memory (kernels/records.py), part after part, spill after spill; nothing in it is ever executed.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator

import numpy as np

__all__ = ["Spill"]


class Spill:
    """A temporary file of records, and where in it the records of each part lie."""

    def __init__(self) -> None:
        self._folder = tempfile.gettempdir()
        with _explained(self._folder):
            self._file = tempfile.TemporaryFile(prefix="catembed-", dir=self._folder, buffering=0)  # noqa: SIM115
        self._runs: dict[int, list[tuple[int, int]]] = {}
        self._reading = threading.Lock()
        self._end = 0

    def write(self, part: int, records: np.ndarray) -> None:
        """Append records, uint8, of a part. Raises ``OSError`` naming the folder when the disk is full."""
        if not len(records):
            return
        rest = memoryview(records.data)
        with _explained(self._folder):
            while len(rest):
                rest = rest[self._file.write(rest) :]
        self._runs.setdefault(part, []).append((self._end, len(records)))
        self._end += len(records)

    def holds(self, part: int) -> bool:
        """Whether there are records of a part."""
        return part in self._runs

    def read(self, part: int) -> Iterator[np.ndarray]:
        """The records of a part, uint8, as they were written. Several threads may read at once."""
        for begin, size in self._runs.get(part, ()):
            records = np.empty(size, np.uint8)
            rest = memoryview(records.data)
            with self._reading, _explained(self._folder):
                self._file.seek(begin)
                while len(rest):
                    got = self._file.readinto(rest)
                    if not got:
                        raise OSError("a temporary file is shorter than it was written")
                    rest = rest[got:]
            yield records

    def close(self) -> None:
        """Let go of the file and its space."""
        self._file.close()


class _explained:
    """Adds to an ``OSError`` which folder it is about, and what to do."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, OSError):
            raise OSError(
                error.errno,
                f"counts beyond the memory go to temporary files, and this failed ({error.strerror or error}); "
                "free some space, or set TMPDIR to a folder with more of it",
                self._folder,
            ) from None
