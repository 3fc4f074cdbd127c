"""Vocabularies made of others: `merge` against one pass over all columns, `prune` and `rename` against lists."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from catembed import HashVocabulary, OutOfRangeError, UnseenCategoryError, Vocabulary, VocabularyError

POLICIES = [
    {"unseen": "unknown", "missing": "own"},
    {"unseen": "unknown", "missing": "unknown"},
    {"unseen": "grow", "missing": "own"},
    {"unseen": "hash", "missing": "own", "buckets": 3},
    {"unseen": "error", "missing": "own"},
    {"unseen": "hash", "missing": "error", "buckets": 2},
]


def parts_of(data, values, missing):
    column = data.draw(st.lists(values if missing == "error" else st.none() | values, max_size=40), label="column")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(column)), max_size=3), label="cuts"))
    return column, [column[a:b] for a, b in zip([0, *cuts], [*cuts, len(column)], strict=True)]


def follow(old, map, new):
    """Every id of the old one is, where the map says, the same thing in the new one."""
    assert map.dtype == torch.int64
    assert map.shape == (len(old),)
    for value, id in zip(old.decode(range(len(old))), map.tolist(), strict=True):
        if id >= 0:
            assert new.decode(id) == value
        else:
            assert value is None or value is Vocabulary.UNKNOWN or value not in new


@pytest.mark.parametrize("values", [st.sampled_from("abcdéfg") | st.text(max_size=2), st.integers(-4, 4)])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_merging_is_fitting_all_columns_at_once(values, data):
    policy = data.draw(st.sampled_from(POLICIES), label="policy")
    column, parts = parts_of(data, values, policy["missing"])
    how = {
        "order": data.draw(st.sampled_from(["frequency", "sorted", "first"]), label="order"),
        "min_count": data.draw(st.integers(1, 3), label="min_count"),
        "max_size": data.draw(st.none() | st.integers(1, 4), label="max_size"),
    }
    whole = Vocabulary.fit(column, **how, **policy)
    orders = data.draw(st.lists(st.sampled_from(["sorted", "frequency"]), min_size=len(parts), max_size=len(parts)))
    if how["order"] == "first":
        orders = ["first"] * len(parts)
    fitted = [Vocabulary.fit(part, order=order, **policy) for part, order in zip(parts, orders, strict=True)]
    merged, maps = fitted[0].merge(*fitted[1:], **how)
    assert list(merged) == list(whole)
    if len(whole):
        assert merged == whole
    assert merged.counts.tolist() == whole.counts.tolist()
    for old, map in zip(fitted, maps, strict=True):
        follow(old, map, merged)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_merging_without_an_order_appends(data):
    values = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=6)
    lists = data.draw(st.lists(values, min_size=1, max_size=4))
    made = [Vocabulary(each, **data.draw(st.sampled_from(POLICIES))) for each in lists]
    merged, maps = made[0].merge(*made[1:])
    assert list(merged) == list(dict.fromkeys(value for each in lists for value in each))
    assert (merged.unseen, merged.missing, merged.buckets) == (made[0].unseen, made[0].missing, made[0].buckets)
    assert maps[0].tolist() == list(range(len(made[0])))
    assert merged.counts is None
    for old, values, map in zip(made, lists, maps, strict=True):
        follow(old, map, merged)
        assert [merged.decode(id) for id in map[old.num_reserved :].tolist()] == values
    assert [list(each) for each in made] == lists


def test_counts_are_added_up():
    first = Vocabulary.fit(["a", "a", "b", None], unseen="unknown", missing="own", name="here")
    second = Vocabulary.fit(["c", "b", "b", None, "z"], min_count=2, unseen="unknown", missing="own", name="there")
    merged, (here, there) = first.merge(second)
    assert merged.name == "here"
    assert list(merged) == ["a", "b"]
    assert merged.counts.tolist() == [2, 2, 2, 3]
    assert (here.tolist(), there.tolist()) == ([0, 1, 2, 3], [0, 1, 3])
    assert first.counts.tolist() == [1, 0, 2, 1]
    assert first.merge(Vocabulary(["x"]))[0].counts is None


def test_reserved_ids_go_to_those_of_the_same_meaning():
    first = Vocabulary(["a"], unseen="unknown")
    second = Vocabulary(["b", "a"], unseen="hash", buckets=3, missing="own")
    assert first.merge(second)[1][1].tolist() == [-1, -1, -1, -1, 2, 1]
    assert second.merge(first)[1][1].tolist() == [-1, 5]
    other = Vocabulary(["c"], unseen="hash", buckets=3)
    assert second.merge(other)[1][1].tolist() == [1, 2, 3, 6]
    assert second.merge(Vocabulary(["c"], unseen="hash", buckets=4))[1][1].tolist() == [-1, -1, -1, -1, 6]
    grown = Vocabulary(["c"], unseen="grow", missing="unknown")
    assert first.merge(grown)[1][1].tolist() == [0, 2]


def test_rows_follow_a_merge():
    first, second = Vocabulary(["a", "b"], unseen="unknown"), Vocabulary(["c", "b"], missing="own")
    merged, (here, there) = first.merge(second)
    table = torch.zeros(len(merged), 1)
    table[here] = torch.tensor([[5.0], [1.0], [2.0]])
    assert table[merged.encode(["x", "a", "b", "c"])].flatten().tolist() == [5.0, 1.0, 2.0, 0.0]
    table[there[there >= 0]] = torch.tensor([[9.0], [3.0], [4.0]])[there >= 0]
    assert table[merged.encode(["x", "a", "b", "c"])].flatten().tolist() == [5.0, 1.0, 4.0, 3.0]


def test_merging_with_nothing_and_with_itself():
    fruit = Vocabulary(["a", "b"])
    merged, maps = fruit.merge()
    assert (merged, len(maps), maps[0].tolist()) == (fruit, 1, [0, 1])
    merged, maps = fruit.merge(fruit, Vocabulary([]))
    assert (merged, [map.tolist() for map in maps]) == (fruit, [[0, 1], [0, 1], []])
    merged, maps = Vocabulary([]).merge(fruit)
    assert (merged, merged.kind, [map.tolist() for map in maps]) == (fruit, "string", [[], [0, 1]])
    assert Vocabulary([]).merge(Vocabulary([]))[0] == Vocabulary([])


@pytest.mark.parametrize(
    ("first", "other", "told"),
    [
        (["a"], [1], "the first holds strings, number 2 holds integers"),
        ([1], [True], "the first holds integers, number 2 holds booleans"),
        ([b"a"], ["a"], "the first holds bytes, number 2 holds strings"),
        ([dt.date(2024, 1, 1)], [dt.datetime(2024, 1, 1)], "the first holds dates, number 2 holds timestamps"),
    ],
)
def test_other_kinds_do_not_merge(first, other, told):
    with pytest.raises(VocabularyError, match=told):
        Vocabulary(first).merge(Vocabulary(other))
    with pytest.raises(VocabularyError, match="number 3, that of column 'x', holds"):
        Vocabulary(first).merge(Vocabulary(first), Vocabulary(other, name="x"))


def test_what_a_merge_cannot_do_is_told():
    fitted, made = Vocabulary.fit(["a"]), Vocabulary(["b"])
    with pytest.raises(VocabularyError, match="an order needs counts"):
        fitted.merge(made, order="first")
    with pytest.raises(VocabularyError, match="together with an order"):
        fitted.merge(fitted, min_count=2)
    with pytest.raises(VocabularyError, match="together with an order"):
        fitted.merge(fitted, max_size=2)
    with pytest.raises(VocabularyError, match="order must be one of"):
        fitted.merge(fitted, order="random")
    for key in ("min_count", "max_size"):
        with pytest.raises(VocabularyError, match=f"{key} must be an integer of at least 1, got 0"):
            fitted.merge(fitted, order="first", **{key: 0})


# Prune


FITTED = Vocabulary.fit([*"aaabbc", None, None], unseen="grow", missing="own", max_size=9, name="x")  # ids 2, 3, 4


@pytest.mark.parametrize(
    ("keep", "rows"),
    [
        ([4, 2], [0, 1, 2, 4]),
        ([0, 3, 3], [0, 1, 3]),
        ([], [0, 1]),
        (torch.tensor([2]), [0, 1, 2]),
        (np.array([4], np.uint8), [0, 1, 4]),
        (range(5), [0, 1, 2, 3, 4]),
        ([False, False, False, True, True], [0, 1, 3, 4]),
        (torch.tensor([True, False, True, False, False]), [0, 1, 2]),
        (np.zeros(5, bool), [0, 1]),
    ],
    ids=str,
)
def test_prune_keeps_reserved_ids_and_order(keep, rows):
    pruned, kept = FITTED.prune(keep)
    assert (kept.dtype, kept.tolist()) == (torch.int64, rows)
    assert list(pruned) == [FITTED.decode(id) for id in rows[2:]]
    counts = FITTED.counts[rows]
    counts[1] += FITTED.counts.sum() - counts.sum()  # what was left out counts as unseen
    assert pruned.counts.tolist() == counts.tolist()
    for fact in ("unseen", "missing", "max_size", "name", "kind", "num_reserved"):
        assert getattr(pruned, fact) == getattr(FITTED, fact)
    assert pruned.encode(["a", "c", None]).tolist() == [
        rows.index(id) if id in rows else 1 for id in FITTED.encode(["a", "c", None]).tolist()
    ]
    assert list(FITTED) == ["a", "b", "c"]


def test_prune_of_what_was_never_counted_and_of_buckets():
    pruned, rows = Vocabulary(["a", "b"], unseen="hash", buckets=3).prune([4])
    assert (list(pruned), rows.tolist(), pruned.counts) == (["b"], [0, 1, 2, 4], None)
    everything, rows = Vocabulary([3, 1]).prune([True, True])
    assert (everything, rows.tolist()) == (Vocabulary([3, 1]), [0, 1])


@pytest.mark.parametrize(
    ("keep", "error", "message"),
    [
        ([5], OutOfRangeError, "column 'x'.*id 5"),
        ([2, -1], OutOfRangeError, "id -1"),
        ([True, False], VocabularyError, r"one entry for each of the 5 ids, got shape \(2,\)"),
        ([2.0], TypeError, "ids must be integers"),
        (["a"], TypeError, "ids must be integers"),
    ],
    ids=str,
)
def test_what_cannot_be_kept_is_told(keep, error, message):
    with pytest.raises(error, match=message):
        FITTED.prune(keep)


# Rename


def test_rename_leaves_ids_and_counts():
    renamed = FITTED.rename({"b": "B", "a": "b"})
    assert (list(renamed), renamed.counts.tolist()) == (["b", "B", "c"], FITTED.counts.tolist())
    assert renamed.encode(["b", "B", "a"]).tolist() == [2, 3, 1]
    assert (renamed.unseen, renamed.missing, renamed.max_size, renamed.name) == ("grow", "own", 9, "x")
    assert list(FITTED) == ["a", "b", "c"]
    assert list(FITTED.rename({"a": "b", "b": "a"})) == ["b", "a", "c"]
    assert list(Vocabulary([1, 2]).rename({2: -5, 1: 1})) == [1, -5]
    same = FITTED.rename({})
    assert (same, same is FITTED, same.counts.tolist()) == (FITTED, False, FITTED.counts.tolist())
    same.add(["z"])
    assert "z" not in FITTED


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ({"x": "y"}, UnseenCategoryError, "unseen value.*'x'"),
        ({1: "y"}, UnseenCategoryError, "unseen value.*1"),
        ({"a": "b"}, VocabularyError, "duplicate categories: 'b'"),
        ({"a": "z", "b": "z"}, VocabularyError, "duplicate categories: 'z'"),
        ({"a": 1}, VocabularyError, "the column holds integers"),
        ({"a": None}, VocabularyError, "missing value at position 0"),
        ({"a": "x", "b": None}, VocabularyError, "missing value"),
        ([("a", "x")], TypeError, "takes a mapping"),
    ],
    ids=str,
)
def test_what_cannot_be_renamed_is_told(names, error, message):
    with pytest.raises(error, match=message):
        FITTED.rename(names)
    assert list(FITTED) == ["a", "b", "c"]


def test_views_and_large_columns_merge():
    first = Vocabulary(pa.array([str(i) for i in range(5000)]))
    second = Vocabulary(pa.array([str(i) for i in range(7000, 2000, -1)], pa.string_view()))
    merged, (here, there) = first.merge(second)
    assert len(merged) == 7001
    assert here.tolist() == list(range(5000))
    assert there.tolist() == [5000 + i for i in range(2001)] + list(range(4999, 2000, -1))


def test_merge_holds_to_max_size():
    first = Vocabulary(["a"], unseen="grow", max_size=2)
    assert len(first.merge(Vocabulary(["b"]))[0].categories) == 2
    with pytest.raises(VocabularyError, match=r"3 categories together are more than max_size=2"):
        first.merge(Vocabulary(["b", "c"]))
    parts = [Vocabulary.fit(["a", "a", "b"], unseen="grow"), Vocabulary.fit(["c"])]
    merged, _ = parts[0].merge(parts[1], order="frequency", max_size=2, min_count=1)
    assert merged.max_size == 2


def test_merge_takes_vocabularies():
    for other in (["a"], HashVocabulary(3)):
        with pytest.raises(TypeError, match=f"got {type(other).__name__} as number 2"):
            Vocabulary(["a"]).merge(other)


def test_rename_takes_one_value_for_each():
    with pytest.raises(VocabularyError, match=r"got values of shape \(2,\)"):
        Vocabulary(["a"]).rename({"a": ["x", "y"]})
