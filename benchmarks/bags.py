"""Bags pooled, and a training step of bags, of ours beside every rival: ``python -m benchmarks.bags``.

Prints the ratios and writes ``benchmarks/results/bags.csv`` (about 2 minutes). Run it on an idle machine: ``--threads``
is 2 unless told. Every contender does the same work: pool the same bags with the sum, and for a step run backward with
the same gradient and update by row-wise Adagrad. Rivals run with their defaults; FBGEMM's layer updates in backward.
"""

import argparse
import gc
from collections.abc import Callable

import torch

import catembed
from benchmarks import contenders as who
from benchmarks.harness import environment, interleave, summary, write_results
from benchmarks.train_step import UNIFORM, ZIPF, make_batches, rotation, wait_for_huge_pages
from catembed import optim

ROWS, DIM, BAGS, LENGTH = 4_000_000, 64, 8_192, 20
OURS, TORCH, FBGEMM = "catembed", "nn.EmbeddingBag", "FBGEMM"


def forwards() -> dict[str, Callable[[torch.Tensor, torch.Tensor], object]]:
    """Pooling without a gradient to come; bags arrive as flat ids, the form that all take."""
    offsets = torch.arange(0, BAGS * LENGTH + 1, LENGTH)
    layers = {
        OURS: catembed.EmbeddingBag(ROWS, DIM, mode="sum", include_last_offset=True),
        TORCH: torch.nn.EmbeddingBag(ROWS, DIM, mode="sum", include_last_offset=True),
        FBGEMM: who.fbgemm_table(ROWS, DIM, "EXACT_ROWWISE_ADAGRAD"),
    }

    def forward(layer):
        def call(ids: torch.Tensor, grad: torch.Tensor) -> object:
            with torch.no_grad():
                return layer(ids, offsets)

        return call

    return {name: forward(layer) for name, layer in layers.items()}


def steps() -> dict[str, Callable[[torch.Tensor, torch.Tensor], object]]:
    """Lookup, backward and row-wise Adagrad; torch's layer has ours for an optimiser, having none of its own."""
    offsets = torch.arange(0, BAGS * LENGTH + 1, LENGTH)

    def train(layer):
        optimizer = optim.RowwiseAdagrad(layer.parameters(), lr=0.01)

        def call(ids: torch.Tensor, grad: torch.Tensor) -> None:
            optimizer.zero_grad()
            layer(ids, offsets).backward(grad)
            optimizer.step()

        return call

    table = who.fbgemm_table(ROWS, DIM, "EXACT_ROWWISE_ADAGRAD")
    options = {"mode": "sum", "sparse": True, "include_last_offset": True}
    return {
        OURS: train(catembed.EmbeddingBag(ROWS, DIM, **options)),
        TORCH: train(torch.nn.EmbeddingBag(ROWS, DIM, **options)),
        FBGEMM: lambda ids, grad: table(ids, offsets).backward(grad),
    }


CASES = {"forward": forwards, "RowwiseAdagrad step": steps}


def measure(case: str, ids: str, seconds: float) -> list[dict]:
    """Result rows of one case: one for each contender."""
    batches = make_batches(ROWS, BAGS * LENGTH, ids, 16)
    grad = torch.randn(BAGS, DIM) * 0.01
    calls = {name: rotation(call, batches, grad) for name, call in CASES[case]().items()}
    for _ in range(20):
        calls[OURS]()
    wait_for_huge_pages()
    times = interleave(calls, seconds=seconds)
    rows = []
    for name, taken in times.items():
        median, low, high = summary(taken)
        ratio = median / summary(times[OURS])[0]
        print(f"{case:<20} {ids:<10} {name:<16} {median:8.2f} ms [{low:.2f} .. {high:.2f}]  {ratio:5.2f} x", flush=True)
        figures = {"median_ms": f"{median:.4g}", "q1_ms": f"{low:.4g}", "q3_ms": f"{high:.4g}", "ratio": f"{ratio:.3g}"}
        what = {"case": case, "rows": ROWS, "dim": DIM, "bags": BAGS, "length": LENGTH, "ids": ids, "contender": name}
        rows.append(what | figures)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=15, help="time for each case (default 15)")
    parser.add_argument("--threads", type=int, default=2, help="torch threads (default 2)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    facts, rows = environment("fbgemm-gpu-cpu"), []
    for case in CASES:
        for ids in (UNIFORM, ZIPF):
            rows += [row | facts for row in measure(case, ids, options.seconds)]
            gc.collect()
    write_results("bags", rows)


if __name__ == "__main__":
    main()
