"""One trained model of a table of features, and what it gives for rows: vectors, turned, and a prediction.

Rows to stop by are drawn from those given, in each class: what is held out by the caller stays unseen.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from catembed import tabular
from catembed.errors import TableError
from catembed.nn import CategoryEmbedding
from catembed.sklearn.align import Turn
from catembed.sklearn.columns import Roles, comparable, free_name, in_words, is_empty

_VALIDATED = 0.1
_PART, _FEWEST = 3, 4  # of the epochs that tabular.fit takes at most: a third, four at least


@dataclass(frozen=True)
class Model:
    """A trained model, and ``layers``: its vectors in the frame that the caller sees."""

    fitted: tabular.Fitted
    layers: dict[str, CategoryEmbedding]

    def vectors(self, table: pa.Table) -> np.ndarray:
        """Float32, (rows, the lengths of all vectors together)."""
        found = [layer.vectors(table.column(name)).numpy() for name, layer in self.layers.items()]
        return np.concatenate(found, 1) if found else np.empty((table.num_rows, 0), np.float32)

    def prediction(self, table: pa.Table, outputs: int) -> np.ndarray:
        """Float32, (rows, outputs): the value, the probability of the second of two classes, or that of each."""
        with in_words():
            predicted = self.fitted.predict(table)
        task = self.fitted.objective.task
        if task != "multiclass":
            name = "prediction" if task == "regression" else "probability_1"
            return predicted.column(name).to_numpy().astype(np.float32)[:, None]
        out = np.zeros((table.num_rows, outputs), np.float32)
        for each in self.fitted.objective.classes:  # a fold may lack one
            out[:, each] = predicted.column(f"probability_{each}").to_numpy()
        return out

    def comparable(self, table: pa.Table) -> pa.Table:
        """A table in which a value never seen is unknown, of whatever number type it is."""
        for place, name in enumerate(table.column_names):
            if name in self.layers:
                vocabulary = self.layers[name].vocabulary
                table = table.set_column(place, name, comparable(table.column(name), vocabulary))
        return table

    def onto(self, other: Model) -> Model:
        """The same model, with its layers turned to where those of another are."""
        layers = {}
        for name, fixed in other.layers.items():
            if name not in self.layers:  # it saw no value of this column: it says of each what it says of the average
                layers[name] = _layer(fixed, torch.zeros_like(fixed.embedding.weight))
                continue
            layer = self.layers[name]
            both, counts = _shared(layer, fixed)
            turn = Turn.onto(layer.vectors(both).numpy(), fixed.vectors(both).numpy(), counts)
            layers[name] = _turned(layer, turn)
        return Model(self.fitted, layers)


def learn(
    table: pa.Table,
    target: np.ndarray,
    task: str,
    roles: Roles,
    *,
    epochs: int | None,
    embedding_dim: int | None,
    seed: int,
) -> Model:
    """Train on these rows; the layers are in their principal axes.

    Args:
        table: the features.
        target: class numbers, or values.
        task: ``"regression"``, ``"binary"`` or ``"multiclass"``.
        roles: which features are what.
        epochs: at most; by default a third of what ``tabular.fit`` would take.
        embedding_dim: the length of all vectors, or None.
        seed: of all that is drawn.
    """
    chosen = _validated(target, task, np.random.default_rng(seed))
    if len(np.unique(target[~chosen].astype(np.float32))) < 2:
        what = "value" if task == "regression" else "class"
        raise TableError(f"the rows to learn from are all of one {what}; use fewer folds, or leave rare {what}s out")
    name = free_name(table.column_names)
    whole = table.append_column(name, pa.array(target))
    training = whole.filter(pa.array(~chosen))
    silent = {each for each in table.column_names if is_empty(training.column(each))}
    if epochs is None:
        epochs = max(_FEWEST, math.ceil(tabular.Recipe().passes(training.num_rows) / _PART))
    with in_words():
        fitted = tabular.fit(
            training,
            name,
            task=task,
            categorical=[each for each in roles.categorical if each not in silent],
            numeric=[each for each in roles.numeric if each not in silent],
            ignore=sorted(silent),
            valid=whole.filter(pa.array(chosen)) if chosen.any() else training,
            epochs=epochs,
            embedding_dim=embedding_dim,
            baseline=False,
            seed=seed,
        )
    layers = {}
    for name, layer in fitted.layers.items():
        weight = layer.embedding.weight.detach().numpy()
        layers[name] = _turned(layer, Turn.principal(weight, _counts(layer)))
    return Model(fitted, layers)


def _validated(target: np.ndarray, task: str, draw: np.random.Generator) -> np.ndarray:
    """A mask of the rows to stop by: a tenth of each class, or of all; none where there are too few."""
    groups = [np.flatnonzero(target == each) for each in np.unique(target)] if task != "regression" else None
    chosen = np.zeros(len(target), bool)
    for rows in groups if groups is not None else [np.arange(len(target))]:
        chosen[draw.permutation(rows)[: int(_VALIDATED * len(rows))]] = True
    return chosen


def _counts(layer: CategoryEmbedding) -> np.ndarray:
    counts = layer.vocabulary.counts
    return np.ones(len(layer)) if counts is None else counts.astype(np.float64)


def _shared(layer: CategoryEmbedding, other: CategoryEmbedding) -> tuple[pa.Array, np.ndarray]:
    """The categories of both layers, and how many rows the other has of each."""
    reserved = other.vocabulary.num_reserved
    categories = other.vocabulary.categories
    known = (layer.vocabulary.encode(categories) >= reserved).numpy()
    return categories.filter(pa.array(known)), _counts(other)[reserved:][known]


def _turned(layer: CategoryEmbedding, turn: Turn) -> CategoryEmbedding:
    return _layer(layer, torch.from_numpy(turn(layer.embedding.weight.detach().numpy())))


def _layer(layer: CategoryEmbedding, weight: torch.Tensor) -> CategoryEmbedding:
    """One with the same vocabulary and another weight."""
    with torch.random.fork_rng(devices=[]):
        return CategoryEmbedding(copy.copy(layer.vocabulary), weight.shape[1], _weight=weight)
