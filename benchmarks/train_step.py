"""One training step (lookup, backward, update) of ours beside every rival: ``python -m benchmarks.train_step``.

Prints the bars of the project first (about 5 minutes), with ``--grid`` a grid of sizes as well (about 30 minutes);
writes ``benchmarks/results/train_step_*.csv``, from which ``python -m benchmarks.report`` makes docs/performance.md.
Run it on an idle machine: ``--threads`` is 2 unless told.
"""

import argparse
import ctypes
import gc
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy
import torch

from benchmarks import contenders as who
from benchmarks.harness import copy_bandwidth, environment, interleave, summary, write_results

UNIFORM, ZIPF = "uniform", "Zipf(1.1)"


def make_batches(rows: int, batch: int, distribution: str, count: int) -> list[torch.Tensor]:
    """Id tensors of shape ``(batch,)``; Zipf ranks are scattered over the table so that hot rows are not neighbours."""
    generator = numpy.random.default_rng(7)
    if distribution == UNIFORM:
        return [torch.from_numpy(generator.integers(0, rows, batch)) for _ in range(count)]
    cdf = numpy.cumsum(numpy.arange(1, rows + 1, dtype=numpy.float64) ** -1.1)
    cdf /= cdf[-1]
    spread = 2_654_435_761 % rows | 1
    while numpy.gcd(spread, rows) != 1:
        spread += 2
    ranks = [numpy.searchsorted(cdf, generator.random(batch)) for _ in range(count)]
    return [torch.from_numpy((rank * spread % rows).astype(numpy.int64)) for rank in ranks]


def floor_bytes(name: str, batches: Sequence[torch.Tensor], dim: int) -> float:
    """Bytes that a step must move once: rows read and written out by the lookup, gradients and state by the update."""
    unique = sum(ids.unique().numel() for ids in batches) / len(batches)
    row = 4 * dim
    state_row = {"Adam": 2 * row, "Adagrad": row, "RowwiseAdagrad": 4}[name]
    lookup = unique * row + batches[0].numel() * row
    return lookup + batches[0].numel() * row + 2 * unique * (row + state_row)


def available_bytes() -> float:
    """Memory that can be taken without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable"):
            return float(line.split()[1]) * 1024
    return 8e9


class Bench:
    """Tables of one size, built once, stepped with several batches."""

    def __init__(self, rows: int, dim: int, contenders: Sequence[who.Contender]) -> None:
        self.rows, self.dim = rows, dim
        self.steps: dict[str, who.Batch] = {}
        for contender in contenders:
            if contender.tables * rows * dim * 4 * 1.1 < available_bytes() - 2e9:
                self.steps[contender.name] = contender.build(rows, dim)

    def run(self, batch: int, distribution: str, seconds: float, warm: int = 0) -> dict[str, list[float]]:
        """Times per step of each contender over a rotation of batches that does not fit the caches."""
        batches = make_batches(self.rows, batch, distribution, 64 if batch <= 65_536 else 16)
        grad = torch.randn(batch, self.dim) * 0.01
        self.batches = batches

        calls = {name: rotation(step, batches, grad) for name, step in self.steps.items()}
        for name, call in calls.items():
            if name.startswith("catembed"):
                for _ in range(warm):
                    call()
                wait_for_huge_pages()
        return interleave(calls, seconds=seconds)


def wait_for_huge_pages() -> None:
    """Let the thread that gathers the pages of a filled-up state end, as it does early in a long training."""
    for thread in threading.enumerate():
        if thread.name == "catembed-pages":
            thread.join()


def rotation(step: who.Batch, batches: Sequence[torch.Tensor], grad: torch.Tensor) -> Callable[[], None]:
    """A call that takes the next batch each time."""
    ids = itertools.cycle(batches)
    return lambda: step(next(ids), grad)


def peak_extra_bytes(step, ids: torch.Tensor, grad: torch.Tensor) -> int:
    """How far resident memory rises above its start within one step (Linux)."""
    for _ in range(3):
        step(ids, grad)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    step(ids, grad)
    return _status("VmHWM") - before


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def result_row(rows, dim, batches, distribution, name, times, bandwidth) -> dict:
    """One line of the result file; ``times`` is None for a contender that did not fit in memory."""
    row = {"rows": rows, "dim": dim, "batch": batches[0].numel(), "ids": distribution, "contender": name}
    if times is None:
        return row | {"median_ms": "does not fit", "q1_ms": "", "q3_ms": "", "floor_ms": ""}
    rule = "Adam" if "Adam" in name else "RowwiseAdagrad" if "wise" in name else "Adagrad"
    median, low, high = summary(times)
    floor = floor_bytes(rule, batches, dim) / bandwidth * 1e3
    figures = {"median_ms": median, "q1_ms": low, "q3_ms": high, "floor_ms": floor}
    return row | {key: f"{value:.4g}" for key, value in figures.items()}


def measure(rows, dim, batches, contenders, seconds, bandwidth, distributions=(UNIFORM,), warm=0) -> Iterator[dict]:
    """Result rows of one table size: one per batch size, distribution and contender."""
    bench = Bench(rows, dim, contenders)
    for batch in batches:
        for distribution in distributions:
            times = bench.run(batch, distribution, seconds, warm)
            for contender in contenders:
                taken = times.get(contender.name)
                yield result_row(rows, dim, bench.batches, distribution, contender.name, taken, bandwidth)
    bench.steps.clear()
    gc.collect()


BARS = [  # rows, dim, batch, contenders, warm-up steps of ours
    (4_000_000, 64, 65_536, [who.OURS_ADAM, who.SPARSE_ADAM], 60),
    (4_000_000, 64, 65_536, [who.OURS_ADAM, who.DENSE_ADAM], 60),
    (4_000_000, 64, 65_536, [who.OURS_ADAM_EXACT, who.DENSE_ADAM], 150),
    (1_000_000, 64, 65_536, [who.OURS_ROWWISE, who.FBGEMM_ROWWISE], 20),
    (4_000_000, 128, 65_536, [who.OURS_ROWWISE, who.FBGEMM_ROWWISE], 20),
    (1_000, 16, 64, [who.OURS_ADAM, who.DENSE_ADAM_DEFAULT, who.DENSE_ADAM], 20),
]


def bars(bandwidth: float, seconds: float) -> list[dict]:
    """The project's bars: pairs of contenders alone in memory; then the large-table ratio and the memory peak."""
    rows = []
    for table_rows, dim, batch, contenders, warm in BARS:
        measured = list(measure(table_rows, dim, [batch], contenders, seconds, bandwidth, warm=warm))
        rows += [show(row, measured) for row in measured]
    rows += large_table(bandwidth, seconds)
    return rows


def large_table(bandwidth: float, seconds: float) -> list[dict]:
    """The same batch on 1M × 16 and 100M × 16: what a hundred times more rows cost."""
    benches = {rows: Bench(rows, 16, [who.OURS_ROWWISE]) for rows in (1_000_000, 100_000_000)}
    grad = torch.randn(65_536, 16) * 0.01
    batches = {rows: make_batches(rows, 65_536, UNIFORM, 64) for rows in benches}
    calls = {str(rows): rotation(step, batches[rows], grad) for rows, b in benches.items() for step in b.steps.values()}
    times = interleave(calls, seconds=seconds, warmup=64)
    return [
        show(result_row(int(rows), 16, batches[int(rows)], UNIFORM, who.OURS_ROWWISE.name, times[rows], bandwidth), [])
        for rows in times
    ]


def peaks() -> list[dict]:
    """Peak extra memory of a step, in units of batch × dim × 4 bytes (torch's output and its gradient included)."""
    rows = []
    for contender in (who.OURS_ADAM, who.OURS_ADAM_EXACT, who.OURS_ROWWISE, who.OURS_ADAGRAD, who.SPARSE_ADAM):
        step = contender.build(1_000_000, 64)
        ids = make_batches(1_000_000, 262_144, UNIFORM, 1)[0]
        extra = peak_extra_bytes(step, ids, torch.randn(262_144, 64) * 0.01)
        rows.append({"contender": contender.name, "peak_over_batch_dim_bytes": f"{extra / (262_144 * 64 * 4):.2f}"})
        print(f"peak extra memory, {contender.name}: {rows[-1]['peak_over_batch_dim_bytes']} x batch x dim x 4 bytes")
        del step
        gc.collect()
    return rows


def show(row: dict, rows: Sequence[dict]) -> dict:
    """Print one result row as it is made, its ratio to the first contender of its case beside it."""
    first = next((r for r in rows if r["batch"] == row["batch"] and r["ids"] == row["ids"]), row)
    ratio = ""
    if row is not first and "fit" not in row["median_ms"] + first["median_ms"]:
        ratio = f"  {float(row['median_ms']) / float(first['median_ms']):6.2f} x {first['contender']}"
    floor = f"  floor {row['floor_ms']} ms" if row["floor_ms"] else ""
    print(
        f"{row['rows']:>11,} x {row['dim']:<4} batch {row['batch']:>7,} {row['ids']:<10} {row['contender']:<34}"
        f"{row['median_ms']:>10} ms [{row['q1_ms']} .. {row['q3_ms']}]{floor}{ratio}",
        flush=True,
    )
    return row


def grid(bandwidth: float, seconds: float) -> Iterator[dict]:
    """Tables of 10k to 100M rows, small and large batches, uniform and Zipf ids, whatever fits in memory."""
    for table_rows in (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000):
        for dim in (16, 64, 128, 768):
            if table_rows * dim * 4 > 8e9:
                continue
            for family in who.FAMILIES.values():
                batches = (64, 4_096, 65_536, 262_144) if table_rows <= 10_000_000 else (64, 65_536)
                measured: list[dict] = []
                for row in measure(table_rows, dim, batches, family, seconds, bandwidth, (UNIFORM, ZIPF)):
                    measured.append(row)
                    yield show(row, measured)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grid", action="store_true", help="also measure the grid of sizes")
    parser.add_argument("--seconds", type=float, default=10, help="time for each case of the bars (default 10)")
    parser.add_argument("--threads", type=int, default=2, help="torch threads (default 2)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bandwidth = copy_bandwidth()
    print(f"copy bandwidth, read + write: {bandwidth / 1e9:.1f} GB/s, {options.threads} threads")
    facts = environment("fbgemm-gpu-cpu") | {"copy_gb_per_s": f"{bandwidth / 1e9:.1f}"}
    write_results("train_step_bars", [row | facts for row in bars(bandwidth, options.seconds)])
    write_results("train_step_memory", [row | facts for row in peaks()])
    if options.grid:
        rows = []
        for row in grid(bandwidth, options.seconds / 5):  # what has been measured is kept, should the run be cut short
            rows.append(row | facts)
            write_results("train_step_grid", rows)


if __name__ == "__main__":
    main()
