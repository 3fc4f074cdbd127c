"""``catembed fit``: learn vectors for the categorical columns of a table."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from catembed.cli.output import console, duration, figure, print_json, show, table
from catembed.cli.progress import Watch

if TYPE_CHECKING:
    from catembed.tabular import Fitted, Plan


_MODELS = {
    "mlp": "multilayer perceptron",
    "fm": "factorisation machine",
    "deepfm": "factorisation machine and multilayer perceptron",
}


class Model(StrEnum):
    """What is trained."""

    mlp = "mlp"
    fm = "fm"
    deepfm = "deepfm"


class Task(StrEnum):
    """What kind of target there is."""

    regression = "regression"
    binary = "binary"
    multiclass = "multiclass"


def fit(
    source: Annotated[str, typer.Argument(metavar="TABLE", help="A CSV, Parquet or Arrow file, or a glob in quotes.")],
    target: Annotated[str, typer.Option(help="What to predict: a column, or a comparison: 'arr_delay > 15'.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write.")],
    model: Annotated[
        Model, typer.Option(help="A multilayer perceptron, a factorisation machine, or both on the same vectors.")
    ] = Model.mlp,
    task: Annotated[Task | None, typer.Option(help="The kind of target, if not the one recognised.")] = None,
    categorical: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Take a column as categories; may be repeated.")
    ] = None,
    numeric: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Take a column as a quantity; may be repeated.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Leave a column out; may be repeated.")
    ] = None,
    lists: Annotated[
        list[str] | None,
        typer.Option("--list", metavar="COLUMN", help="Divide the text of a column into categories; may be repeated."),
    ] = None,
    separator: Annotated[str, typer.Option(metavar="TEXT", help="What divides the text of --list columns.")] = "|",
    share: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B",
            help="Columns that have one vocabulary and one table, none with a comma in its name; may be repeated.",
        ),
    ] = None,
    cross: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B",
            help="Columns whose combination is a feature as well, none with a comma in its name; may be repeated.",
        ),
    ] = None,
    cross_buckets: Annotated[
        int | None,
        typer.Option(help="Rows for the combinations of a cross. [default: two to four times as many as there are]"),
    ] = None,
    valid: Annotated[
        str | None, typer.Option(metavar="FILE", help="Validate on this table, not on a part of TABLE.")
    ] = None,
    valid_by_time: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Validate on the latest rows by this column, not random ones.")
    ] = None,
    valid_fraction: Annotated[float, typer.Option(help="The part of the rows to validate on.")] = 0.2,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the rows at most. [default: 6, more if the table is small]")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same result.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Learn vectors for every column of categories of TABLE by predicting a target.

    Writes DIR: one .safetensors file per categorical column, the model, its configuration and a report.
    Ctrl-C ends training and keeps the best so far.
    """
    from catembed import tabular

    tabular.check_writable(out)
    screen = console(stderr=as_json)
    with Watch(screen, lambda plan: _show_plan(screen, plan)) as watch:
        fitted = tabular.fit(
            source,
            target,
            model=str(model),
            task=None if task is None else str(task),
            categorical=categorical or (),
            numeric=numeric or (),
            ignore=ignore or (),
            lists=lists or (),
            separator=separator,
            share=_groups(share),
            cross=_groups(cross),
            cross_buckets=cross_buckets,
            valid=valid,
            valid_by_time=valid_by_time,
            valid_fraction=valid_fraction,
            epochs=epochs,
            seed=seed,
            watch=watch,
        )
    fitted.save(out)
    if as_json:
        print_json(fitted.report)
        return
    _show_report(screen, fitted)
    screen.print(f"Wrote {out}. To go on: catembed info {out}", soft_wrap=True)


def _groups(given: list[str] | None) -> list[list[str]]:
    """Columns divided by commas, each a group."""
    return [[name.strip() for name in each.split(",") if name.strip()] for each in given or ()]


def _show_plan(screen: Console, plan: Plan) -> None:
    columns = table("column", "type", "taken as", "distinct", "missing", "why", right=("distinct", "missing"))
    for each in plan.schema.columns:
        dim = "dim" if each.role in ("ignored", "target") else None
        columns.add_row(
            each.name, each.type, each.role, f"{each.distinct:,}", f"{each.missing:,}", each.reason, style=dim
        )
    show(screen, "Columns", columns)
    kind = plan.task if plan.task != "multiclass" else f"multiclass, {len(plan.classes):,} classes"
    screen.print(f"Target: {plan.target} ({kind}). Column {plan.target.column} is no feature.", soft_wrap=True)
    screen.print(f"Model: {_MODELS[plan.model]}.")
    for group in plan.share:
        screen.print(f"One table: {', '.join(group)}.", soft_wrap=True)
    crosses = [each.name for each in plan.schema.features if each.role == "cross"]
    if crosses:
        screen.print(f"Crosses: {', '.join(crosses)}.", soft_wrap=True)
    if plan.without_target:
        screen.print(f"Dropped {plan.without_target:,} of {plan.rows:,} rows: they have no target.", soft_wrap=True)
    screen.print(f"Rows: {plan.train_rows:,} to train on, {plan.valid_rows:,} to validate on ({plan.split}).\n")


def _show_report(screen: Console, fitted: Fitted) -> None:
    report: dict[str, Any] = fitted.report
    if report["interrupted"]:
        screen.print("Interrupted: kept the best so far.")
    if "one-hot linear" not in report["validation"]:
        screen.print("Interrupted: left out the linear baseline.")
    screen.print(
        f"Kept epoch {report['best_epoch']} of {report['epochs']}. {duration(report['seconds'])} in all, "
        f"{duration(report['training_seconds'])} of them training at {report['rows_per_second']:,} rows/s.\n",
        soft_wrap=True,
    )
    names = list(report["validation"]["catembed"])
    metrics = table("model", *names, right=tuple(names))
    for model, values in report["validation"].items():
        metrics.add_row(
            model, *(figure(name, values[name]) for name in names), style="bold" if model == "catembed" else None
        )
    show(screen, "Validation", metrics)
    tables = table("column", "rows", "dimension", right=("rows", "dimension"))
    for each in report["tables"]:
        tables.add_row(each["column"], f"{each['rows']:,}", str(each["dimension"]))
    if report["tables"]:
        show(screen, "Vectors", tables)
