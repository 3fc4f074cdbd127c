"""Learning a vocabulary from a Parquet file larger than one wants in memory: ``python -m benchmarks.fit_vocabulary``.

The file has one column of text, Zipf-distributed with exponent 1, every twentieth of its rows a distinct value (100M
rows, 5M values), in row groups as pyarrow writes them. It is made once, in the folder for temporary files. Each run of
a contender is a process of its own; the contenders take turns. Time goes from the path to values and counts in order;
before it, each counts the first row group: imports and compiled kernels are loaded then (``first_s``). Peaks are of the
whole process.
polars runs on its streaming engine, with which it is fastest here, in three ways of asking for it: as
``value_counts``, ordered and not, and as a ``group_by`` with the order that catembed gives (count, then value).
Processor seconds are kept because they tell more than time does where a machine is shared.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.harness import environment, write_results

COLUMN = "user"
OURS = "catembed fit"
_CHUNK = 1 << 20


def make_file(rows: int) -> Path:
    """The file of so many rows; made where it is not there yet."""
    path = Path(tempfile.gettempdir()) / "catembed-benchmarks" / f"zipf-{rows}.parquet"
    if path.exists():
        return path
    path.parent.mkdir(exist_ok=True)
    rng, distinct = np.random.default_rng(0), max(1, rows // 20)
    names = pa.array([f"user-{number}" for number in rng.choice(10**9, distinct, replace=False).tolist()])
    share = np.cumsum(1 / np.arange(1, distinct + 1))
    share /= share[-1]
    every = rng.permutation(distinct)  # so that none is missing
    partial = path.with_suffix(".partial")
    with pq.ParquetWriter(partial, pa.schema([(COLUMN, pa.string())])) as file:
        for begin in range(0, rows, _CHUNK):
            end = min(begin + _CHUNK, rows)
            ids = np.searchsorted(share, rng.random(end - begin))
            some = every[distinct * begin // rows : distinct * end // rows]
            ids[rng.choice(end - begin, len(some), replace=False)] = some
            file.write_table(pa.table({COLUMN: names.take(pa.array(ids))}))
    os.replace(partial, path)
    return path


def ours(path: Path) -> int:
    from catembed.vocabulary.fitting.fit import learn_files

    return len(learn_files(path, [COLUMN])[COLUMN].values)


def polars_group_by(path: Path) -> int:
    import polars as pl

    counted = pl.scan_parquet(path).group_by(COLUMN).len()
    return len(counted.sort(["len", COLUMN], descending=[True, False]).collect(engine="streaming"))


def polars_value_counts(path: Path) -> int:
    import polars as pl

    return len(pl.scan_parquet(path).select(pl.col(COLUMN).value_counts(sort=True)).collect(engine="streaming"))


def polars_unordered(path: Path) -> int:
    import polars as pl

    return len(pl.scan_parquet(path).select(pl.col(COLUMN).value_counts()).collect(engine="streaming"))


CONTENDERS: dict[str, Callable[[Path], int]] = {
    OURS: ours,
    "polars group_by, sorted": polars_group_by,
    "polars value_counts(sort=True)": polars_value_counts,
    "polars value_counts, in no order": polars_unordered,
}


def run_here(name: str, path: Path, threads: int) -> None:
    """Run one contender and print what it took, as JSON."""
    torch.set_num_threads(threads)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:  # imports, threads, compiled kernels
        small = Path(folder) / "small.parquet"
        pq.write_table(pq.ParquetFile(path).read_row_group(0), small, row_group_size=_CHUNK // 4)
        CONTENDERS[name](small)
    first = time.perf_counter() - start
    start, spent = time.perf_counter(), time.process_time()
    distinct = CONTENDERS[name](path)
    took = {
        "seconds": time.perf_counter() - start,
        "processor_s": time.process_time() - spent,
        "first_s": first,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "distinct": distinct,
    }
    print(json.dumps(took))


def run_apart(name: str, path: Path, threads: int) -> dict[str, float]:
    """Run one contender in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.fit_vocabulary", "--run", name, str(path), "--threads", str(threads)]
    environment = os.environ | {"POLARS_MAX_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000_000, help="rows of the file (default 100M)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each contender (default 3)")
    parser.add_argument("--threads", type=int, default=2, help="threads of each contender (default 2)")
    parser.add_argument("--run", nargs=2, metavar=("CONTENDER", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run_here(options.run[0], Path(options.run[1]), options.threads)
        return
    path = make_file(options.rows)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    for _ in range(options.runs):
        for name in CONTENDERS:
            runs[name].append(run_apart(name, path, options.threads))
    assert len({took["distinct"] for each in runs.values() for took in each}) == 1
    torch.set_num_threads(options.threads)
    about = environment("pyarrow", "polars")
    rows = []
    for name, each in runs.items():
        medians = {key: statistics.median(took[key] for took in each) for key in each[0]}
        ours_took = statistics.median(took["seconds"] for took in runs[OURS])
        ours_spent = statistics.median(took["processor_s"] for took in runs[OURS])
        rows.append(
            {
                "contender": name,
                "rows": options.rows,
                "distinct": int(medians["distinct"]),
                "runs": options.runs,
                "seconds": f"{medians['seconds']:.2f}",
                "fastest_s": f"{min(took['seconds'] for took in each):.2f}",
                "slowest_s": f"{max(took['seconds'] for took in each):.2f}",
                "processor_s": f"{medians['processor_s']:.2f}",
                "first_s": f"{medians['first_s']:.2f}",
                "peak_mb": f"{medians['peak_mb']:.0f}",
                "ours_is_faster_by": f"{medians['seconds'] / ours_took:.2f}",
                "by_processor_s": f"{medians['processor_s'] / ours_spent:.2f}",
                **about,
            }
        )
    for row in rows:
        print(
            f"{row['contender']:34} {row['seconds']:>6} s ({row['fastest_s']} to {row['slowest_s']})  processor "
            f"{row['processor_s']:>6} s  peak {row['peak_mb']:>5} MB  {row['ours_is_faster_by']} × ours"
        )
    print(f"written to {write_results('fit_vocabulary', rows)}")


if __name__ == "__main__":
    main()
