"""``CrossVocabulary``: combinations of columns by hashing."""

import copy
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

import catembed
from catembed import CrossVocabulary, FormatError, VocabularyError
from catembed.vocabulary import from_arrays

ROWS = {"origin": ["JFK", "SFO", "JFK", None, "JFK"], "dest": ["SFO", "JFK", "SFO", "SFO", None]}


def routes(**options):
    return CrossVocabulary(["origin", "dest"], 1 << 30, **options)


def test_equal_combinations_have_equal_ids_and_others_differ():
    ids = routes().encode(ROWS)
    assert ids.dtype == torch.int64
    assert ids[0] == ids[2]
    assert len(set(ids.tolist())) == 4


def test_ids_are_the_same_for_ever():
    """The hash is part of the file format: other ids would be other rows."""
    assert CrossVocabulary(["origin", "dest"], 1000).encode(ROWS).tolist() == [652, 280, 652, 372, 950]


def test_the_order_of_columns_matters_and_their_boundary():
    swapped = {"origin": ROWS["dest"], "dest": ROWS["origin"]}
    assert (routes().encode(swapped) != routes().encode(ROWS)).all()
    ids = routes().encode({"origin": ["ab", "a"], "dest": ["c", "bc"]})
    assert ids[0] != ids[1]


@pytest.mark.parametrize("made", [pd.DataFrame, pl.DataFrame, pa.table, pa.RecordBatch.from_pydict, dict])
def test_tables_of_every_library(made):
    assert torch.equal(routes().encode(made(ROWS)), routes().encode(ROWS))


def test_categoricals_count_by_value_and_kinds_are_kept_apart():
    frame = pd.DataFrame(ROWS).astype("category")
    assert torch.equal(routes().encode(frame), routes().encode(ROWS))
    mixed = routes(kind=["string", "integer"])
    assert mixed.kinds == ("string", "integer")
    with pytest.raises(
        VocabularyError, match=r"column 'dest': the column holds strings \('1'\), but the cross 'origin×dest'"
    ):
        mixed.encode({"origin": ["a"], "dest": ["1"]})


def test_columns_of_more_dimensions_and_none_at_all():
    assert routes().encode({"origin": [["a", "b"]], "dest": [["c", "d"]]}).shape == (1, 2)
    assert routes().encode({"origin": [], "dest": []}).shape == (0,)
    assert routes().encode({"origin": "a", "dest": "b"}).shape == ()
    assert routes().encode({"origin": [None], "dest": [None]}).shape == (1,)


def test_buckets_fill_evenly():
    letters = [chr(97 + at) for at in range(26)]
    rows = {"x": np.repeat(letters, 26).tolist(), "y": letters * 26}
    counts = torch.bincount(CrossVocabulary(["x", "y"], 13).encode(rows), minlength=13)
    assert counts.min() > 26  # 52 expected, standard deviation 7
    assert counts.max() < 80


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ({"origin": ["a"]}, "column 'origin×dest': there is no column 'dest' .got 'origin'"),
        ({"origin": ["a"], "dest": ["b", "c"]}, "'origin' has shape .1,., 'dest' has .2,."),
        (
            {"origin": ["a"], "dest": [1]},
            "column 'dest': the column holds integers .1., but the cross 'origin×dest' was",
        ),
    ],
)
def test_what_is_refused(rows, told):
    with pytest.raises(VocabularyError, match=told):
        routes().encode(rows)
    with pytest.raises(VocabularyError, match="does not grow"):
        routes().encode(ROWS, grow=True)


@pytest.mark.parametrize(
    ("columns", "options", "told"),
    [
        (["a"], {}, "two columns or more"),
        (["a", "a"], {}, "each once"),
        ("ab", {}, "names of columns"),
        (["a", 1], {}, "names of columns"),
        (["a", "b"], {"kind": ["string"]}, "has as many kinds, or one .got 1."),
        (["a", "b"], {"kind": "str"}, "kind must be one of"),
        (["a", "b"], {"buckets": 0}, "buckets"),
        (["a", "b"], {"name": 3}, "name"),
    ],
)
def test_arguments_that_are_refused(columns, options, told):
    with pytest.raises(VocabularyError, match=told):
        CrossVocabulary(columns, options.pop("buckets", 10), **options)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v)), lambda v: from_arrays(*v.to_arrays())]
)
def test_copies_give_the_same_ids(copied):
    cross = routes(kind=["string", "string"], name="route")
    other = copied(cross)
    assert other == cross
    assert (other.columns, other.kinds, other.name, hash(other)) == (cross.columns, cross.kinds, "route", hash(cross))
    assert torch.equal(other.encode(ROWS), cross.encode(ROWS))


def test_equality():
    assert routes() == routes()
    assert routes() != CrossVocabulary(["dest", "origin"], 1 << 30)
    assert routes() != routes(kind="integer")
    assert routes() != CrossVocabulary(["origin", "dest"], 10)


@pytest.mark.parametrize(
    "damage",
    [{"cross": ["a"]}, {"cross": 3}, {"kinds": ["x", "y"]}, {"buckets": -1}, {"fingerprint": "0"}, {"more": 1}],
)
def test_damaged_headers_are_refused(damage):
    header, arrays = routes().to_arrays()
    with pytest.raises(FormatError):
        from_arrays(header | damage, arrays)


def test_rows_of_another_cross_are_not_matched():
    """Buckets of other combinations mean other things, as many as there may be."""
    here, there = (catembed.cross(*names, buckets=10, embedding_dim=2) for names in (("a", "b"), ("c", "d")))
    with pytest.raises(VocabularyError, match=r"columns \('c', 'd'\) instead of \('a', 'b'\)"):
        here.load_state_dict(there.state_dict())
    here.on_other_vocabulary = "match"
    before = here.embedding.weight.clone()
    here.load_state_dict(there.state_dict())
    assert torch.equal(here.embedding.weight, before)
    with pytest.raises(ValueError, match="nothing to pool"):
        catembed.cross("a", "b", buckets=3, pooling="mean")
