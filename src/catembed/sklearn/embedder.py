"""``CategoryEmbedder``: vectors for categorical columns, learned from y, as columns for whatever comes after.

Rule: ``fit_transform`` is cross fitted, as ``TargetEncoder``'s is. A row's vectors and prediction come from a model
that has not seen the row's y; ``transform`` uses one model of all rows. The folds' vectors are turned onto that one's.

Known limits: no sparse X, no ``sample_weight``, one target; training takes torch's global generator and gives it back,
so that two fits in two threads of a process (joblib's ``"threading"``) are not repeatable.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.model_selection import KFold, StratifiedKFold, check_cv
from sklearn.utils import check_array, check_consistent_length, check_random_state, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from catembed.nn import CategoryEmbedding
from catembed.sklearn.columns import Roles, is_frame, numbers, roles, to_arrow
from catembed.sklearn.learning import Model, learn
from catembed.vocabulary import Vocabulary

_TASKS = {"continuous": "regression", "binary": "binary", "multiclass": "multiclass"}
_MOST_CLASSES = 1000


class CategoryEmbedder(TransformerMixin, BaseEstimator):
    """Learn vectors for categorical columns by predicting y, and give them as columns of numbers.

    Args:
        columns: which columns are categories: ``"auto"`` (text, booleans, categoricals, dates by their parts, whole
            numbers that are few or named as an identifier), ``"all"``, or a list of names, or of places.
        embedding_dim: the length of the vectors; ``"auto"`` goes by the number of categories, 16 at most.
        output: ``"vectors"``, ``"prediction"`` (the model's own: a value, or the probability of the second
            class or of each class), or ``"both"``.
        numeric: what becomes of columns of numbers: ``"passthrough"`` or ``"drop"``. The model learns from them anyway.
        cv: how many folds ``fit_transform`` is cross fitted by, shuffled and for classes stratified; or a splitter
            (given X and y, but no groups), or pairs of index arrays, whose test rows are every row once.
        epochs: passes over the rows at most; None goes by how many rows there are.
        target_type: ``"continuous"``, ``"binary"``, ``"multiclass"``; ``"auto"`` is what scikit-learn's
            ``type_of_target`` says, for which whole numbers are classes.
        random_state: an int makes all results repeatable, on one machine with as many threads.

    Attributes:
        layers_: the ``CategoryEmbedding`` of each categorical column, by its name (``"time:hour"``: a part of a date).
        vocabularies_: the ``Vocabulary`` of each.
        roles_: what each column was taken as, and why.
        target_type_: ``"continuous"``, ``"binary"`` or ``"multiclass"``.
        classes_: of a target of classes.
        n_features_in_, feature_names_in_: as everywhere in scikit-learn.

    Raises:
        ValueError: nothing can be learned from X or y; the message says why.

    A category never seen gets the vector of the unknown row and a missing value that of the missing row; both are
    trained. A column of another type than in ``fit`` is an error.

    >>> import pandas as pd
    >>> X = pd.DataFrame({"fruit": ["apple", "banana", "candy"] * 40, "weight": [180.5, 120.2, 5.1] * 40})
    >>> embedder = CategoryEmbedder(embedding_dim=2, epochs=1, random_state=0).set_output(transform="pandas")
    >>> list(embedder.fit_transform(X, [0, 0, 1] * 40).columns)
    ['weight', 'fruit_0', 'fruit_1', 'prediction']
    >>> embedder.transform(pd.DataFrame({"fruit": ["kiwi", None], "weight": [1.0, 2.0]})).shape
    (2, 4)
    """

    _parameter_constraints: dict = {  # noqa: RUF012
        "columns": [StrOptions({"auto", "all"}), "array-like"],
        "embedding_dim": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "output": [StrOptions({"vectors", "prediction", "both"})],
        "numeric": [StrOptions({"passthrough", "drop"})],
        "cv": ["cv_object"],
        "epochs": [None, Interval(Integral, 1, None, closed="left")],
        "target_type": [StrOptions({"auto", *_TASKS})],
        "random_state": ["random_state"],
    }

    layers_: dict[str, CategoryEmbedding]
    roles_: dict[str, str]
    target_type_: str
    classes_: np.ndarray
    n_features_in_: int

    def __init__(
        self,
        columns: str | Sequence[Any] = "auto",
        *,
        embedding_dim: str | int = "auto",
        output: str = "both",
        numeric: str = "passthrough",
        cv: Any = 3,
        epochs: int | None = None,
        target_type: str = "auto",
        random_state: Any = None,
    ) -> None:
        self.columns = columns
        self.embedding_dim = embedding_dim
        self.output = output
        self.numeric = numeric
        self.cv = cv
        self.epochs = epochs
        self.target_type = target_type
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> CategoryEmbedder:
        """Learn from all rows.

        For the rows that a next step is trained on use ``fit_transform``: ``fit(X, y).transform(X)`` tells it their y.
        """
        self._fit(X, y)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Learn from all rows, and give each row what models say that were trained without it.

        Returns:
            Float32 or, where wider numbers pass through, float64, (rows, ``len(get_feature_names_out())``).
        """
        table, target, seed = self._fit(X, y)
        if self._model is None:
            return self._joined(table, None)
        features, final = self._roles.table(table), self._model
        learned = np.empty((len(target), self._width()), np.float32)
        for fold, (training, held_out) in enumerate(self._folds(X, y, target, seed)):
            model = self._learn(features.take(pa.array(training)), target[training], seed + 1 + fold)
            model = model.onto(final)
            learned[held_out] = self._learned(model, features.take(pa.array(held_out)))
        return self._joined(table, learned)

    def transform(self, X: Any) -> np.ndarray:
        """Numbers that pass through, vectors, prediction: in this order.

        Returns:
            Float32 or, where wider numbers pass through, float64, (rows, ``len(get_feature_names_out())``).
        """
        check_is_fitted(self)
        table = self._read(X, reset=False)
        if self._model is None:
            return self._joined(table, None)
        return self._joined(table, self._learned(self._model, self._roles.table(table)))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """``dest_0``, ``dest_1``, … for the vectors of ``dest``; ``prediction``, or ``prediction_<class>`` for each."""
        check_is_fitted(self)
        features: Any = _check_feature_names_in(self, input_features)
        given = dict(zip(self._names, features, strict=True))
        names = [given[name] for name in self._passed()]
        if self._model is not None and self.output != "prediction":
            sources = {feature.name: feature for feature in self._roles.features}
            for name, layer in self.layers_.items():
                called = given[sources[name].column] + name[len(sources[name].column) :]
                names += [f"{called}_{place}" for place in range(layer.embedding.embedding_dim)]
        if self._model is not None and self.output != "vectors":
            names += self._predictions()
        return np.array(names, dtype=object)

    @property
    def vocabularies_(self) -> dict[str, Vocabulary]:
        """The vocabulary of each categorical column."""
        check_is_fitted(self)
        return {name: layer.vocabulary for name, layer in self.layers_.items()}  # pyright: ignore[reportReturnType]

    # Learning

    @_fit_context(prefer_skip_nested_validation=True)
    def _fit(self, X: Any, y: Any) -> tuple[pa.Table, np.ndarray, int]:
        """Fit, and give the table, the target and the seed."""
        table = self._read(X, reset=True, y=y)
        target = self._target(y)
        check_consistent_length(table, target)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self._roles: Roles = roles(table, pa.array(target), self._asked())
        self.roles_ = self._roles.reasons
        learns = bool(self._roles.categorical)
        if not learns and not self._passed():
            raise ValueError(f"no column of X is left: {self.roles_}")
        self._model = self._learn(self._roles.table(table), target, seed) if learns else None
        self.layers_ = self._model.layers if self._model is not None else {}
        self._check_names_out()
        return table, target, seed

    def _learn(self, features: pa.Table, target: np.ndarray, seed: int) -> Model:
        dim = None if self.embedding_dim == "auto" else int(self.embedding_dim)
        task = _TASKS[self.target_type_]
        return learn(features, target, task, self._roles, epochs=self.epochs, embedding_dim=dim, seed=seed)

    def _folds(self, X: Any, y: Any, target: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
        if isinstance(self.cv, Integral):
            folds = min(int(self.cv), len(target))
            kind = KFold if self.target_type_ == "continuous" else StratifiedKFold
            splitter: Any = kind(folds, shuffle=True, random_state=seed)
        else:
            splitter = check_cv(self.cv, target, classifier=self.target_type_ != "continuous")
        found = list(splitter.split(X, y))
        if (np.bincount(np.concatenate([held_out for _, held_out in found]), minlength=len(target)) != 1).any():
            raise ValueError("the test rows of cv must be every row once: a row out of none has no vectors")
        if any(len(np.intersect1d(training, held_out)) for training, held_out in found):
            raise ValueError("the training and the test rows of cv overlap: a row's vectors would tell its y")
        return found

    # Input

    def _read(self, X: Any, *, reset: bool, y: Any = "no_validation") -> pa.Table:
        if isinstance(X, pa.RecordBatch):  # scikit-learn knows the column names of a table only
            X = pa.Table.from_batches([X])
        if is_frame(X):
            validate_data(self, X, reset=reset, skip_check_array=True)
        else:
            X = validate_data(self, X, reset=reset, dtype=None, ensure_all_finite="allow-nan")
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        if reset:
            places = range(self.n_features_in_)
            self._names = [str(name) for name in getattr(self, "feature_names_in_", [f"x{at}" for at in places])]
        return to_arrow(X, self._names)

    def _target(self, y: Any) -> np.ndarray:
        """Class numbers, or float64 values; sets ``target_type_`` and ``classes_``."""
        check: Any = check_array  # its annotations say less than it takes
        y = column_or_1d(check(y, ensure_2d=False, dtype=None, input_name="y"), warn=True)
        found = type_of_target(y, input_name="y") if self.target_type == "auto" else self.target_type
        if found not in _TASKS:
            raise ValueError(f"Unknown label type: y is {found!r}; supported are {', '.join(map(repr, _TASKS))}")
        self.target_type_ = found
        if found == "continuous":
            values = check(y, ensure_2d=False, dtype=np.float64, input_name="y")
            if (values == values[0]).all():
                raise ValueError(f"y is constant, n_samples={len(y)}: nothing can be learned from it")
            return values
        self.classes_, target = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class only, {self.classes_.tolist()[0]!r}: nothing can be learned from it")
        if found == "binary" and len(self.classes_) > 2:
            raise ValueError(f"target_type='binary' needs two classes in y (got {len(self.classes_)})")
        if len(self.classes_) > _MOST_CLASSES:
            raise ValueError(
                f"y has {len(self.classes_):,} classes, more than {_MOST_CLASSES:,}; for a quantity give "
                "target_type='continuous'"
            )
        return target.astype(np.int64)

    def _asked(self) -> str | list[str]:
        if isinstance(self.columns, str):
            return self.columns
        asked = []
        for each in self.columns:
            if isinstance(each, Integral) and not isinstance(each, bool):
                place = int(each)
                if not -len(self._names) <= place < len(self._names):
                    raise ValueError(f"columns: there is no column {place}; X has {len(self._names)}")
                asked.append(self._names[place])
            elif each in self._names:
                asked.append(each)
            else:
                raise ValueError(f"columns: X has no column {each!r}; it has: {', '.join(self._names)}")
        return asked

    # Output

    def _passed(self) -> list[str]:
        return self._roles.passed if self.numeric == "passthrough" else []

    def _predictions(self) -> list[str]:
        """The names of the model's own outputs: one, or one for each class of ``"multiclass"``."""
        several = self.target_type_ == "multiclass"
        return [f"prediction_{each}" for each in self.classes_] if several else ["prediction"]

    def _check_names_out(self) -> None:
        names = self.get_feature_names_out().tolist()
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(
                f"two columns of the output would be named {twice!r}: rename the column of X that is named so or that "
                "the name is made of, or leave one of the two out by numeric='drop' or by output"
            )

    def _width(self) -> int:
        return len(self.get_feature_names_out()) - len(self._passed())

    def _learned(self, model: Model, features: pa.Table) -> np.ndarray:
        features = model.comparable(features)
        parts = [model.vectors(features)] if self.output != "prediction" else []
        if self.output != "vectors":
            parts.append(model.prediction(features, len(self._predictions())))
        return np.concatenate(parts, 1)

    def _joined(self, table: pa.Table, learned: np.ndarray | None) -> np.ndarray:
        parts = [numbers(table, self._passed())] if self._passed() else []
        return np.concatenate(parts if learned is None else [*parts, learned], 1)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        # Not ``categorical``: that makes scikit-learn's own checks feed categories to one that asks whether
        # fit_transform(X, y) equals fit(X, y).transform(X), which cross fitting is there to prevent.
        tags.input_tags.string = tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = []
        return tags
