"""The part of docs/performance.md about vocabularies; called by ``benchmarks.report``."""

from itertools import groupby

from benchmarks.harness import RESULTS, read_results
from benchmarks.tables import Row, table, verdict

OURS = "catembed"
ARROW, LIST, NUMPY = "catembed, Arrow", "catembed, list", "catembed, NumPy"
LIBRARIES = ("pandas", "polars", "pyarrow")

# what is compared, case, ours, the rivals (the best of them counts), bar, moonshot: how many times faster
SPEEDUPS = [
    ("Arrow column, against a dict over a list", "string", ARROW, ("dict",), 12, 30),
    ("Arrow column, against the best of pandas, polars, pyarrow", "string", ARROW, LIBRARIES, 15, 40),
    ("int64, against pandas", "int64", NUMPY, ("pandas",), 3, 10),
    ("int64 far apart, against pandas", "int64, far", NUMPY, ("pandas",), 3, 10),
    ("Python list, against a dict", "string", LIST, ("dict",), 5, 10),
]


def milliseconds(text: str) -> str:
    """Three digits, in microseconds where that is shorter."""
    value = float(text)
    return f"{value * 1000:.3g} µs" if value < 0.1 else f"{value:.3g} ms"


def speedups(rows: list[Row]) -> str:
    """65,536 uniform values against a vocabulary of a million: the bars that are ratios."""
    lines = []
    for what, case, ours, rivals, bar, moonshot in SPEEDUPS:
        found = [r for r in rows if (r["case"], r["values"], r["distribution"]) == (case, "65536", "uniform")]
        found = [row for row in found if row["categories"] == "1000000"]
        mine = next(row for row in found if row["contender"] == ours)
        best = min(
            (row for row in found if row["contender"].startswith(rivals)), key=lambda row: float(row["median_ms"])
        )
        ratio, between = (float(best[key]) / float(mine[key]) for key in ("median_ms", "between_ms"))
        figures = milliseconds(mine["median_ms"]), f"{best['contender']}: {milliseconds(best['median_ms'])}"
        reached = verdict(ratio, bar, moonshot)
        lines.append([what, *figures, f"**{ratio:.1f} ×**", f"{between:.1f} ×", f"{bar} × / {moonshot} ×", reached])
    head = [
        "65,536 values, 1M categories",
        "catembed",
        "rival",
        "faster by",
        "between other work",
        "bar / moonshot",
        "reached",
    ]
    return table(head, lines)


def facts(rows: list[Row], memory: list[Row]) -> str:
    """The bars that are no ratios."""
    one = next(row for row in rows if row["contender"] == "catembed, one string")
    figures = {row["what"]: row["figure"] for row in memory}
    opened = float(figures["10M categories: open, verify=False, and one lookup, ms"])
    extra = float(figures["bytes per category beyond its own, string"])
    lines = [
        [
            "one Python string",
            milliseconds(one["median_ms"]),
            "10 µs / 4 µs",
            at_most(float(one["median_ms"]), 0.01, 0.004),
        ],
        ["bytes for each category beyond its own", f"{extra:.1f}", "24 / 12", at_most(extra, 24, 12)],
        ["open 10M categories, one lookup", f"{opened:.2g} ms", "50 ms / 5 ms", at_most(opened, 50, 5)],
    ]
    others = [[what, figure, "", ""] for what, figure in figures.items() if "open, verify=False" not in what]
    return table(["", "measured", "bar / moonshot", "reached"], lines + others)


def at_most(value: float, bar: float, moonshot: float) -> str:
    """Whether a figure that is to be small is."""
    return verdict(1 / value, 1 / bar, 1 / moonshot)


def everything(rows: list[Row]) -> str:
    """All cases, in milliseconds; the fastest in bold, whoever it is."""
    parts = []
    for (case, count), group in groupby(rows, lambda row: (row["case"], int(row["categories"]))):
        lines = []
        for row in (group := list(group)):
            same = [r for r in group if (r["values"], r["distribution"]) == (row["values"], row["distribution"])]
            best = min(float(other["median_ms"]) for other in same)
            shown = milliseconds(row["median_ms"])
            shown = f"**{shown}**" if float(row["median_ms"]) == best else shown
            cold = [milliseconds(row[key]) if float(row[key]) else "" for key in ("between_ms", "cold_ms")]
            lines.append([f"{int(row['values']):,} {row['distribution']}", row["contender"], shown, *cold])
        head = ["values", "contender", "batch after batch", "between other work", "made, and called once"]
        parts.append(f"### {case}, {count:,} categories\n\n" + table(head, lines))
    return "\n".join(parts)


def fitting() -> str:
    """Counting a file of 100M rows."""
    lines = [
        [
            r["contender"],
            f"{float(r['seconds']):.1f} s ({r['fastest_s']} – {r['slowest_s']})",
            r["processor_s"],
            r["peak_mb"],
        ]
        for r in read_results("fit_vocabulary")
    ]
    first = read_results("fit_vocabulary")[0]
    said = f"{int(first['rows']):,} rows of text, {int(first['distinct']):,} distinct, Zipf, from Parquet.\n"
    return said + "\n" + table(["", "time", "processor seconds", "peak MB"], lines)


def section() -> str:
    """All of it, with a heading."""
    rows, memory = read_results("encode"), read_results("encode_memory")
    about = rows[0]
    parts = [
        "## Vocabularies\n",
        f"Measured {about['date']} on {about['processor']}, {about['threads']} threads; {about['versions']}. "
        'Contenders run in turn, batch after batch for 20 ms; "between other work" is a single batch after all the '
        "others, with nothing left in the caches. Results are compared before they are timed.\n",
        speedups(rows),
        facts(rows, memory),
    ]
    if (RESULTS / "fit_vocabulary.csv").exists():
        parts += ["### Fitting\n", fitting()]
    return "\n".join([*parts, everything(rows)])
