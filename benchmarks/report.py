"""Make docs/performance.md from the result files: ``python -m benchmarks.report``. Losing rows are told as well."""

from collections.abc import Callable
from itertools import groupby
from pathlib import Path

from benchmarks import report_encode
from benchmarks.harness import RESULTS, read_results
from benchmarks.tables import Row, table, verdict

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"

ADAM, EXACT = "catembed Adam", "catembed Adam, exact"
ROWWISE, FBGEMM = "catembed RowwiseAdagrad", "FBGEMM row-wise Adagrad"
FUSED, DENSE, SPARSE_ADAM = "nn.Embedding + fused dense Adam", "nn.Embedding + dense Adam", "SparseAdam"

# what is compared, (rows, dim, batch), ours, rival, bar, moonshot: how many times faster than the rival
SPEEDUPS = [
    ("Adam step", (4_000_000, 64, 65_536), ADAM, SPARSE_ADAM, 5, 10),
    ("Adam step", (4_000_000, 64, 65_536), ADAM, FUSED, 30, 60),
    ("Adam step, exact", (4_000_000, 64, 65_536), EXACT, FUSED, 10, 30),
    ("RowwiseAdagrad step", (1_000_000, 64, 65_536), ROWWISE, FBGEMM, 2, 4),
    ("RowwiseAdagrad step", (4_000_000, 128, 65_536), ROWWISE, FBGEMM, 2, 4),
    ("Adam step, small", (1_000, 16, 64), ADAM, DENSE, 1, 2),
    ("Adam step, small", (1_000, 16, 64), ADAM, FUSED, 1, 2),
]

COLUMN_BARS = 3, 8


def size(row: Row) -> str:
    """``4M × 64``."""
    count = int(row["rows"])
    short = f"{count // 10**6}M" if count >= 10**6 else f"{count // 1000}k"
    return f"{short} × {row['dim']}"


def milliseconds(row: Row) -> str:
    """The median and its quartiles, as they were measured."""
    if not row["q1_ms"]:
        return row["median_ms"]
    return f"{float(row['median_ms']):.3g} ms ({float(row['q1_ms']):.3g} – {float(row['q3_ms']):.3g})"


def cases(rows: list[Row], key: Callable[[Row], object]) -> list[list[Row]]:
    """Neighbouring rows of one case."""
    return [list(group) for _, group in groupby(rows, key)]


def pairs(rows: list[Row]) -> list[tuple[Row, list[Row]]]:
    """Ours with the rivals that ran beside it: a case of the bars begins with our contender."""
    found: list[tuple[Row, list[Row]]] = []
    for row in rows:
        if row["contender"].startswith("catembed"):
            found.append((row, []))
        else:
            found[-1][1].append(row)
    return found


def speedups(rows: list[Row]) -> str:
    """The bars that are ratios to a rival."""
    lines = []
    for what, (count, dim, batch), ours, rival, bar, moonshot in SPEEDUPS:
        case = {"rows": str(count), "dim": str(dim), "batch": str(batch), "contender": ours}
        for mine, others in pairs(rows):
            for other in others:
                if case.items() <= mine.items() and other["contender"] == rival:
                    ratio = float(other["median_ms"]) / float(mine["median_ms"])
                    reached = verdict(ratio, bar, moonshot)
                    where = f"{size(mine)}, {int(mine['batch']):,} ids"
                    goal = f"{bar} × / {moonshot} ×"
                    cells = (milliseconds(mine), f"{rival}: {milliseconds(other)}", f"**{ratio:.1f} ×**", goal, reached)
                    lines.append([what, where, *cells])
    return table(["step", "table and batch", "catembed", "rival", "faster by", "bar / moonshot", "reached"], lines)


def floors(rows: list[Row]) -> str:
    """Our steps over the time that moving their bytes once would take."""
    lines = []
    for mine, _ in pairs(rows):
        over = float(mine["median_ms"]) / float(mine["floor_ms"])
        case = f"{size(mine)}, {int(mine['batch']):,} ids"
        lines.append(
            [mine["contender"], case, milliseconds(mine), f"{float(mine['floor_ms']):.3g} ms", f"{over:.1f} ×"]
        )
    return table(["step", "table and batch", "time", "memory floor", "over the floor"], lines)


def hundredfold(rows: list[Row]) -> str:
    """One sentence: the same batch on 100 times more rows."""
    found = {
        int(row["rows"]): float(row["median_ms"]) for row in rows if row["dim"] == "16" and row["batch"] == "65536"
    }
    if len(found) < 2:
        return "The table of 100M rows did not fit in this machine's memory.\n"
    ratio = found[100_000_000] / found[1_000_000]
    return (
        f"A RowwiseAdagrad step of 65,536 ids takes {found[1_000_000]:.2f} ms on 1M × 16 and "
        f"{found[100_000_000]:.2f} ms on 100M × 16: **{ratio:.2f} ×** for a hundred "
        "times more rows (bar 2 ×, moonshot 1.3 ×).\n"
    )


def grid(rows: list[Row]) -> str:
    """One table a batch size and distribution: every contender in milliseconds, ours beside the rivals."""
    parts = []
    chosen = sorted(rows, key=lambda row: (int(row["batch"]), row["ids"]))
    for group in cases(chosen, lambda row: (row["batch"], row["ids"])):
        names = list(dict.fromkeys(row["contender"] for row in group))
        lines = []
        for case in cases(sorted(group, key=lambda r: (int(r["rows"]), int(r["dim"]))), size):
            figures = {row["contender"]: row for row in case}
            lines.append([size(case[0]), *(short(figures.get(name)) for name in names)])
        parts.append(f"### {int(group[0]['batch']):,} {group[0]['ids']} ids\n\n" + table(["table", *names], lines))
    return "\n".join(parts)


def short(row: Row | None) -> str:
    """A cell of the grid."""
    if row is None:
        return ""
    return f"{float(row['median_ms']):.3g}" if row["q1_ms"] else row["median_ms"]


def losses(rows: list[Row]) -> str:
    """The cases of the grid where a rival beats the best of ours in its family."""
    lines = []
    for family in ("Adam", "Adagrad"):
        mine = [row for row in rows if row["q1_ms"] and of_family(row, family)]
        chosen = sorted(mine, key=lambda r: (int(r["rows"]), int(r["dim"]), int(r["batch"]), r["ids"]))
        for case in cases(chosen, lambda r: (r["rows"], r["dim"], r["batch"], r["ids"])):
            lead = case_best(case, ours=True)
            rival = case_best(case, ours=False)
            if lead and rival and float(rival["median_ms"]) < float(lead["median_ms"]):
                ratio = float(lead["median_ms"]) / float(rival["median_ms"])
                where = f"{size(lead)}, {int(lead['batch']):,} {lead['ids']} ids"
                lines.append([where, lead["contender"], rival["contender"], f"{ratio:.2f} ×"])
    if not lines:
        return "In this run no rival was faster than the best of ours in its family.\n"
    return table(["case", "ours", "faster rival", "slower by"], lines)


def of_family(row: Row, family: str) -> bool:
    """Whether the contender is an Adam or an Adagrad."""
    return family in row["contender"]


def case_best(case: list[Row], *, ours: bool) -> Row | None:
    """The fastest contender of a case, ours or the rivals'."""
    chosen = [row for row in case if row["contender"].startswith("catembed") == ours]
    return min(chosen, key=lambda row: float(row["median_ms"]), default=None)


def bags(rows: list[Row]) -> str:
    """Ours beside every rival: pooling bags, and training steps of them."""
    lines = [
        [f"{row['case']}, {row['ids']} ids", row["contender"], milliseconds(row), f"{float(row['ratio']):.2f} ×"]
        for row in rows
    ]
    return table(["", "contender", "time", "our speed-up"], lines)


def columns(rows: list[Row]) -> str:
    """Ours beside a layer for each column; the first case is the bar."""
    lines = []
    for number, case in enumerate(cases(rows, lambda row: (row["case"], row["batch"]))):
        for row in case:
            what = f"{row['case']}, {row['columns']} × {int(row['rows']):,} × {row['dim']}, {int(row['batch']):,} rows"
            ratio = float(row["ratio"])
            barred = number == 0 and not row["contender"].startswith("catembed")
            reached = verdict(ratio, *COLUMN_BARS) if barred else ""
            lines.append([what, row["contender"], milliseconds(row), f"{ratio:.2f} ×", reached])
    return table(["", "contender", "time", "our speed-up", "bar 3 × / moonshot 8 ×"], lines)


def page() -> str:
    """The whole page."""
    bars = read_results("train_step_bars")
    facts = bars[0]
    parts = [
        "# Performance\n",
        "Made by `python -m benchmarks.report` from `benchmarks/results`; not written by hand.\n",
        f"Measured {facts['date']} on {facts['processor']}, {facts['threads']} threads; {facts['versions']}. "
        f"Copying memory runs at {facts['copy_gb_per_s']} GB/s there (read + write).\n",
        "A step is lookup, backward and update. Contenders run in turn within one process; figures are medians with "
        "quartiles. Rivals run with their defaults, dense Adam with `fused=True` too. The memory floor is the bytes "
        "a step must move once, over the measured copy speed.\n",
        "## The bars\n",
        speedups(bars),
        hundredfold(bars),
        "## Over the memory floor\n",
        floors(bars),
        "## Peak extra memory of one step\n",
        "Beyond weight and state, in units of batch × dim × 4 bytes; the lookup's output is one of them (bar: 3).\n",
        table(
            ["step", "peak"],
            [[row["contender"], row["peak_over_batch_dim_bytes"]] for row in read_results("train_step_memory")],
        ),
    ]
    if (RESULTS / "train_step_grid.csv").exists():
        rows = read_results("train_step_grid")
        parts += [
            "## Where we lose\n",
            losses(rows),
            "## The grid\n",
            "Milliseconds, medians. Sizes that are not here were not measured in this run.\n",
            grid(rows),
        ]
    pooled = read_results("bags")
    what = f"{size(pooled[0])}, {int(pooled[0]['bags']):,} bags of {pooled[0]['length']} ids"
    parts += [f"## Bags\n\nSums of {what}; measured on {pooled[0]['processor']}.\n", bags(pooled)]
    many = read_results("columns")
    parts += [
        f"## Many columns\n\nOf an `EmbeddingCollection`; measured {many[0]['date']} on {many[0]['processor']}, "
        f"{many[0]['threads']} threads. Where a batch has one or a few rows, looking at 40 columns costs more than "
        "their vectors, and we lose.\n",
        columns(many),
    ]
    parts.append(report_encode.section())
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote {PAGE.name}")
