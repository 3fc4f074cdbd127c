import datetime as dt

import pyarrow as pa
import pytest

from catembed.errors import TableError
from catembed.tabular.reading import read
from catembed.tabular.schema import Feature, Schema, classify

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


def test_a_part_of_a_date_and_a_column_of_one_name_are_refused():
    whole = table(d=[START + dt.timedelta(hours=row) for row in range(ROWS)], **{"d:hour": cycle("a", "b")})
    with pytest.raises(TableError, match="'d:hour' and the hour of the date in column 'd' have one name; rename"):
        classify(whole, "target")
    assert "d:hour" in [each.name for each in classify(whole, "target", ignore=["d:hour"]).features]


def test_extension_types_are_left_out():
    uuids = pa.ExtensionArray.from_storage(
        pa.uuid(), pa.array([bytes(16), bytes(range(16))] * (ROWS // 2), pa.binary(16))
    )
    column = classify(table(c=uuids, other=cycle("x", "y")), "target").columns[0]
    assert (column.role, column.reason) == ("ignored", f"{uuids.type} values are not supported")


@pytest.mark.parametrize("gone", [pa.nulls(4), pa.array([float("nan")] * 4), pa.nulls(4, pa.string())])
@pytest.mark.parametrize(
    "feature",
    [Feature("c", "categorical", "hour"), Feature("c", "list"), Feature("c", "numeric")],
    ids=lambda f: f.role,
)
def test_a_column_of_missing_values_may_be_of_any_type(feature, gone):
    assert feature.values(pa.table({"c": gone})).null_count == 4


def test_times_go_by_the_zone_of_training():
    berlin, tokyo = (pa.array([START], pa.timestamp("us", zone)) for zone in ("Europe/Berlin", "Asia/Tokyo"))
    plain = pa.array([START])
    aware = classify(table(c=pa.concat_arrays([berlin] * ROWS), d=cycle("a", "b")), "target", categorical=["c"])
    feature = Feature("c", "categorical", "hour", zone="Europe/Berlin")
    assert aware.features[0].zone == "Europe/Berlin"
    assert feature.values(pa.table({"c": berlin})).to_pylist() == [1]
    assert feature.values(pa.table({"c": tokyo})).to_pylist() == [1]
    with pytest.raises(TableError, match=r"in the time zone Europe/Berlin when .* now times without a time zone"):
        feature.values(pa.table({"c": plain}))
    with pytest.raises(TableError, match=r"without a time zone when .* now times in the time zone Asia/Tokyo"):
        Feature("c", "categorical", "hour", zone="").values(pa.table({"c": tokyo}))


def test_a_schema_stored_before_zones_were_is_loaded():
    whole = table(c=[START + dt.timedelta(hours=row) for row in range(ROWS)])
    stored = classify(whole, "target").to_dict()
    assert {each["zone"] for each in stored["features"]} == {""}
    assert Schema.from_dict(stored) == classify(whole, "target")
    for each in stored["features"]:
        del each["zone"]
    aware = pa.table({"c": pa.array([START], pa.timestamp("us", "Asia/Tokyo"))})
    assert Schema.from_dict(stored).features[-1].values(aware).to_pylist() == [9]
