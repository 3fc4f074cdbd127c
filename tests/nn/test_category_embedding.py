"""``CategoryEmbedding``: what is a category and what an id, and a vocabulary that travels with its rows."""

import copy
import io
import pickle
from datetime import date

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import catembed
from catembed import (
    CategoryEmbedding,
    Embedding,
    FormatError,
    OutOfRangeError,
    UnseenCategoryError,
    Vocabulary,
    VocabularyError,
)

FRUIT = ["apple", "banana", "candy"]


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return CategoryEmbedding(FRUIT, 5)


def row(layer, *ids):
    return layer.embedding.weight[list(ids)]


# Lookup


@pytest.mark.parametrize(
    "column",
    [
        ["candy", "apple"],
        ("candy", "apple"),
        np.array(["candy", "apple"]),
        np.array(["candy", "apple"], dtype=object),
        pd.Series(["candy", "apple"]),
        pd.Series(["candy", "apple"], dtype="category"),
        pd.Index(["candy", "apple"]),
        pl.Series(["candy", "apple"]),
        pa.array(["candy", "apple"]),
        pa.array(["candy", "apple"]).dictionary_encode(),
        torch.tensor([2, 0]),
        torch.tensor([2, 0], dtype=torch.uint8),
    ],
    ids=lambda column: f"{type(column).__module__}.{type(column).__name__}",
)
def test_columns_of_every_library_and_tensors_of_ids(layer, column):
    assert torch.equal(layer(column), row(layer, 2, 0))


def test_shapes(layer):
    assert torch.equal(layer("banana"), layer.embedding.weight[1])
    assert torch.equal(layer([["apple"], ["candy"]]), row(layer, 0, 2).view(2, 1, 5))
    assert layer([]).shape == (0, 5)
    assert layer(np.empty((2, 0), dtype=str)).shape == (2, 0, 5)
    assert layer(torch.empty(0, dtype=torch.int64)).shape == (0, 5)


def test_what_does_not_fit_is_told(layer):
    with pytest.raises(UnseenCategoryError, match="did you mean 'banana'"):
        layer(["bananna"])
    with pytest.raises(VocabularyError, match="integers"):
        layer([0, 1])
    with pytest.raises(VocabularyError, match="integers"):
        layer(np.array([0, 1]))
    with pytest.raises(OutOfRangeError, match="index out of range in self"):
        layer(torch.tensor([3]))
    with pytest.raises(RuntimeError, match="Ids must be integers"):
        layer(torch.tensor([1.0]))
    for wrong in ({}, {"categories": "apple", "ids": 0}):
        with pytest.raises(TypeError, match="either categories"):
            layer(**wrong)


@pytest.mark.parametrize("categories", [[10, 20, 0], [True, False]], ids=["integers", "bools"])
def test_a_tensor_is_refused_where_categories_are_numbers(categories):
    layer = CategoryEmbedding(categories, 5, name="numbers")
    tensor = torch.tensor(categories)
    with pytest.raises(
        TypeError, match=r"layer 'numbers' are .*layer\(ids=\.\.\.\) takes ids, layer\(ids=layer\.encode"
    ):
        layer(tensor)
    with pytest.raises(TypeError, match=r"layer\(ids="):
        layer[tensor]
    assert torch.equal(layer(categories[:2]), row(layer, 0, 1))
    assert torch.equal(layer(np.array(categories[:2])), row(layer, 0, 1))
    assert torch.equal(layer(ids=torch.tensor([1, 0])), row(layer, 1, 0))
    assert torch.equal(layer(ids=[1, 0]), row(layer, 1, 0))
    assert torch.equal(layer(ids=layer.vocabulary.encode(tensor)), row(layer, *range(len(categories))))


def test_a_tensor_holds_ids_for_dates():
    layer = CategoryEmbedding([date(2020, 1, 1), date(2020, 1, 2)], 2)
    assert torch.equal(layer(torch.tensor([1])), layer([date(2020, 1, 2)]))


def test_missing_and_unknown_have_rows_of_their_own():
    layer = CategoryEmbedding(Vocabulary(FRUIT, unseen="unknown", missing="own"), 5)
    assert len(layer) == 5
    assert torch.equal(layer([None, "kiwi", "apple"]), row(layer, 0, 1, 2))
    assert torch.equal(layer(None), layer.embedding.weight[0])


def test_vectors_have_no_graph_and_are_a_copy(layer):
    seen = layer.vectors(["banana"])
    assert torch.equal(seen, row(layer, 1))
    assert not seen.requires_grad
    seen.zero_()
    assert row(layer, 1).abs().sum() > 0
    assert layer["banana"].grad_fn is not None
    assert torch.equal(layer["banana"], layer.embedding.weight[1])
    assert torch.equal(layer[["banana", "apple"]], row(layer, 1, 0))


def test_length_membership_and_repr(layer):
    assert len(layer) == 3
    assert "apple" in layer
    assert "kiwi" not in layer
    with pytest.raises(TypeError, match="not iterable"):
        iter(layer)
    shown = "(vocabulary): Vocabulary(['apple', 'banana', 'candy'])\n  (embedding): Embedding(3, 5)"
    assert repr(layer) == f"CategoryEmbedding(\n  {shown}\n)"


def test_arguments_go_to_the_embedding_and_the_vocabulary():
    vocabulary = Vocabulary(FRUIT, name="fruit")
    layer = CategoryEmbedding(vocabulary, 5, padding_idx=1, sparse=True, dtype=torch.float64, max_norm=1.0)
    assert layer.vocabulary is vocabulary
    assert repr(layer.embedding) == "Embedding(3, 5, padding_idx=1, max_norm=1.0, sparse=True, name='fruit')"
    assert layer.embedding.weight.dtype == torch.float64
    assert CategoryEmbedding(vocabulary, 5, name="other").embedding.name == "other"
    assert CategoryEmbedding(FRUIT, 5, name="fruit").vocabulary.name == "fruit"
    assert CategoryEmbedding(pd.Series(FRUIT, name="fruit"), 5).embedding.name == "fruit"
    with pytest.raises(VocabularyError, match="apple"):
        CategoryEmbedding(["apple", "apple"], 5)
    with pytest.raises(AttributeError):
        layer.vocabulary = Vocabulary(["x"])


def test_initial_weights_are_those_of_torch():
    torch.manual_seed(3)
    ours = CategoryEmbedding(FRUIT, 5)
    torch.manual_seed(3)
    assert torch.equal(ours.embedding.weight, nn.Embedding(3, 5).weight)


@pytest.mark.parametrize("vocabulary", [Vocabulary([]), Vocabulary([], unseen="unknown", missing="own")], ids=repr)
def test_an_empty_vocabulary(vocabulary):
    layer = CategoryEmbedding(vocabulary, 5)
    assert len(layer) == len(vocabulary)
    assert layer([]).shape == (0, 5)
    layer.load_state_dict(copy.deepcopy(layer.state_dict()))
    if len(vocabulary):
        assert torch.equal(layer(["x", None]), row(layer, 1, 0))


def test_training_moves_the_rows_looked_up(layer):
    before = layer.embedding.weight.detach().clone()
    layer(["banana", "banana"]).sum().backward()
    torch.optim.SGD(layer.parameters(), lr=1.0).step()
    assert torch.equal(layer.embedding.weight, before - torch.tensor([[0.0], [2.0], [0.0]]))


def test_compile_export_and_transforms(layer):
    ids = torch.tensor([1, 2])
    assert torch.equal(torch.compile(layer, fullgraph=True, backend="eager")(ids), row(layer, 1, 2))
    assert torch.equal(torch.compile(layer, backend="eager")(["banana", "candy"]), row(layer, 1, 2))
    assert torch.equal(torch.export.export(layer, (ids,)).module()(ids), row(layer, 1, 2))
    assert torch.equal(torch.func.vmap(layer)(ids), row(layer, 1, 2))
    for state in (dict(layer.state_dict()), dict(layer.named_parameters())):
        doubled = {key: value * 2 if value.is_floating_point() else value for key, value in state.items()}
        assert torch.equal(torch.func.functional_call(layer, doubled, (["banana"],)), row(layer, 1) * 2)


def test_moves(layer):
    half = copy.deepcopy(layer).to(torch.bfloat16)
    assert half("apple").dtype == torch.bfloat16
    meta = copy.deepcopy(layer).to("meta")
    seen = []
    meta.embedding.register_forward_pre_hook(lambda module, args: seen.append(args[0].device.type))
    assert meta(["apple"]).device.type == "meta"
    assert seen == ["meta"]
    empty = meta.to_empty(device="cpu")
    empty.load_state_dict(layer.state_dict())
    assert torch.equal(empty("candy"), layer("candy"))


def test_convert_leaves_it_in_order(layer):
    model = catembed.convert(nn.Sequential(layer), sparse=True)
    assert model[0] is layer
    assert type(layer.embedding) is Embedding
    assert layer.embedding.sparse
    assert torch.equal(model(["banana"]), row(layer, 1))


def test_to_torch_has_the_same_weight(layer):
    layer = CategoryEmbedding(FRUIT, 5, padding_idx=1, max_norm=3.0, norm_type=1.0, scale_grad_by_freq=True).eval()
    layer.requires_grad_(False)
    plain = layer.to_torch()
    assert type(plain) is nn.Embedding
    assert plain.weight is layer.embedding.weight
    assert not plain.weight.requires_grad
    ours = {key: value for key, value in vars(layer.embedding).items() if key not in ("name", "_parameters")}
    assert {key: value for key, value in vars(plain).items() if key != "_parameters"} == ours


def test_to_torch_has_rows_that_an_exact_optimiser_left_behind():
    layer, optimizer = lagging()
    weight = layer.to_torch().weight.detach().clone()
    optimizer.flush()
    assert torch.equal(weight, layer.embedding.weight)


# Copies and state_dicts


def copies(layer):
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    yield copy.deepcopy(layer)
    yield pickle.loads(pickle.dumps(layer))
    yield torch.load(buffer, weights_only=False)


def test_copies_are_equal_and_independent(layer):
    layer.on_other_vocabulary = "match"
    for other in copies(layer):
        assert other.vocabulary == layer.vocabulary
        assert other.on_other_vocabulary == "match"
        assert torch.equal(other["candy"], layer["candy"])
        with torch.no_grad():
            other.embedding.weight.zero_()
        assert layer["candy"].abs().sum() > 0


def through_torch(state, path):
    torch.save(state, path)
    return torch.load(path, weights_only=True)


def through_safetensors(state, path):
    save_file(state, path)
    return load_file(path)


@pytest.mark.parametrize("through", [through_torch, through_safetensors])
def test_state_dicts_travel(layer, tmp_path, through):
    state = through(layer.state_dict(), tmp_path / "state")
    assert {key: value.dtype for key, value in state.items()} == {
        "embedding.weight": torch.float32,
        "_extra_state": torch.uint8,
    }
    other = CategoryEmbedding(FRUIT, 5)
    weight = other.embedding.weight
    assert str(other.load_state_dict(state)) == "<All keys matched successfully>"
    assert other.embedding.weight is weight
    assert torch.equal(weight, layer.embedding.weight)


def test_the_vocabulary_can_be_had_from_a_state_dict(layer):
    from catembed.nn.vocabulary_state import from_state

    state = layer.state_dict()["_extra_state"]
    vocabulary, seed = from_state(state)
    assert seed == layer.fresh_seed
    assert vocabulary == layer.vocabulary
    state.zero_()
    assert list(vocabulary) == FRUIT


@pytest.mark.parametrize("cls", [nn.Embedding, Embedding])
def test_state_dicts_of_plain_embeddings_load(layer, cls):
    plain = cls(3, 5)
    assert str(layer.load_state_dict(plain.state_dict())) == "<All keys matched successfully>"
    assert torch.equal(layer["banana"], plain.weight[1])
    assert list(layer.vocabulary) == FRUIT
    model, theirs = nn.Sequential(nn.Linear(2, 2), layer), nn.Sequential(nn.Linear(2, 2), cls(3, 5))
    state = theirs.state_dict()
    assert str(model.load_state_dict(state)) == "<All keys matched successfully>"
    assert set(state) == set(theirs.state_dict())
    assert torch.equal(layer["banana"], theirs[1].weight[1])
    with pytest.raises(RuntimeError, match="size mismatch"):
        layer.load_state_dict(cls(4, 5).state_dict())


def test_strict_loading_tells_what_is_missing_and_unexpected(layer):
    with pytest.raises(RuntimeError, match=r'Missing key.*"embedding\.weight"'):
        layer.load_state_dict({"_extra_state": layer.get_extra_state()})
    with pytest.raises(RuntimeError, match=r'Missing key.*"embedding\.weight"'):
        layer.load_state_dict({})
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"more"'):
        layer.load_state_dict({**layer.state_dict(), "more": torch.ones(1)})
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"weight"'):
        layer.load_state_dict({**layer.state_dict(), "weight": torch.ones(3, 5)})


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("nested", [False, True])
def test_another_vocabulary_is_told_before_anything_changes(layer, strict, nested):
    stored = CategoryEmbedding(Vocabulary(["banana", "apple", "kiwi", "lime"], unseen="unknown"), 5)
    before = layer.embedding.weight.detach().clone()
    mine, theirs = (nn.ModuleDict({"fruit": x}) if nested else x for x in (layer, stored))
    with pytest.raises(VocabularyError) as caught:
        mine.load_state_dict(theirs.state_dict(), strict=strict)
    message = str(caught.value)
    assert ("at 'fruit'" in message) == nested
    for part in (
        "unseen 'unknown' instead of 'error'",
        "2 added ('kiwi', 'lime')",
        "1 removed ('candy')",
        "1 moved ('apple' 0 → 2)",
        "on_other_vocabulary = 'match'",
    ):
        assert part in message
    assert torch.equal(layer.embedding.weight, before)


def test_a_difference_tells_the_first_few_and_how_many():
    layer = CategoryEmbedding([f"c{i}" for i in range(5000)], 1)
    with pytest.raises(VocabularyError, match=r"4,998 moved \('c1' 1 → 4999, 'c2' 2 → 4998, 'c3' 3 → 4997, …\)\. "):
        layer.load_state_dict(CategoryEmbedding([f"c{i}" for i in [0, *range(4999, 0, -1)]], 1).state_dict())


def test_rows_are_matched_by_category_when_asked():
    stored = CategoryEmbedding(Vocabulary(["banana", "apple", "kiwi"], unseen="unknown"), 5)
    layer = CategoryEmbedding(Vocabulary(FRUIT, unseen="unknown", missing="own"), 5)
    own = copy.deepcopy(layer)
    weight = layer.embedding.weight
    model, theirs = nn.ModuleDict({"fruit": layer}), nn.ModuleDict({"fruit": stored})
    layer.on_other_vocabulary = "match"
    state = theirs.state_dict()
    assert str(model.load_state_dict(state)) == "<All keys matched successfully>"
    assert set(state) == {"fruit._extra_state", "fruit.embedding.weight"}
    assert layer.embedding.weight is weight
    for value in ("apple", "banana", "never seen"):
        assert torch.equal(layer[value], stored[value])
    for value in ("candy", None):
        assert torch.equal(layer[value], own[value])
    assert list(layer.vocabulary) == FRUIT


def test_matching_puts_every_one_of_many_rows_where_it_belongs():
    generator = np.random.default_rng(0)
    here, there = (generator.choice(10_000, 5_000, replace=False) for _ in range(2))
    layer, stored = CategoryEmbedding(here, 3), CategoryEmbedding(there, 3)
    own = layer.embedding.weight.detach().clone()
    layer.on_other_vocabulary = "match"
    layer.load_state_dict(stored.state_dict())
    place = {int(category): at for at, category in enumerate(there)}
    for at, category in enumerate(here):
        expected = stored.embedding.weight[place[int(category)]] if int(category) in place else own[at]
        assert torch.equal(layer.embedding.weight[at], expected)


def test_matching_with_an_empty_vocabulary_changes_only_reserved_rows(layer):
    stored = CategoryEmbedding(Vocabulary([], unseen="unknown"), 5)
    layer.on_other_vocabulary = stored.on_other_vocabulary = "match"
    before = copy.deepcopy(layer)
    layer.load_state_dict(stored.state_dict())
    assert torch.equal(layer[FRUIT], before[FRUIT])
    row_before = stored["x"].detach().clone()
    stored.load_state_dict(layer.state_dict())
    assert torch.equal(stored["x"], row_before)
    before.on_other_vocabulary = "error"
    with pytest.raises(VocabularyError, match=r"kind 'empty' instead of 'string'.*3 removed \('apple', "):
        before.load_state_dict(stored.state_dict())


def lagging():
    """A layer and the exact optimiser that has left rows 1 and 2 behind."""
    torch.manual_seed(0)
    layer = CategoryEmbedding(FRUIT, 5, sparse=True)
    optimizer = catembed.optim.Adam(layer.parameters(), lr=0.1, untouched="exact")
    for batch in (FRUIT, ["apple"], ["apple"]):
        optimizer.zero_grad()
        layer(batch).square().sum().backward()
        optimizer.step()
    return layer, optimizer


def test_rows_kept_in_matching_have_the_steps_that_an_exact_optimiser_left_behind():
    (layer, _), (twin, optimizer) = lagging(), lagging()
    layer.on_other_vocabulary = "match"
    layer.load_state_dict(CategoryEmbedding(["banana"], 5).state_dict())
    optimizer.flush()
    assert torch.equal(layer.embedding.weight[2], twin.embedding.weight[2])


def test_what_cannot_be_matched_is_told(layer):
    layer.on_other_vocabulary = "match"
    before = layer.embedding.weight.detach().clone()
    with pytest.raises(VocabularyError, match="kind 'integer' instead of 'string'"):
        layer.load_state_dict(CategoryEmbedding([1, 2, 3], 5).state_dict())
    stored = CategoryEmbedding(["apple", "kiwi"], 5).state_dict()
    with pytest.raises(FormatError, match="has 3 rows, its vocabulary 2 ids"):
        layer.load_state_dict({**stored, "embedding.weight": torch.ones(3, 5)})
    with pytest.raises(VocabularyError, match="another vocabulary"):
        layer.load_state_dict({"_extra_state": stored["_extra_state"]})
    with pytest.raises(RuntimeError, match="size mismatch"):
        layer.load_state_dict(CategoryEmbedding(["apple", "kiwi"], 4).state_dict())
    with pytest.raises(RuntimeError, match="meta device"):
        copy.deepcopy(layer).to("meta").load_state_dict(stored)
    assert torch.equal(layer.embedding.weight, before)
    with pytest.raises(ValueError, match=r"'error', 'match' \(got 'guess'\)"):
        layer.on_other_vocabulary = "guess"
    assert layer.on_other_vocabulary == "match"


def test_damaged_extra_state_is_told(layer):
    state = layer.state_dict()
    before = layer.embedding.weight.detach().clone()
    state["embedding.weight"] = torch.zeros(3, 5)
    good = state["_extra_state"]
    flipped = good.clone()
    flipped[-1] ^= 1
    others = [
        flipped,
        good[:-1],
        good[:0],
        good.float(),
        good.view(1, -1),
        good.to("meta"),
        torch.tensor(7),
        b"bytes",
        None,
    ]
    for bad in others:
        with pytest.raises(FormatError, match=r"_extra_state of the state_dict: "):
            layer.load_state_dict({**state, "_extra_state": bad})
    assert torch.equal(layer.embedding.weight, before)


def test_extra_state_set_by_hand_is_compared(layer):
    layer.set_extra_state(layer.get_extra_state())
    with pytest.raises(VocabularyError, match=r"1 removed \('candy'\)"):
        layer.set_extra_state(CategoryEmbedding(["apple", "banana"], 5).get_extra_state())


def test_a_file_is_no_extra_state(layer, tmp_path):
    catembed.save(tmp_path / "x", layer)
    data = torch.frombuffer(bytearray((tmp_path / "x").read_bytes()), dtype=torch.uint8)
    with pytest.raises(FormatError, match="something else than a vocabulary"):
        layer.set_extra_state(data)
