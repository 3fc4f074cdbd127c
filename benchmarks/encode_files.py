"""Building, saving and opening a vocabulary of 10 million categories; part of ``python -m benchmarks.encode``."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

import catembed

CATEGORIES = 10_000_000


def milliseconds(action: Callable[[], object], times: int) -> float:
    """The median of several calls."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        taken.append((time.perf_counter() - start) * 1e3)
    return statistics.median(taken)


def opening() -> Iterator[dict]:
    """What it takes to have such a vocabulary: made from a column, or from its file, checked whole or not."""
    column = pa.array([f"item_{number}" for number in np.random.default_rng(1).permutation(CATEGORIES)])
    start = time.perf_counter()
    vocabulary = catembed.Vocabulary(column)
    figures = {"build, ms": (time.perf_counter() - start) * 1e3}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocabulary.safetensors"
        figures["save, ms"] = milliseconds(lambda: catembed.save(path, vocabulary), 1)
        figures["file, bytes per category"] = path.stat().st_size / CATEGORIES
        value = column[12_345].as_py()
        figures["open, verify=False, and one lookup, ms"] = milliseconds(
            lambda: catembed.load(path, verify=False).encode(value), 21
        )
        figures["open, all checked, ms"] = milliseconds(lambda: catembed.load(path), 5)
    for what, figure in figures.items():
        print(f"10M categories: {what}: {figure:.3g}")
        yield {"what": f"10M categories: {what}", "figure": f"{figure:.3g}"}
