"""``convert``: a model keeps everything it had, and its tables become ours."""

import copy
import weakref

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

import catembed
from catembed import Embedding, EmbeddingBag, OutOfRangeError, convert


class Language(nn.Module):
    """Shaped like a pretrained language model: nested tables, accessors, an output layer tied to the input table."""

    def __init__(self):
        super().__init__()
        self.transformer = nn.ModuleDict(
            {
                "tokens": nn.Embedding(11, 8, padding_idx=0),
                "positions": nn.Embedding(6, 8),
                "block": nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True),
            }
        )
        self.topics = nn.EmbeddingBag(5, 8, mode="sum")
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.transformer.tokens.weight
        self.everything = [self.transformer.tokens]  # a reference that no container knows
        self.register_buffer("order", torch.arange(6).expand(1, -1))

    def get_input_embeddings(self):
        return self.transformer.tokens

    def forward(self, ids, topics):
        x = self.transformer.tokens(ids) + self.transformer.positions(self.order[:, : ids.shape[1]])
        return self.head(self.transformer.block(x) + self.topics(topics)[:, None])


IDS, TOPICS = torch.tensor([[3, 1, 0], [10, 10, 2]]), torch.tensor([[0, 4], [1, 1]])


def trained(model, optimizer=None, steps=3):
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(IDS, TOPICS).square().mean().backward()
        optimizer.step()
    return model(IDS, TOPICS)


def test_a_language_model_computes_and_trains_the_same():
    torch.manual_seed(0)
    model = Language()
    twin = copy.deepcopy(model)
    assert convert(model) is model
    assert torch.equal(model(IDS, TOPICS), twin(IDS, TOPICS))
    assert torch.equal(trained(model), trained(twin))
    assert list(model.state_dict()) == list(twin.state_dict())
    twin.load_state_dict(model.state_dict())
    model.load_state_dict(twin.state_dict())


def test_every_table_is_ours_and_named_by_its_path():
    model = convert(Language())
    named = {name: type(m) for name, m in model.named_modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag))}
    assert named == {"transformer.tokens": Embedding, "transformer.positions": Embedding, "topics": EmbeddingBag}
    assert [model.get_submodule(name).name for name in named] == list(named)
    with pytest.raises(OutOfRangeError, match=r"table 'transformer\.tokens'"):
        model(IDS + 1, TOPICS)
    with pytest.raises(OutOfRangeError, match="table 'topics'"):
        model(IDS, TOPICS + 1)


def test_objects_stay_who_they_are():
    model = Language()
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    optimizer = torch.optim.Adam(model.parameters())
    trained(model, optimizer)
    convert(model)
    assert all(modules[name] is module for name, module in model.named_modules())
    assert all(parameters[name] is parameter for name, parameter in model.named_parameters())
    assert model.head.weight is model.get_input_embeddings().weight
    assert model.everything[0] is model.transformer.tokens
    before = model.transformer.tokens.weight.detach().clone()
    trained(model, optimizer)  # the optimiser made before still trains the table
    assert not torch.equal(model.transformer.tokens.weight, before)


def test_a_table_used_twice_stays_one_and_takes_its_first_path():
    shared = nn.Embedding(4, 3)
    model = convert(nn.ModuleDict({"query": shared, "item": shared}))
    assert model["query"] is model["item"] is shared
    assert shared.name == "query"


@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
def test_hooks_flags_and_attributes_are_kept():
    table = nn.Embedding(4, 3).eval()
    seen = []
    table.register_forward_pre_hook(lambda *args: seen.append("before"))
    table.register_forward_hook(lambda *args: seen.append("after"))
    table.register_full_backward_hook(lambda *args: seen.append("backward"))
    table.register_state_dict_post_hook(lambda *args: seen.append("state"))
    table.weight.register_hook(lambda grad: seen.append("grad"))
    table.register_buffer("counts", torch.zeros(4))
    table.weight.requires_grad_(True)
    table.note = {"any": "thing"}
    reference, note = weakref.ref(table), table.note
    model = convert(nn.Sequential(table))
    model(torch.tensor([1])).sum().backward()
    assert list(model.state_dict()) == ["0.weight", "0.counts"]
    assert seen == ["before", "after", "backward", "grad", "state"]
    assert reference() is model[0]
    assert model[0].note is note
    assert not model[0].training
    frozen = convert(nn.Embedding.from_pretrained(torch.eye(3)))
    assert not frozen.weight.requires_grad


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x


def test_parametrizations_are_kept():
    table = nn.Embedding(4, 3)
    parametrize.register_parametrization(table, "weight", Doubled())
    untouched = copy.deepcopy(table)  # shares the class that parametrize made
    ids = torch.tensor([1, 3])
    expected, original = table(ids), table.parametrizations.weight.original
    convert(table)
    assert isinstance(table, Embedding)
    assert torch.equal(table(ids), expected)
    assert table.parametrizations.weight.original is original
    assert not isinstance(untouched, Embedding)
    assert torch.equal(untouched(ids), expected)
    with pytest.raises(OutOfRangeError):
        table([4])
    parametrize.remove_parametrizations(table, "weight")
    assert type(table) is Embedding
    assert torch.equal(table(ids), expected)


def test_weight_norm_is_kept():
    bag = weight_norm(nn.EmbeddingBag(4, 3))
    ids = torch.tensor([[1, 3]])
    expected = bag(ids)
    assert torch.equal(convert(bag)(ids), expected)
    assert isinstance(bag, EmbeddingBag)


def test_a_model_that_is_a_table():
    table = nn.Embedding(4, 3, padding_idx=1, max_norm=2.0)
    before = repr(table)
    assert convert(table) is table
    assert type(table) is Embedding
    assert repr(table) == before
    assert table.name is None


def test_a_table_of_ours_keeps_its_name():
    model = convert(nn.Sequential(Embedding(4, 3, name="fruit"), Embedding(4, 3)))
    assert [table.name for table in model] == ["fruit", "1"]
    assert repr(convert(model)) == repr(model)


class Scaled(nn.Embedding):
    def forward(self, input):
        return super().forward(input) * 3.0


def test_subclasses_with_their_own_forward_are_left_alone():
    model = nn.Sequential(Scaled(4, 3))
    expected = model(torch.tensor([1]))
    convert(model, sparse=True)
    assert type(model[0]) is Scaled
    assert model[0].sparse is False
    assert torch.equal(model(torch.tensor([1])), expected)


@pytest.mark.parametrize("sparse", [True, False, None])
def test_the_sparse_flag_of_every_table(sparse):
    model = nn.ModuleList([nn.Embedding(4, 3), nn.EmbeddingBag(4, 3, sparse=True), Embedding(4, 3)])
    convert(model, sparse=sparse)
    assert [m.sparse for m in model] == ([False, True, False] if sparse is None else [sparse] * 3)
    model[0](torch.tensor([2, 1, 2])).sum().backward()
    assert model[0].weight.grad.is_sparse is bool(sparse)


def test_a_tied_table_with_sparse_gradients_trains_as_before():
    torch.manual_seed(0)
    model = Language()
    twin = copy.deepcopy(model)
    convert(model, sparse=True)
    torch.testing.assert_close(trained(model), trained(twin))


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (nn.EmbeddingBag(4, 3, mode="max"), r"'1' has mode='max'"),
        (nn.Embedding(4, 3, scale_grad_by_freq=True), r"'1' has scale_grad_by_freq=True"),
        (Embedding(4, 3, scale_grad_by_freq=True), r"'1' has scale_grad_by_freq=True"),
    ],
)
def test_sparse_is_refused_before_anything_changes(table, told):
    model = nn.Sequential(nn.Embedding(4, 3), table)
    with pytest.raises(ValueError, match=told):
        convert(model, sparse=True)
    assert type(model[0]) is nn.Embedding
    assert model[0].sparse is False
    convert(model)
    assert isinstance(model[1], (Embedding, EmbeddingBag))


def test_a_model_without_tables_and_what_is_no_model():
    model = nn.Linear(3, 2)
    assert convert(model) is model
    with pytest.raises(TypeError, match=r"torch\.nn\.Module \(got dict\)"):
        convert({"weight": torch.ones(3)})


def test_converted_models_compile_copy_and_convert_again():
    torch._dynamo.reset()
    model = Language()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    expected = compiled(IDS, TOPICS)
    convert(model)
    torch.testing.assert_close(compiled(IDS, TOPICS), expected)
    twin = copy.deepcopy(model)
    assert type(twin.transformer.tokens) is catembed.Embedding
    assert twin.head.weight is twin.transformer.tokens.weight
    assert torch.equal(convert(twin)(IDS, TOPICS), model(IDS, TOPICS))
