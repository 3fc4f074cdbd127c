"""Interleaved timing, what the machine is, and the result files.

Contenders of one case run in turn, round after round, so that a machine whose speed drifts hurts them all alike;
figures are medians with quartiles, comparisons are ratios within the run.
"""

import csv
import datetime
import gc
import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"

Step = Callable[[], object]


def interleave(
    contenders: Mapping[str, Step], *, seconds: float, warmup: int = 3, turn: float = 0.002
) -> dict[str, list[float]]:
    """Seconds per call of each contender, called in turn for about ``seconds`` in all (5 rounds at least).

    Calls shorter than ``turn`` seconds are timed in groups, so that the clock and a neighbour's caches weigh little.
    """
    group = {}
    for name, step in contenders.items():
        for _ in range(warmup):
            step()
        start = time.perf_counter()
        step()
        group[name] = max(1, min(5000, int(turn / (time.perf_counter() - start))))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    gc.collect()
    gc.disable()
    try:
        end = time.perf_counter() + seconds
        while len(next(iter(times.values()))) < 5 or time.perf_counter() < end:
            for name, step in contenders.items():
                start = time.perf_counter()
                for _ in range(group[name]):
                    step()
                times[name].append((time.perf_counter() - start) / group[name])
    finally:
        gc.enable()
    return times


def summary(times: list[float]) -> tuple[float, float, float]:
    """Median and quartiles in milliseconds."""
    low, median, high = statistics.quantiles(times, n=4)
    return median * 1e3, low * 1e3, high * 1e3


def copy_bandwidth() -> float:
    """Bytes per second that ``copy_`` reads and writes on a 256 MB tensor: the memory floor's measure."""
    source = torch.ones(64 << 20)
    target = torch.empty_like(source)
    times = interleave({"copy": lambda: target.copy_(source)}, seconds=2)["copy"]
    return 2 * source.numel() * source.element_size() / statistics.median(times)


def environment(*packages: str) -> dict[str, str]:
    """What a result row keeps: date, processor, threads and versions."""
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _processor(),
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        "versions": " ".join(f"{name}={_version(name)}" for name in ("catembed", "torch", "numba", *packages)),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def write_results(name: str, rows: Iterable[Mapping[str, object]]) -> Path:
    """Write ``rows`` (all with the same keys) to ``benchmarks/results/<name>.csv``."""
    rows = list(rows)
    path = RESULTS / f"{name}.csv"
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def read_results(name: str) -> list[dict[str, str]]:
    """The rows of ``benchmarks/results/<name>.csv``."""
    with (RESULTS / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))
