import numpy as np
import pyarrow as pa
import pytest

from catembed.errors import TableError
from catembed.tabular.reading import read
from catembed.tabular.target import Target, labels


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("delay", Target("delay")),
        ("delay > 15", Target("delay", ">", 15)),
        ("delay>=-1.5", Target("delay", ">=", -1.5)),
        ("delay != 1e3", Target("delay", "!=", 1000.0)),
        ("kind == 'a > b'", Target("kind", "==", "a > b")),
        ('kind == "15"', Target("kind", "==", "15")),
        ("kind == plain text", Target("kind", "==", "plain text")),
        ("kind == >50K", Target("kind", "==", ">50K")),
        ("kind == True", Target("kind", "==", True)),
        ("odd > name < 3", Target("odd > name", "<", 3)),
        ("odd > name", Target("odd > name")),
    ],
)
def test_target_is_a_column_or_a_comparison(text, expected):
    assert Target.parse(text, ["delay", "kind", "odd > name"]) == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("dealy", "no column 'dealy'"),
        ("dealy > 15", "no column of the table stands before the operator"),
        ("delay >", "no value stands after the operator"),
        ("delay > nan", "finite number"),
        ("delay = 15", "no column 'delay = 15'"),
        ("__import__('os').system('true')", "no column"),
    ],
)
def test_other_text_is_refused(text, part):
    with pytest.raises(TableError, match=part.replace("(", r"\(")):
        Target.parse(text, ["delay"])


def values(column, operator, value):
    return Target("c", operator, value).values(read({"c": column})).to_pylist()


def test_comparison_keeps_missing_values_missing():
    assert values(pa.array([1, None, 20]), ">", 15) == [False, None, True]
    assert values(pa.array([1.0, float("nan"), 20.0]), "<=", 15) == [True, None, False]


def test_comparison_of_text_categoricals_and_dates():
    assert values(pa.array(["a", "b"]).dictionary_encode(), "==", "b") == [False, True]
    dates = pa.array(np.array(["2024-01-01", "2024-06-01"], "datetime64[s]"))
    assert values(dates, ">", "2024-03-01") == [False, True]


@pytest.mark.parametrize(("column", "value"), [(["a", "b"], 3), ([1, 2], "a"), ([True, False], "x")])
def test_comparison_of_unlike_kinds_is_refused(column, value):
    with pytest.raises(TableError, match="cannot be compared with"):
        values(pa.array(column), ">", value)


@pytest.mark.parametrize(
    ("column", "task", "classes"),
    [
        ([1, 2, 3], "regression", []),
        ([1.5, 2.5, 2.5], "binary", [1.5, 2.5]),
        ([0, 1, 1], "binary", [0, 1]),
        (["no", "yes", "no"], "binary", ["no", "yes"]),
        ([True, False, True], "binary", [False, True]),
        (["b", "a", "c"], "multiclass", ["a", "b", "c"]),
    ],
)
def test_task_is_recognised(column, task, classes):
    found = labels(Target("c"), pa.array(column))
    assert (found.task, found.classes) == (task, classes)
    if classes:
        assert [found.classes[number] for number in found.values] == column
    else:
        assert found.values.tolist() == column


def test_task_is_overruled():
    assert labels(Target("c"), pa.array([1, 2, 3]), "multiclass").classes == [1, 2, 3]
    assert labels(Target("c"), pa.array([0, 1]), "regression").values.tolist() == [0.0, 1.0]


def test_rows_without_target_are_left_out():
    found = labels(Target("c"), pa.array([1.5, None, float("nan"), 2.0, 3.0]))
    assert found.present.tolist() == [True, False, False, True, True]
    assert found.values.tolist() == [1.5, 2.0, 3.0]


@pytest.mark.parametrize(
    ("column", "task", "part"),
    [
        ([5, 5], None, "constant: every value is 5"),
        (pa.array([None, None], pa.int64()), None, "every value is missing"),
        (["a", "b"], "regression", "regression needs numbers"),
        ([1, 2, 3], "binary", "a binary task needs two values, got 3"),
        ([1.0, float("inf"), 2.0], None, "infinite"),
        ([[1], [2]], None, "cannot be predicted"),
        ([str(each) for each in range(2000)], None, "2,000 classes"),
        ([1, 2], "ranking", "'ranking' is none of"),
    ],
)
def test_impossible_targets_are_refused(column, task, part):
    with pytest.raises(TableError, match=part):
        labels(Target("c"), column if isinstance(column, pa.Array) else pa.array(column), task)


def test_classes_of_another_table_are_kept():
    assert labels(Target("c"), pa.array(["c", "a"]), "multiclass", ["a", "b", "c"]).values.tolist() == [2, 0]
    with pytest.raises(TableError, match=r"no class in training: \['d'\]"):
        labels(Target("c"), pa.array(["c", "d"]), "multiclass", ["a", "b", "c"])
