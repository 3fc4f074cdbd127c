import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import ShuffleSplit

from catembed.errors import TableError
from catembed.sklearn import CategoryEmbedder

X = pd.DataFrame({"fruit": ["apple", "banana", "candy", "date"] * 20, "weight": np.arange(80) / 7})
Y = np.arange(80) % 4 > 1


@pytest.fixture(scope="module")
def fitted():
    return CategoryEmbedder(epochs=1, random_state=0).fit(X, Y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": ["fruits"]}, r"columns: X has no column 'fruits'; it has: fruit, weight"),
        ({"columns": [2]}, r"columns: there is no column 2; X has 2"),
        ({"columns": "some"}, r"The 'columns' parameter of CategoryEmbedder must be"),
        ({"columns": ["weight"]}, r"'weight': categories are text, whole numbers, booleans or dates"),
        ({"embedding_dim": 0}, r"The 'embedding_dim' parameter"),
        ({"epochs": 0}, r"The 'epochs' parameter"),
        ({"output": "vector"}, r"The 'output' parameter"),
        ({"cv": 1}, r"The 'cv' parameter"),
        ({"target_type": "regression"}, r"The 'target_type' parameter"),
    ],
)
def test_parameters(change, message):
    with pytest.raises(ValueError, match=message):
        CategoryEmbedder(**change).fit(X, Y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "requires y to be passed"),
        (Y[:7], "inconsistent numbers of samples"),
        (np.zeros(80), "y has one class only, 0.0"),
        (np.where(Y, np.nan, 1.5), "Input y contains NaN"),
        (np.c_[Y, Y], "y should be a 1d array"),
    ],
)
def test_targets(y, message):
    with pytest.raises(ValueError, match=message):
        CategoryEmbedder().fit(X, y)


def test_a_sparse_target():
    with pytest.raises(TypeError, match="Sparse data was passed"):
        CategoryEmbedder().fit(X, sparse.csr_matrix(Y[:, None]))


def test_sparse_rows():
    with pytest.raises(TypeError, match="Sparse data was passed"):
        CategoryEmbedder().fit(sparse.eye(80, format="csr"), Y)


def test_a_constant_quantity():
    with pytest.raises(ValueError, match="y is constant, n_samples=80"):
        CategoryEmbedder(target_type="continuous").fit(X, np.full(80, 2.5))


def test_too_many_classes_name_the_way_out():
    many = pd.DataFrame({"c": np.repeat(["a", "b"], 600)})
    with pytest.raises(ValueError, match="target_type='continuous'"):
        CategoryEmbedder().fit(many, np.arange(1200))


def test_binary_of_three_classes():
    with pytest.raises(ValueError, match=r"needs two classes in y \(got 4\)"):
        CategoryEmbedder(target_type="binary").fit(X, np.arange(80) % 4)


def test_a_fold_of_one_class():
    y = np.zeros(80, int)
    y[3] = 1
    with pytest.raises(TableError, match="use fewer folds"), pytest.warns(UserWarning, match="least populated class"):
        CategoryEmbedder(epochs=1).fit_transform(X, y)


def test_a_splitter_that_leaves_rows_out():
    with pytest.raises(ValueError, match="must be every row once"):
        CategoryEmbedder(epochs=1, cv=ShuffleSplit(2, random_state=0)).fit_transform(X, Y)


def test_before_fit():
    with pytest.raises(NotFittedError):
        CategoryEmbedder().transform(X)
    with pytest.raises(NotFittedError):
        CategoryEmbedder().get_feature_names_out()
    with pytest.raises(NotFittedError):
        _ = CategoryEmbedder().vocabularies_


def test_other_columns_at_transform(fitted):
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.transform(X.rename(columns={"fruit": "fruits"}))
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.transform(X[["fruit"]])
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.transform(X[["weight", "fruit"]])


def test_columns_of_another_type_at_transform(fitted):
    with pytest.raises(ValueError, match="the vocabulary holds strings"):
        fitted.transform(X.assign(fruit=1))
    with pytest.raises(ValueError, match="column 'weight' must hold numbers"):
        fitted.transform(X.assign(weight="heavy"))


def test_a_column_of_mixed_types():
    with pytest.raises(ValueError, match="a column holds values of one type"):
        CategoryEmbedder().fit(np.array([["a"], [1]] * 40, object), Y)


def test_without_scikit_learn_the_extra_is_named():
    code = """
import sys
sys.modules["sklearn"] = None
import catembed
assert "catembed.sklearn" not in sys.modules
try:
    catembed.sklearn
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'catembed[sklearn]'" in done.stdout
