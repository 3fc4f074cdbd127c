import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from catembed import tabular
from catembed.errors import TableError


def test_it_learns_what_there_is_to_learn(table):
    found = tabular.fit(table, "price", seed=1).report
    assert found["task"] == "regression"
    validation = found["validation"]
    assert list(validation) == ["catembed", "one-hot linear", "mean"]
    assert validation["catembed"]["R²"] > 0.8
    assert validation["one-hot linear"]["R²"] > 0.5
    assert validation["mean"]["R²"] <= 0


def test_one_seed_gives_one_result_and_leaves_torchs_alone(table):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two = (tabular.fit(table, "price > 12", seed=3, epochs=2) for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    for name, layer in one.layers.items():
        assert torch.equal(layer.embedding.weight, two.layers[name].embedding.weight)
    assert one.predict(table).equals(two.predict(table))
    other = tabular.fit(table, "price > 12", seed=4, epochs=2)
    assert not torch.equal(one.layers["fruit"].embedding.weight, other.layers["fruit"].embedding.weight)


def test_every_form_of_a_table_gives_the_same(table, fitted):
    for form in (table.to_pandas(), pl.from_arrow(table), table.to_pydict()):
        assert tabular.fit(form, "price > 12", epochs=3).predict(form).equals(fitted.predict(table))


def test_the_target_is_no_feature(table, fitted):
    assert "price" not in {each.column for each in fitted.encoder.features}
    without = table.drop_columns("price")
    assert fitted.predict(without).equals(fitted.predict(table))


def test_layers_have_rows_for_missing_and_unseen_values(fitted):
    layer = fitted.layers["fruit"]
    assert (layer.vocabulary.missing, layer.vocabulary.unseen, layer.vocabulary.name) == ("own", "unknown", "fruit")
    assert set(layer.vocabulary) == {"apple", "banana", "candy", "date", "elder", "fig"}
    assert list(fitted.layers) == ["fruit", "shop", "colour", "day:month", "day:day", "day:weekday"]


def test_vocabularies_come_from_training_rows_alone():
    rows = {"c": ["a", "b"] * 50, "y": [0.0, 1.0] * 50}
    other = {"c": ["a", "z"], "y": [0.0, 1.0]}
    fitted = tabular.fit(rows, "y", valid=other, epochs=1)
    assert set(fitted.layers["c"].vocabulary) == {"a", "b"}
    assert fitted.report["rows"] == {"table": 100, "without target": 0, "training": 100, "validation": 2}


def test_the_unknown_row_is_trained_by_hiding_rare_categories():
    draw = np.random.default_rng(0)
    rare = draw.integers(0, 300, 3000)
    rows = {"c": [f"c{each}" for each in rare], "d": draw.integers(0, 3, 3000), "y": draw.normal(size=3000) + 3.0}
    layer = tabular.fit(rows, "y > 3", epochs=2).layers["c"]
    unknown = layer.embedding.weight[layer.vocabulary.unknown_id]
    # Decay alone would leave it in the direction that it was drawn in.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        start = torch.randn_like(layer.embedding.weight)[layer.vocabulary.unknown_id]
    assert abs(float(torch.cosine_similarity(unknown.detach(), start, dim=0))) < 0.99


def test_rows_without_target_are_dropped_and_counted():
    rows = {"c": ["a", "b"] * 50, "y": [0.0, 1.0] * 45 + [None, float("nan")] * 5}
    seen = []
    report = tabular.fit(rows, "y", epochs=1, watch=seen.append).report
    assert report["rows"]["without target"] == seen[0].without_target == 10
    assert report["rows"]["training"] + report["rows"]["validation"] == 90


def test_classes_of_many_kinds_are_predicted_as_they_were():
    for values in (["no", "yes"], [True, False], [3, 7], ["a", "b", "c"]):
        rows = {
            "c": [f"c{row % len(values)}" for row in range(200)],
            "y": [values[row % len(values)] for row in range(200)],
        }
        predicted = tabular.fit(rows, "y", seed=1, epochs=20).predict(rows)
        assert predicted["prediction"].to_pylist() == rows["y"]
        shares = np.stack([column.to_numpy() for column in predicted.columns[1:]])
        assert shares.sum(0) == pytest.approx(1)


def test_numbers_as_classes_when_asked():
    rows = {"c": ["a", "b", "c"] * 60, "y": [1, 2, 3] * 60}
    assert tabular.fit(rows, "y", epochs=1).report["task"] == "regression"
    assert tabular.fit(rows, "y", task="multiclass", epochs=1).predict(rows).column_names[-1] == "probability_3"


def test_validation_by_time_takes_the_latest_rows():
    times = pd.date_range("2024-01-01", periods=100, freq="D")
    rows = pd.DataFrame({"t": times, "c": ["a", "b"] * 50, "y": [0, 1, 1, 0] * 25}).sample(frac=1, random_state=0)
    report = tabular.fit(rows, "y", valid_by_time="t", valid_fraction=0.25, epochs=1).report
    assert report["split"] == "by time, validation from t = 2024-03-16 00:00:00 on"
    assert report["rows"]["validation"] == 25


def test_equal_times_stay_together():
    from catembed.tabular.split import by_time

    chosen, _ = by_time(pa.table({"t": [3, 1, 2, 3, 2, 3]}), "t", 0.2)
    assert chosen.tolist() == [True, False, False, True, False, True]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"target": "prize"}, "no column 'prize'"),
        ({"target": "price > 1000"}, "constant: it is false of every row"),
        ({"target": "day"}, "cannot be predicted"),
        ({"target": "fruit", "task": "regression"}, "needs numbers"),
        ({"valid_by_time": "none"}, "no such column"),
        ({"valid_by_time": "fruit"}, "a time is a date or a number"),
        ({"valid_by_time": "weight"}, "10 rows have no time"),
        ({"valid_by_time": "day", "valid": {"price": [1.0]}}, "not both"),
        ({"valid_fraction": 1.5}, "between 0 and 1, got 1.5"),
        ({"epochs": 0}, "at least 1, got 0"),
        ({"seed": -1}, "got -1"),
        ({"valid": {"fruit": ["apple"]}}, "validation table has no column 'price'"),
        ({"valid": {"price": [1.0]}}, "no column 'fruit'"),
        ({"numeric": ["fruit"]}, "not numbers"),
        ({"ignore": ["fruit", "shop", "weight", "colour", "day"]}, "no column is left"),
    ],
)
def test_what_cannot_be_fitted_is_refused(table, change, part):
    with pytest.raises(TableError, match=part):
        tabular.fit(table, **{"target": "price", "epochs": 1, **change})


@pytest.mark.parametrize(
    ("rows", "part"),
    [
        ({"c": [], "y": []}, "empty"),
        ({"c": ["a"], "y": [1.0]}, "constant"),
        ({"c": ["a", "b"], "y": [None, None]}, "every value is missing"),
        ({"c": [None] * 9, "y": range(9)}, "'c' is ignored .every value is missing"),
        ({"c": ["a", 1, "b"], "y": [1, 2, 3]}, "one type"),
        ({"y": [1.0, 2.0, 3.0]}, "no column is left to learn from"),
    ],
)
def test_tables_with_nothing_to_learn_are_refused(rows, part):
    with pytest.raises(TableError, match=part):
        tabular.fit({name: list(values) for name, values in rows.items()}, "y")


def test_two_rows_of_two_classes_cannot_be_split():
    with pytest.raises(TableError, match="constant in the training rows"):
        tabular.fit({"c": ["a", "b"], "y": [0, 1]}, "y")


def test_numbers_alone_and_categories_alone_work():
    draw = np.random.default_rng(0)
    numbers = {"n": draw.normal(size=100), "y": draw.normal(size=100)}
    assert tabular.fit(numbers, "y", epochs=1).layers == {}
    assert (
        tabular.fit({"c": ["a", "b"] * 50, "y": draw.normal(size=100)}, "y", epochs=1).predict({"c": ["a"]}).num_rows
        == 1
    )


def test_predictions_do_not_depend_on_the_company_of_a_row(table, fitted):
    whole = fitted.predict(table)["probability_true"].to_numpy()
    some = fitted.predict(table.take([5, 3]))["probability_true"].to_numpy()
    assert some == pytest.approx(whole[[5, 3]], rel=1e-5)


def test_unseen_and_missing_values_are_predicted(fitted):
    row = {"fruit": ["kiwi", None], "shop": [99, None], "weight": [None, 3.0], "colour": ["blue", None]}
    row["day"] = pa.nulls(2, pa.timestamp("s"))
    assert np.isfinite(fitted.predict(row)["probability_true"].to_numpy()).all()


def test_generators_of_other_devices_stay_as_they_are(table, monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    tabular.fit(table, "price", epochs=1, baseline=False)
    assert not seeded
