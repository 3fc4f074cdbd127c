"""Tensors and a JSON header in one ``.safetensors`` file: written crash-safe, read by mapping.

Rules: a file is replaced, never edited, so what was mapped from it stays as it was; who truncates a mapped file in
place takes its pages away (SIGBUS), as with any mapped file.
"""

from __future__ import annotations

import mmap
import os
import stat
import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from catembed.errors import FormatError
from catembed.storage.atomic import replace_file
from catembed.storage.layout import pack, unpack

__all__ = ["map_file", "read_file", "write_file"]

_NO_RESERVE = 0x4000 if sys.platform == "linux" else 0  # MAP_NORESERVE, which Python's mmap does not name everywhere


def write_file(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write ``tensors``, the last of which is the table, and ``header``, plain JSON; a crash leaves the old file or it.

    Raises:
        OSError: the file cannot be written; the old one is as it was.
        TypeError: a tensor of a dtype or layout that the file cannot hold.
    """
    replace_file(path, pack(tensors, header))


def read_file(path: str | os.PathLike[str], *, verify: bool = True) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the header that ``write_file`` wrote.

    The tensors are a private view of the file: pages are read when touched, writes stay in memory. ``verify=False``
    leaves out the checksums of the table and of all tensors above 16 MiB, so that opening takes a time that does not
    depend on their size.

    Raises:
        FormatError: a file that is damaged or not catembed's, with the reason.
        OSError: a file that cannot be opened.
    """
    memory = map_file(path)
    try:
        return unpack(memory, verify=verify)
    except FormatError as fact:
        raise FormatError(f"{os.fspath(path)}: {fact}") from None


def map_file(path: str | os.PathLike[str]) -> Any:
    """The bytes of a file, a private view of it, for ``unpack``.

    Raises:
        FormatError: a pipe.
        OSError: a file that cannot be opened.
    """
    if stat.S_ISFIFO(os.stat(path).st_mode):  # opening it would wait for a writer
        raise FormatError(f"{os.fspath(path)}: a pipe, where a file is needed")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        return _map(file.fileno(), size) if size else bytearray()


def _map(descriptor: int, size: int) -> mmap.mmap:
    if sys.platform == "win32":
        return mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY)
    # Without a reserve for copied pages: only rows that are trained take memory, and a table may exceed it.
    return mmap.mmap(descriptor, size, flags=mmap.MAP_PRIVATE | _NO_RESERVE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
