import numpy as np
import pyarrow as pa
import pytest
import torch

from catembed.errors import TableError
from catembed.tabular.encoding import Encoder, Scale
from catembed.tabular.schema import Feature


def test_categories_have_missing_and_unknown_rows():
    encoder = Encoder.fit([Feature("c", "categorical")], pa.table({"c": ["a", "b", "a", None]}))
    assert encoder.encode(pa.table({"c": ["a", "b", None, "new"]})).ids.tolist() == [[2], [3], [0], [1]]
    assert encoder.encode(pa.table({"c": pa.nulls(2)})).ids.tolist() == [[0], [0]]


def test_vocabulary_comes_from_the_rows_given_alone():
    encoder = Encoder.fit([Feature("c", "categorical")], pa.table({"c": ["b", "b"]}))
    assert list(encoder.vocabularies["c"]) == ["b"]


@pytest.mark.parametrize("draw", [np.random.default_rng(0).normal, np.random.default_rng(0).lognormal])
def test_numbers_become_normal_scores(draw):
    values = draw(size=20_000)
    scores = Scale.fit(values)(values)[:, 0]
    assert scores.mean() == pytest.approx(0, abs=0.02)
    assert scores.std() == pytest.approx(1, abs=0.03)  # 255 knots cut the tails a little
    order = np.argsort(values)
    assert (np.diff(scores[order]) >= 0).all()


def test_equal_numbers_have_one_score_in_the_middle_of_their_levels():
    values = np.array([0.0] * 900 + [5.0] * 100)
    scores = Scale.fit(values)(np.array([0.0, 5.0, 99.0]))[:, 0]
    assert scores[0] == pytest.approx(-0.1257, abs=0.01)  # the normal quantile of 0.45
    assert scores[1] == scores[2] == pytest.approx(1.645, abs=0.03)  # that of 0.95


def test_missing_numbers_are_average_with_an_indicator():
    scale = Scale.fit(np.array([1.0, 2.0, np.nan]))
    assert scale(np.array([np.nan, 2.0]))[:, 1].tolist() == [1.0, 0.0]
    assert scale(np.array([np.nan]))[0, 0] == 0
    assert Scale.fit(np.array([1.0, 2.0]))(np.array([np.nan])).tolist() == [[0.0]]


def test_scale_survives_json():
    values = np.random.default_rng(0).normal(size=1000)
    scale = Scale.fit(values)
    assert np.array_equal(Scale.from_dict(scale.to_dict())(values), scale(values))


def test_rows_of_both_roles_keep_their_order():
    features = [Feature("n", "numeric"), Feature("c", "categorical")]
    table = pa.table({"c": ["a", "b"], "n": [1, None]})
    rows = Encoder.fit(features, table).encode(table)
    assert (rows.ids.shape, rows.numbers.shape, rows.numbers.dtype) == ((2, 1), (2, 2), torch.float32)
    assert rows.numbers[:, 1].tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("feature", "now", "part"),
    [
        (Feature("c", "categorical"), ["1", "2"], "column 'c': the column holds strings"),
        (Feature("c", "numeric"), ["x", "y"], "must hold numbers"),
        (Feature("c", "numeric"), [1.0, float("inf")], "infinite"),
        (Feature("c", "categorical"), [0.5, 1.5], "column 'c'"),
    ],
)
def test_columns_of_another_kind_are_refused(feature, now, part):
    encoder = Encoder.fit([feature], pa.table({"c": [1, 2]}))
    with pytest.raises(TableError, match=part):
        encoder.encode(pa.table({"c": now}))
