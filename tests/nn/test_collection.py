"""``EmbeddingCollection``: columns side by side, equal to each layer on its own."""

import copy
import pickle

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from torch import nn

import catembed
from catembed import (
    CategoryEmbedding,
    Embedding,
    EmbeddingBag,
    EmbeddingCollection,
    HashVocabulary,
    OutOfRangeError,
    TableError,
    UnseenCategoryError,
    Vocabulary,
    VocabularyError,
    cross,
)
from catembed.functional import Jagged
from catembed.optim import Adam

ROWS = {
    "origin": ["JFK", "SFO", "JFK"],
    "dest": ["SFO", "LAX", "LAX"],
    "hour": [5, 7, 5],
    "tags": [["red", "big"], [], ["big"]],
}


def collection(output="concat", **options):
    torch.manual_seed(0)
    airports = CategoryEmbedding(["JFK", "LAX", "SFO"], 4, name="airports", **options)
    return EmbeddingCollection(
        {
            "origin": airports,
            "hour": CategoryEmbedding([5, 6, 7], 2, **options),
            "dest": airports,
            "tags": CategoryEmbedding(["red", "big"], 3, pooling="mean", **options),
            "route": cross("origin", "dest", buckets=50, embedding_dim=2, **options),
        },
        output=output,
    )


def by_layer(layer, rows=ROWS):
    return [
        each({k: rows[k] for k in ("origin", "dest")}) if name == "route" else each(rows[name])
        for name, each in layer.items()
    ]


def test_vectors_lie_side_by_side_in_the_order_of_the_columns():
    layer = collection()
    out = layer(ROWS)
    assert torch.equal(out, torch.cat(by_layer(layer), 1))
    assert (layer.names, layer.inputs) == (
        ("origin", "hour", "dest", "tags", "route"),
        ("origin", "hour", "dest", "tags"),
    )
    assert layer.slices == {
        "origin": slice(0, 4), "hour": slice(4, 6), "dest": slice(6, 10), "tags": slice(10, 13), "route": slice(13, 15)
    }  # fmt: skip
    assert layer.embedding_dim == out.shape[1] == 15
    assert list(layer.split(out)) == list(layer.names)
    for name, part in layer.split(out).items():
        assert torch.equal(part, out[:, layer.slices[name]])
        assert part._base is out


@pytest.mark.parametrize("sparse", [False, True])
def test_gradients_are_those_of_the_layers(sparse):
    layer = collection(sparse=sparse)
    other = copy.deepcopy(layer)
    torch.manual_seed(1)
    grad = torch.randn(3, 15)
    layer(ROWS).backward(grad)
    torch.cat(by_layer(other), 1).backward(grad)
    for (name, ours), (_, theirs) in zip(layer.named_parameters(), other.named_parameters(), strict=True):
        assert ours.grad.is_sparse == theirs.grad.is_sparse == sparse, name
        torch.testing.assert_close(ours.grad.to_dense(), theirs.grad.to_dense(), msg=name)


@pytest.mark.parametrize("sparse", [False, True])
def test_training_equals_training_layer_by_layer(sparse):
    layer = collection(sparse=sparse)
    other = copy.deepcopy(layer)
    runs = []
    for each, look in ((layer, layer), (other, lambda rows: torch.cat(by_layer(other, rows), 1))):
        optimizer = Adam(each.parameters(), lr=0.1)
        for step in range(5):
            rows = {name: column[step % 2 :] for name, column in ROWS.items()}
            loss = look(rows).pow(2).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        runs.append(loss.detach())
    torch.testing.assert_close(*runs)
    for ours, theirs in zip(layer.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("made", [pd.DataFrame, pl.DataFrame, pa.table, pa.RecordBatch.from_pydict])
def test_tables_of_every_library(made):
    layer = collection()
    assert torch.equal(layer(made(ROWS)), layer(ROWS))


def test_an_arrow_table_in_chunks_and_slices():
    layer = collection()
    table = pa.concat_tables([pa.table(ROWS).slice(1, 2), pa.table(ROWS).slice(0, 1), pa.table(ROWS)]).slice(1, 4)
    assert torch.equal(layer(table), layer(ROWS)[[2, 0, 0, 1]])


def test_encode_gives_ids_that_are_looked_up_again():
    layer = collection()
    ids = layer.encode(ROWS)
    assert ids["origin"].tolist() == [0, 2, 0]
    assert isinstance(ids["tags"], Jagged)
    assert torch.equal(layer(ids=ids), layer(ROWS))
    with pytest.raises(TypeError, match="the categories of column 'hour' are integers, so a tensor may hold"):
        layer(ids)


def test_ids_as_one_tensor():
    layer = EmbeddingCollection({"a": Embedding(5, 2), "b": CategoryEmbedding(["x", "y"], 3)})
    ids = torch.tensor([[4, 1], [0, 0]])
    expected = torch.cat([layer["a"](ids[:, 0]), layer["b"](["y", "x"])], 1)
    assert torch.equal(layer(ids=ids), expected)
    assert torch.equal(layer(ids=ids.int()), expected)
    assert torch.equal(layer({"a": ids[:, 0], "b": ids[:, 1]}), expected)
    assert torch.equal(layer({"a": [4, 0], "b": ["y", "x"]}), expected)
    assert torch.equal(layer(pd.DataFrame({"a": [4, 0], "b": ["y", "x"]})), expected)
    assert layer(ids=ids.view(2, 1, 2)).shape == (2, 1, 5)
    for wrong in (torch.zeros(2, 3, dtype=torch.int64), torch.tensor(1)):
        with pytest.raises(TableError, match=r"have the shape \(\*, 2\), one for each column"):
            layer(ids=wrong)
    with pytest.raises(TypeError, match="a dict of ids by column, or one tensor"):
        layer(ids=[1, 2])
    with pytest.raises(TypeError, match="either a table"):
        layer()


def test_columns_of_more_dimensions():
    layer = EmbeddingCollection({"a": Embedding(5, 2), "b": CategoryEmbedding(["x", "y"], 3)})
    assert layer({"a": [[1, 2], [3, 4]], "b": [["x", "y"], ["y", "x"]]}).shape == (2, 2, 5)


def test_no_rows_at_all():
    layer = collection()
    out = layer({"origin": [], "dest": [], "hour": [], "tags": []})
    assert out.shape == (0, 15)
    out.sum().backward()


def test_layers_with_more_to_do_than_look_up():
    """Hooks, max_norm, several hashes, 16-bit weights: what each gives on its own."""
    hooked = CategoryEmbedding(["x", "y"], 2)
    hooked.register_forward_hook(lambda module, args, out: out * 2)
    layer = EmbeddingCollection(
        {
            "hooked": hooked,
            "plain": Embedding(5, 2),
            "short": Embedding(5, 2, max_norm=0.1),
            "hashed": CategoryEmbedding(HashVocabulary(10, hashes=3), 2),
            "again": Embedding(5, 1),
        }
    )
    rows = {"hooked": ["y", "x"], "plain": [1, 2], "short": [1, 2], "hashed": ["u", "v"], "again": [0, 4]}
    torch.testing.assert_close(layer(rows), torch.cat([layer[name](rows[name]) for name in layer], 1))
    assert (layer["short"].weight[[1, 2]].norm(dim=1) < 0.11).all()
    half = EmbeddingCollection({"a": Embedding(5, 2, dtype=torch.bfloat16), "b": Embedding(5, 2, dtype=torch.bfloat16)})
    assert half(ids=torch.tensor([[1, 2]])).dtype == torch.bfloat16


def test_output_as_a_dict_of_any_shapes():
    layer = collection("dict")
    out = layer(ROWS)
    for (name, part), expected in zip(out.items(), by_layer(layer), strict=True):
        assert torch.equal(part, expected), name
    sequences = EmbeddingCollection(
        {"tags": CategoryEmbedding(["red", "big"], 3, pooling="none"), "days": CategoryEmbedding(["mo", "tu"], 2)},
        output="dict",
    )
    out = sequences({"tags": [["red"], ["big", "red"]], "days": [["mo", "tu"], ["tu", "tu"]]})
    assert out["tags"].is_nested
    assert out["days"].shape == (2, 2, 2)
    with pytest.raises(TableError, match="column 'tags' has 2 rows, column 'days' 1 row"):
        sequences({"tags": [["red"], ["big", "red"]], "days": ["mo"]})
    with pytest.raises(ValueError, match=r"column 'tags' gives sequences of vectors.*output='dict'"):
        EmbeddingCollection({"tags": CategoryEmbedding(["red"], 3, pooling="none")})


def test_shared_tables_are_one_parameter():
    layer = collection()
    assert layer["origin"] is layer["dest"]
    assert len(list(layer.parameters())) == 4
    layer(ROWS)[:, layer.slices["dest"]].sum().backward()
    assert layer["origin"].embedding.weight.grad.sum(1).tolist() == [0.0, 8.0, 4.0]


def test_policies_are_each_columns_own():
    layer = EmbeddingCollection(
        {
            "a": CategoryEmbedding(Vocabulary(["x"], unseen="unknown", missing="own"), 2),
            "b": CategoryEmbedding(Vocabulary(["x"], unseen="hash", buckets=3), 2),
            "c": CategoryEmbedding(["x"], 2),
        }
    )
    assert layer.encode({"a": ["q", None], "b": ["q", "x"], "c": ["x", "x"]})["a"].tolist() == [1, 0]
    with pytest.raises(UnseenCategoryError, match="column 'c': 1 unseen value at position 1: 'q'"):
        layer({"a": ["x", "x"], "b": ["x", "x"], "c": ["x", "q"]})
    with pytest.raises(VocabularyError, match="column 'b': the column holds integers"):
        layer({"a": ["x"], "b": [1], "c": ["x"]})


def test_a_growing_column_grows_before_anything_is_looked_up():
    growing = CategoryEmbedding(Vocabulary(["x"], unseen="grow"), 2)
    layer = EmbeddingCollection({"a": growing, "b": Embedding(5, 2), "c": growing})
    weight, optimizer = growing.embedding.weight, Adam(layer.parameters(), lr=0.1)
    out = layer({"a": ["x", "new"], "b": [0, 1], "c": ["newer", "new"]})
    assert list(growing.vocabulary) == ["x", "new", "newer"]
    assert torch.equal(out[0, 4:], growing["newer"])
    out.sum().backward()
    optimizer.step()
    assert growing.embedding.weight is weight
    assert weight.grad.shape == (4, 2)
    layer.eval()
    layer({"a": ["other"], "b": [0], "c": ["x"]})
    assert len(growing) == 4
    assert layer.encode({"a": ["other"], "b": [0], "c": ["x"]}, grow=True)["a"].tolist() == [4]
    assert layer({"a": ["other"], "b": [0], "c": ["x"]}).shape == (1, 6)


def test_rows_that_an_exact_optimiser_left_behind_are_brought_up_to_date():
    layer = EmbeddingCollection({"a": Embedding(5, 2, sparse=True), "b": Embedding(5, 2, sparse=True)})
    other = copy.deepcopy(layer)
    optimizers = [Adam(layer.parameters(), lr=0.1, untouched="exact"), torch.optim.Adam(other.parameters(), lr=0.1)]
    for table in (other["a"], other["b"]):
        table.sparse = False
    for step in range(6):
        for each, optimizer in zip((layer, other), optimizers, strict=True):
            optimizer.zero_grad()
            each(ids=torch.tensor([[step % 5, step % 2]])).pow(2).sum().backward()
            optimizer.step()
    layer.eval()
    for ours, theirs in zip(layer.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


# Bags


def test_weights_of_bags():
    layer = EmbeddingCollection({"a": Embedding(5, 2), "tags": EmbeddingBag(5, 2, mode="sum")})
    rows = {"a": [0, 1], "tags": [[1, 2], [3]]}
    weights = [[0.5, 2.0], [1.0]]
    out = layer(rows, per_sample_weights={"tags": weights})
    assert torch.equal(out[:, 2:], layer["tags"](rows["tags"], per_sample_weights=weights))
    with pytest.raises(ValueError, match=r"column 'tags': .*bag \[0\] has 2 ids \(got 1\)"):
        layer(rows, per_sample_weights={"tags": [[0.5], [1.0, 2.0]]})
    with pytest.raises(TableError, match="column 'a' is looked up without pooling"):
        layer(rows, per_sample_weights={"a": [1.0, 1.0]})
    with pytest.raises(TableError, match="column 'b', which the collection does not have"):
        layer(rows, per_sample_weights={"b": [1.0, 1.0]})
    with pytest.raises(TypeError, match="a dict of weights by column"):
        layer(rows, per_sample_weights=[1.0])


class KeyedJaggedTensor:
    """As much of TorchRec's as is read."""

    def __init__(self, parts, weights=None):
        self.parts, self.weights = parts, weights

    def keys(self):
        return list(self.parts)

    def weights_or_none(self):
        return self.weights

    def to_dict(self):
        return {name: _JaggedTensor(*part, (self.weights or {}).get(name)) for name, part in self.parts.items()}


class _JaggedTensor:
    def __init__(self, values, lengths, weights):
        self._values, self._lengths, self._weights = torch.tensor(values), torch.tensor(lengths), weights

    def values(self):
        return self._values

    def offsets(self):
        return nn.functional.pad(self._lengths.cumsum(0), (1, 0))

    def weights(self):
        return self._weights


def test_keyed_jagged_tensors():
    layer = EmbeddingCollection({"a": Embedding(5, 2), "tags": EmbeddingBag(5, 2, mode="sum")})
    jagged = KeyedJaggedTensor({"tags": ([1, 2, 3], [2, 1]), "a": ([0, 1], [1, 1])})
    expected = layer({"a": [0, 1], "tags": [[1, 2], [3]]})
    assert torch.equal(layer(jagged), expected)
    assert torch.equal(layer(ids=jagged), expected)
    jagged.weights = {"tags": torch.tensor([1.0, 2.0, 3.0]), "a": torch.ones(2)}
    weights = {"tags": [[1.0, 2.0], [3.0]]}
    assert torch.equal(layer(jagged), layer({"a": [0, 1], "tags": [[1, 2], [3]]}, per_sample_weights=weights))
    with pytest.raises(
        TableError, match=r"column 'a' is looked up without pooling, so each row has one id \(row 1 has 2\)"
    ):
        layer(KeyedJaggedTensor({"tags": ([1], [0, 1]), "a": ([0, 1, 1], [1, 2])}))
    with pytest.raises(TableError, match="needs column 'a'"):
        layer(KeyedJaggedTensor({"tags": ([1], [0, 1])}))


# What is refused


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"dest": None}, TableError, "needs column 'dest', which the table does not have"),
        ({"price": [1, 2, 3]}, TableError, "does not read column 'price': leave out"),
        ({"hour": [5, 7]}, TableError, "column 'origin' has 3 rows, column 'hour' 2 rows"),
        ({"origin": [["JFK", "SFO"], ["JFK"], []]}, VocabularyError, "column 'origin': "),
        ({"tags": [["red"], [["big"]], []]}, VocabularyError, r"column 'tags': .*\[1, 0\]"),
        ({"tags": [["red"], "big", []]}, VocabularyError, r"column 'tags': .*(row 1|\[1\])"),
        ({"tags": [["red"], ["big", "blue"], []]}, UnseenCategoryError, r"column 'tags': .*\[1, 1\]: 'blue'"),
        ({"hour": ["5", "7", "5"]}, VocabularyError, "column 'hour': the column holds strings"),
        (
            {"origin": torch.tensor([0, 1, 2])},
            TypeError,
            "column 'route' is a cross, .* column 'origin' holds a tensor",
        ),
    ],
)
def test_bad_tables_are_told_by_column_and_row(change, error, told):
    rows = {name: column for name, column in {**ROWS, **change}.items() if column is not None}
    layer = collection()
    before = [weight.clone() for weight in layer.parameters()]
    with pytest.raises(error, match=told):
        layer(rows)
    assert all(map(torch.equal, before, layer.parameters()))


def test_ids_out_of_range_name_the_column():
    layer = EmbeddingCollection({"a": Embedding(5, 2), "b": Embedding(5, 2, name="table"), "tags": EmbeddingBag(5, 2)})
    ids = {"a": torch.tensor([0, 1]), "b": torch.tensor([0, 1]), "tags": [[1], [2]]}
    with pytest.raises(OutOfRangeError, match=r"table 'a', .*got 5 at \[1\]"):
        layer(ids=ids | {"a": torch.tensor([0, 5])})
    with pytest.raises(OutOfRangeError, match=r"table 'table \(column b\)', .*got 5 at \[1\]"):
        layer(ids=ids | {"b": torch.tensor([0, 5])})
    with pytest.raises(OutOfRangeError, match=r"column 'tags': .*got 5 at \[1, 0\]"):
        layer(ids=ids | {"tags": [[1], [5]]})
    with pytest.raises(TableError, match="does not read column 'c'"):
        layer(ids=ids | {"c": torch.tensor([0, 5])})


def test_what_is_no_collection():
    with pytest.raises(ValueError, match="at least one column"):
        EmbeddingCollection({})
    with pytest.raises(TypeError, match=r"column 'a' takes .*\(got Embedding\); catembed.convert"):
        EmbeddingCollection({"a": nn.Embedding(3, 2)})
    with pytest.raises(TypeError, match=r"named by strings \(got 1\)"):
        EmbeddingCollection({1: Embedding(3, 2)})
    with pytest.raises(ValueError, match="output must be one of 'concat', 'dict'"):
        EmbeddingCollection({"a": Embedding(3, 2)}, output="list")
    with pytest.raises(KeyError, match="there is no column 'x'"):
        collection()["x"]
    assert "x" not in collection()
    assert "origin" in collection()


# As a module


@pytest.mark.parametrize("name", ["values", "type", "train", "time.hour", "a%2E", "", "weight", "x y"])
def test_columns_of_any_name(name):
    layer = EmbeddingCollection({name: Embedding(5, 2), "other": Embedding(5, 2)})
    fresh = EmbeddingCollection({name: Embedding(5, 2), "other": Embedding(5, 2)})
    assert str(fresh.load_state_dict(layer.state_dict())) == "<All keys matched successfully>"
    ids = torch.tensor([[1, 2]])
    assert torch.equal(fresh(ids=ids), layer(ids=ids))
    assert list(layer.split(layer(ids=ids))) == [name, "other"]
    for key, _ in layer.named_parameters():
        assert layer.get_parameter(key) is not None


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies(copied):
    layer = collection()
    other = copied(layer)
    assert torch.equal(other(ROWS), layer(ROWS))
    assert other["origin"] is other["dest"]
    assert other["origin"] is not layer["origin"]


def test_a_state_dict_goes_round():
    layer, fresh = collection(), collection()
    with torch.no_grad():
        for weight in layer.parameters():
            weight.normal_()
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh(ROWS), layer(ROWS))
    other = EmbeddingCollection({"a": CategoryEmbedding(["x"], 2)})
    with pytest.raises(VocabularyError, match=r"at 'tables\.a'"):
        EmbeddingCollection({"a": CategoryEmbedding(["y"], 2)}).load_state_dict(other.state_dict())


def test_in_a_model_that_is_moved_and_compiled():
    layer = EmbeddingCollection({"a": Embedding(5, 2), "b": Embedding(5, 3)})
    model = nn.Sequential(layer, nn.Linear(5, 1)).double()
    assert layer(ids=torch.tensor([[1, 2]])).dtype == torch.float64
    ids = {"a": torch.tensor([1, 2]), "b": torch.tensor([1, 2])}
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(ids), model(ids))
    assert layer.to("meta")(ids={name: each.to("meta") for name, each in ids.items()}).shape == (2, 5)


# Learned from a table


def test_fit_learns_each_column():
    layer = EmbeddingCollection.fit(
        pd.DataFrame(ROWS),
        {
            "origin": {"embedding_dim": 4, "unseen": "unknown"},
            "dest": "origin",
            "hour": {},
            "tags": {"pooling": "mean", "embedding_dim": 3},
            "route": cross("origin", "dest", buckets=50, embedding_dim=2),
        },
        sparse=True,
    )
    assert layer["origin"] is layer["dest"]
    assert list(layer["origin"].vocabulary) == ["JFK", "LAX", "SFO"]
    assert layer["origin"].vocabulary.unseen == "unknown"
    assert layer["hour"].embedding.embedding_dim == 2  # by the rule of thumb
    assert layer["hour"].vocabulary.name == "hour"
    assert layer["tags"].embedding.mode == "mean"
    assert layer["hour"].embedding.sparse
    assert layer(ROWS).shape == (3, 15)


def test_fit_by_names_and_by_separator():
    layer = EmbeddingCollection.fit({"a": ["x", "y"], "b": [1, 2], "c": [0, 0]}, ["a", "b"], embedding_dim=3)
    assert (layer.names, layer.embedding_dim) == (("a", "b"), 6)
    genres = EmbeddingCollection.fit(
        {"genres": ["drama|war", "war"]}, {"genres": {"pooling": "sum", "separator": "|", "embedding_dim": 2}}
    )
    assert list(genres["genres"].vocabulary) == ["war", "drama"]
    assert genres({"genres": ["war|drama", ""]}).shape == (2, 2)


@pytest.mark.parametrize(
    ("columns", "error", "told"),
    [
        (["a", "z"], TableError, "the table has no column 'z'; it has 'a', 'b'"),
        ({"a": {}, "z": "a"}, TableError, "the table has no column 'z'"),
        ({"a": "b"}, TableError, "column 'a' shares the table of column 'b', which is none of the columns"),
        (
            {"a": {}, "b": "a", "c": "b"},
            TableError,
            "column 'c' shares the table of column 'b', which shares another's",
        ),
        ({"a": 3}, TypeError, "column 'a' has settings as a dict"),
        (["a", "a"], TableError, "column 'a' is named twice"),
        ("ab", TypeError, "a list of names"),
        ({"b": {}}, VocabularyError, "column 'b': "),
        ({"a": {"wrong": 1}}, TypeError, "wrong"),
    ],
)
def test_schemas_that_are_refused(columns, error, told):
    with pytest.raises(error, match=told):
        EmbeddingCollection.fit({"a": ["x"], "b": [0.5]}, columns)


def test_it_is_public():
    assert catembed.EmbeddingCollection is EmbeddingCollection
    assert catembed.cross is cross
