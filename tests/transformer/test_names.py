"""Widths and names of what comes out."""

import numpy as np
import pandas as pd
import pytest

from catembed.sklearn import CategoryEmbedder

X = pd.DataFrame({"fruit": ["apple", "banana", "candy", "date"] * 30, "weight": np.arange(120) / 7})
CASES = [("continuous", 2), ("continuous", 3), ("binary", 2), ("multiclass", 2), ("multiclass", 3)]
QUICK = {"epochs": 1, "random_state": 0}


@pytest.mark.parametrize("output", ["vectors", "prediction", "both"])
@pytest.mark.parametrize(("target_type", "classes"), CASES)
def test_widths_are_equal(target_type, classes, output):
    y = np.arange(120) % classes
    embedder = CategoryEmbedder(target_type=target_type, output=output, cv=2, **QUICK)
    folded = embedder.fit_transform(X, y)
    whole, names = embedder.transform(X), embedder.get_feature_names_out()
    assert folded.shape == whole.shape == (120, len(names))
    assert len(set(names)) == len(names)
    if output == "prediction" and target_type == "multiclass":
        for out in (folded, whole):
            np.testing.assert_allclose(out[:, 1:].sum(1), 1, atol=1e-5)  # of float32 probabilities


@pytest.mark.parametrize("taken", ["fruit_0", "prediction"])
def test_two_outputs_of_one_name_are_refused(taken):
    clash = X.rename(columns={"weight": taken})
    with pytest.raises(ValueError, match=f"would be named '{taken}': rename the column"):
        CategoryEmbedder(**QUICK).fit(clash, X["weight"])
    CategoryEmbedder(numeric="drop", **QUICK).fit(clash, X["weight"])


def test_a_part_of_a_date_and_a_column_of_one_name_are_refused():
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(120), "h")
    with pytest.raises(ValueError, match="'d:hour' and the hour of the date in column 'd' have one name; rename"):
        CategoryEmbedder(**QUICK).fit(pd.DataFrame({"d": days, "d:hour": ["a", "b"] * 60}), X["weight"])
