"""`CategoryEmbedding` with a vocabulary that grows: when, which rows, and that all else goes on as it was."""

import copy
import pickle

import pytest
import torch
from torch import nn

import catembed
from catembed import CategoryEmbedding, Vocabulary, VocabularyError
from catembed.optim import SGD, Adagrad, Adam, RowwiseAdagrad

FRUIT = ["apple", "banana"]


def growing(categories=FRUIT, dim=3, seed=0, **how):
    torch.manual_seed(seed)
    vocabulary_options = {key: how.pop(key) for key in ("missing", "min_count", "max_size") if key in how}
    return CategoryEmbedding(Vocabulary(categories, unseen="grow", **vocabulary_options), dim, **how)


def rows(layer, values):
    return layer.vectors(values)


def fresh_row(category, seed=0, dim=3):
    """The row of a category that comes to a layer of this seed."""
    layer = growing(["x"], dim, seed)
    layer.vocabulary.add([category])
    return rows(layer, category)


def step(layer, optimizer, column):
    optimizer.zero_grad()
    layer(column).square().sum().backward()
    optimizer.step()


# When


def test_a_lookup_in_training_grows():
    layer = growing()
    weight = layer.embedding.weight
    before = weight.detach().clone()
    vectors = layer(["kiwi", "apple", "kiwi"])
    assert list(layer.vocabulary) == [*FRUIT, "kiwi"]
    assert layer.embedding.weight is weight
    assert (weight.shape, layer.embedding.num_embeddings, len(layer)) == ((4, 3), 4, 4)
    assert torch.equal(weight[:3], before)
    assert torch.equal(vectors, weight[[3, 1, 3]])
    assert vectors.requires_grad


def test_evaluation_no_grad_and_a_frozen_weight_do_not():
    layer = growing(missing="own")
    layer.eval()
    assert torch.equal(layer(["kiwi"])[0], layer.embedding.weight[1])
    layer.train()
    with torch.no_grad():
        layer(["kiwi"])
    with torch.inference_mode():
        layer("kiwi")
    layer.vectors(["kiwi"])
    layer.embedding.requires_grad_(False)
    layer(["kiwi", None])
    assert (list(layer.vocabulary), len(layer.embedding.weight)) == (FRUIT, 4)
    layer.embedding.requires_grad_(True)
    layer(["kiwi", None])
    assert (list(layer.vocabulary), len(layer.embedding.weight)) == ([*FRUIT, "kiwi"], 5)


def test_ids_do_not_grow():
    layer = growing()
    with pytest.raises(IndexError):
        layer(ids=torch.tensor([3]))
    layer(torch.tensor([0, 2]))
    assert len(layer) == 3


@pytest.mark.parametrize("unseen", ["unknown", "hash", "error"])
def test_other_policies_do_not_grow(unseen):
    layer = CategoryEmbedding(Vocabulary(FRUIT, unseen=unseen, buckets=3 if unseen == "hash" else None), 3)
    if unseen == "error":
        with pytest.raises(catembed.UnseenCategoryError):
            layer(["kiwi"])
    else:
        layer(["kiwi"])
    assert list(layer.vocabulary) == FRUIT


def test_min_count_and_max_size_hold_in_training():
    layer = growing(min_count=2, max_size=3)
    assert torch.equal(layer(["kiwi", "lime"]), layer.embedding.weight[[0, 0]])
    with pytest.warns(UserWarning, match="full"):
        vectors = layer(["kiwi", "lime"])
    assert torch.equal(vectors, layer.embedding.weight[[3, 0]])
    assert (len(layer), len(layer.embedding.weight)) == (4, 4)


def test_what_was_added_to_the_vocabulary_has_a_row_at_the_next_lookup_of_any_kind():
    for look in (
        lambda layer: layer(["kiwi"]),
        lambda layer: layer.eval()(["kiwi"]),
        lambda layer: layer(ids=[3]),
        lambda layer: layer.vectors("kiwi"),
        lambda layer: layer.state_dict(),
        lambda layer: layer.to_torch(),
        lambda layer: layer.follow_vocabulary(),
    ):
        layer = growing()
        layer.vocabulary.add(["kiwi"])
        look(layer)
        assert torch.equal(layer.embedding.weight[3], fresh_row("kiwi"))


# Which rows


def test_a_fresh_row_depends_on_seed_and_category_alone():
    column = [f"v{i}" for i in range(40)]
    together, apart, backward = growing(), growing(["other"]), growing()
    together(column)
    for value in column:
        apart([value])
    backward(column[::-1])
    assert torch.equal(rows(together, column), rows(apart, column))
    assert torch.equal(rows(together, column), rows(backward, column))
    assert torch.equal(rows(together, "v7"), fresh_row("v7"))
    elsewhere = growing(seed=1)
    elsewhere(column)
    assert not (rows(elsewhere, column) == rows(together, column)).any()
    assert len(torch.unique(rows(together, column), dim=0)) == 40


@pytest.mark.parametrize("values", [[5, -7, 2**62], [b"x", b"\xff", b""], ["", "é", "x" * 1000]], ids=repr)
def test_fresh_rows_of_every_kind(values):
    one, other = growing(values[:1]), growing([])
    one(values)
    other(values[::-1])
    assert torch.equal(rows(one, values[1:]), rows(other, values[1:]))
    assert rows(one, values).isfinite().all()


def test_fresh_rows_look_as_torch_draws_them():
    layer = growing(dim=64)
    layer([f"v{i}" for i in range(2000)])
    fresh = layer.embedding.weight[3:].detach()
    # The standard normal: of 128,000 draws mean and deviation are within 6 of their own deviations.
    assert fresh.mean().abs() < 6 / 128_000**0.5
    assert (fresh.std() - 1).abs() < 6 / (2 * 128_000) ** 0.5


def test_the_seed_goes_with_the_layer(tmp_path):
    layer = growing()
    catembed.save(tmp_path / "layer", layer)
    for other in (
        catembed.load(tmp_path / "layer"),
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
        loaded_into(growing(seed=5), layer),
    ):
        assert other.fresh_seed == layer.fresh_seed
        other(["kiwi"])
        assert torch.equal(rows(other, "kiwi"), fresh_row("kiwi"))
    assert list(layer.vocabulary) == FRUIT


def test_layers_of_one_model_draw_different_rows():
    seeds = {growing(seed=seed, name=name).fresh_seed for seed in (0, 1) for name in (None, "a", "b")}
    assert len(seeds) == 6
    torch.manual_seed(0)
    one, other = (CategoryEmbedding(Vocabulary(FRUIT, unseen="grow"), 3) for _ in range(2))
    one(["kiwi"]), other(["kiwi"])
    assert not torch.equal(rows(one, "kiwi"), rows(other, "kiwi"))


def loaded_into(fresh, layer):
    fresh.load_state_dict(layer.state_dict())
    return fresh


# Training goes on

OPTIMIZERS = {
    "Adam": lambda layer: Adam(layer.parameters(), lr=0.1),
    "Adam, exact": lambda layer: Adam(layer.parameters(), lr=0.1, untouched="exact"),
    "RowwiseAdagrad": lambda layer: RowwiseAdagrad(layer.parameters(), lr=0.1),
    "Adagrad": lambda layer: Adagrad(layer.parameters(), lr=0.1),
    "SGD": lambda layer: SGD(layer.parameters(), lr=0.1, momentum=0.9),
}
COLUMNS = [
    ["apple", "kiwi"],
    ["lime", "banana", "lime"],
    ["kiwi", "apple"],
    ["mango"],
    ["kiwi", "lime"],
    ["x", "mango"],
]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("sparse", [True, False])
def test_growing_trains_as_a_table_that_had_the_rows_from_the_start(name, sparse):
    everything = list(dict.fromkeys(value for column in COLUMNS for value in column if value not in FRUIT))
    grows, whole = growing(sparse=sparse), growing(sparse=sparse)
    whole.vocabulary.add(everything)
    whole.follow_vocabulary()
    optimizers = [OPTIMIZERS[name](layer) for layer in (grows, whole)]
    for column in COLUMNS:
        for layer, optimizer in zip((grows, whole), optimizers, strict=True):
            step(layer, optimizer, column)
        known = list(grows.vocabulary)
        got, expected = (layer.state_dict()["embedding.weight"] for layer in (grows, whole))
        assert torch.equal(got, expected[: len(got)]), known
    assert len(got) == len(expected) == 3 + len(everything)


@pytest.mark.parametrize("name", ["Adam", "RowwiseAdagrad", "Adagrad"])
def test_rows_that_a_step_does_not_touch_stay_bit_for_bit(name):
    layer = growing(sparse=True)
    optimizer = OPTIMIZERS[name](layer)
    step(layer, optimizer, ["apple", "banana", "kiwi"])
    before = layer.embedding.weight.detach().clone()
    step(layer, optimizer, ["banana", "lime", "mango"])
    after = layer.embedding.weight
    assert torch.equal(after[[0, 1, 3]], before[[0, 1, 3]])
    assert not torch.equal(after[2], before[2])
    for value in ("lime", "mango"):
        assert not torch.equal(rows(layer, value), fresh_row(value))


def test_two_columns_share_one_vocabulary_in_one_step():
    layer = growing(sparse=True)
    home, away = layer(["apple", "kiwi"]), layer(["kiwi", "lime"])
    assert list(layer.vocabulary) == [*FRUIT, "kiwi", "lime"]
    assert torch.equal(home[1], away[0])
    weight = layer.embedding.weight
    optimizer = SGD(layer.parameters(), lr=1.0)
    before = weight.detach().clone()
    (home.sum() + 2 * away.sum()).backward()
    optimizer.step()
    change = (before - weight.detach())[:, 0]
    assert change.tolist() == pytest.approx([0, 1, 0, 3, 2], abs=1e-6)


def test_two_layers_share_one_vocabulary():
    def model():
        vocabulary = Vocabulary(FRUIT, unseen="grow")
        return nn.ModuleList([CategoryEmbedding(vocabulary, 3), CategoryEmbedding(vocabulary, 2)])

    first, second = layers = model()
    first(["kiwi"])
    assert torch.equal(second(["kiwi"]), second.embedding.weight[[3]])
    second(["lime"])
    fresh = model()
    fresh.load_state_dict(layers.state_dict())
    for old, new in zip(layers, fresh, strict=True):
        assert torch.equal(rows(new, ["apple", "kiwi", "lime"]), rows(old, ["apple", "kiwi", "lime"]))


@pytest.mark.parametrize("sparse", [True, False])
def test_growth_between_two_lookups_of_one_step(sparse):
    grows, whole = growing(sparse=sparse), growing(["apple", "banana", "kiwi", "lime"], sparse=sparse)
    with torch.no_grad():
        whole.embedding.weight[:3] = grows.embedding.weight
        whole.embedding.weight[3:] = torch.stack([fresh_row("kiwi"), fresh_row("lime")])
    for layer in (grows, whole):
        optimizer = Adam(layer.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            loss = layer(["apple", "kiwi"]).square().sum()
            loss = loss + (layer(["kiwi", "lime", "apple"]) * torch.arange(3.0)).sum()
            loss.backward()
            optimizer.step()
    assert torch.equal(grows.embedding.weight, whole.embedding.weight)


def test_a_refused_lookup_leaves_vocabulary_and_table():
    layer = growing()
    for column in (["kiwi", None], [1], ["kiwi", 2]):
        with pytest.raises((VocabularyError, catembed.UnseenCategoryError)):
            layer(column)
    assert (list(layer.vocabulary), len(layer.embedding.weight)) == (FRUIT, 3)


@pytest.mark.parametrize(
    "spoil", [lambda layer: layer.share_memory(), lambda layer: layer.to("meta")], ids=["shared", "meta"]
)
def test_where_the_table_cannot_grow_the_vocabulary_does_not(spoil):
    layer = growing()
    spoil(layer)
    with pytest.raises(RuntimeError, match="no rows can be added"):
        layer(["kiwi"])
    assert list(layer.vocabulary) == FRUIT


@pytest.mark.usefixtures("one_process_group")
def test_a_wrapped_model_refuses_and_leaves_the_vocabulary():
    layer = growing(name="fruit")
    wrapped = nn.parallel.DistributedDataParallel(layer)
    with pytest.raises(RuntimeError, match="table 'fruit': DistributedDataParallel replicates it"):
        wrapped(["kiwi"])
    with pytest.raises(RuntimeError, match="DistributedDataParallel"):
        layer(["kiwi", "lime"])
    assert (list(layer.vocabulary), len(layer.embedding.weight)) == (FRUIT, 3)
    wrapped.eval()
    assert torch.equal(wrapped(["kiwi"])[0], layer.embedding.weight[0])


# On its way


@pytest.mark.parametrize("start", [[], ["apple"], FRUIT], ids=str)
def test_a_state_dict_goes_into_a_layer_that_has_not_grown_so_far(start):
    layer = growing(min_count=2)
    layer(["kiwi", "kiwi", "lime"])
    fresh = growing(start, seed=3, min_count=2)
    weight, optimizer = fresh.embedding.weight, Adam(fresh.parameters(), lr=0.1)
    assert str(fresh.load_state_dict(layer.state_dict())) == "<All keys matched successfully>"
    assert fresh.embedding.weight is weight
    assert fresh.vocabulary == layer.vocabulary
    assert torch.equal(weight, layer.embedding.weight)
    fresh(["lime"])  # which has been seen once before
    assert (list(fresh.vocabulary), list(layer.vocabulary)) == ([*FRUIT, "kiwi", "lime"], [*FRUIT, "kiwi"])
    assert torch.equal(rows(fresh, "lime"), fresh_row("lime"))
    step(fresh, optimizer, ["lime", "kiwi"])
    assert not torch.equal(rows(fresh, "kiwi"), rows(layer, "kiwi"))


@pytest.mark.parametrize("start", [["banana", "apple"], ["apple", "banana", "kiwi", "lime"], [1]], ids=str)
def test_a_state_dict_of_another_vocabulary_is_refused(start):
    layer = growing()
    layer(["kiwi"])
    other = growing(start)
    before = other.embedding.weight.detach().clone()
    with pytest.raises(VocabularyError, match="another vocabulary"):
        other.load_state_dict(layer.state_dict())
    assert list(other.vocabulary) == start
    assert torch.equal(other.embedding.weight, before)


def test_a_state_dict_without_a_weight_is_told():
    layer, fresh = growing(), growing()
    layer(["kiwi"])
    state = layer.state_dict()
    del state["embedding.weight"]
    with pytest.raises(VocabularyError, match="another vocabulary"):
        fresh.load_state_dict(state, strict=False)
    assert (list(fresh.vocabulary), len(fresh.embedding.weight)) == (FRUIT, 3)


def test_a_file_holds_what_was_learned(tmp_path):
    layer = growing(missing="own", min_count=2)
    layer(["kiwi", "kiwi", "lime"])
    layer.vocabulary.add(["mango"])  # no lookup has given it a row
    catembed.save(tmp_path / "layer", layer)
    back = catembed.load(tmp_path / "layer")
    assert back.vocabulary == layer.vocabulary
    assert torch.equal(back.embedding.weight, layer.embedding.weight)
    assert torch.equal(rows(back, "mango"), fresh_row("mango"))
    optimizer = Adam(back.parameters(), lr=0.1)
    step(back, optimizer, ["lime", None, "apple"])
    assert list(back.vocabulary) == [*FRUIT, "kiwi", "mango", "lime"]
    assert torch.equal(rows(back, "kiwi"), rows(layer, "kiwi"))


def test_a_deepcopy_grows_for_itself():
    layer = growing()
    layer(["kiwi"])
    other = copy.deepcopy(layer)
    other(["lime"])
    layer(["mango", "melon"])
    assert (list(other.vocabulary)[2:], list(layer.vocabulary)[2:]) == (["kiwi", "lime"], ["kiwi", "mango", "melon"])
    assert (len(other.embedding.weight), len(layer.embedding.weight)) == (5, 6)
    assert torch.equal(rows(other, "kiwi"), rows(layer, "kiwi"))


def test_a_compiled_model_goes_on():
    layer = growing()
    head = nn.Linear(3, 1)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = layer, head

        def forward(self, column):
            return self.head(self.layer(column)).sum()

    torch._dynamo.reset()
    model = torch.compile(Model(), backend="eager")
    for column in (["apple"], ["kiwi", "apple"], ["lime"], ["kiwi", "mango", "banana"]):
        compiled = model(column)
        assert torch.equal(compiled, head(layer(column)).sum())
    assert list(layer.vocabulary) == [*FRUIT, "kiwi", "lime", "mango"]
    model.eval()
    model(["melon"])
    assert "melon" not in layer.vocabulary


# What cannot grow


def test_known_values_are_looked_up_where_nothing_can_grow():
    layer = growing()
    layer.share_memory()
    assert torch.equal(layer(["apple"]), layer.embedding.weight[1:2])
    with pytest.raises(RuntimeError, match="shared with other processes"):
        layer(["kiwi"])
    assert list(layer.vocabulary) == FRUIT
    assert torch.equal(layer(["banana"]), layer.embedding.weight[2:3])


def test_a_load_that_is_refused_changes_nothing():
    layer, grown = growing(), growing()
    grown(["kiwi"])
    layer.share_memory()
    before = layer.embedding.weight.clone()
    with pytest.raises(RuntimeError, match="shared with other processes"):
        layer.load_state_dict(grown.state_dict())
    assert list(layer.vocabulary) == FRUIT
    assert torch.equal(layer(["apple", "banana"]), before[1:])


def test_looking_with_brackets_grows_nothing():
    layer = growing()
    assert torch.equal(layer["typo"], layer.embedding.weight[0])
    assert layer["apple"].requires_grad
    assert list(layer.vocabulary) == FRUIT


def test_a_table_of_integers_gets_no_rows_of_floats():
    layer = CategoryEmbedding(["a"], 2, _weight=torch.zeros(1, 2, dtype=torch.int8), _freeze=True)
    layer.vocabulary.add(["b"])
    with pytest.raises(TypeError, match=r"1 new categories have no rows.*torch.int8"):
        layer(["a"])
