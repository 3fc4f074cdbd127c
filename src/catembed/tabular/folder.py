"""A folder that appears whole or not at all, and file names for columns of any name.

Known limit: two renames replace an earlier folder, so a process killed between them leaves it as ``.NAME.….old``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from catembed.errors import TableError


def file_names(columns: Sequence[str], taken: Sequence[str]) -> dict[str, str]:
    """A ``.safetensors`` file name for each column, safe on every file system and distinct there.

    A name that has to be changed, or that another one equals but for case, gets a digest of the column's name.

    >>> file_names(["dest", "from/to"], taken=[])
    {'dest': 'dest.safetensors', 'from/to': 'from_to-60af2587.safetensors'}
    """
    used = {name.lower() for name in taken}
    names = {}
    for column in columns:
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", column)[:80]
        name = f"{plain}.safetensors"
        if plain != column or name.lower() in used:
            digest = hashlib.sha256(column.encode("utf-8", "surrogatepass")).hexdigest()[:8]
            name = f"{plain}-{digest}.safetensors"
        used.add(name.lower())
        names[column] = name
    return names


def marked(path: Path, marker: str, format: str) -> dict[str, Any] | None:
    """The JSON file ``marker`` of a folder, if it is there and of this format."""
    try:
        content = json.loads((path / marker).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.get("format") == format else None


def check_replaceable(path: str | os.PathLike[str], marker: str, format: str) -> None:
    """Refuse, before any work is done, a place that ``replaced`` would refuse.

    Raises:
        TableError: something else is there, or there is no folder to put it in.
    """
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        if any(path.iterdir()) and marked(path, marker, format) is None:
            raise TableError(f"{path} has files that catembed did not write; name another folder, or empty this one")
    elif path.exists() or path.is_symlink():
        raise TableError(f"{path} is there already and is no folder; name another one")
    parent = next(each for each in path.absolute().parents if each.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise TableError(f"{path} cannot be written: no permission in {parent}")


@contextlib.contextmanager
def replaced(path: str | os.PathLike[str], marker: str, format: str) -> Iterator[Path]:
    """A new folder to fill, which takes the place of ``path`` at the end; an error leaves what was there.

    Raises:
        TableError: as ``check_replaceable`` says, or the disk refuses.
    """
    path = Path(os.path.abspath(path))  # "." has no name to put another one beside
    check_replaceable(path, marker, format)
    path.parent.mkdir(parents=True, exist_ok=True)
    key = secrets.token_hex(4)
    partial, old = path.with_name(f".{path.name}.{key}.partial"), path.with_name(f".{path.name}.{key}.old")
    try:
        partial.mkdir()
        yield partial
        try:
            if path.exists():
                os.rename(path, old)
            os.rename(partial, path)
        except BaseException:  # Ctrl-C between the two as well
            if old.exists() and not path.exists():
                os.rename(old, path)
            raise
    except OSError as fact:
        raise TableError(f"{path} cannot be written: {fact.strerror or fact}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
