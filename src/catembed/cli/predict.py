"""``catembed predict``: what a fitted model says about the rows of a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from catembed.cli.output import console


def predict(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that catembed fit wrote.")],
    source: Annotated[str, typer.Argument(metavar="TABLE", help="A CSV, Parquet or Arrow file, or a glob in quotes.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write: .csv, .parquet or .arrow.")],
) -> None:
    """Predict the target for every row of TABLE, in its order.

    Writes a column 'prediction' and, for classes, 'probability_<class>' for each.
    """
    from catembed import tabular

    tabular.check_file(out)
    predicted = tabular.Fitted.load(model).predict(source)
    tabular.write(predicted, out)
    console().print(f"Wrote {out}: {predicted.num_rows:,} rows, {', '.join(predicted.column_names)}", soft_wrap=True)
