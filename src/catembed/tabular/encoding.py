"""Columns into arrays: ids of categories, numbers on one scale. Everything is learned from the training rows alone.

Categories get a vocabulary with a row for missing values and one for unseen ones. Numbers are mapped by their quantiles
to normal scores, so that neither units nor long tails matter; missing ones are 0, with an indicator beside.
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
from catembed.tabular.schema import CATEGORICAL, Feature
from catembed.vocabulary import Vocabulary

_KNOTS = 255


@dataclass(frozen=True)
class Rows:
    """Encoded rows: ``ids``, int64 (rows, categorical features), and ``numbers``, float32 (rows, numeric inputs)."""

    ids: torch.Tensor
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
    """The features with what was learned of each: a ``Vocabulary`` or a ``Scale``, by the feature's name."""

    features: Sequence[Feature]
    vocabularies: dict[str, Vocabulary]
    scales: dict[str, Scale]

    @classmethod
    def fit(cls, features: Sequence[Feature], table: pa.Table) -> Encoder:
        """Learn from the training rows.

        Raises:
            TableError: a column that cannot be what its role says.
        """
        vocabularies, scales = {}, {}
        for feature in features:
            if feature.role == CATEGORICAL:
                try:
                    vocabularies[feature.name] = Vocabulary.fit(
                        feature.values(table), unseen="unknown", missing="own", name=feature.name
                    )
                except VocabularyError as fact:
                    raise TableError(str(fact)) from None
            else:
                scales[feature.name] = Scale.fit(_floats(feature, table))
        return cls(features, vocabularies, scales)

    @property
    def num_numbers(self) -> int:
        """How many numeric inputs there are, indicators included."""
        return sum(1 + scale.indicator for scale in self.scales.values())

    def encode(self, table: pa.Table) -> Rows:
        """Every row of a table.

        Raises:
            TableError: a column is absent or holds values of another kind than in training.
        """
        ids, numbers = [], []
        for feature in self.features:
            if feature.role == CATEGORICAL:
                ids.append(self._ids(feature, table))
            else:
                numbers.append(self.scales[feature.name](_floats(feature, table)))
        rows = table.num_rows
        return Rows(
            torch.stack(ids, 1) if ids else torch.empty((rows, 0), dtype=torch.int64),
            torch.from_numpy(np.concatenate(numbers, 1)) if numbers else torch.empty((rows, 0)),
        )

    def _ids(self, feature: Feature, table: pa.Table) -> torch.Tensor:
        values = feature.values(table)
        vocabulary = self.vocabularies[feature.name]
        if pa.types.is_null(values.type):  # a file whose column is empty tells no type
            return torch.full((len(values),), vocabulary.missing_id or 0)
        try:
            return vocabulary.encode(values)
        except VocabularyError as fact:
            raise TableError(str(fact)) from None


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
