"""What a vocabulary is and does, apart from the columns it reads."""

import copy
import datetime as dt
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from catembed import OutOfRangeError, UnseenCategoryError, Vocabulary, VocabularyError

FRUIT = ["apple", "banana", "candy"]
POLICIES = [("error", "error"), ("error", "own"), ("unknown", "error"), ("unknown", "own"), ("unknown", "unknown")]


def test_order_given_is_the_order_of_ids():
    vocabulary = Vocabulary(["candy", "apple", "banana"])
    assert list(vocabulary) == ["candy", "apple", "banana"]
    assert vocabulary.categories.to_pylist() == ["candy", "apple", "banana"]
    assert vocabulary.encode(FRUIT).tolist() == [1, 2, 0]
    assert vocabulary.counts is None


@pytest.mark.parametrize(
    ("unseen", "missing", "reserved", "missing_id", "unknown_id", "ids"),
    [
        ("error", "error", 0, None, None, ["apple"]),
        ("error", "own", 1, 0, None, [None, "apple"]),
        ("unknown", "error", 1, None, 0, ["kiwi", "apple"]),
        ("unknown", "own", 2, 0, 1, [None, "kiwi", "apple"]),
        ("unknown", "unknown", 1, None, 0, ["kiwi", "apple"]),
    ],
)
def test_reserved_ids_come_first(unseen, missing, reserved, missing_id, unknown_id, ids):
    vocabulary = Vocabulary(FRUIT, unseen=unseen, missing=missing)
    assert vocabulary.num_reserved == reserved
    assert len(vocabulary) == reserved + 3
    assert (vocabulary.missing_id, vocabulary.unknown_id) == (missing_id, unknown_id)
    assert (vocabulary.unseen, vocabulary.missing) == (unseen, missing)
    assert [vocabulary.encode(value).item() for value in ids] == list(range(reserved + 1))
    assert vocabulary.encode(FRUIT).tolist() == [reserved, reserved + 1, reserved + 2]
    assert list(vocabulary) == FRUIT


def test_missing_shares_the_unknown_row_only_when_asked():
    assert Vocabulary(FRUIT, unseen="unknown", missing="unknown").encode([None, "kiwi", "apple"]).tolist() == [0, 0, 1]
    assert Vocabulary(FRUIT, unseen="unknown", missing="own").encode([None, "kiwi", "apple"]).tolist() == [0, 1, 2]
    with pytest.raises(VocabularyError, match='missing="unknown" needs an unknown row'):
        Vocabulary(FRUIT, missing="unknown")


@pytest.mark.parametrize("make", [Vocabulary, Vocabulary.fit])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unseen": "skip"}, 'unseen must be one of "error", "unknown", "hash", "grow", got \'skip\''),
        ({"unseen": "hash"}, r"buckets= go together.*\(got unseen='hash', buckets=None\)"),
        ({"unseen": "grow", "buckets": 3}, r"buckets= go together.*\(got unseen='grow', buckets=3\)"),
        ({"unseen": "hash", "buckets": 0}, "buckets must be an integer of at least 1, got 0"),
        ({"unseen": "hash", "buckets": 2**32}, "buckets must be at most 4,294,967,295, got 4,294,967,296"),
        ({"unseen": "hash", "buckets": 3, "missing": "unknown"}, "needs an unknown row"),
        ({"unseen": "grow", "min_count": 0}, "min_count must be an integer of at least 1, got 0"),
        ({"unseen": "grow", "max_size": True}, "max_size must be an integer of at least 1, got True"),
        ({"unseen": "own"}, "unseen must be one of"),
        ({"missing": None}, 'missing must be one of "error", "unknown", "own", got None'),
        ({"missing": ["own"]}, "missing must be one of"),
        ({"name": 3}, "name must be a string or None, got 3"),
    ],
)
def test_unknown_policies_are_refused(make, options, message):
    with pytest.raises(VocabularyError, match=message):
        make(FRUIT, **options)


def test_a_vocabulary_takes_one_dimension():
    with pytest.raises(VocabularyError, match=r"one-dimensional column, got shape \(1, 1\)"):
        Vocabulary([["apple"]])
    with pytest.raises(VocabularyError, match=r"got shape \(\).*\[value\]"):
        Vocabulary("apple")


def test_duplicates_are_named_with_their_positions():
    message = r"^column 'c': duplicate categories: 'b' at positions 0, 2, 3; 'a' at positions 1, 4. Give each once"
    with pytest.raises(VocabularyError, match=message):
        Vocabulary(["b", "a", "b", "b", "a"], name="c")
    for same in ([5, 5.0], [True, True], pa.array([b"x", b"x"]), [dt.date.min] * 2, pd.Series(["z"] * 2)):
        with pytest.raises(VocabularyError, match=r"duplicate categories: .* at positions 0, 1"):
            Vocabulary(same)
    berlin = dt.timezone(dt.timedelta(hours=1))
    noon = dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC)
    with pytest.raises(VocabularyError, match="duplicate"):
        Vocabulary([noon, noon.astimezone(berlin)])


def test_many_duplicates_are_counted():
    with pytest.raises(VocabularyError, match=r"positions 0, 1, 2, 3, 4, …; 2 at .*; and 5 more"):
        Vocabulary([1] * 9 + [value for value in range(2, 11) for _ in range(2)])


@pytest.mark.parametrize("missing", ["error", "own"])
def test_missing_is_no_category(missing):
    for column in (["apple", None], np.array([1, np.nan]), pd.Series([None, "a"], dtype="category"), pa.nulls(1)):
        with pytest.raises(VocabularyError, match=r'1 missing value at position .*leave them out.*missing="own"'):
            Vocabulary(column, missing=missing)


def test_the_caller_may_go_on_changing_the_array():
    array = np.array([10, 20, 30])
    vocabulary = Vocabulary(array)
    array[:] = 0
    assert list(vocabulary) == [10, 20, 30]
    assert vocabulary.encode([20]).tolist() == [1]


# Empty vocabularies


def test_an_empty_vocabulary_of_no_known_kind():
    vocabulary = Vocabulary([], unseen="unknown", missing="own")
    assert vocabulary.kind == "empty"
    assert len(vocabulary) == 2
    for value in ("a", 1, True, b"a", dt.date.max, dt.datetime.max):
        assert vocabulary.encode([value, None]).tolist() == [1, 0]
        assert value not in vocabulary
    with pytest.raises(UnseenCategoryError, match="1 unseen value: 'a'; the vocabulary holds 0 categories"):
        Vocabulary([]).encode("a")


def test_an_empty_vocabulary_of_a_known_kind():
    vocabulary = Vocabulary(pa.array([], pa.string()), unseen="unknown")
    assert vocabulary.kind == "string"
    assert vocabulary.encode(["a"]).tolist() == [0]
    with pytest.raises(VocabularyError, match="the vocabulary holds strings"):
        vocabulary.encode([1])
    assert vocabulary != Vocabulary([], unseen="unknown")


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (["a"], "string"),
        ([b"a"], "bytes"),
        ([1], "integer"),
        ([1.0], "integer"),
        ([True], "boolean"),
        ([dt.date.max], "date"),
        ([dt.datetime.max], "timestamp"),
        ([dt.datetime(2024, 1, 1, tzinfo=dt.UTC)], "timestamp[UTC]"),
    ],
)
def test_kind(column, kind):
    assert Vocabulary(column).kind == kind


# Unseen values


def test_unseen_values_are_told_with_counts_positions_and_close_matches():
    vocabulary = Vocabulary(FRUIT, name="fruit")
    with pytest.raises(KeyError) as caught:
        vocabulary.encode(["apple", "bananna", "kiwi", "bananna", "Candy "])
    assert isinstance(caught.value, UnseenCategoryError)
    assert str(caught.value) == (
        "column 'fruit': 4 unseen values at positions 1, 2, 3, 4: 'bananna' (2 times), 'kiwi', 'Candy ' "
        "(did you mean 'banana' for 'bananna', 'candy' for 'Candy '?); the vocabulary holds 3 categories. "
        'Correct the values, fit the vocabulary again, or make it with unseen="unknown", which gives unseen '
        "values a row"
    )


def test_unseen_positions_have_the_shape_of_the_input():
    with pytest.raises(UnseenCategoryError, match=r"^1 unseen value at position \(1, 0\): 'b'"):
        Vocabulary(["a"]).encode([["a"], ["b"]])
    with pytest.raises(UnseenCategoryError, match=r"^1 unseen value: 7; the vocabulary holds 1 category\."):
        Vocabulary([1]).encode(7)
    with pytest.raises(UnseenCategoryError, match=r"^2 unseen values at positions 1, 3: 'c' \(2 times\)"):
        Vocabulary(["a"]).encode(pd.Series(["a", "c", "a", "c", "a"], dtype="category"))


def test_long_lists_of_unseen_values_are_cut():
    with pytest.raises(UnseenCategoryError) as caught:
        Vocabulary([1]).encode(range(100, 1100))
    start = "1,000 unseen values at positions 0, 1, 2, 3, 4, …: 100, 101, 102, 103, 104 and 995 more; "
    assert str(caught.value).startswith(start)
    with pytest.raises(UnseenCategoryError, match=r"^1 unseen value: 'x{40}'… \(1,000,000 long\)"):
        Vocabulary(["a"]).encode("x" * 1_000_000)


def test_close_matches_among_many_categories():
    vocabulary = Vocabulary(np.arange(200_000).astype(str).astype(object) + pd.array(["-Airport"]).repeat(200_000))
    with pytest.raises(UnseenCategoryError, match="did you mean '123456-Airport'"):
        vocabulary.encode("123456-Airprot")
    with pytest.raises(UnseenCategoryError, match="did you mean '123456-Airport'"):
        vocabulary.encode(" 123456-AIRPORT ")
    with pytest.raises(UnseenCategoryError, match="did you mean '123456-Airport'"):
        vocabulary.encode("Q123456-Airport")
    for odd in ("", " ", "\0", "日本語", "x" * 10_000):
        with pytest.raises(UnseenCategoryError, match=r"the vocabulary holds 200,000 categories") as caught:
            vocabulary.encode(odd)
        assert "did you mean" not in str(caught.value)


def test_close_matches_stay_within_the_text():
    vocabulary = Vocabulary([*map(str, range(10_000, 12_000)), "zebra"])
    with pytest.raises(UnseenCategoryError, match="did you mean 'zebra'"):
        vocabulary.encode("zebraxx")


def test_missing_values_are_told_apart_from_unseen_ones():
    with pytest.raises(UnseenCategoryError) as caught:
        Vocabulary(FRUIT, unseen="unknown", name="fruit").encode(["kiwi", None, float("nan")])
    assert str(caught.value).startswith("column 'fruit': 2 missing values at positions 1, 2 (None, NaN and the like)")
    assert 'missing="own"' in str(caught.value)


def test_pandas_and_polars_columns_bring_their_name():
    for column in (pd.Series(FRUIT, name="fruit"), pl.Series("fruit", FRUIT), pd.Index(FRUIT, name="fruit")):
        assert Vocabulary(column).name == "fruit"
        assert Vocabulary.fit(column).name == "fruit"
        assert Vocabulary(column, name="other").name == "other"
    assert Vocabulary(pd.Series(FRUIT, name=("a", 1))).name is None
    assert Vocabulary(pl.Series(FRUIT)).name is None


# Membership, iteration, equality, repr


def test_membership_is_strict_about_types():
    vocabulary = Vocabulary([1, 0], missing="own")
    assert 1 in vocabulary
    assert np.int8(1) in vocabulary
    assert 1.0 in vocabulary
    for other in (True, "1", b"1", 1.5, 2, None, float("nan"), object(), 2**70, dt.date.min):
        assert other not in vocabulary
    with pytest.raises(TypeError, match=r"one category, got a column of shape \(2,\)"):
        [1, 0] in vocabulary  # noqa: B015


def test_equality_is_of_kind_policies_and_categories():
    vocabulary = Vocabulary(FRUIT)
    same = [Vocabulary(np.array(FRUIT)), Vocabulary(FRUIT, name="fruit"), Vocabulary.fit(FRUIT, order="first")]
    for other in same:
        assert vocabulary == other
        assert hash(vocabulary) == hash(other)
        assert vocabulary.fingerprint == other.fingerprint
    different = [
        Vocabulary(FRUIT[::-1]),
        Vocabulary(FRUIT[:2]),
        Vocabulary([value.encode() for value in FRUIT]),
        Vocabulary(FRUIT, unseen="unknown"),
        Vocabulary(FRUIT, missing="own"),
        Vocabulary(["applebanana", "", "candy"]),
    ]
    for other in different:
        assert vocabulary != other
        assert vocabulary.fingerprint != other.fingerprint
    assert vocabulary != FRUIT
    assert Vocabulary([0, 1]) != Vocabulary([False, True])
    assert len({each.fingerprint for each in [vocabulary, *different]}) == len(different) + 1


def test_fingerprints_never_change():
    # Stored files hold them: a change here makes every stored vocabulary unreadable.
    assert Vocabulary(FRUIT).fingerprint == FINGERPRINTS[0]
    assert Vocabulary([3, -1], unseen="unknown", missing="own").fingerprint == FINGERPRINTS[1]
    assert Vocabulary([dt.date(1970, 1, 2)]).fingerprint == FINGERPRINTS[2]
    assert Vocabulary([True]).fingerprint == FINGERPRINTS[3]
    assert Vocabulary([]).fingerprint == FINGERPRINTS[4]


FINGERPRINTS = (
    "7e33e0fcbe352a27d58971bdf124c36466762bb60e98e522b445e33f638d01aa",
    "76aad5f09a9d11dac21574f7e4667c94b9d98e4d49151a26a998adf8ab776e26",
    "692f9c692eda1593fdc686ffcd4f3fcdd392334c92d6c48fc67d604eee234f81",
    "03c6328cba3b893c5a570d9606d96e0d79eb66741ee6dca90a5180bb7c6491fb",
    "1578671e304b5b5438ccb3018480e818d3914f321c0978198d253075bf458b66",
)


def test_repr_is_short_and_evaluates_where_it_is_whole():
    for vocabulary in (
        Vocabulary(FRUIT),
        Vocabulary([1], unseen="unknown", missing="own", name="x"),
        Vocabulary([], missing="own"),
    ):
        assert eval(repr(vocabulary)) == vocabulary
    assert repr(Vocabulary(FRUIT, name="fruit")) == "Vocabulary(['apple', 'banana', 'candy'], name='fruit')"
    assert repr(Vocabulary(range(1000), unseen="unknown")) == "Vocabulary([0, 1, 2, … 997 more], unseen='unknown')"


# Back from ids


def test_decode_gives_the_shape_of_the_ids():
    vocabulary = Vocabulary(FRUIT)
    assert vocabulary.decode(1) == "banana"
    assert vocabulary.decode([1, 0]) == ["banana", "apple"]
    assert vocabulary.decode(torch.tensor([[2], [0]])) == [["candy"], ["apple"]]
    assert vocabulary.decode(np.array([[2, 0]], np.uint8)) == [["candy", "apple"]]
    assert vocabulary.decode(torch.tensor(2)) == "candy"
    assert vocabulary.decode([]) == []
    assert vocabulary.decode(np.zeros((2, 0, 3), int)) == [[], []]
    assert Vocabulary([b"a\0", b""]).decode([0, 1]) == [b"a\0", b""]


def test_decode_tells_missing_and_unknown_apart():
    vocabulary = Vocabulary(FRUIT, unseen="unknown", missing="own")
    assert vocabulary.decode([0, 1, 2]) == [None, Vocabulary.UNKNOWN, "apple"]
    assert Vocabulary(FRUIT, unseen="unknown").decode([0, 1]) == [Vocabulary.UNKNOWN, "apple"]
    assert Vocabulary(FRUIT, missing="own").decode([0, 1]) == [None, "apple"]
    assert repr(Vocabulary.UNKNOWN) == "<unknown>"
    assert pickle.loads(pickle.dumps(Vocabulary.UNKNOWN)) is Vocabulary.UNKNOWN
    assert copy.deepcopy(Vocabulary.UNKNOWN) is Vocabulary.UNKNOWN


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (3, r"index out of range in self: id 3 \(1 of 1 ids are out of range\); the vocabulary has the ids \[0, 3\)"),
        ([0, -1, 9], r"id -1 at position 1 \(2 of 3 ids"),
        (torch.tensor([[0], [3]]), r"id 3 at position \(1, 0\)"),
        (np.array([2**64 - 1], np.uint64), "id 18446744073709551615 at position 0"),
    ],
)
def test_decode_refuses_ids_out_of_range(ids, message):
    with pytest.raises(OutOfRangeError, match=message):
        Vocabulary(FRUIT).decode(ids)


@pytest.mark.parametrize("ids", [1.0, [0.0], [True], ["apple"], torch.tensor([0.0]), [[0], [0, 1]], None])
def test_decode_refuses_what_are_no_ids(ids):
    with pytest.raises(TypeError, match="ids must be integers"):
        Vocabulary(FRUIT).decode(ids)


# Importing


def test_importing_loads_no_arrow_and_the_first_vocabulary_does():
    code = (
        "import sys, catembed.vocabulary; assert not {'pyarrow', 'pandas', 'polars'} & sys.modules.keys();"
        "catembed.vocabulary.Vocabulary(['a']); assert 'pyarrow' in sys.modules and 'polars' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
