"""Collections in one file: what comes back is what was saved, or an error."""

import json

import pytest
import torch
from safetensors.torch import load_file

import catembed
from catembed import CategoryEmbedding, Embedding, EmbeddingBag, EmbeddingCollection, FormatError, Vocabulary, cross
from catembed.storage import read_file, write_file

ROWS = {"origin": ["JFK", "SFO"], "dest": ["SFO", "LAX"], "tags": ["a|b", ""], "time.hour": [1, 2], "user": [3, 4]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "collection.safetensors"


def collection(**options):
    airports = CategoryEmbedding(Vocabulary.fit(["JFK", "LAX", "SFO", "JFK"], unseen="grow", missing="own"), 4)
    return EmbeddingCollection(
        {
            "origin": airports,
            "tags": CategoryEmbedding(["a", "b"], 3, pooling="sqrtn", separator="|", sparse=True),
            "dest": airports,
            "time.hour": CategoryEmbedding([1, 2], 2, dtype=torch.float64).float(),
            "route": cross("origin", "dest", buckets=50, embedding_dim=2),
            "user": Embedding(5, 2, padding_idx=1).requires_grad_(False),
        },
        **options,
    )


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("output", ["concat", "dict"])
def test_it_goes_round(path, verify, output):
    layer = collection(output=output)
    catembed.save(path, layer)
    loaded = catembed.load(path, verify=verify)
    assert repr(loaded) == repr(layer)
    assert loaded["origin"] is loaded["dest"]
    assert (loaded.names, loaded.output, loaded.slices) == (layer.names, output, layer.slices)
    ours, theirs = layer(ROWS), loaded(ROWS)
    if output == "concat":
        assert torch.equal(ours, theirs)
    else:
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert [weight.requires_grad for weight in loaded.parameters()] == [w.requires_grad for w in layer.parameters()]
    assert loaded["origin"].fresh_seed == layer["origin"].fresh_seed
    assert loaded["origin"].vocabulary.counts.tolist() == layer["origin"].vocabulary.counts.tolist()


def test_what_was_loaded_trains_and_grows(path):
    catembed.save(path, collection())
    layer = catembed.load(path)
    optimizer = catembed.optim.SGD(layer.parameters(), lr=0.1)
    layer({**ROWS, "dest": ["AMS", "AMS"]}).sum().backward()
    optimizer.step()
    assert "AMS" in layer["dest"]


def test_any_safetensors_reader_reads_it(path):
    layer = collection()
    catembed.save(path, layer)
    tensors = load_file(path)
    assert torch.equal(tensors["0.weight"], layer["origin"].embedding.weight)
    assert torch.equal(tensors["4.weight"], layer["user"].weight)


def test_bags_and_single_columns(path):
    layer = EmbeddingCollection({"only": EmbeddingBag(4, 2, mode="max")})
    catembed.save(path, layer)
    assert torch.equal(catembed.load(path)({"only": [[1, 2]]}), layer({"only": [[1, 2]]}))


def test_a_subclass_is_refused_and_the_old_file_stays(path):
    class Own(EmbeddingCollection):
        pass

    catembed.save(path, collection())
    before = path.read_bytes()
    with pytest.raises(TypeError, match="no subclass"):
        catembed.save(path, Own({"a": Embedding(2, 2)}))
    assert path.read_bytes() == before


def change(**changes):
    return lambda header, tensors: header.update(changes)


def rename(old, new):
    return lambda header, tensors: tensors.update({new: tensors.pop(old)})


ATTACKS = {
    "no columns": change(columns=[]),
    "columns of no table": change(columns=[["origin", 9]]),
    "a negative table": change(columns=[["origin", -1]]),
    "a table that is true": change(columns=[["origin", True]]),
    "a column twice": lambda h, t: h["columns"].append(["origin", 1]),
    "a table without a column": lambda h, t: h["columns"].pop(),
    "a column that is no text": lambda h, t: h["columns"].__setitem__(0, [1, 0]),
    "columns as an object": change(columns={"origin": 0}),
    "tables as an object": change(tables={}),
    "a table that is none": lambda h, t: h["tables"].__setitem__(0, 3),
    "a collection in a collection": lambda h, t: h["tables"].__setitem__(0, {"content": "EmbeddingCollection"}),
    "a vocabulary alone": lambda h, t: h["tables"][0].update(content="Vocabulary"),
    "another output": change(output="list"),
    "an output that is no text": change(output=["concat"]),
    "one key more": change(more=1),
    "a tensor of no table": rename("0.weight", "9.weight"),
    "a tensor without a number": rename("0.weight", "weight"),
    "a tensor with another spelling": rename("0.weight", "00.weight"),
    "two tables exchanged": lambda h, t: h["tables"].reverse(),
    "sequences side by side": lambda h, t: h["tables"][1]["settings"].update(mode="none"),
    "a cross with other columns": lambda h, t: h["tables"][3]["vocabulary"].update(cross=["a", "b"]),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks(path, attack):
    catembed.save(path, collection())
    tensors, header = read_file(path)
    header = json.loads(json.dumps(header))
    ATTACKS[attack](header, tensors)
    write_file(path, tensors, header)
    with pytest.raises(FormatError, match=str(path)):
        catembed.load(path)
