import datetime as dt

import pyarrow as pa
import pytest

from catembed.errors import TableError
from catembed.tabular.reading import read
from catembed.tabular.schema import Feature, classify

ROWS = 400


def table(**columns):
    target = pa.array(range(ROWS))
    return pa.table({**{name: pa.array(values) for name, values in columns.items()}, "target": target})


def cycle(*values):
    return [values[row % len(values)] for row in range(ROWS)]


START = dt.datetime(2024, 1, 1)


@pytest.mark.parametrize(
    ("values", "role"),
    [
        (cycle("a", "b"), "categorical"),
        (cycle(True, False), "categorical"),
        (cycle(*range(12)), "categorical"),
        (cycle(1.0, 2.0, None), "categorical"),  # whole numbers that met a missing value
        (list(range(ROWS)), "numeric"),
        (cycle(*range(50)), "numeric"),
        (cycle(0.5, 1.5), "numeric"),
        ([START + dt.timedelta(hours=row) for row in range(ROWS)], "date"),
        ([f"text {row}" for row in range(ROWS)], "ignored"),
        ([None] * ROWS, "ignored"),
        (pa.nulls(ROWS, pa.string()), "ignored"),
        (cycle(float("nan")), "ignored"),
        (cycle(7), "ignored"),
        (cycle([1], [2, 3], []), "list"),
        (cycle(["a", None], None), "list"),
        (cycle([], None), "ignored"),
        (cycle([0.5], [1.5]), "ignored"),
    ],
)
def test_columns_are_classified(values, role):
    columns = {each.name: each for each in classify(table(c=values, other=cycle("x", "y")), "target").columns}
    assert columns["c"].role == role
    assert columns["c"].reason
    assert columns["target"].role == "target"


def test_categoricals_count_by_value():
    found = classify(read(table(c=pa.array(cycle("a", "b")).dictionary_encode())), "target").columns[0]
    assert (found.role, found.distinct) == ("categorical", 2)


def test_identifiers_are_categories_unless_all_different():
    roles = {
        each.name: each.role
        for each in classify(
            table(user_id=cycle(*range(90)), itemId=cycle(*range(90)), id=list(range(ROWS))), "target"
        ).columns
    }
    assert roles == {"user_id": "categorical", "itemId": "categorical", "id": "ignored", "target": "target"}


def test_numbers_and_texts_in_one_column_are_told():
    assert classify(table(c=cycle("1", "2", "3", "n/k")), "target").columns[0].reason == "mixed: 300 numbers, 100 texts"


def test_dates_become_the_parts_that_vary():
    whole = table(c=[START + dt.timedelta(days=7 * row) for row in range(ROWS)])
    features = classify(whole, "target").features
    assert [each.name for each in features] == ["c:month", "c:day"]
    assert features[0].values(whole).to_pylist()[:6] == [1, 1, 1, 1, 1, 2]


def test_the_caller_overrules():
    schema = classify(
        table(a=cycle(*range(50)), b=cycle(*range(5)), c=cycle("x", "y")),
        "target",
        categorical=["a"],
        numeric=["b"],
        ignore=["c", "target"],
    )
    assert [(each.name, each.role) for each in schema.columns] == [
        ("a", "categorical"),
        ("b", "numeric"),
        ("c", "ignored"),
        ("target", "target"),
    ]
    assert schema.features == [Feature("a", "categorical"), Feature("b", "numeric")]


@pytest.mark.parametrize(
    ("wishes", "part"),
    [
        ({"numeric": ["none"]}, "--numeric 'none': the table has no such column"),
        ({"ignore": ["none"]}, "--ignore 'none': the table has no such column"),
        ({"categorical": ["target"]}, "makes the target and cannot be a feature"),
        ({"categorical": ["n"], "numeric": ["n"]}, "both categorical and numeric"),
        ({"numeric": ["t"]}, "300 of 400 values are numbers"),
        ({"categorical": ["f"]}, "the column holds double values"),
        ({"categorical": ["gone"]}, "every value is missing"),
        ({"ignore": ["n", "t", "f"]}, "no column is left to learn from.*'n' is ignored.*'gone' is ignored"),
    ],
)
def test_impossible_wishes_are_refused(wishes, part):
    whole = table(n=cycle(*range(5)), t=cycle("1", "2", "3", "x"), f=cycle(0.5, 1.5), gone=[None] * ROWS)
    with pytest.raises(TableError, match=part):
        classify(whole, "target", **wishes)


def test_values_of_an_absent_or_changed_column_are_refused():
    with pytest.raises(TableError, match="no column 'c', which the model was trained on"):
        Feature("c", "categorical").values(pa.table({"d": [1]}))
    with pytest.raises(TableError, match="held dates when the model was trained"):
        Feature("c", "categorical", "month").values(pa.table({"c": ["x"]}))
