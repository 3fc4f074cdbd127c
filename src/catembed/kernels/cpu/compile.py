"""`jit`: how every CPU kernel is compiled.

Numba's disk cache looks only at the file that holds a function, so a changed helper in another file would be
served stale code. The cache folder is therefore keyed by a hash of all kernel sources and of the versions that
shape the machine code. It lies in the user's cache folder (``CATEMBED_CACHE_DIR`` overrides it), never beside the
package, so a read-only install works; where no folder can be written, kernels are compiled anew in each process.
"""

import hashlib
import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numba.core.config
import numba.core.event
import numpy

__all__ = ["cache_folder", "jit"]

log = logging.getLogger("catembed.kernels")
_lock = threading.Lock()
_config: Any = numba.core.config


def _source_key() -> str:
    """A hash that changes whenever any kernel source, or what compiles it, does."""
    digest = hashlib.sha256()
    for version in (sys.version, numba.__version__, llvmlite.__version__, numpy.__version__):
        digest.update(version.encode())
    kernels = Path(__file__).parents[1]  # the folder above too: its layouts are constants in the code
    for path in sorted([*kernels.glob("*.py"), *kernels.glob("cpu/*.py")]):
        digest.update(str(path.relative_to(kernels)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def cache_folder() -> Path | None:
    """The folder that holds compiled kernels of just these sources, or None where none can be written."""
    root = os.environ.get("CATEMBED_CACHE_DIR")
    if root is None:
        root = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "catembed")
    folder = Path(root) / f"kernels-{_source_key()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.info("kernels are not cached on disk: %s", error)
        return None
    return folder if os.access(folder, os.W_OK) else None


_folder = cache_folder()


class _Log(numba.core.event.Listener):
    """One line for each kernel that is really compiled, not loaded from the cache; parts of kernels are not told."""

    def on_start(self, event: numba.core.event.Event) -> None:
        function = (event.data or {})["dispatcher"].py_func
        if function.__module__.startswith(str(__package__)) and not function.__module__.endswith(".lanes"):
            log.info("compiling %s of %s, once", function.__name__.lstrip("_"), function.__module__.rsplit(".", 1)[1])

    def on_end(self, event: numba.core.event.Event) -> None:
        pass


numba.core.event.register("numba:compile", _Log())


def jit(function: Callable[..., Any]) -> Any:
    """Compile ``function`` on first call: without the GIL, cached on disk, sums free to be vectorised.

    ``reassoc`` lets a reduction over one row use vector lanes. The machine code is the same for every call, so
    results still do not depend on threads; NaN and infinity keep their meaning.
    """
    options = {"nogil": True, "boundscheck": False, "fastmath": {"contract", "reassoc"}, "error_model": "numpy"}
    with _lock:
        before = _config.CACHE_DIR
        try:
            _config.CACHE_DIR = str(_folder or "")
            return numba.njit(function, cache=_folder is not None, **options)
        finally:
            _config.CACHE_DIR = before
