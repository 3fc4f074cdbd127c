"""Columns into arrays: ids of categories, numbers on one scale. Everything is learned from the training rows alone.

Categories get a vocabulary with a row for missing values and one for unseen ones; columns that share one are learned
together. A missing list is a list of one missing value, and an empty one has no ids. Crosses are hashed. Numbers are
mapped by their quantiles to normal scores, so that neither units nor long tails matter; missing ones are 0, with an
indicator beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from catembed.errors import TableError, VocabularyError
from catembed.tabular.arrow import compute as pc
from catembed.tabular.bags import Bags
from catembed.tabular.schema import CATEGORICAL, CROSS, LIST, NUMERIC, Feature
from catembed.vocabulary import CrossVocabulary, Vocabulary
from catembed.vocabulary.encoding import label

_KNOTS = 255
_BUCKETS = 16, 1 << 20  # of a cross, at least and at most


@dataclass(frozen=True)
class Rows:
    """Encoded rows.

    ``ids`` are int64, (rows, categorical features and then crosses), ``bags`` one for each list feature, ``numbers``
    float32, (rows, numeric inputs).
    """

    ids: torch.Tensor
    bags: tuple[Bags, ...]
    numbers: torch.Tensor

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Scale:
    """How a numeric column becomes a normal score: interpolated between ``knots``, straight beyond them."""

    knots: np.ndarray
    scores: np.ndarray
    indicator: bool

    @classmethod
    def fit(cls, values: np.ndarray) -> Scale:
        """Learn from float64 values, missing ones NaN."""
        known = values[~np.isnan(values)]
        if not len(known):
            return cls(np.zeros(1), np.zeros(1), True)
        levels = np.linspace(0, 1, _KNOTS)
        quantiles = np.quantile(known, levels, method="lower")
        # Equal quantiles are one value, which lies in the middle of its levels.
        knots, first, count = np.unique(quantiles, return_index=True, return_counts=True)
        middle = (levels[first] + levels[first + count - 1]) / 2
        inside = np.clip(middle, 0.5 / _KNOTS, 1 - 0.5 / _KNOTS)
        scores = torch.special.ndtri(torch.from_numpy(inside)).numpy()
        return cls(knots, scores, len(known) < len(values))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Scores, float32, of shape (rows, 1) or, with the indicator of missing values, (rows, 2)."""
        gone = np.isnan(values)
        scores = np.where(gone, 0.0, np.interp(np.where(gone, self.knots[0], values), self.knots, self.scores))
        columns = [scores, gone] if self.indicator else [scores]
        return np.stack(columns, 1).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {"knots": self.knots.tolist(), "scores": self.scores.tolist(), "indicator": self.indicator}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Scale:
        """What ``to_dict`` gave."""
        return cls(np.array(stored["knots"]), np.array(stored["scores"]), stored["indicator"])


@dataclass(frozen=True)
class Encoder:
    """The features with what was learned of each: a vocabulary or a ``Scale``, by the feature's name.

    ``vocabularies`` are in the order of the model's columns: those of one id, crosses, lists. Features that share one
    have the same object.
    """

    features: Sequence[Feature]
    vocabularies: dict[str, Vocabulary | CrossVocabulary]
    scales: dict[str, Scale]

    @classmethod
    def fit(
        cls,
        features: Sequence[Feature],
        table: pa.Table,
        share: Sequence[Sequence[str]] = (),
        buckets: int | None = None,
    ) -> Encoder:
        """Learn from the training rows.

        Args:
            features: what is made of the columns.
            table: the training rows.
            share: features that have one vocabulary.
            buckets: of each cross; by default two to four times as many as the training rows have.

        Raises:
            TableError: a column that cannot be what its role says; columns that cannot share a vocabulary.
        """
        scales = {each.name: Scale.fit(_floats(each, table)) for each in features if each.role == NUMERIC}
        values = {each.name: _categories(each, table) for each in _ordered(features) if each.role != CROSS}
        learned: dict[str, Vocabulary] = {}
        for group in [*share, *([name] for name in values if not any(name in group for group in share))]:
            learned |= dict.fromkeys(group, _learn(group, values))
        vocabularies: dict[str, Vocabulary | CrossVocabulary] = {}
        for feature in _ordered(features):
            if feature.role == CROSS:
                vocabularies[feature.name] = _cross(feature, learned, table, values, buckets)
            else:
                vocabularies[feature.name] = learned[feature.name]
        return cls(features, vocabularies, scales)

    @property
    def lists(self) -> list[str]:
        """The names of the list features."""
        return [each.name for each in self.features if each.role == LIST]

    @property
    def num_categorical(self) -> int:
        """How many columns of ``ids`` are single categories; the others are crosses."""
        return sum(each.role == CATEGORICAL for each in self.features)

    @property
    def num_numbers(self) -> int:
        """How many numeric inputs there are, indicators included."""
        return sum(1 + scale.indicator for scale in self.scales.values())

    def counts(self, rows: Rows) -> list[torch.Tensor]:
        """For each column of single categories, how many of its table's lookups, in these rows, each id has."""
        found = [torch.bincount(ids, minlength=size) for ids, size in zip(rows.ids.T, self._sizes, strict=False)]
        singles = len(found)
        found += [bags.counts(size) for bags, size in zip(rows.bags, self._sizes[singles:], strict=True)]
        together: dict[int, torch.Tensor] = {}
        tables = [id(each) for each in self.vocabularies.values()]
        for table, count in zip(tables, found, strict=True):
            together[table] = together.get(table, 0) + count
        return [together[table] for table in tables[: self.num_categorical]]

    @property
    def _sizes(self) -> list[int]:
        return [len(each) for each in self.vocabularies.values()]

    def encode(self, table: pa.Table) -> Rows:
        """Every row of a table.

        Raises:
            TableError: a column is absent or holds values of another kind than in training.
        """
        rows = table.num_rows
        values = {each.name: _categories(each, table) for each in self.features if each.role in (CATEGORICAL, LIST)}
        ids, bags = [], []
        for feature in _ordered(self.features):
            vocabulary = self.vocabularies[feature.name]
            if isinstance(vocabulary, CrossVocabulary):
                ids.append(_encoded(vocabulary, {name: values[name] for name in vocabulary.columns}, feature.name))
            elif feature.role == CATEGORICAL:
                ids.append(_ids(vocabulary, values[feature.name], feature.name))
            else:
                bags.append(_bags(vocabulary, feature.values(table), values[feature.name], feature.name))
        numbers = [self.scales[each.name](_floats(each, table)) for each in self.features if each.role == NUMERIC]
        return Rows(
            torch.stack(ids, 1) if ids else torch.empty((rows, 0), dtype=torch.int64),
            tuple(bags),
            torch.from_numpy(np.concatenate(numbers, 1)) if numbers else torch.empty((rows, 0)),
        )


def _ordered(features: Sequence[Feature]) -> list[Feature]:
    """The features with categories, in the order of the model's columns."""
    return [each for role in (CATEGORICAL, CROSS, LIST) for each in features if each.role == role]


def _categories(feature: Feature, table: pa.Table) -> pa.Array:
    """The values of a feature; those of all lists one after the other."""
    values = feature.values(table)
    return values if feature.role == CATEGORICAL or pa.types.is_null(values.type) else values.flatten()


def _learn(group: Sequence[str], values: dict[str, pa.Array]) -> Vocabulary:
    """One vocabulary for the columns of a group."""
    try:
        first, *others = (Vocabulary.fit(values[name], unseen="unknown", missing="own", name=name) for name in group)
        for name, other in zip(group[1:], others, strict=True):
            if other.kind != first.kind:
                raise TableError(
                    f"columns {group[0]!r} and {name!r} cannot share a vocabulary: one holds {first.kind} values, the "
                    f"other {other.kind} values; convert one of them"
                )
        return first.merge(*others, order="frequency")[0] if others else first
    except VocabularyError as fact:
        raise TableError(str(fact)) from None


def _cross(
    feature: Feature, learned: dict[str, Vocabulary], table: pa.Table, values: dict[str, pa.Array], buckets: int | None
) -> CrossVocabulary:
    """The hashed combinations of the columns of ``feature``."""
    if buckets is None:
        parts = torch.stack([_ids(learned[name], values[name], name) for name in feature.parts], 1)
        fewest, most = _BUCKETS
        buckets = min(most, max(fewest, 1 << (2 * len(parts.unique(dim=0)) - 1).bit_length()))
    kinds = [learned[name].kind for name in feature.parts]
    return CrossVocabulary(feature.parts, buckets, kind=kinds, name=feature.name)


def _encoded(vocabulary: Vocabulary | CrossVocabulary, values: Any, name: str) -> torch.Tensor:
    try:
        return vocabulary.encode(values)
    except VocabularyError as fact:
        # A shared vocabulary bears the name of its first column, not of the one that is read.
        shared, problem = label(vocabulary.name), str(fact)
        own = problem.startswith(shared)
        raise TableError(label(name) + problem.removeprefix(shared) if own else problem) from None


def _ids(vocabulary: Vocabulary | CrossVocabulary, values: pa.Array, name: str) -> torch.Tensor:
    """The ids of one feature, called ``name``."""
    if pa.types.is_null(values.type):  # a file whose column is empty tells no type
        return torch.zeros(len(values), dtype=torch.int64)  # the missing row
    return _encoded(vocabulary, values, name)


def _bags(vocabulary: Vocabulary | CrossVocabulary, column: pa.Array, values: pa.Array, name: str) -> Bags:
    """The ids of lists; ``values`` are those of all lists that are not missing."""
    if pa.types.is_null(column.type):
        return Bags.of(torch.zeros(len(column), dtype=torch.int64), torch.ones(len(column), dtype=torch.int64))
    gone = torch.from_numpy(np.array(column.is_null().to_numpy(zero_copy_only=False)))
    lengths = torch.from_numpy(np.array(pc.fill_null(pc.list_value_length(column), 1))).long()
    ids = torch.zeros(int(lengths.sum()), dtype=torch.int64)  # the missing row
    ids[~gone.repeat_interleave(lengths)] = _ids(vocabulary, values, name)
    return Bags.of(ids, lengths)


def _floats(feature: Feature, table: pa.Table) -> np.ndarray:
    """A numeric feature as float64, missing values NaN."""
    values = feature.values(table)
    if pa.types.is_duration(values.type):
        values = values.cast(pa.int64())
    try:
        floats = values.cast(pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise TableError(f"column {feature.name!r} must hold numbers, got {values.type} values") from None
    floats = pc.fill_null(floats, float("nan")).to_numpy(zero_copy_only=False)
    if np.isinf(floats).any():
        raise TableError(f"column {feature.name!r} has infinite values; drop or replace them, or --ignore the column")
    return floats
