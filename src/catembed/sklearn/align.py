"""One frame for the vectors of models trained apart: principal axes, and the turn that brings one table onto another.

The vectors that two trainings learn differ by a turn, if by nothing else. ``Turn.onto`` finds it from the categories
both have, weighted by their counts; ``Turn.principal`` turns a table so that its axes go by how much they vary.

Source: Schönemann, "A generalized solution of the orthogonal Procrustes problem", Psychometrika 31, 1966.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Turn:
    """``(vectors - start) @ matrix + end``, where ``matrix`` has orthonormal rows or columns."""

    start: np.ndarray
    matrix: np.ndarray
    end: np.ndarray

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Turn vectors of shape (rows, D)."""
        return ((vectors - self.start) @ self.matrix + self.end).astype(np.float32)

    @classmethod
    def principal(cls, vectors: np.ndarray, counts: np.ndarray) -> Turn:
        """To the mean as the origin and the principal axes, each pointing to where its longest loading is positive.

        Args:
            vectors: (categories, D).
            counts: how many rows each category has.
        """
        weights = _shares(counts)
        mean = weights @ vectors
        _, axes = np.linalg.eigh(((vectors - mean) * weights[:, None]).T @ (vectors - mean))
        axes = axes[:, ::-1]
        axes = axes * np.where(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])] < 0, -1.0, 1.0)
        return cls(mean, axes, np.zeros(axes.shape[1]))

    @classmethod
    def onto(cls, vectors: np.ndarray, fixed: np.ndarray, counts: np.ndarray) -> Turn:
        """The turn that brings ``vectors`` nearest to ``fixed``, row by row.

        Args:
            vectors: (categories, D).
            fixed: (categories, E), of the same categories.
            counts: how much each category counts.
        """
        weights = _shares(counts)
        start, end = weights @ vectors, weights @ fixed
        left, _, right = np.linalg.svd(((vectors - start) * weights[:, None]).T @ (fixed - end), full_matrices=False)
        return cls(start, left @ right, end)


def _shares(counts: np.ndarray) -> np.ndarray:
    total = counts.sum()
    return counts / total if total else np.full(len(counts), 1 / max(1, len(counts)))
