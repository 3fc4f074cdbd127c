"""``fit``: from a table and a target to trained embeddings, step by step."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from catembed.errors import TableError
from catembed.tabular import target_encoding
from catembed.tabular.encoding import Encoder
from catembed.tabular.fitted import Fitted
from catembed.tabular.model import Inputs, OneHotLinear
from catembed.tabular.models import kind
from catembed.tabular.objective import Objective
from catembed.tabular.reading import read, text_columns
from catembed.tabular.relations import crossed, shared
from catembed.tabular.schema import SEPARATOR, Schema, classify
from catembed.tabular.split import by_time, random_split
from catembed.tabular.target import Labels, Target, labels
from catembed.tabular.training import History, Progress, Recipe, outputs, train

_LINEAR = Recipe(learning_rate=1e-2, table_decay=1e-2, hide_rare=False)


@dataclass(frozen=True)
class Plan:
    """What ``fit`` is about to do, before it trains: the columns, the task, the rows."""

    target: Target
    schema: Schema
    task: str
    classes: list[Any]
    rows: int
    without_target: int
    train_rows: int
    valid_rows: int
    split: str
    model: str
    share: list[tuple[str, ...]]


def fit(
    table: Any,
    target: str,
    *,
    model: str = "mlp",
    task: str | None = None,
    categorical: Sequence[str] = (),
    numeric: Sequence[str] = (),
    ignore: Sequence[str] = (),
    lists: Sequence[str] = (),
    separator: str = SEPARATOR,
    share: Sequence[Sequence[str]] = (),
    cross: Sequence[Sequence[str]] = (),
    cross_buckets: int | None = None,
    valid: Any = None,
    valid_by_time: str | None = None,
    valid_fraction: float = 0.2,
    epochs: int | None = None,
    embedding_dim: int | None = None,
    baseline: bool = True,
    seed: int = 0,
    watch: Callable[[Plan | Progress], None] = lambda event: None,
) -> Fitted:
    """Learn vectors for every categorical column of a table by predicting a target.

    Args:
        table: a CSV, Parquet or Arrow file, a glob of them, a pandas, polars or Arrow table, or a dict of columns.
        target: a column, or a comparison of one with a value, such as ``"arr_delay > 15"``. That column is no feature.
        model: ``"mlp"`` (entity embeddings, a multilayer perceptron and target encodings), ``"fm"`` (a factorisation
            machine) or ``"deepfm"`` (that and a multilayer perceptron).
        task: ``"regression"``, ``"binary"`` or ``"multiclass"``; by default numbers of more than two values are
            regression, and text, booleans and categories are classes.
        categorical: columns that are categories, whatever they look like.
        numeric: columns that are quantities.
        ignore: columns to leave out.
        lists: columns of text that holds several categories; columns of lists are recognised.
        separator: what divides that text.
        share: groups of columns that have one vocabulary and one table, such as ``[("origin", "dest")]``.
        cross: groups of columns whose combination is a feature as well, hashed; such as ``[("origin", "dest")]``.
        cross_buckets: how many rows the combinations of each cross share; by default two to four times as many as they
            are.
        valid: a table to validate on, instead of a part of ``table``.
        valid_by_time: a column of dates or numbers: validate on the latest rows instead of random ones.
        valid_fraction: the part of the rows that is validated on.
        epochs: passes over the rows at most, by default 6 or, for a small table, more; training ends earlier if the
            validation loss stops falling.
        embedding_dim: the length of all vectors; by default it follows from how many categories a column has.
        baseline: whether to train the linear baseline of the report as well.
        seed: the same seed gives the same result, on the same machine with as many threads.
        watch: called with the ``Plan`` before training and with ``Progress`` ten times a second.

    Raises:
        TableError: a table or target that nothing can be learned from; the message says why.

    >>> rows = {"fruit": ["apple", "banana", "candy"] * 40, "sweet": [False, True, True] * 40}
    >>> fitted = fit(rows, target="sweet", epochs=1)
    >>> fitted.layers["fruit"].vectors("banana").shape
    torch.Size([4])
    >>> fitted.predict({"fruit": ["apple", "kiwi", None]}).column_names
    ['prediction', 'probability_false', 'probability_true']

    A factorisation machine with a column of lists:

    >>> rows = {"user": ["ann", "bob"] * 40, "tags": [["old", "red"], []] * 40, "stars": [1, 5, 4, 2] * 20}
    >>> sorted(fit(rows, target="stars", model="fm", epochs=1).layers["tags"].vocabulary)
    ['old', 'red']
    """
    start = time.perf_counter()
    _check_numbers(valid_fraction, epochs, embedding_dim, seed)
    kind(model)
    if valid is not None and valid_by_time is not None:
        raise TableError("validation rows come from a file or are the latest ones, not both")
    whole = read(table, text=lists)
    goal = Target.parse(target, whole.column_names)
    known = labels(goal, goal.values(whole), task)
    schema = classify(
        whole, goal.column, categorical=categorical, numeric=numeric, ignore=ignore, lists=lists, separator=separator
    )
    schema = crossed(schema, cross, cross_buckets, whole)
    groups = shared(schema, share, whole)
    if model == "fm" and len(schema.features) < 2:
        raise TableError(
            f"a factorisation machine is of pairs of features, and there is one: {schema.features[0].name!r}; take "
            "another model, or another column with it"
        )
    rows = whole.filter(pa.array(known.present))
    if valid is not None:
        training, trained = rows, known.values
        validation, validated = _validation(valid, whole, lists, goal, known)
        split = "the validation table given"
    else:
        chosen, split = (
            random_split(len(known.values), valid_fraction, seed)
            if valid_by_time is None
            else by_time(rows, valid_by_time, valid_fraction)
        )
        training, trained = rows.filter(pa.array(~chosen)), known.values[~chosen]
        validation, validated = rows.filter(pa.array(chosen)), known.values[chosen]
    _check_rows(goal, trained, validated)
    plan = Plan(
        goal,
        schema,
        known.task,
        known.classes,
        whole.num_rows,
        whole.num_rows - len(known.values),
        len(trained),
        len(validated),
        split,
        model,
        groups,
    )
    watch(plan)
    encoder = Encoder.fit(schema.features, training, groups, cross_buckets)
    objective = Objective.fit(known.task, known.classes, trained)
    recipe = replace(kind(model).recipe, epochs=epochs)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed other devices for good
        return _train(
            plan,
            encoder,
            objective,
            recipe,
            (training, trained),
            (validation, validated),
            embedding_dim,
            baseline,
            seed,
            start,
            watch,
        )


def _train(
    plan: Plan,
    encoder: Encoder,
    objective: Objective,
    recipe: Recipe,
    training: tuple[pa.Table, np.ndarray],
    validation: tuple[pa.Table, np.ndarray],
    embedding_dim: int | None,
    baseline: bool,
    seed: int,
    start: float,
    watch: Callable[[Progress], None],
) -> Fitted:
    chosen, single = kind(plan.model), encoder.num_categorical
    rows, sizes = encoder.encode(training[0]), [len(each) for each in encoder.vocabularies.values()]
    most = target_encoding.most_inputs(len(rows)) if chosen.encodes else 0
    encoding, own = target_encoding.fit(
        rows.ids[:, :single],
        sizes[:single],
        objective.averaged(training[1]),
        most=most,
        logits=objective.task != "regression",
        seed=seed,
    )
    columns = chosen.columns(encoder.vocabularies, len(encoder.lists), embedding_dim)
    model = chosen.build(columns, encoder.num_numbers, encoding.num_inputs, objective.num_outputs)
    valid_rows = encoder.encode(validation[0])
    inputs = Inputs(rows.ids, rows.bags, rows.numbers, own)
    valid_inputs = Inputs(valid_rows.ids, valid_rows.bags, valid_rows.numbers, encoding.encode(valid_rows.ids))
    data = inputs, objective.targets(training[1]), valid_inputs, objective.targets(validation[1])
    counts = encoder.counts(rows)
    generator = torch.Generator().manual_seed(seed)
    history = train(model, objective, recipe, *data, counts=counts, generator=generator, report=watch)

    def measured(predictions: np.ndarray) -> dict[str, float | None]:
        return objective.metrics(validation[1], predictions)

    metrics = {"catembed": measured(objective.predictions(outputs(model, valid_inputs)))}
    if baseline and not history.interrupted:
        linear = OneHotLinear(sizes, encoder.num_numbers, objective.num_outputs)
        if not train(linear, objective, _LINEAR, *data, generator=generator).interrupted:
            metrics["one-hot linear"] = measured(objective.predictions(outputs(linear, valid_inputs)))
    metrics["mean"] = measured(objective.constant(training[1], len(validation[1])))
    fitted = Fitted(plan.target, plan.schema, encoder, encoding, objective, plan.model, model, {})
    fitted.report.update(_report(plan, fitted, history, metrics, seed, time.perf_counter() - start))
    return fitted


def _report(
    plan: Plan, fitted: Fitted, history: History, metrics: dict[str, dict[str, float | None]], seed: int, seconds: float
) -> dict[str, Any]:
    return {
        "target": str(plan.target),
        "model": plan.model,
        "task": plan.task,
        "metric": fitted.objective.metric,
        "validation": metrics,
        "rows": {
            "table": plan.rows,
            "without target": plan.without_target,
            "training": plan.train_rows,
            "validation": plan.valid_rows,
        },
        "split": plan.split,
        "tables": [
            {"column": name, "rows": len(layer), "dimension": layer.embedding.embedding_dim}
            for name, layer in fitted.layers.items()
        ],
        "combinations": len(fitted.target_encoding.cells),
        "epochs": len(history.losses),
        "best_epoch": history.best,
        "validation_losses": history.losses,
        "interrupted": history.interrupted,
        "seconds": round(seconds, 3),
        "training_seconds": round(history.seconds, 3),
        "rows_per_second": round(history.rows_per_second),
        "seed": seed,
    }


def _validation(
    valid: Any, whole: pa.Table, lists: Sequence[str], goal: Target, known: Labels
) -> tuple[pa.Table, np.ndarray]:
    table = read(valid, text=[*text_columns(whole), *lists])
    if goal.column not in table.column_names:
        raise TableError(f"the validation table has no column {goal.column!r}, which makes the target")
    found = labels(goal, goal.values(table), known.task, known.classes)
    return table.filter(pa.array(found.present)), found.values


def _check_numbers(valid_fraction: float, epochs: int | None, embedding_dim: int | None, seed: int) -> None:
    if not 0 < valid_fraction < 1:
        raise TableError(f"the fraction of validation rows must lie between 0 and 1, got {valid_fraction}")
    if epochs is not None and epochs < 1:
        raise TableError(f"epochs must be at least 1, got {epochs}")
    if embedding_dim is not None and embedding_dim < 1:
        raise TableError(f"embedding_dim must be at least 1, got {embedding_dim}")
    if not 0 <= seed < 2**63:
        raise TableError(f"the seed must be a whole number from 0 to 2⁶³ - 1, got {seed}")


def _check_rows(goal: Target, trained: np.ndarray, validated: np.ndarray) -> None:
    for what, values in (("training", trained), ("validation", validated)):
        if not len(values):
            raise TableError(f"target {str(goal)!r}: no row is left for {what}")
    if (trained == trained[0]).all():
        raise TableError(f"target {str(goal)!r} is constant in the training rows; nothing to learn from them")
