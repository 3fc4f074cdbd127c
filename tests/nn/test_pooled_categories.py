"""Pooled ``CategoryEmbedding``: columns of lists and strings that are split, against a dict and torch's own mean."""

import copy
import datetime as dt
import io
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader

import catembed
from catembed import (
    CategoryEmbedding,
    EmbeddingBag,
    FormatError,
    HashVocabulary,
    OutOfRangeError,
    UnseenCategoryError,
    Vocabulary,
    VocabularyError,
)
from catembed.functional import Jagged
from catembed.storage import read_file, write_file

GENRES = ["Action", "Comedy", "Drama", "Horror"]
FILMS = [["Drama", "Action"], [], ["Comedy"], ["Drama", "Drama", "Horror"]]
STRINGS = ["Drama|Action", "", "Comedy", "Drama|Drama|Horror"]
POOLINGS = ["sum", "mean", "max", "sqrtn"]


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return CategoryEmbedding(Vocabulary(GENRES, name="genres"), 5, pooling="mean", separator="|")


def by_hand(layer, bags):
    """Bag by bag, value by value."""
    vocabulary, weight = layer.vocabulary, layer.embedding.weight
    place = {value: at + vocabulary.num_reserved for at, value in enumerate(vocabulary)}
    missing = vocabulary.missing_id if vocabulary.missing == "own" else vocabulary.unknown_id
    rows = []
    for bag in bags:
        values = [None] if bag is None else bag
        ids = [missing if value is None else place.get(value, vocabulary.unknown_id) for value in values]
        ids = [i for i in ids if i != layer.embedding.padding_idx]
        if not ids:
            rows.append(weight.new_zeros(weight.shape[1]))
            continue
        found = torch.stack([weight[i] for i in ids])
        pooled = {
            "sum": lambda found=found: found.sum(0),
            "mean": lambda found=found: found.mean(0),
            "max": lambda found=found: found.amax(0),
            "sqrtn": lambda found=found: found.sum(0) / len(found) ** 0.5,
        }[layer.pooling]
        rows.append(pooled())
    return torch.stack(rows) if rows else weight.new_zeros(0, weight.shape[1])


# Forms of bags

CHUNKS = pa.chunked_array([pa.array(FILMS[:1]), pa.array([], pa.list_(pa.string())), pa.array(FILMS[1:])])
CODES = pa.list_(pa.dictionary(pa.int32(), pa.string()))
LISTS = {
    "lists": FILMS,
    "tuples": tuple(map(tuple, FILMS)),
    "mixed": [tuple(FILMS[0]), np.array([]), np.array(FILMS[2]), FILMS[3]],
    "arrays": [np.array(bag, dtype=object) for bag in FILMS],
    "fixed-width arrays": [np.array(bag, dtype="U6") for bag in FILMS],
    "object array": np.array([*FILMS, None], dtype=object)[:-1],
    "series": [pd.Series(bag, dtype=object) for bag in FILMS],
    "polars series": [pl.Series(bag, dtype=pl.String) for bag in FILMS],
    "arrow scalars": list(pa.array(FILMS)),
    "arrow": pa.array(FILMS),
    "arrow slice": pa.array([["x"], *FILMS, ["y"]])[1:5],
    "arrow large": pa.array(FILMS, pa.large_list(pa.large_string())),
    "arrow views": pa.array(FILMS, pa.list_(pa.string_view())),
    "arrow list view": pa.array(FILMS, pa.list_view(pa.string())),
    "arrow chunks": CHUNKS,
    "arrow codes": pa.array(FILMS, CODES),
    "arrow chunks of codes": pa.chunked_array([pa.array(FILMS[:2], CODES), pa.array(FILMS[2:], CODES)]),
    "pandas": pd.Series(FILMS, index=list("abcd")),
    "pandas arrays": pd.Series([np.array(bag, dtype=object) for bag in FILMS]),
    "pandas tuples": pd.Series([tuple(bag) for bag in FILMS]),
    "pandas arrow": pd.Series(FILMS, dtype=pd.ArrowDtype(pa.list_(pa.string()))),
    "polars": pl.Series("x", FILMS),
    "polars codes": pl.Series("x", FILMS, dtype=pl.List(pl.Categorical)),
    "polars objects": pl.Series("x", [tuple(bag) for bag in FILMS], dtype=pl.Object),
}
SPLIT = {
    "list": STRINGS,
    "arrow": pa.array(STRINGS),
    "arrow slice": pa.array(["x", *STRINGS])[1:],
    "arrow view": pa.array(STRINGS, pa.string_view()),
    "arrow codes": pa.array(STRINGS).dictionary_encode(),
    "arrow chunks": pa.chunked_array([STRINGS[:1], STRINGS[1:]]),
    "numpy": np.array(STRINGS),
    "objects": np.array(STRINGS, dtype=object),
    "pandas": pd.Series(STRINGS),
    "pandas objects": pd.Series(STRINGS, dtype=object),
    "pandas categorical": pd.Series(STRINGS, dtype="category"),
    "polars": pl.Series(STRINGS),
}


@pytest.mark.parametrize("column", [*LISTS.values(), *SPLIT.values()], ids=[*LISTS, *(f"split {key}" for key in SPLIT)])
def test_every_form_gives_the_same_vectors(layer, column):
    found = layer(column)
    assert found.shape == (4, 5)
    assert torch.allclose(found, by_hand(layer, FILMS))
    assert torch.equal(found, layer.embedding([[2, 0], [], [1], [2, 2, 3]]))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling_trains_only_the_rows_of_the_bags(pooling):
    layer = CategoryEmbedding(GENRES, 5, pooling=pooling, dtype=torch.float64)
    twin = copy.deepcopy(layer)
    layer(FILMS[:3]).square().sum().backward()
    by_hand(twin, FILMS[:3]).square().sum().backward()
    assert torch.allclose(layer.embedding.weight.grad, twin.embedding.weight.grad)
    assert not layer.embedding.weight.grad[3].any()


def test_without_pooling_all_rows_come_in_a_nested_tensor():
    layer = CategoryEmbedding(GENRES, 5, pooling="none", separator="|")
    for column in (FILMS, STRINGS):
        found = layer(column)
        assert found.is_nested
        assert found.layout == torch.jagged
        assert [rows.tolist() for rows in found.unbind()] == [
            layer.embedding.weight[[GENRES.index(value) for value in bag]].tolist() for bag in FILMS
        ]
    assert torch.equal(layer("Drama|Action"), layer.embedding.weight[[2, 0]])


def test_a_single_bag(layer):
    expected = by_hand(layer, FILMS[:1])[0]
    assert torch.allclose(layer("Drama|Action"), expected)
    assert torch.allclose(layer(np.str_("Drama|Action")), expected)
    assert torch.allclose(layer(pa.scalar("Drama|Action")), expected)
    assert torch.allclose(layer(pa.scalar(["Drama", "Action"])), expected)
    assert torch.allclose(layer["Drama|Action"], expected)
    assert torch.equal(layer(""), torch.zeros(5))
    assert layer.encode("Drama|Action").offsets.tolist() == [0, 2]


@pytest.mark.parametrize("nothing", [[], pa.array([], pa.list_(pa.string())), pl.Series([], dtype=pl.List(pl.String))])
def test_no_bags_and_bags_of_nothing(layer, nothing):
    assert layer(nothing).shape == (0, 5)
    assert torch.equal(layer([[], []]), torch.zeros(2, 5))
    assert torch.equal(layer(pa.array([[], []], pa.list_(pa.null()))), torch.zeros(2, 5))
    assert torch.equal(layer(np.empty((2, 0), dtype=object)), torch.zeros(2, 5))


@pytest.mark.parametrize(
    "values",
    [[3, 1, 2], [True, False], [b"x", b"y"], [dt.date(2024, 1, 1), dt.date(2024, 1, 2)], [dt.datetime(2024, 1, 1)]],
    ids=lambda values: type(values[0]).__name__,
)
def test_categories_of_every_kind(values):
    layer = CategoryEmbedding(values, 3, pooling="sum")
    bags = [values, [], values[:1]]
    forms = [bags, pa.array(bags), pd.Series(bags), [np.array(bag) for bag in bags]]
    if not isinstance(values[0], bytes):
        forms.append(pl.Series(bags))
    for form in forms:
        assert torch.allclose(layer(form), by_hand(layer, bags))


def test_a_matrix_of_values_is_bags_of_one_length(layer):
    assert torch.allclose(
        layer(np.array([["Drama", "Action"], ["Comedy", "Comedy"]])), by_hand(layer, [FILMS[0], ["Comedy"]])
    )
    fixed = pa.array([["Drama", "Action"], ["Comedy", "Comedy"]], pa.list_(pa.string(), 2))
    assert torch.allclose(layer(fixed[1:]), by_hand(layer, [["Comedy"]]))


# Missing and unseen values, in a bag and in place of one

VALUE = st.sampled_from([*GENRES, "kiwi", None])


@settings(max_examples=60, deadline=None)
@given(
    bags=st.lists(st.none() | st.lists(VALUE, max_size=4), max_size=6),
    pooling=st.sampled_from(POOLINGS),
    missing=st.sampled_from(["own", "unknown"]),
    padding=st.sampled_from([None, 0, 3]),
    before=st.integers(0, 2),
)
def test_bags_equal_a_dict_and_torch(bags, pooling, missing, padding, before):
    vocabulary = Vocabulary(GENRES, unseen="unknown", missing=missing)
    layer = CategoryEmbedding(vocabulary, 3, pooling=pooling, padding_idx=padding, dtype=torch.float64)
    expected = by_hand(layer, bags)
    arrow = pa.array([["x"]] * before + bags, pa.list_(pa.string()))[before:]
    for column in (bags, arrow, arrow.cast(pa.large_list(pa.string())), pl.Series(bags, dtype=pl.List(pl.String))):
        assert torch.allclose(layer(column), expected, rtol=1e-12)
    encoded = layer.encode(bags)
    assert torch.equal(layer(encoded), layer(bags))
    assert encoded.offsets.tolist() == np.cumsum([0, *(1 if bag is None else len(bag) for bag in bags)]).tolist()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.none() | st.text(alphabet="ab|,é\0", max_size=8), max_size=5), st.sampled_from(["|", ",", "||", "é"])
)
def test_strings_are_split_as_python_splits_them(strings, separator):
    bags = [None if text is None else text.split(separator) if text else [] for text in strings]
    values = sorted({value for bag in bags if bag for value in bag})
    layer = CategoryEmbedding(
        Vocabulary(values, missing="own", unseen="unknown"), 2, pooling="sum", separator=separator
    )
    for column in (strings, pa.array(strings, pa.string()), pl.Series(strings, dtype=pl.String)):
        assert torch.allclose(layer(column), by_hand(layer, bags))


def test_what_lies_under_a_missing_list_is_none_of_its_values():
    values, validity = pa.array(["a", "b", "c"]), pa.array([True, False, True])
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), values, mask=pa.compute.invert(validity))
    layer = CategoryEmbedding(Vocabulary(["a", "c"], missing="own"), 2, pooling="sum")
    assert layer.encode(lists).values.tolist() == [1, 0, 2]


def test_unseen_values_go_to_buckets():
    layer = CategoryEmbedding(Vocabulary(GENRES, unseen="hash", buckets=8, missing="own"), 3, pooling="sum")
    kiwi = int(layer.vocabulary.encode("kiwi"))
    assert layer.encode([["kiwi", "Action"], None]).values.tolist() == [kiwi, 9, 0]


def test_hashed_bags():
    layer = CategoryEmbedding(HashVocabulary(50, missing="own"), 3, pooling="mean", separator="|")
    ids = layer.vocabulary.encode(["a", "b"])
    assert torch.allclose(layer("a|b"), layer.embedding.weight[ids].mean(0))
    assert torch.equal(layer([None]), layer.embedding.weight[:1])
    assert layer(["a|b", None]).shape == (2, 3)
    with pytest.raises(UnseenCategoryError, match="a bag is missing at row 1"):
        CategoryEmbedding(HashVocabulary(50), 3, pooling="mean")([["a"], None])


# Growth


def test_new_values_of_bags_become_categories_in_training():
    layer = CategoryEmbedding(
        Vocabulary([], unseen="grow", missing="unknown"), 3, pooling="mean", separator="|", sparse=True
    )
    optimizer = catembed.optim.Adam(layer.parameters(), lr=0.1)
    weight = layer.embedding.weight
    for batch in (["x|y", "", None], [["y", "z"], ["x"]]):
        before = len(layer)
        layer(batch).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        assert len(layer) > before
    assert list(layer.vocabulary) == ["x", "y", "z"]
    assert layer.embedding.weight is weight
    assert (layer.embedding.num_embeddings, len(weight)) == (4, 4)
    plain = CategoryEmbedding(Vocabulary([], unseen="grow"), 3)
    plain.fresh_seed = layer.fresh_seed
    twin = CategoryEmbedding(Vocabulary([], unseen="grow"), 3, pooling="sum")
    twin.fresh_seed = layer.fresh_seed
    assert torch.equal(twin([["x"], ["y", "z"]])[:1], plain(["x"]))
    layer.eval()
    assert layer.encode(["new|x"]).values.tolist() == [0, 1]
    assert layer(["new|x"]).shape == (1, 3)
    assert layer["new"].shape == (3,)
    assert len(layer) == 4
    assert layer.encode("new|x", grow=True).values.tolist() == [4, 1]
    assert layer(["new"]).shape == (1, 3)
    assert len(layer.embedding.weight) == 5


# Ids and weights


@pytest.mark.parametrize(
    "ids",
    [
        Jagged(torch.tensor([2, 0, 1, 2, 2, 3]), torch.tensor([0, 2, 2, 3, 6])),
        Jagged(torch.tensor([2, 0, 1, 2, 2, 3], dtype=torch.int32), torch.tensor([0, 2, 2, 3, 6], dtype=torch.int32)),
        Jagged([2, 0, 1, 2, 2, 3], [0, 2, 2, 3, 6]),
        [[2, 0], [], [1], [2, 2, 3]],
        pa.array([[2, 0], [], [1], [2, 2, 3]]),
        torch.nested.nested_tensor_from_jagged(torch.tensor([2, 0, 1, 2, 2, 3]), torch.tensor([0, 2, 2, 3, 6])),
    ],
)
def test_ids(layer, ids):
    assert torch.equal(layer(ids=ids), layer(FILMS))
    if isinstance(ids, (Jagged, torch.Tensor)):
        assert torch.equal(layer(ids), layer(FILMS))
        assert torch.equal(layer[ids], layer(FILMS))
        assert torch.equal(layer.embedding(ids), layer(FILMS))
    assert torch.allclose(layer(ids=torch.tensor([[2, 0]])), by_hand(layer, FILMS[:1]))


@pytest.mark.parametrize(
    ("values", "offsets", "message"),
    [
        ([0, 1], [0, 1], "end at the number of ids, 2"),
        ([0, 1], [1, 2], "start at 0"),
        ([0, 1], [0, 2, 1, 2], "never decrease"),
        ([0, 1], [], "one more than there are bags"),
        ([[0, 1]], [0, 1], "values of one dimension"),
        ([0, 1], [[0, 2]], "values of one dimension"),
    ],
)
def test_a_jagged_that_is_none_is_refused(layer, values, offsets, message):
    bags = Jagged(torch.tensor(values), torch.tensor(offsets, dtype=torch.int64))
    for take in (layer, layer.embedding, lambda bags: layer(ids=bags)):
        with pytest.raises(ValueError, match=message):
            take(bags)
    ids = Jagged(torch.tensor([0, 1]), torch.tensor([0, 2]))
    with pytest.raises(ValueError, match=r"per_sample_weights of table 'genres'"):
        layer(ids=ids, per_sample_weights=bags._replace(values=bags.values.float()))


def test_jagged_weights_must_fit_the_ids(layer):
    ids, weights = Jagged(torch.tensor([0, 1]), torch.tensor([0, 2])), torch.ones(3)
    with pytest.raises(ValueError, match=r"as many as there are ids, 2 \(got 3\)"):
        layer(ids=ids, per_sample_weights=Jagged(weights, ids.offsets))
    with pytest.raises(TypeError, match="go with ids that come in bags"):
        layer(ids=torch.tensor([[0, 1]]), per_sample_weights=Jagged(weights[:2], ids.offsets))


def test_ids_out_of_range_and_flat_ids(layer):
    with pytest.raises(OutOfRangeError, match=r"got 9 at \[1, 1\]"):
        layer(ids=Jagged(torch.tensor([0, 1, 9]), torch.tensor([0, 1, 3])))
    for pooling in ("mean", "sqrtn", "none"):
        with pytest.raises(ValueError, match=r"offsets"):
            CategoryEmbedding(GENRES, 2, pooling=pooling)(ids=torch.tensor([0, 1]))


def test_integers_are_categories_and_tensors_are_refused():
    layer = CategoryEmbedding([30, 10, 20], 2, pooling="sum", name="sizes")
    for ids in (torch.tensor([[30, 10]]), layer.encode([[30]])):
        with pytest.raises(TypeError, match=r"layer 'sizes' are integers.*layer\(ids=layer\.encode\(column\)\)"):
            layer(ids)
    assert torch.equal(layer(ids=layer.encode([[10, 20], []])), layer([[10, 20], []]))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_weights(pooling):
    layer = CategoryEmbedding(GENRES, 5, pooling=pooling, separator="|")
    weights = [[1.0, 2.0], [], [0.5], [1.0, 1.0, 4.0]]
    flat = torch.tensor([1.0, 2.0, 0.5, 1.0, 1.0, 4.0])
    expected = layer.embedding([[2, 0], [], [1], [2, 2, 3]], per_sample_weights=weights)
    for form in (weights, pa.array(weights), flat, Jagged(flat, torch.tensor([0, 2, 2, 3, 6])), pl.Series(weights)):
        assert torch.equal(layer(FILMS, per_sample_weights=form), expected)
        assert torch.equal(layer(STRINGS, per_sample_weights=form), expected)
    assert torch.equal(layer("Drama|Action", per_sample_weights=[1.0, 2.0]), expected[0])
    with pytest.raises(ValueError, match=r"bag \[0\] has 2 ids \(got 1\)"):
        layer(FILMS, per_sample_weights=[[1.0], [1.0], [0.5], [1.0, 1.0, 4.0]])


# Refusals


@pytest.mark.parametrize(
    ("column", "error", "message"),
    [
        (["Action", "Drama"], VocabularyError, r"row 0 holds 'Action', which is no list.*\[\[…\]\].*separator="),
        (pa.array(["Action"]), VocabularyError, "row 0 holds 'Action', which is no list"),
        ([None, "Drama"], VocabularyError, "row 1 holds 'Drama', which is no list"),
        ("Action", VocabularyError, "there is 'Action', which is no list"),
        ([["Action"], "Drama"], VocabularyError, "row 1 is no list but 'Drama'"),
        (["Action", ["Drama"]], VocabularyError, "row 0 is no list but 'Action'"),
        ([["Action"], {"Drama"}], VocabularyError, "row 1 is no list but {'Drama'}"),
        (
            [["Action"], ["Drama", ["Comedy"]]],
            VocabularyError,
            r"\['Comedy'\] at \[1, 1\] is of type list.*one level deep",
        ),
        ([[["Action"]]], VocabularyError, r"at \[0, 0\] is of type list"),
        (pa.array([[], [["Action"]]]), VocabularyError, r"one level deep; there is a list at \[1, 0\]"),
        (np.array([[["Action"]]]), VocabularyError, "row 0 is an array of 2 dimensions"),
        ([*FILMS[:2], ["Comedy", "Dramma"]], UnseenCategoryError, r"at \[2, 1\]: 'Dramma' \(did you mean 'Drama'\?\)"),
        (pa.array([*FILMS[:2], ["Comedy", "Dramma"]]), UnseenCategoryError, r"1 unseen value at \[2, 1\]: 'Dramma'"),
        (
            [["x"], [], ["x", "y"]],
            UnseenCategoryError,
            r"3 unseen values at \[0, 0\], \[2, 0\], \[2, 1\]: 'x' \(2 times\), 'y'",
        ),
        ([["Action"], [None]], UnseenCategoryError, r"1 missing value at \[1, 0\]"),
        ([["Action"], [], [], None], UnseenCategoryError, "a bag is missing at row 3"),
        (pa.array([None, ["Action"], None]), UnseenCategoryError, "2 bags are missing at rows 0, 2"),
        (
            [["Action"], [], [1]],
            VocabularyError,
            r"mixed types: strings \('Action' at \[0, 0\]\) and integers \(1 at \[2, 0\]\)",
        ),
        ([[], [7]], VocabularyError, r"the column holds integers \(7 at \[1, 0\]\)"),
        ([[], [1.5]], VocabularyError, r"1.5 at \[1, 0\] is no whole number"),
        (pa.table({"a": [["Action"]]}), VocabularyError, "a table is many columns"),
        (pd.DataFrame({"a": [["Action"]]}), VocabularyError, "a DataFrame is many columns"),
    ],
)
def test_what_is_no_column_of_bags(column, error, message):
    layer = CategoryEmbedding(Vocabulary(GENRES, name="genres"), 5, pooling="mean")
    with pytest.raises(error, match=message) as caught:
        layer(column)
    assert str(caught.value).startswith("column 'genres': ")


@pytest.mark.parametrize(
    ("column", "error", "message"),
    [
        (
            ["Action", "Action| Drama"],
            UnseenCategoryError,
            r"1 unseen value at \[1, 1\]: ' Drama' \(did you mean 'Drama'\?\)",
        ),
        ("Action||Drama", UnseenCategoryError, r"1 unseen value at \[0, 1\]: ''"),
        (["Action", None], UnseenCategoryError, "a bag is missing at row 1"),
        (None, UnseenCategoryError, "a bag is missing: "),
        ([1, 2], VocabularyError, r"separator= splits strings, and the column holds integers \(1 at position 0\)"),
        (["Action", ["Drama"]], VocabularyError, "row 0 is no list but 'Action'"),
    ],
)
def test_what_cannot_be_split(layer, column, error, message):
    with pytest.raises(error, match=message) as caught:
        layer(column)
    assert str(caught.value).startswith("column 'genres': ")


class Once:
    """A column that can be read once, as streams can."""

    def __init__(self, array):
        self.chunks = [pa.chunked_array([array])]

    def __arrow_c_stream__(self, requested_schema=None):
        return self.chunks.pop().__arrow_c_stream__(requested_schema)


def test_a_stream_is_read_once(layer):
    for column in (pa.array(FILMS), pa.array(STRINGS)):
        assert torch.equal(layer(Once(column)), layer(FILMS))
    assert list(Vocabulary.fit(Once(pa.array(FILMS)))) == ["Drama", "Action", "Comedy", "Horror"]
    assert list(Vocabulary.fit(Once(pa.array(STRINGS)), separator="|")) == ["Drama", "Action", "Comedy", "Horror"]
    assert list(Vocabulary.fit(Once(pa.array(["b", "a", "b"])))) == ["b", "a"]


def test_damaged_lists_are_refused(layer):
    values = pa.array(["Action"])
    for offsets in ([0, 9, 1], [1, 0, 1], [0, -5, 1]):
        buffers = [None, pa.py_buffer(np.array(offsets, np.int32))]
        lists = pa.Array.from_buffers(pa.list_(pa.string()), 2, buffers, children=[values])
        with pytest.raises(VocabularyError, match="the Arrow column is damaged"):
            layer(lists)


def test_arguments():
    for wrong, error, message in (
        ({"pooling": "average"}, ValueError, r"pooling must be None or one of 'sum', .* \(got 'average'\)"),
        ({"separator": "|"}, ValueError, r"separator='\|' splits strings into bags, which need pooling="),
        ({"pooling": "sum", "separator": ""}, VocabularyError, "separator must be a string of at least one"),
        ({"pooling": "sum", "separator": 1}, VocabularyError, r"or None \(got 1\)"),
        ({"pooling": "sum", "mode": "sum"}, TypeError, "mode"),
    ):
        with pytest.raises(error, match=message):
            CategoryEmbedding(GENRES, 5, **wrong)
    with pytest.raises(VocabularyError, match=r"separator='\|' splits strings .got categories of kind 'integer'"):
        CategoryEmbedding([1, 2], 5, pooling="sum", separator="|")
    with pytest.raises(ValueError, match=r"pooling needs hashes=1, one id for each value \(got hashes=2\)"):
        CategoryEmbedding(HashVocabulary(9, hashes=2), 5, pooling="sum")


def test_a_layer_without_pooling_tells_of_it():
    layer = CategoryEmbedding(Vocabulary(GENRES, name="genres"), 5)
    assert (layer.pooling, layer.separator) == (None, None)
    for column in (FILMS, pa.array(FILMS), pd.Series(FILMS), pl.Series(FILMS)):
        with pytest.raises(VocabularyError, match=r"column 'genres': .*list.*CategoryEmbedding made with pooling="):
            layer(column)
    with pytest.raises(TypeError, match=r"layer 'genres' takes no per_sample_weights.*pooling="):
        layer(["Action"], per_sample_weights=[1.0])
    with pytest.raises(TypeError, match=r"layer 'genres' takes no bags.*pooling="):
        layer(ids=Jagged(torch.tensor([0]), torch.tensor([0, 1])))
    assert layer.encode([["Action"], ["Drama"]]).tolist() == [[0], [2]]


# The layer as a whole


def test_repr_and_settings(layer):
    assert repr(layer) == (
        "CategoryEmbedding(\n  (vocabulary): Vocabulary(['Action', 'Comedy', 'Drama', … 1 more], name='genres')\n"
        "  (separator): '|'\n  (embedding): EmbeddingBag(4, 5, mode='mean', name='genres')\n)"
    )
    assert (layer.pooling, layer.separator, type(layer.embedding)) == ("mean", "|", EmbeddingBag)
    torch.manual_seed(0)
    assert torch.equal(layer.embedding.weight, nn.EmbeddingBag(4, 5).weight)
    for name in ("pooling", "separator"):
        with pytest.raises(AttributeError):
            setattr(layer, name, "sum")


def test_padding_and_frozen_rows():
    layer = CategoryEmbedding(GENRES, 5, pooling="mean", padding_idx=2, sparse=True)
    assert torch.allclose(layer(FILMS), by_hand(layer, FILMS))
    before = layer.embedding.weight.detach().clone()
    layer.embedding.freeze_rows(layer.vocabulary.encode(["Action"]))
    optimizer = catembed.optim.Adam(layer.parameters(), lr=0.1)
    layer(FILMS).square().sum().backward()
    optimizer.step()
    changed = (layer.embedding.weight != before).any(1)
    assert changed.tolist() == [False, True, False, True]


def test_vectors(layer):
    found = layer.vectors(FILMS)
    assert not found.requires_grad
    assert torch.equal(found, layer(FILMS))
    assert torch.equal(layer[FILMS], layer(FILMS))
    with pytest.raises(TypeError, match="either categories"):
        layer()


@pytest.mark.parametrize("pooling", ["sum", "mean", "max"])
def test_to_torch(pooling):
    layer = CategoryEmbedding(GENRES, 5, pooling=pooling, padding_idx=1, max_norm=3.0, norm_type=1.0)
    plain = layer.eval().to_torch()
    assert type(plain) is nn.EmbeddingBag
    assert plain.weight is layer.embedding.weight
    mine = {key: value for key, value in vars(layer.embedding).items() if key not in ("name", "_parameters")}
    assert {key: value for key, value in vars(plain).items() if key != "_parameters"} == mine
    ids, offsets = layer.encode(FILMS)
    assert torch.equal(plain(ids, offsets[:-1]), layer(FILMS))


@pytest.mark.parametrize("pooling", ["sqrtn", "none"])
def test_to_torch_refuses_what_torch_has_not(pooling):
    with pytest.raises(ValueError, match=f"pooling='{pooling}', which no torch.nn.EmbeddingBag has"):
        CategoryEmbedding(GENRES, 5, pooling=pooling).to_torch()


def test_compiled(layer):
    ids = layer.encode(FILMS)
    expected = layer(FILMS)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    assert torch.equal(compiled(ids), expected)
    assert torch.equal(torch.compile(layer, backend="eager")(STRINGS), expected)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_bags_travel_from_the_workers_of_a_data_loader(layer, context):
    loader = DataLoader(
        STRINGS, batch_size=2, collate_fn=layer.encode, num_workers=2, multiprocessing_context=context, timeout=100
    )
    batches = list(loader)
    assert [type(batch) for batch in batches] == [Jagged, Jagged]
    assert [[part.tolist() for part in batch] for batch in batches] == [[[2, 0], [0, 2, 2]], [[1, 2, 2, 3], [0, 1, 4]]]
    assert torch.equal(torch.cat([layer(batch) for batch in batches]), layer(STRINGS))


def test_moves(layer):
    meta = copy.deepcopy(layer).to("meta")
    assert meta(FILMS).device.type == "meta"
    assert layer.encode(FILMS).to("meta").values.is_meta
    half = copy.deepcopy(layer).to(torch.bfloat16)
    assert half(STRINGS).dtype == torch.bfloat16


# Saving


def copies(layer, path):
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    yield copy.deepcopy(layer)
    yield pickle.loads(pickle.dumps(layer))
    yield torch.load(buffer, weights_only=False)
    catembed.save(path, layer)
    yield catembed.load(path)
    yield catembed.load(path, verify=False)


@pytest.mark.parametrize(
    "options",
    [
        {"pooling": "sqrtn", "separator": ", ", "sparse": True, "padding_idx": 1, "max_norm": 2.0},
        {"pooling": "none"},
        {"pooling": "max", "norm_type": float("inf"), "max_norm": 1.0, "dtype": torch.float16},
    ],
    ids=lambda options: options["pooling"],
)
def test_copies_and_files(options, tmp_path):
    layer = CategoryEmbedding(Vocabulary(GENRES, missing="own", unseen="unknown", name="genres"), 3, **options)
    layer.requires_grad_(options["pooling"] != "max")
    for other in copies(layer, tmp_path / "layer"):
        assert type(other) is CategoryEmbedding
        assert repr(other) == repr(layer)
        assert (other.pooling, other.separator) == (layer.pooling, layer.separator)
        assert (other.vocabulary, other.fresh_seed) == (layer.vocabulary, layer.fresh_seed)
        assert other.embedding.weight.requires_grad == layer.embedding.weight.requires_grad
        assert torch.equal(_flat(other([*FILMS, None])), _flat(layer([*FILMS, None])))


def _flat(found):
    return found.values() if found.is_nested else found


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "average"},
        {"mode": ["sum"]},
        {"separator": ""},
        {"separator": 1},
        {"include_last_offset": None},
        {"more": 1},
        {"mode": None},
    ],
    ids=repr,
)
def test_forged_settings_are_refused(layer, tmp_path, change):
    path = tmp_path / "layer"
    catembed.save(path, layer)
    tensors, header = read_file(path)
    header["settings"] |= change
    write_file(path, {key: tensor.clone() for key, tensor in tensors.items()}, header)
    with pytest.raises(FormatError):
        catembed.load(path)
    del header["settings"]["separator"]
    write_file(path, {key: tensor.clone() for key, tensor in tensors.items()}, header)
    with pytest.raises(FormatError):
        catembed.load(path)


def test_a_layer_that_load_would_refuse_is_not_saved(tmp_path):
    layer = CategoryEmbedding(Vocabulary([], unseen="grow"), 3, pooling="sum", separator="|")
    layer.vocabulary.add([1, 2])
    with pytest.raises(ValueError, match=r"cannot be saved: .*splits strings"):
        catembed.save(tmp_path / "layer", layer)
    assert not (tmp_path / "layer").exists()


def test_state_dicts(layer):
    other = CategoryEmbedding(Vocabulary(GENRES), 5, pooling="sum")
    assert str(other.load_state_dict(layer.state_dict())) == "<All keys matched successfully>"
    assert torch.equal(other([["Drama"]]), layer([["Drama"]]))
    plain = nn.EmbeddingBag(4, 5)
    layer.load_state_dict(plain.state_dict())
    assert torch.equal(layer([["Drama"]]), plain.weight[2:3])
    matching = CategoryEmbedding(["Drama", "Western"], 5, pooling="mean")
    with pytest.raises(VocabularyError, match="another vocabulary"):
        matching.load_state_dict(layer.state_dict())
    own = matching([["Western"]]).detach()
    matching.on_other_vocabulary = "match"
    matching.load_state_dict(layer.state_dict())
    assert torch.equal(matching([["Drama"], ["Western"]]), torch.cat([plain.weight[2:3], own]))
    unpooled = CategoryEmbedding(GENRES, 5)
    unpooled.load_state_dict(layer.state_dict())
    assert torch.equal(unpooled(["Drama"]), layer([["Drama"]]))


def test_a_state_dict_of_what_a_layer_has_grown_to():
    grown = CategoryEmbedding(Vocabulary([], unseen="grow"), 3, pooling="mean", separator="|")
    grown(["a|b", "c"])
    fresh = CategoryEmbedding(Vocabulary([], unseen="grow"), 3, pooling="mean", separator="|")
    fresh.load_state_dict(grown.state_dict())
    assert torch.equal(fresh.eval()(["a|c", "b"]), grown.eval()(["a|c", "b"]))


# Learning a vocabulary from bags


@pytest.mark.parametrize("column", [*LISTS.values(), *SPLIT.values()], ids=[*LISTS, *(f"split {key}" for key in SPLIT)])
def test_a_vocabulary_is_fitted_to_bags(column):
    separator = "|" if any(column is strings for strings in SPLIT.values()) else None
    fitted = Vocabulary.fit(column, separator=separator)
    assert list(fitted) == ["Drama", "Action", "Comedy", "Horror"]
    assert fitted.counts.tolist() == [3, 1, 1, 1]


def test_fitting_with_missing_bags_batches_and_files(tmp_path):
    column = [["b", None], None, ["b"], [], ["a"]]
    fitted = Vocabulary.fit(column, missing="own")
    assert (list(fitted), fitted.counts.tolist()) == (["b", "a"], [2, 2, 1])
    with pytest.raises(VocabularyError, match=r"2 missing values at \[0, 1\], \[1, 0\]"):
        Vocabulary.fit(column)
    assert list(Vocabulary.fit(iter([["b|a"], ["b", ""]]), separator="|", order="first")) == ["b", "a"]
    assert list(Vocabulary.fit([["z"], ["a", "z"]], order="first")) == ["z", "a"]
    pa.parquet.write_table(pa.table({"tags": column, "text": ["b|a", "", None, "b", "c"]}), tmp_path / "t.parquet")
    fitted = Vocabulary.fit(tmp_path / "t.parquet", field="tags", missing="own")
    assert (list(fitted), fitted.counts.tolist()) == (["b", "a"], [2, 2, 1])
    fitted = Vocabulary.fit(tmp_path / "t.parquet", field="text", separator="|", missing="own")
    assert (list(fitted), fitted.counts.tolist()) == (["b", "a", "c"], [1, 2, 1, 1])
    for field, separator in (("tags", None), ("text", "|")):
        with pytest.raises(VocabularyError, match='order="first" is not for bags in files'):
            Vocabulary.fit(tmp_path / "t.parquet", field=field, separator=separator, missing="own", order="first")
    with pytest.raises(VocabularyError, match="separator must be"):
        Vocabulary.fit(["a"], separator="")
    with pytest.raises(VocabularyError, match="a single value"):
        Vocabulary.fit("a|b", separator="|")
