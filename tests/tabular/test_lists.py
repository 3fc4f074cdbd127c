import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from catembed import tabular
from catembed.errors import TableError
from catembed.tabular.encoding import Encoder
from catembed.tabular.schema import Feature

TEXTS = ["red|old", " old | red ||", "", None, "new"]


def lists_of(rows) -> list[list[int]]:
    (bags,) = rows.bags
    return [bags.values[bags.offsets[at] : bags.offsets[at + 1]].tolist() for at in bags.rows]


def test_text_is_divided_trimmed_and_missing_is_not_empty():
    feature = Feature("tags", "list", separator="|")
    encoder = Encoder.fit([feature], pa.table({"tags": TEXTS}))
    assert set(encoder.vocabularies["tags"]) == {"red", "old", "new"}
    red, old, new = encoder.vocabularies["tags"].encode(["red", "old", "new"]).tolist()
    found = lists_of(encoder.encode(pa.table({"tags": [*TEXTS, "blue|red"]})))
    assert found == [[red, old], [old, red], [], [0], [new], [1, red]]
    assert lists_of(encoder.encode(pa.table({"tags": pa.nulls(2)}))) == [[0], [0]]


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.large_list(pa.large_string()), pa.list_(pa.int32())])
def test_lists_of_every_type(kind):
    values = [[3, 1], None, [], [None, 1]] if "int" in str(kind) else [["3", "1"], None, [], [None, "1"]]
    column = pa.array([[], *values], kind).slice(1)  # a slice, whose offsets do not begin at 0
    encoder = Encoder.fit([Feature("tags", "list")], pa.table({"tags": column}))
    one, three = (
        encoder.vocabularies["tags"]
        .encode(pa.array([1, 3], kind.value_type) if "int" in str(kind) else ["1", "3"])
        .tolist()
    )
    assert lists_of(encoder.encode(pa.table({"tags": column}))) == [[three, one], [0], [], [0, one]]


def rows(number: int = 500) -> dict:
    """How many of the three good tags a row has decides its value."""
    draw = np.random.default_rng(0)
    tags = [[f"t{at}" for at in np.flatnonzero(each < 0.4)] for each in draw.random((number, 6))]
    value = [float(sum(tag in ("t0", "t1", "t2") for tag in each)) for each in tags]
    return {"tags": tags, "shop": [f"s{each}" for each in draw.integers(0, 3, number)], "value": value}


@pytest.mark.parametrize("model", ["mlp", "fm", "deepfm"])
def test_lists_are_learned_from_saved_and_opened(model, tmp_path):
    given = rows()
    fitted = tabular.fit(given, "value", model=model, epochs=25)
    assert fitted.report["validation"]["catembed"]["R²"] > 0.5
    assert fitted.report["model"] == model
    fitted.save(tmp_path / "m")
    again = tabular.Fitted.load(tmp_path / "m")
    assert (again.model_name, list(again.layers)) == (model, ["shop", "tags"])
    assert again.predict(given).equals(fitted.predict(given))
    assert set(tabular.load_layer(tmp_path / "m", "tags").vocabulary) == {f"t{at}" for at in range(6)}


def test_every_form_of_a_table_gives_the_same():
    given = rows(100)
    expected = tabular.fit(given, "value", model="fm", epochs=1).predict(given)
    for form in (pd.DataFrame(given), pl.DataFrame(given), pa.table(given)):
        assert tabular.fit(form, "value", model="fm", epochs=1).predict(form).equals(expected)


def test_a_delimited_column_of_a_csv_is_as_lists(tmp_path):
    given = rows(100)
    text = {**given, "tags": ["; ".join(each) for each in given["tags"]]}
    pd.DataFrame(text).to_csv(tmp_path / "t.csv", index=False)
    fitted = tabular.fit(tmp_path / "t.csv", "value", lists=["tags"], separator=";", epochs=1)
    # An empty field is a missing value in a CSV, and no empty list.
    known = [row for row, each in enumerate(given["tags"]) if each]
    predicted = fitted.predict({name: [text[name][row] for row in known] for name in ("tags", "shop")})
    assert fitted.predict(tmp_path / "t.csv").take(known).equals(predicted)
    assert set(fitted.layers["tags"].vocabulary) == {f"t{at}" for at in range(6)}


def test_digits_stay_text_where_they_are_divided(tmp_path):
    (tmp_path / "t.csv").write_text("tags,y\n" + "01,0\n2,1\n3,1\n" * 30)
    fitted = tabular.fit(tmp_path / "t.csv", "y", lists=["tags"], epochs=1)
    assert set(fitted.layers["tags"].vocabulary) == {"01", "2", "3"}
    assert fitted.predict(tmp_path / "t.csv").equals(fitted.predict({"tags": ["01", "2", "3"] * 30}))


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ({"lists": ["tag"]}, "--list 'tag': the table has no such column; it has: tags, shop, value"),
        ({"lists": ["size"]}, "--list 'size': a list is a column of lists, or text that --separator divides"),
        ({"categorical": ["tags"]}, "--categorical 'tags': the column holds list<item: string> values; .* --list"),
        ({"lists": ["shop"], "separator": ""}, "--separator must be a text of one character or more.* an empty one"),
        ({"lists": ["shop"], "separator": 3}, "--separator must be a text of one character or more.* got 3"),
        ({"separator": ";"}, "--separator ';': there is no column of text for it to divide; name one with --list"),
        ({"lists": ["tags"], "separator": ";"}, "--separator ';': there is no column of text for it to divide"),
        ({"lists": ["code"]}, "column 'code' holds bytes that are no UTF-8 text"),
        ({"lists": ["marks"]}, "--list 'marks': the members of a list are categories: .*; they are double values"),
        ({"lists": ["value"]}, "--list 'value': this column makes the target"),
    ],
)
def test_what_cannot_be_a_list_is_told(asked, part):
    more = {"size": range(20), "code": [b"\xff|\xfe", b"a"] * 10, "marks": [[0.5], [1.5]] * 10}
    with pytest.raises(TableError, match=part):
        tabular.fit({**rows(20), **more}, "value", epochs=1, **asked)


def test_a_model_of_lists_refuses_what_are_none():
    fitted = tabular.fit(rows(50), "value", epochs=1)
    with pytest.raises(TableError, match="column 'tags' held lists when the model was trained, and now string values"):
        fitted.predict({"tags": ["t1"], "shop": ["s1"]})


def test_equal_lists_are_pooled_once_and_predict_the_same(monkeypatch):
    given = rows(200)
    fitted = tabular.fit(given, "value", model="fm", epochs=1)
    once = fitted.predict(given)
    one_by_one = [fitted.predict({name: [given[name][row]] for name in ("tags", "shop")}) for row in range(5)]
    found = torch.tensor([each["prediction"][0].as_py() for each in one_by_one])
    torch.testing.assert_close(found, torch.tensor(once["prediction"].to_pylist()[:5]), rtol=1e-5, atol=1e-6)


def test_a_validation_file_is_read_as_text_where_the_table_has_text(tmp_path):
    given = pl.DataFrame({"zip": ["01", "2"] * 40, "tags": ["3|4", "5"] * 40, "y": [0.5, 1.5] * 40})
    (tmp_path / "v.csv").write_text("zip,tags,y\n" + "01,3,0.5\n2,5,1.5\n" * 5)
    fitted = tabular.fit(given, "y", lists=["tags"], valid=tmp_path / "v.csv", epochs=1)
    assert fitted.report["rows"]["validation"] == 10
    assert set(fitted.layers["zip"].vocabulary) == {"01", "2"}
