"""``replace_file``: a file is the old one or the new one, whole, whatever happens while it is written.

How: the new content goes to a temporary name in the same folder, is synced, takes the name, and the folder is synced.
An error removes the temporary file; a process that is killed may leave one behind, ``.catembed-*.tmp``.
Where the path is a symbolic link, the file it leads to is replaced.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import sys
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["replace_file"]


def replace_file(path: str | os.PathLike[str], parts: Iterable[Any]) -> None:
    """Make the file at ``path`` consist of ``parts``, buffers that follow each other.

    A new file has the permissions that the umask leaves, one replaced keeps those it had.

    Raises:
        OSError: of the class that fits (``IsADirectoryError``, ``PermissionError``, …), with ``path`` as its file. The
            old file is as it was, except when syncing the folder failed: then the new one is there, but a power
            failure may still undo it.
    """
    with _told_with(path):
        target = os.path.realpath(path)
        if os.path.isdir(target):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        folder = os.path.dirname(target)
        temporary = os.path.join(folder, f".catembed-{secrets.token_hex(8)}.tmp")
        try:
            _write(temporary, target, parts)
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        _sync_folder(folder)


def _write(temporary: str, target: str, parts: Iterable[Any]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    with open(os.open(temporary, flags, 0o666), "wb") as file:
        with contextlib.suppress(FileNotFoundError):
            os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: str) -> None:
    if sys.platform == "win32":  # has no such call
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _told_with(path: str | os.PathLike[str]) -> Iterator[None]:
    """Errors name the path that the caller gave, not the temporary one."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
