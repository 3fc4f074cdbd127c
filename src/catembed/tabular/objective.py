"""What differs between regression, binary and multiclass: outputs, loss, predictions, metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

_TINY = 1e-7


@dataclass(frozen=True)
class Objective:
    """A task with what its outputs mean.

    Regression learns ``(value - mean) / scale``; ``classes`` are the values that the class numbers stand for.
    """

    task: str
    classes: list[Any]
    mean: float = 0.0
    scale: float = 1.0

    @classmethod
    def fit(cls, task: str, classes: list[Any], values: np.ndarray) -> Objective:
        """An objective for the training rows' values (float32, or class numbers)."""
        if task != "regression":
            return cls(task, classes)
        return cls(task, [], float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64)) or 1.0)

    @property
    def num_outputs(self) -> int:
        """One, or one per class where there are more than two."""
        return len(self.classes) if self.task == "multiclass" else 1

    @property
    def metric(self) -> str:
        """The metric that results are compared by."""
        return {"regression": "RMSE", "binary": "AUC", "multiclass": "accuracy"}[self.task]

    @property
    def higher_is_better(self) -> bool:
        """Whether more of the metric is better."""
        return self.task != "regression"

    def targets(self, values: np.ndarray) -> torch.Tensor:
        """What the loss compares with: float32 of (rows, 1), or int64 class numbers of (rows,)."""
        if self.task == "multiclass":
            return torch.from_numpy(values)
        return torch.from_numpy(((values - self.mean) / self.scale).astype(np.float32))[:, None]

    def averaged(self, values: np.ndarray) -> np.ndarray:
        """What target encoding averages: float32 of (rows, C), classes one-hot."""
        if self.task == "multiclass":
            return np.eye(len(self.classes), dtype=np.float32)[values]
        return self.targets(values).numpy()

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The mean loss of outputs of shape (rows, num_outputs)."""
        if self.task == "multiclass":
            return functional.cross_entropy(outputs, targets)
        if self.task == "binary":
            return functional.binary_cross_entropy_with_logits(outputs, targets)
        return functional.mse_loss(outputs, targets)

    def predictions(self, outputs: torch.Tensor) -> np.ndarray:
        """Predicted values, float64 (rows,), or the probability of each class, float64 (rows, classes)."""
        outputs = outputs.double()
        if self.task == "regression":
            return (outputs[:, 0] * self.scale + self.mean).numpy()
        if self.task == "binary":
            positive = outputs[:, 0].sigmoid()
            return torch.stack([1 - positive, positive], 1).numpy()
        return outputs.softmax(1).numpy()

    def constant(self, values: np.ndarray, rows: int) -> np.ndarray:
        """The predictions of a model that knows only the training rows' values."""
        if self.task == "regression":
            return np.full(rows, self.mean)
        shares = np.bincount(values, minlength=len(self.classes)) / len(values)
        return np.tile(shares, (rows, 1))

    def metrics(self, values: np.ndarray, predictions: np.ndarray) -> dict[str, float | None]:
        """Metrics by name, the one that counts first; None where a metric is not defined."""
        if self.task == "regression":
            return _regression(values.astype(np.float64), predictions)
        given = predictions[np.arange(len(values)), values]
        log_loss = float(-np.log(given.clip(_TINY)).mean())
        accuracy = float((predictions.argmax(1) == values).mean())
        if self.task == "multiclass":
            return {"accuracy": accuracy, "log loss": log_loss}
        return {"AUC": auc(values, predictions[:, 1]), "log loss": log_loss, "accuracy": accuracy}


def _regression(values: np.ndarray, predictions: np.ndarray) -> dict[str, float | None]:
    error = values - predictions
    spread = float(((values - values.mean()) ** 2).mean())
    return {
        "RMSE": float(np.sqrt((error**2).mean())),
        "MAE": float(np.abs(error).mean()),
        "R²": 1 - float((error**2).mean()) / spread if spread else None,
    }


def auc(positive: np.ndarray, scores: np.ndarray) -> float | None:
    """The area under the ROC curve: how often a positive scores above a negative, ties counting half.

    None where all rows are of one class.

    >>> auc(np.array([0, 1, 1, 0]), np.array([0.1, 0.9, 0.4, 0.4]))
    0.875
    """
    values, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    positives = np.bincount(inverse, positive, len(values))
    negatives = counts - positives
    pairs = positives.sum() * negatives.sum()
    if not pairs:
        return None
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum() / pairs)
