import numpy as np
import pyarrow as pa
import pytest

from catembed import tabular
from catembed.errors import TableError

DRAW = np.random.default_rng(0)
TOWNS = np.array(["bonn", "cork", "dijon", "essen"])
FROM, TO = DRAW.integers(0, 4, 600), DRAW.integers(0, 4, 600)
ROWS = {
    "from": TOWNS[FROM],
    "to": TOWNS[TO],
    "via": [[str(TOWNS[each]) for each in chosen] for chosen in DRAW.integers(0, 4, (600, 2))],
    "fare": DRAW.normal(10, 3, 600),
    "gate": DRAW.integers(1, 5, 600),
    "day": np.datetime64("2024-01-01") + DRAW.integers(0, 90, 600),
    "seat": DRAW.integers(0, 90, 600),
    "none": pa.array([[]] * 600, pa.list_(pa.string())),
    "y": 1.0 * ((FROM + TO) % 2 == 0),  # only the combination tells
}


def test_columns_that_share_have_one_vocabulary_one_layer_and_one_file(tmp_path):
    rows = {"from": ["bonn"] * 40, "to": ["cork", "dijon"] * 20, "via": [["essen"], []] * 20, "y": [0.0, 1.0] * 20}
    rows["from"][0] = None
    fitted = tabular.fit(rows, "y", share=[("from", "to", "via")], epochs=1)
    layers = fitted.layers
    assert layers["from"] is layers["to"] is layers["via"]
    assert set(layers["to"].vocabulary) == {"bonn", "cork", "dijon", "essen"}
    fitted.save(tmp_path / "m")
    assert [each.name for each in (tmp_path / "m").glob("*.safetensors")].count("from.safetensors") == 1
    assert len(list((tmp_path / "m").glob("*.safetensors"))) == 2
    again = tabular.Fitted.load(tmp_path / "m")
    assert again.layers["from"] is again.layers["via"]
    assert again.predict(rows).equals(fitted.predict(rows))
    found = tabular.load_layer(tmp_path / "m", "to")
    assert found.vocabulary == tabular.load_layer(tmp_path / "m", "from").vocabulary


def test_without_share_each_column_has_its_own():
    fitted = tabular.fit(ROWS, "y", epochs=1)
    assert fitted.layers["from"] is not fitted.layers["to"]


@pytest.mark.parametrize("model", ["mlp", "fm"])
def test_a_cross_learns_what_only_the_combination_tells(model, tmp_path):
    rows = {name: ROWS[name] for name in ("from", "to", "y")}
    fitted = tabular.fit(rows, "y", model=model, cross=[("from", "to")])
    assert fitted.report["validation"]["catembed"]["AUC"] > 0.95
    assert fitted.report["validation"]["one-hot linear"]["AUC"] > 0.95  # it has the cross as well
    assert list(fitted.layers) == ["from", "to", "from×to"]
    assert len(fitted.layers["from×to"]) == 32  # sixteen combinations
    fitted.save(tmp_path / "m")
    assert tabular.Fitted.load(tmp_path / "m").predict(rows).equals(fitted.predict(rows))


def test_crosses_of_date_parts_and_numbers_of_buckets():
    fitted = tabular.fit(ROWS, "y", cross=[("day:weekday", "from"), ("gate", "to")], cross_buckets=50, epochs=1)
    assert [len(fitted.layers[name]) for name in ("day:weekday×from", "gate×to")] == [50, 50]
    missing = {**ROWS, "from": [None] * 600, "gate": [None] * 600}
    assert fitted.predict(missing).num_rows == 600


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ({"share": [("from", "too")]}, "--share 'too': the table has no such column; it has: from, to, via"),
        ({"share": [("from",)]}, "--share from: a vocabulary is shared by two columns or more; write --share first"),
        ({"share": [("from", "from")]}, "--share from,from: column 'from' is given twice; leave one out"),
        ({"share": [("from", "to"), ("to", "via")]}, "column 'to' is in two groups; write all columns that share"),
        (
            {"share": [("from", "fare")]},
            "'fare': the column is taken as numeric .numbers. .* the column holds double values; leave it out of --sha",
        ),
        (
            {"share": [("from", "seat")]},
            "--share 'seat': the column is taken as numeric .* with --categorical seat, or",
        ),
        (
            {"share": [("from", "seat")], "numeric": ["seat"]},
            "--share 'seat': .* .as asked. .* leave it out of --share, or of the option that asks for that$",
        ),
        ({"share": [("from", "y")]}, "--share 'y': this column makes the target and is no feature"),
        ({"share": None}, "share takes groups of columns, such as .*; got None"),
        ({"share": [None]}, "share takes groups of columns, such as .*; got None"),
        ({"share": [("from", 3)]}, r"share takes groups of columns, such as .*; got \('from', 3\)"),
        ({"cross": 3}, "cross takes groups of columns, such as .*; got 3"),
        ({"cross": [3]}, "cross takes groups of columns, such as .*; got 3"),
        (
            {"share": [("from", "gate")]},
            "'from' and 'gate' cannot share a vocabulary: one holds string values, the oth",
        ),
        (
            {"share": ["from,to"]},
            r"share takes groups of columns, such as share=\[\('origin', 'dest'\)\]; got 'from,to'",
        ),
        ({"cross": [("from", "too")]}, "--cross 'too': the table has no such column; it has: from, to"),
        ({"cross": [("from",)]}, "--cross from: a cross is made of two columns or more; write --cross first,second"),
        ({"cross": [()]}, "--cross names no column: a cross is made of two"),
        ({"cross": [("to", "to")]}, "--cross to,to: column 'to' is given twice"),
        ({"cross": [("from", "to"), ("to", "from")]}, "--cross to,from: this cross is given twice"),
        ({"cross": [("from", "via")]}, "--cross 'via': a list has no single value"),
        ({"cross": [("from", "none")]}, "--cross 'none': a list has no single value"),
        (
            {"share": [("from", "none")]},
            "--share 'none': .*every list is empty.*; take it as lists with --list; leave it",
        ),
        ({"cross": [("from", "fare")]}, "--cross 'fare': the column is taken as numeric"),
        ({"cross": [("from", "day")]}, "--cross 'day': a date is taken by its parts; name one of: day:month, day:day"),
        ({"cross": [("from", "to")], "cross_buckets": 0}, "a cross needs 1 bucket or more, got 0"),
        (
            {"cross": [("from", "to")], "cross_buckets": 4_000_000_000},
            "--cross-buckets may be 134,217,728 at most, got 4,000,000,000: a table takes rows × length × 4 bytes, "
            "here 256 GB",
        ),
        ({"cross": [("from", "to")], "cross_buckets": 10**13}, "134,217,728 at most, got 10,000,000,000,000"),
        ({"cross": [("from", "to")], "cross_buckets": 2.5}, "--cross-buckets must be a whole number, got 2.5"),
        ({"cross": [("from", "to")], "cross_buckets": "9"}, "--cross-buckets must be a whole number, got '9'"),
        ({"cross_buckets": 64}, "--cross-buckets 64: there is no cross; ask for one with --cross first,second"),
    ],
)
def test_what_cannot_be_is_told_with_the_column_and_what_to_do(asked, part):
    with pytest.raises(TableError, match=part):
        tabular.fit(ROWS, "y", epochs=1, **asked)


@pytest.mark.parametrize(
    ("changed", "name"), [({"to": [3]}, "to"), ({"via": [[3]]}, "via"), ({"from": [3]}, "from"), ({"to": [1.5]}, "to")]
)
def test_an_error_names_the_column_that_is_read_and_not_the_first_that_shares(changed, name):
    rows = {
        "from": ["bonn", "essen"] * 20,
        "to": ["cork", "dijon"] * 20,
        "via": [["essen"], []] * 20,
        "y": [0.0, 1.0] * 20,
    }
    fitted = tabular.fit(rows, "y", share=[("from", "to", "via")], cross=[("from", "to")], epochs=1)
    with pytest.raises(TableError, match=f"^column '{name}': ") as refused:
        fitted.predict({"from": ["bonn"], "to": ["cork"], "via": [["essen"]]} | changed)
    assert [each for each in ("from", "to", "via") if f"column '{each}'" in str(refused.value)] == [name]
