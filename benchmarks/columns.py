"""Many columns looked up and trained together, ours beside a layer for each: ``python -m benchmarks.columns``.

Prints the ratios and writes ``benchmarks/results/columns.csv`` (about a minute). Run it on an idle machine:
``--threads`` is 2 unless told. Every contender does the same work: the vectors of all columns side by side, and for a
step backward with the same gradient and Adam. On dense gradients every Adam is torch's fused one, catembed's too.
"""

import argparse
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import torch

import catembed
from benchmarks.harness import environment, interleave, summary, write_results

OURS, TORCH = "catembed", "nn.Embedding for each column"
Call = Callable[[], object]


class Each(torch.nn.Module):
    """What people write: a layer for each column, and ``cat``."""

    def __init__(self, columns: int, rows: int, dim: int, sparse: bool = False) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Embedding(rows, dim, sparse=sparse) for _ in range(columns))

    def forward(self, ids: dict[str, torch.Tensor]) -> torch.Tensor:
        """The vectors of all columns side by side."""
        return torch.cat([layer(each) for layer, each in zip(self.layers, ids.values(), strict=True)], 1)


def together(columns: int, rows: int, dim: int, sparse: bool = False) -> catembed.EmbeddingCollection:
    return catembed.EmbeddingCollection({name: catembed.Embedding(rows, dim, sparse=sparse) for name in names(columns)})


def names(columns: int) -> list[str]:
    return [f"column {number}" for number in range(columns)]


def train(layer: Callable, optimizer: torch.optim.Optimizer, inputs: object, grad: torch.Tensor) -> Call:
    def step() -> None:
        optimizer.zero_grad()
        layer(inputs).backward(grad)
        optimizer.step()

    return step


def look(layer: Callable, inputs: object) -> Call:
    def call() -> None:
        with torch.no_grad():
            layer(inputs)

    return call


def ids(columns: int, rows: int, batch: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randint(rows, (batch,), generator=generator) for name in names(columns)}


def lookup(columns: int, rows: int, dim: int, batch: int) -> dict[str, Call]:
    given = ids(columns, rows, batch)
    return {OURS: look(together(columns, rows, dim), given), TORCH: look(Each(columns, rows, dim), given)}


def adam(columns: int, rows: int, dim: int, batch: int) -> dict[str, Call]:
    given, grad = ids(columns, rows, batch), torch.randn(batch, columns * dim) * 0.01
    ours, theirs = together(columns, rows, dim), Each(columns, rows, dim)
    return {
        OURS: train(ours, catembed.optim.Adam(ours.parameters(), fused=True), given, grad),
        TORCH: train(theirs, torch.optim.Adam(theirs.parameters(), fused=True), given, grad),
    }


def row_adam(columns: int, rows: int, dim: int, batch: int) -> dict[str, Call]:
    """Large tables: row gradients, beside torch's dense ones and its SparseAdam."""
    given, grad = ids(columns, rows, batch), torch.randn(batch, columns * dim) * 0.01
    ours, dense, sparse = together(columns, rows, dim, True), Each(columns, rows, dim), Each(columns, rows, dim, True)
    return {
        OURS: train(ours, catembed.optim.Adam(ours.parameters()), given, grad),
        TORCH: train(dense, torch.optim.Adam(dense.parameters(), fused=True), given, grad),
        "nn.Embedding, SparseAdam": train(sparse, torch.optim.SparseAdam(sparse.parameters()), given, grad),
    }


def from_text(columns: int, rows: int, dim: int, batch: int) -> dict[str, Call]:
    """From a batch of strings to vectors: ours from an Arrow table, theirs by a dict for each column."""
    categories = [f"category {number:06}" for number in range(rows)]
    chosen = [np.random.default_rng(number).integers(0, rows, batch) for number in range(columns)]
    lists = {name: [categories[at] for at in each] for name, each in zip(names(columns), chosen, strict=True)}
    ours = catembed.EmbeddingCollection({name: catembed.CategoryEmbedding(categories, dim) for name in names(columns)})
    table, theirs = pa.table(lists), Each(columns, rows, dim)
    known = {category: number for number, category in enumerate(categories)}

    def by_dict(batch: dict[str, list[str]]) -> torch.Tensor:
        return theirs({name: torch.tensor([known[value] for value in column]) for name, column in batch.items()})

    return {OURS: look(ours, table), TORCH: look(by_dict, lists)}


CASES = [
    ("lookup + backward + Adam", adam, (40, 1_000, 16, 4_096)),
    ("lookup + backward + Adam", adam, (40, 1_000, 16, 256)),
    ("lookup", lookup, (40, 1_000, 16, 4_096)),
    ("lookup", lookup, (40, 1_000, 16, 1)),
    ("lookup from strings", from_text, (40, 1_000, 16, 4_096)),
    ("lookup + backward + row Adam", row_adam, (26, 100_000, 16, 4_096)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8, help="time for each case (default 8)")
    parser.add_argument("--threads", type=int, default=2, help="torch threads (default 2)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    facts, results = environment(), []
    for case, make, (columns, rows, dim, batch) in CASES:
        times = interleave(make(columns, rows, dim, batch), seconds=options.seconds)
        for name, taken in times.items():
            median, low, high = summary(taken)
            ratio = median / summary(times[OURS])[0]
            what = f"{case}, {columns} × {rows:,} × {dim}, batch {batch:,}"
            print(f"{what:<64} {name:<30} {median:8.3f} ms [{low:.3f} .. {high:.3f}]  {ratio:5.2f} x", flush=True)
            results.append(
                {"case": case, "columns": columns, "rows": rows, "dim": dim, "batch": batch, "contender": name}
                | {"median_ms": f"{median:.4g}", "q1_ms": f"{low:.4g}", "q3_ms": f"{high:.4g}", "ratio": f"{ratio:.3g}"}
                | facts
            )
    write_results("columns", results)


if __name__ == "__main__":
    main()
