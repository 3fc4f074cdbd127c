"""Inside scikit-learn's tools, and what cross fitting is for."""

import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from catembed.sklearn import CategoryEmbedder


def towns(rows: int, number: int, seed: int, telling: float) -> tuple[pd.DataFrame, np.ndarray]:
    """Each town has a rate of its own (``telling`` is how much they differ); the shop adds to it."""
    draw = np.random.default_rng(seed)
    town, shop = draw.integers(0, number, rows), draw.integers(0, 5, rows)
    rate = telling * np.random.default_rng(99).normal(size=number)[town] + telling * (shop - 2) / 2
    y = draw.random(rows) < 1 / (1 + np.exp(-rate))
    return pd.DataFrame({"town": [f"town {at}" for at in town], "shop": shop, "size": draw.normal(size=rows)}), y


@pytest.fixture(scope="module")
def data():
    return towns(600, 12, 0, 2.0)


def test_cross_validation(data):
    pipeline = make_pipeline(CategoryEmbedder(epochs=8, random_state=0), StandardScaler(), LogisticRegression())
    scores = cross_val_score(pipeline, *data, cv=3, scoring="roc_auc", error_score="raise")
    assert scores.min() > 0.75  # the truth itself has 0.9


def test_grid_search(data):
    pipeline = make_pipeline(CategoryEmbedder(["town", "shop"], epochs=1, random_state=0), LogisticRegression())
    grid = {"categoryembedder__embedding_dim": [1, 2], "categoryembedder__output": ["vectors", "both"]}
    found = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(*data)
    assert found.best_estimator_.predict_proba(data[0]).shape == (600, 2)


def test_regression(data):
    X, y = data
    pipeline = make_pipeline(CategoryEmbedder(epochs=8, random_state=0), Ridge())
    value = y * 3.0 + X["size"] + 0.001
    assert cross_val_score(pipeline, X, value, cv=2, scoring="r2", error_score="raise").min() > 0.4


def test_in_a_column_transformer(data):
    X, y = data
    columns = ColumnTransformer(
        [("embed", CategoryEmbedder("all", embedding_dim=2, epochs=1, random_state=0), ["town", "shop"])],
        remainder="passthrough",
    ).set_output(transform="pandas")
    out = columns.fit_transform(X, y)
    assert list(out.columns) == [
        "embed__town_0", "embed__town_1", "embed__shop_0", "embed__shop_1", "embed__prediction", "remainder__size"
    ]  # fmt: skip
    assert columns.transform(X[:5]).shape == (5, 6)


@pytest.mark.parametrize("way", ["pickle", "joblib"])
def test_pickling(data, way, tmp_path):
    X, y = data
    embedder = CategoryEmbedder(epochs=1, random_state=0).fit(X, y)
    if way == "pickle":
        other = pickle.loads(pickle.dumps(embedder))
    else:
        joblib.dump(embedder, tmp_path / "embedder.joblib")
        other = joblib.load(tmp_path / "embedder.joblib")
    np.testing.assert_array_equal(other.transform(X), embedder.transform(X))
    assert list(other.get_feature_names_out()) == list(embedder.get_feature_names_out())


def test_a_splitter_and_its_folds(data):
    """No row's output depends on its own y: change y within a fold, and what that fold gets stays as it is."""
    X, y = data
    cv = StratifiedKFold(3, shuffle=True, random_state=0)
    held_out = next(iter(cv.split(X, y)))[1]
    changed = y.copy()
    changed[held_out] = np.random.default_rng(0).permutation(y[held_out])
    folds = list(cv.split(X, y))
    one, two = (
        CategoryEmbedder(["town", "shop"], output="prediction", numeric="drop", cv=folds, epochs=2, random_state=0)
        .fit_transform(X, each)
        for each in (y, changed)
    )  # fmt: skip
    np.testing.assert_array_equal(one[held_out], two[held_out])
    assert not np.array_equal(one, two)


def test_cross_fitting_keeps_noise_from_looking_like_signal():
    """Many towns of few rows: on the rows that it learned from, the model looks better than it is on new ones."""
    X, y = towns(900, 200, 1, 1.0)
    new, truth = towns(900, 200, 2, 1.0)
    embedder = CategoryEmbedder(["town"], numeric="drop", output="prediction", epochs=6, random_state=0)
    honest = roc_auc_score(y, embedder.fit_transform(X, y))
    leaking = roc_auc_score(y, embedder.transform(X))
    real = roc_auc_score(truth, embedder.transform(new))
    assert honest < real + 0.03
    assert leaking > real + 0.05


def test_vectors_of_folds_are_turned_onto_those_of_all_rows(data):
    X, y = data
    embedder = CategoryEmbedder(["town"], output="vectors", numeric="drop", epochs=8, embedding_dim=4, random_state=0)
    folded, whole = embedder.fit_transform(X, y), embedder.transform(X)
    assert np.corrcoef(folded[:, 0], whole[:, 0])[0, 1] > 0.5  # turned at random: about 0, of either sign
    booster = HistGradientBoostingClassifier(max_iter=20, random_state=0).fit(folded, y)
    new, truth = towns(600, 12, 5, 2.0)
    assert roc_auc_score(truth, booster.predict_proba(embedder.transform(new))[:, 1]) > 0.7
