"""What goes in and what comes out."""

import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone

import catembed
from catembed.sklearn import CategoryEmbedder

QUICK = {"epochs": 2, "random_state": 0}


def fruit(rows: int = 240, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Fruit and shop decide the price; some values of each kind are missing."""
    draw = np.random.default_rng(seed)
    kind, shop = draw.integers(0, 6, rows), draw.integers(0, 4, rows)
    names = np.array(["apple", "banana", "candy", "date", "elder", "fig"], object)[kind]
    names[::50] = None
    weight = draw.normal(100, 20, rows)
    weight[::40] = np.nan
    frame = pd.DataFrame(
        {
            "fruit": names,
            "shop": shop,
            "weight": weight,
            "fresh": draw.integers(0, 2, rows).astype(bool),
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(draw.integers(0, 300, rows), "D"),
            "remark": [f"remark {row}" for row in range(rows)],
        }
    )
    return frame, kind * 2.0 + shop + draw.normal(0, 0.3, rows)


@pytest.fixture(scope="module")
def data():
    return fruit()


@pytest.fixture(scope="module")
def fitted(data):
    """Of a regression; the frame it was fitted on is ``data``'s."""
    return CategoryEmbedder(**QUICK).fit(*data)


def test_roles_follow_the_rule_of_tabular(fitted):
    assert fitted.roles_ == {
        "fruit": "categorical: text",
        "shop": "categorical: few whole numbers",
        "weight": "numeric: numbers",
        "fresh": "categorical: true or false",
        "day": "categorical: dates: by their parts",
        "remark": "dropped: text, nearly all different",
    }
    assert list(fitted.layers_) == ["fruit", "shop", "fresh", "day:month", "day:day", "day:weekday"]
    assert fitted.target_type_ == "continuous"
    assert fitted.n_features_in_ == 6
    assert list(fitted.feature_names_in_)[:2] == ["fruit", "shop"]


def test_layers_and_vocabularies_are_catembeds(fitted):
    assert isinstance(fitted.layers_["fruit"], catembed.CategoryEmbedding)
    assert set(fitted.vocabularies_["fruit"].categories.to_pylist()) == {
        "apple", "banana", "candy", "date", "elder", "fig"
    }  # fmt: skip


def test_vectors_are_those_of_the_layers_and_numbers_pass_unchanged(fitted, data):
    X, _ = data
    out = fitted.set_output(transform="pandas").transform(X)
    vectors = fitted.layers_["fruit"].vectors(X["fruit"]).numpy()
    np.testing.assert_array_equal(out[[f"fruit_{at}" for at in range(vectors.shape[1])]], vectors)
    np.testing.assert_array_equal(out["weight"], X["weight"])


def test_vectors_lie_in_their_principal_axes(fitted):
    layer = fitted.layers_["fruit"]
    weight, counts = layer.embedding.weight.detach().numpy(), layer.vocabulary.counts
    spread = (weight * counts[:, None]).T @ weight / counts.sum()
    np.testing.assert_allclose(counts @ weight / counts.sum(), 0, atol=1e-6)  # float32 rows of about 0.1
    np.testing.assert_allclose(spread, np.diag(np.diag(spread)), atol=1e-6)
    assert (np.diff(np.diag(spread)) <= 1e-9).all()


def test_names_out(fitted):
    names = list(fitted.get_feature_names_out())
    assert names[:3] == ["weight", "fruit_0", "fruit_1"]
    assert "day:month_0" in names
    assert names[-1] == "prediction"
    with pytest.raises(ValueError, match="input_features is not equal to feature_names_in_"):
        fitted.get_feature_names_out(["other"] * 6)


def test_names_out_of_classes(data):
    X, y = data
    kinds = np.array(["low", "middle", "high"], object)[np.digitize(y, [5, 10])]
    embedder = CategoryEmbedder(**QUICK, columns=["fruit"], embedding_dim=2, numeric="drop")
    out = embedder.fit_transform(X, kinds)
    assert embedder.target_type_ == "multiclass"
    assert list(embedder.get_feature_names_out()) == [
        "fruit_0", "fruit_1", "prediction_high", "prediction_low", "prediction_middle"
    ]  # fmt: skip
    np.testing.assert_allclose(out[:, 2:].sum(1), 1, atol=1e-5)  # of three float32 probabilities
    assert out.dtype == np.float32


@pytest.mark.parametrize(("output", "width"), [("vectors", 2), ("prediction", 1), ("both", 3)])
def test_output(data, output, width):
    X, y = data
    embedder = CategoryEmbedder(["fruit"], embedding_dim=2, numeric="drop", output=output, **QUICK)
    assert embedder.fit_transform(X, y > 6).shape == (len(X), width)
    assert embedder.transform(X).shape == (len(X), width)
    assert len(embedder.get_feature_names_out()) == width


def test_set_output_pandas_keeps_the_index_and_polars_gives_polars(data):
    X, y = data
    X = X.set_index(np.arange(len(X)) + 1000)
    embedder = CategoryEmbedder(["fruit", "shop"], **QUICK)
    out = embedder.set_output(transform="pandas").fit_transform(X, y)
    assert isinstance(out, pd.DataFrame)
    assert (out.index == X.index).all()
    frame = embedder.set_output(transform="polars").transform(X)
    assert isinstance(frame, pl.DataFrame)
    assert frame.columns == list(out.columns) == list(embedder.get_feature_names_out())


def test_polars_gives_what_pandas_gives(fitted, data):
    X, _ = data
    frame = pl.from_pandas(X)
    np.testing.assert_array_equal(np.asarray(fitted.transform(frame)), np.asarray(fitted.transform(X)))


def test_pandas_categoricals_go_by_value(data):
    X, y = data
    as_category = X.assign(fruit=X["fruit"].astype("category"))
    one, two = (CategoryEmbedder(["fruit"], **QUICK).fit_transform(each, y) for each in (X, as_category))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("places", [[0, 1], [-2, 1]])
def test_numpy_of_objects(data, places):
    X, y = data
    array = X[["fruit", "shop"]].to_numpy()
    embedder = CategoryEmbedder(places, embedding_dim=2, **QUICK).fit(array, y)
    assert list(embedder.get_feature_names_out()) == ["x0_0", "x0_1", "x1_0", "x1_1", "prediction"]
    assert embedder.transform(np.array([["kiwi", 9], [None, None]], object)).shape == (2, 5)


def test_numpy_of_numbers():
    draw = np.random.default_rng(0)
    X = np.c_[draw.integers(0, 5, 200), draw.normal(size=200)]
    embedder = CategoryEmbedder(**QUICK).fit(X, X[:, 0] > 2)
    assert embedder.roles_["x0"].startswith("categorical")
    assert embedder.get_feature_names_out()[0] == "x1"
    np.testing.assert_array_equal(embedder.transform(X)[:, 0], X[:, 1])


def test_all_takes_every_column_as_categories(data):
    X, y = data
    assert list(CategoryEmbedder("all", **QUICK).fit(X[["fruit", "shop"]], y).layers_) == ["fruit", "shop"]


def test_columns_that_are_not_asked_for(data):
    X, y = data
    X = X.assign(wait=pd.to_timedelta(range(len(X)), "h"))
    found = CategoryEmbedder(["fruit"], **QUICK).fit(X, y).roles_
    units = re.compile(r"\[.s\]")  # pandas' own, by version
    assert {name: units.sub("", role) for name, role in found.items()} == {
        "fruit": "categorical: as asked",
        "shop": "numeric: not asked for",
        "weight": "numeric: not asked for",
        "fresh": "numeric: not asked for",
        "day": "dropped: timestamp values, not asked for",
        "remark": "dropped: text, nearly all different",
        "wait": "dropped: duration values, not asked for",
    }
    assert CategoryEmbedder(**QUICK).fit(X[["fruit", "wait"]], y).roles_["wait"].startswith("dropped: duration")


def test_without_categories_numbers_pass_and_nothing_is_learned():
    X = np.random.default_rng(0).normal(size=(50, 2))
    embedder = CategoryEmbedder()
    np.testing.assert_array_equal(embedder.fit_transform(X, X[:, 0]), X)
    assert embedder.layers_ == {}
    assert list(embedder.get_feature_names_out()) == ["x0", "x1"]
    with pytest.raises(ValueError, match="no column of X is left"):
        CategoryEmbedder(numeric="drop").fit(X, X[:, 0])


def test_unseen_and_missing_have_rows_of_their_own(fitted, data):
    X, _ = data
    new = X[:4].copy()
    new["fruit"] = ["kiwi", "lemon", None, "apple"]
    out = fitted.set_output(transform="pandas").transform(new)
    got = out[[name for name in out.columns if name.startswith("fruit_")]].to_numpy()
    layer = fitted.layers_["fruit"]
    weight = layer.embedding.weight.detach().numpy()
    np.testing.assert_array_equal(got[0], weight[layer.vocabulary.unknown_id])
    np.testing.assert_array_equal(got[1], weight[layer.vocabulary.unknown_id])
    np.testing.assert_array_equal(got[2], weight[layer.vocabulary.missing_id])


@pytest.mark.parametrize("strange", [2.5, np.inf, -np.inf, 1e300, -1.0])
def test_numbers_that_are_no_whole_ones_are_unseen(fitted, data, strange):
    X, _ = data
    new = X[:3].assign(shop=[strange, np.nan, 1.0])
    out = fitted.set_output(transform="pandas").transform(new)
    got = out[[name for name in out.columns if name.startswith("shop_")]].to_numpy()
    layer = fitted.layers_["shop"]
    expected = layer.embedding.weight.detach()[[layer.vocabulary.unknown_id, layer.vocabulary.missing_id]].numpy()
    np.testing.assert_array_equal(got[:2], expected)
    np.testing.assert_array_equal(got[2], layer.vectors(1).numpy())


def test_large_unsigned_numbers_are_unseen(fitted, data):
    X, _ = data
    new = X[:2].assign(shop=np.array([2**63 + 1, 1], np.uint64))
    plain = X[:2].assign(shop=[77, 1])
    np.testing.assert_array_equal(np.asarray(fitted.transform(new)), np.asarray(fitted.transform(plain)))


def test_a_column_of_nothing_but_missing_values_is_missing(fitted, data):
    X, _ = data
    assert np.asarray(fitted.transform(X[:3].assign(fruit=None, weight=None))).shape[0] == 3


def test_a_column_that_a_fold_has_no_value_of(data):
    X, y = data
    X = X.assign(rare=pd.Series([None] * len(X), dtype=object))
    X.loc[5, "rare"] = "once"
    X.loc[6, "rare"] = "more"
    embedder = CategoryEmbedder(["fruit", "rare"], embedding_dim=2, random_state=0, epochs=1, cv=len(X) // 40)
    out = embedder.fit_transform(X[["fruit", "rare"]], y)
    assert np.isfinite(out).all()


def test_same_seed_same_numbers_and_nothing_of_torchs_is_changed(data):
    X, y = data
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    one, two = (CategoryEmbedder(["fruit"], **QUICK).fit_transform(X, y) for _ in range(2))
    other = CategoryEmbedder(["fruit"], epochs=2, random_state=1).fit_transform(X, y)
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_random_state_may_be_a_generator(data):
    X, y = data
    embedder = CategoryEmbedder(["fruit"], epochs=1, random_state=np.random.RandomState(0))
    assert np.isfinite(embedder.fit(X, y).layers_["fruit"].embedding.weight.detach().numpy()).all()


def test_clone_has_the_parameters_and_no_layers(fitted):
    copied = clone(fitted)
    assert copied.get_params() == fitted.get_params()
    assert not hasattr(copied, "layers_")
