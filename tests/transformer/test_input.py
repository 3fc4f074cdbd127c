"""Tables, columns and folds of every kind."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.model_selection import KFold

from catembed.sklearn import CategoryEmbedder

ROWS = 120
X = pd.DataFrame({"fruit": ["apple", "banana", "candy", "date"] * 30, "shop": ["north", "south", "east"] * 40})
Y = np.arange(ROWS) % 4 + np.arange(ROWS) % 3 / 2
QUICK = {"epochs": 1, "random_state": 0}


def times(zone: str | None = None) -> pd.DataFrame:
    days = pd.date_range("2024-01-01", periods=ROWS, freq="h", tz=zone)
    return pd.DataFrame({"fruit": X["fruit"], "when": days})


def test_columns_of_a_record_batch_are_known_by_name():
    batch = pa.RecordBatch.from_pandas(X)
    embedder = CategoryEmbedder(**QUICK).fit(batch, Y)
    assert list(embedder.layers_) == ["fruit", "shop"]
    np.testing.assert_array_equal(embedder.transform(batch), embedder.transform(pa.table(batch)))
    with pytest.raises(ValueError, match="feature names should match"):
        embedder.transform(batch.select(["shop", "fruit"]))


def test_folds_that_train_on_their_own_test_rows_are_refused():
    half = np.arange(60)
    with pytest.raises(ValueError, match="training and the test rows of cv overlap"):
        CategoryEmbedder(cv=[(half, half + 60), (np.arange(ROWS), half)], **QUICK).fit_transform(X, Y > 2)


def test_a_splitter_is_given_the_rows_and_the_target():
    seen = []

    class Watched(KFold):
        def split(self, X, y=None, groups=None):
            seen.append((X, y))
            return super().split(X, y, groups)

    target = np.where(Y > 2, "high", "low")
    CategoryEmbedder(cv=Watched(2), **QUICK).fit_transform(X, target)
    assert seen[0][0] is X
    assert seen[0][1] is target


def test_dates_that_are_all_missing():
    embedder = CategoryEmbedder(**QUICK).fit(times(), Y)
    nothing = times().assign(when=pd.NaT)
    for gone in (np.nan, None, pd.Series([None] * ROWS, dtype="string")):
        np.testing.assert_array_equal(embedder.transform(times().assign(when=gone)), embedder.transform(nothing))


def test_times_go_by_the_zone_of_fit():
    embedder = CategoryEmbedder(**QUICK).fit(times("Europe/Berlin"), Y)
    here = times("Europe/Berlin")
    there = here.assign(when=here["when"].dt.tz_convert("Asia/Tokyo"))
    np.testing.assert_array_equal(embedder.transform(there), embedder.transform(here))
    with pytest.raises(ValueError, match=r"'when' held times in the time zone Europe/Berlin .* without a time zone"):
        embedder.transform(times())
    with pytest.raises(ValueError, match=r"'when' held times without a time zone .* in the time zone UTC"):
        CategoryEmbedder(**QUICK).fit(times(), Y).transform(times("UTC"))


@pytest.mark.parametrize(
    "values",
    [
        pd.Series(pd.period_range("2020-01", periods=ROWS, freq="M")),
        pd.Series(pd.interval_range(0, ROWS)),
        pd.cut(pd.Series(np.arange(ROWS)), 4),
    ],
)
def test_periods_and_intervals_are_left_out(values):
    embedder = CategoryEmbedder(**QUICK).fit(X.assign(strange=values), Y)
    assert embedder.roles_["strange"].startswith("dropped: ")
    assert "not supported" in embedder.roles_["strange"]
    with pytest.raises(ValueError, match="columns: 'strange': categories are text, whole numbers"):
        CategoryEmbedder(["strange"], **QUICK).fit(X.assign(strange=values), Y)


@pytest.mark.parametrize("columns", ["auto", "all", ["fruit", "gone", "nan"]])
def test_columns_without_values_are_no_categories(columns):
    embedder = CategoryEmbedder(columns, **QUICK).fit(X.assign(gone=None, nan=np.nan), Y)
    assert embedder.roles_["gone"] == "dropped: every value is missing"
    assert embedder.roles_["nan"] == "numeric: every value is missing"
    assert not {"gone", "nan"} & set(embedder.layers_)


def test_errors_do_not_speak_of_another_commands_options():
    lists = X.assign(tags=[["a"], ["b"]] * 60)
    huge = X.assign(weight=np.where(np.arange(ROWS) == 5, np.inf, np.arange(ROWS) / 7))
    y = np.zeros(ROWS)
    y[:40] = 1.5
    folds = [(np.arange(40, ROWS), np.arange(40)), (np.arange(40), np.arange(40, ROWS))]
    for given, target, options in ((lists, Y, {"columns": ["tags"]}), (huge, Y, {}), (X, y, {"cv": folds})):
        with pytest.raises(ValueError) as error:
            CategoryEmbedder(**QUICK, target_type="continuous", **options).fit_transform(given, target)
        assert "--" not in str(error.value)
        assert "target" not in str(error.value)
    embedder = CategoryEmbedder(**QUICK).fit(X.assign(weight=np.arange(ROWS) / 7), Y)
    with pytest.raises(ValueError, match=r"infinite values; drop or replace them$"):
        embedder.transform(huge)
