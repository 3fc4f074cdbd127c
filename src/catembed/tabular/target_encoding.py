"""Target encoding of single categories, pairs and triples: the mean target of the training rows that share them.

Rules: a training row never sees its own target. Its means come from the other folds (five), where a new row's come from
all training rows; each is shrunk towards the overall mean as if ``PRIOR_ROWS`` more rows had it. A combination
that fewer than two rows share counts as unseen. Combinations are kept if their out-of-fold means beat the overall mean.

Source: Micci-Barreca, "A preprocessing scheme for high-cardinality categorical attributes", SIGKDD Explorations 2001;
out-of-fold as in scikit-learn's ``TargetEncoder``. Combining columns finds interactions that an embedding alone has
to spend its rows on.

Known limits: combinations are drawn from the ``WIDEST`` most telling columns; a target of many
classes, or a table of few rows, gets few of them or none: see ``most_inputs``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

FOLDS = 5
PRIOR_ROWS = 20.0
LARGEST = 3  # columns in one combination
WIDEST = {2: 20, 3: 9}  # columns that pairs and triples are drawn from
_MOST_INPUTS = 128
_ROWS_PER_INPUT = 2500  # so that a network cannot learn a small table by heart from them
_DENSE = 1 << 22
_TINY = 1e-4


@dataclass(frozen=True)
class Cells:
    """A combination of columns: its ``keys`` (int64, ascending) and their encoded values (float32, (cells, C))."""

    columns: tuple[int, ...]
    keys: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class TargetEncoding:
    """What the training rows say about combinations of categories.

    ``sizes`` are the vocabularies' lengths, ``default`` (float32, (C,)) is the value of a combination never seen.
    """

    sizes: tuple[int, ...]
    default: np.ndarray
    cells: list[Cells]

    @property
    def num_inputs(self) -> int:
        """How many numbers each row is encoded by."""
        return len(self.cells) * len(self.default)

    def encode(self, ids: torch.Tensor) -> torch.Tensor:
        """Float32 of shape (rows, num_inputs) for int64 ids of shape (rows, columns)."""
        given = ids.numpy()
        out = np.empty((len(given), len(self.cells), len(self.default)), np.float32)
        for place, cells in enumerate(self.cells):
            out[:, place] = self._look_up(cells, _keys(given, cells.columns, self.sizes))
        return torch.from_numpy(out.reshape(len(given), -1))

    def _look_up(self, cells: Cells, keys: np.ndarray) -> np.ndarray:
        if not len(cells.keys):
            return np.broadcast_to(self.default, (len(keys), len(self.default)))
        at = np.searchsorted(cells.keys, keys).clip(max=len(cells.keys) - 1)
        return np.where((cells.keys[at] == keys)[:, None], cells.values[at], self.default)


def most_inputs(rows: int) -> int:
    """How many inputs a table of so many training rows can bear.

    >>> [most_inputs(rows) for rows in (1_000, 40_000, 1_000_000)]
    [0, 16, 128]
    """
    return min(_MOST_INPUTS, rows // _ROWS_PER_INPUT)


def fit(
    ids: torch.Tensor, sizes: Sequence[int], targets: np.ndarray, *, most: int, logits: bool, seed: int
) -> tuple[TargetEncoding, torch.Tensor]:
    """Learn from the training rows.

    Args:
        ids: int64, (rows, columns).
        sizes: how many ids each column has.
        targets: float32, (rows, C): what is averaged; classes one-hot, without the first of two.
        most: inputs at most; each combination has one for every column of ``targets``.
        logits: whether the targets are classes, so that a mean is a probability and enters as its logit.
        seed: of the division into folds.

    Returns:
        The encoding for new rows, and the training rows' own out-of-fold one, (rows, num_inputs).
    """
    data = _Training(ids.numpy(), tuple(sizes), targets, seed)
    found = data.candidates()[: most // targets.shape[1]] if most >= targets.shape[1] else []
    # One scale for all inputs, so that those which tell more also weigh more.
    prior = _inputs(data.prior[None], logits)
    cells, own = [], np.empty((len(targets), len(found), targets.shape[1]), np.float32)
    for place, columns in enumerate(found):
        own[:, place] = _inputs(data.out_of_fold(columns), logits) - prior
    scale = max((own[:, place].std() for place in range(len(found))), default=1.0)
    own /= scale
    for columns in found:
        keys, means = data.overall(columns)
        cells.append(Cells(columns, keys, ((_inputs(means, logits) - prior) / scale).astype(np.float32)))
    default = np.zeros(targets.shape[1], np.float32)
    return TargetEncoding(tuple(sizes), default, cells), torch.from_numpy(own.reshape(len(targets), -1))


class _Training:
    """The training rows while the combinations are chosen."""

    def __init__(self, ids: np.ndarray, sizes: tuple[int, ...], targets: np.ndarray, seed: int) -> None:
        self.ids, self.sizes, self.targets = ids, sizes, targets
        self.folds = np.random.default_rng(seed).permutation(len(ids)) % FOLDS
        self.prior = targets.mean(0, dtype=np.float64)

    def candidates(self) -> list[tuple[int, ...]]:
        """The combinations that tell something, best first."""
        errors: dict[tuple[int, ...], float] = {(column,): self.error((column,)) for column in range(len(self.sizes))}
        telling = [column for columns in sorted(errors, key=errors.__getitem__) for column in columns]
        for number in range(2, LARGEST + 1):
            for columns in itertools.combinations(sorted(telling[: WIDEST[number]]), number):
                if np.prod([self.sizes[column] for column in columns], dtype=float) < 2**62:
                    errors[columns] = self.error(columns)
        nothing = float(((self.targets - self.prior) ** 2).mean())
        return [columns for columns in sorted(errors, key=errors.__getitem__) if errors[columns] < nothing]

    def error(self, columns: tuple[int, ...]) -> float:
        """The mean squared error of the out-of-fold means."""
        return float(((self.targets - self.out_of_fold(columns)) ** 2).mean())

    def out_of_fold(self, columns: tuple[int, ...]) -> np.ndarray:
        """The mean of each training row's combination in the other folds, float64, (rows, C)."""
        _, cell, number = self._cells(columns)
        counts = np.bincount(cell * FOLDS + self.folds, minlength=number * FOLDS).reshape(number, FOLDS)
        others = (counts.sum(1, keepdims=True) - counts).ravel()
        at = cell * FOLDS + self.folds
        means = np.empty(self.targets.shape)
        for place, target in enumerate(self.targets.T):
            sums = np.bincount(at, target, number * FOLDS).reshape(number, FOLDS)
            rest = (sums.sum(1, keepdims=True) - sums).ravel()
            means[:, place] = self._shrunk(rest, others, place)[at]
        return means

    def overall(self, columns: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """The keys of the combinations seen at least twice, and the mean of each over all training rows."""
        keys, cell, number = self._cells(columns)
        counts = np.bincount(cell, minlength=number)
        means = [
            self._shrunk(np.bincount(cell, target, number), counts, place)
            for place, target in enumerate(self.targets.T)
        ]
        kept = counts > 1
        return keys[kept], np.stack(means, 1)[kept]

    def _shrunk(self, sums: np.ndarray, counts: np.ndarray, place: int) -> np.ndarray:
        prior = self.prior[place]
        return np.where(counts > 1, (sums + PRIOR_ROWS * prior) / (counts + PRIOR_ROWS), prior)

    def _cells(self, columns: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, int]:
        """The keys of the cells, the cell of every row, and how many cells there are."""
        keys = _keys(self.ids, columns, self.sizes)
        number = int(np.prod([self.sizes[column] for column in columns], dtype=float))
        if number <= _DENSE:  # the key is the cell: no sorting
            return np.arange(number), keys, number
        unique, cell = np.unique(keys, return_inverse=True)
        return unique, cell, len(unique)


def _keys(ids: np.ndarray, columns: tuple[int, ...], sizes: Sequence[int]) -> np.ndarray:
    keys = np.zeros(len(ids), np.int64)
    for column in columns:
        keys = keys * sizes[column] + ids[:, column]
    return keys


def _inputs(means: np.ndarray, logits: bool) -> np.ndarray:
    if not logits:
        return means
    means = means.clip(_TINY, 1 - _TINY)
    return np.log(means) - np.log1p(-means)
