"""`append_rows`: the layer that gains rows, its ties, its copies and files, and what is refused."""

import copy
import io
import pickle

import pytest
import torch

import catembed
from catembed import optim
from catembed.nn.growth import append_rows


def table(rows=4, columns=3, **kwargs):
    torch.manual_seed(0)
    return catembed.Embedding(rows, columns, name="fruit", **kwargs)


def rows_like(layer, count, value=1.0):
    return torch.full((count, *layer.weight.shape[1:]), value, dtype=layer.weight.dtype)


def dense(grad):
    return grad.to_dense() if grad.is_sparse else grad


def touched(layer):
    """The sum of gradients of each row, which are all ones times a factor."""
    assert layer.weight.grad.shape == layer.weight.shape
    return dense(layer.weight.grad)[:, 0].tolist()


# The layer itself


@pytest.mark.parametrize("kind", [catembed.Embedding, catembed.EmbeddingBag])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_the_weight_gains_the_rows_and_stays_itself(kind, dtype):
    layer = kind(4, 3, dtype=dtype)
    weight, before = layer.weight, layer.weight.detach().clone()
    fresh = torch.randn(2, 3).to(dtype)
    append_rows(layer, fresh)
    assert layer.weight is weight
    assert weight.requires_grad
    assert weight.is_leaf
    assert torch.equal(weight, torch.cat([before, fresh]))
    assert layer.num_embeddings == 6
    assert torch.equal(layer([[5]]).flatten(), fresh[1])
    with pytest.raises(IndexError, match=r"allowed are \[0, 6\)"):
        layer([[6]])


def test_no_rows_change_nothing():
    layer = table()
    version = layer.weight._version
    append_rows(layer, rows_like(layer, 0))
    assert (layer.num_embeddings, layer.weight._version) == (4, version)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_table_that_starts_small(rows):
    layer = table(rows)
    append_rows(layer, rows_like(layer, 2))
    layer(torch.tensor([rows + 1])).sum().backward()
    assert touched(layer) == [0.0] * (rows + 1) + [1.0]


def test_memory_is_amortised():
    """From 1 MB on the weight and all state lie where they lay, whatever the steps."""
    layer = table(5000, 64, sparse=True)
    optimizer = optim.Adam(layer.parameters(), lr=0.1, untouched="exact")
    places, settlers = [], []
    for step in range(100):
        append_rows(layer, rows_like(layer, 37, step))
        ids = torch.tensor([step, len(layer.weight) - 1])
        layer(ids).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        state = optimizer.state[layer.weight]
        places.append((layer.weight.data_ptr(), state["exp_avg"].data_ptr(), state["exp_avg_sq"].data_ptr()))
        assert state["exp_avg"].shape == layer.weight.shape
        settlers.append(len(optim.exact.settler_of(layer.weight).last))
    assert len(set(places)) == 1
    assert settlers[-1] == len(layer.weight) == 5000 + 3700
    optimizer.flush()
    assert (layer.weight[5000 + 37 * 50 : 5000 + 37 * 50 + 36] == 50).all()


def test_a_given_tensor_does_not_grow():
    given = torch.zeros(4, 3)
    layer = catembed.Embedding(4, 3, _weight=given)
    append_rows(layer, rows_like(layer, 1))
    assert given.shape == (4, 3)


def test_rows_of_the_table_itself_may_be_added():
    layer = table(4096, 64)  # 1 MB
    for _ in range(3):
        append_rows(layer, layer.weight[-2:])
    assert torch.equal(layer.weight[-2:], layer.weight[4094:4096])


# Frozen rows, padding, ties


def test_frozen_rows_and_padding_stay_and_new_rows_are_free():
    layer = table(6, sparse=True, padding_idx=-1)
    layer.freeze_rows([0])
    optimizer = optim.Adam(layer.parameters(), lr=0.1)

    def moved(ids):
        before = layer.weight.detach().clone()
        optimizer.zero_grad()
        layer(torch.tensor(ids)).sum().backward()
        optimizer.step()
        return (layer.weight != before).any(dim=1).nonzero().flatten().tolist()

    assert moved(list(range(6))) == [1, 2, 3, 4]
    append_rows(layer, rows_like(layer, 2))
    assert layer.padding_idx == 5
    assert moved(list(range(8))) == [1, 2, 3, 4, 6, 7]
    layer.freeze_rows([7])
    append_rows(layer, rows_like(layer, 1))
    assert moved(list(range(9))) == [1, 2, 3, 4, 6, 8]
    layer.thaw_rows()
    assert moved(list(range(9))) == [0, 1, 2, 3, 4, 6, 7, 8]


def test_masks_that_follow_a_growing_table_are_not_made_anew():
    layer = table(1 << 21, 1, sparse=True)
    layer.freeze_rows([1, 5])
    record = optim.registry.table_of(layer.weight)
    place = record.frozen(layer.weight).data_ptr()
    for rows in range(1, 20):
        append_rows(layer, rows_like(layer, 1))
        mask = record.frozen(layer.weight)
        assert (mask.data_ptr(), len(mask), int(mask.sum())) == (place, (1 << 21) + rows, 2)


def test_tied_layers_all_know():
    layer = table(sparse=True)
    twin = catembed.Embedding(4, 3, sparse=True)
    bag = catembed.EmbeddingBag(4, 3, mode="sum", sparse=True)
    twin.weight = bag.weight = layer.weight
    head = torch.nn.Linear(3, 4, bias=False)
    head.weight = layer.weight
    append_rows(twin, rows_like(layer, 1))
    assert [each.num_embeddings for each in (layer, twin, bag)] == [5, 5, 5]
    (layer([4]).sum() + twin([4]).sum() + bag([[4, 4]]).sum()).backward()
    assert touched(layer) == [0, 0, 0, 0, 4]
    assert head(torch.ones(3)).shape == (5,)


def test_a_weight_that_is_not_trained():
    layer = table().requires_grad_(False)
    append_rows(layer, rows_like(layer, 2))
    assert not layer.weight.requires_grad
    assert not layer(torch.tensor([5])).requires_grad
    layer.requires_grad_(True)
    layer(torch.tensor([5])).sum().backward()
    assert touched(layer) == [0, 0, 0, 0, 0, 1]


def test_a_weight_frozen_between_its_lookup_and_its_backward():
    layer = table()
    loss = layer(torch.tensor([0])).sum()
    layer.requires_grad_(False)
    append_rows(layer, rows_like(layer, 1))
    layer.requires_grad_(True)
    loss.backward(retain_graph=True)
    assert touched(layer) == [1, 0, 0, 0, 0]
    layer.requires_grad_(False)
    loss.backward()
    assert touched(layer) == [1, 0, 0, 0, 0]


def test_integer_weights():
    layer = catembed.Embedding(2, 3, _weight=torch.arange(6, dtype=torch.int8).view(2, 3), _freeze=True)
    append_rows(layer, torch.full((1, 3), 7, dtype=torch.int8))
    assert layer([2]).tolist() == [[7, 7, 7]]


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_growing_in_any_grad_mode_leaves_a_weight_to_train(context):
    layer = table(sparse=True)
    with context():
        append_rows(layer, rows_like(layer, 1))
        layer([4])
    assert layer.weight.requires_grad
    assert not layer.weight.is_inference()
    layer(torch.tensor([4])).sum().backward()
    assert touched(layer) == [0, 0, 0, 0, 1]
    append_rows(layer, rows_like(layer, 1))


def test_rows_with_a_graph_are_taken_by_value():
    layer = table()
    append_rows(layer, torch.ones(1, 3, requires_grad=True) * 2)
    assert layer.weight.is_leaf
    assert layer.weight[4].tolist() == [2, 2, 2]


# Copies and files


def through_file(layer):
    file = io.BytesIO()
    torch.save(layer, file)
    assert file.tell() < layer.weight.nbytes + 20_000
    file.seek(0)
    return torch.load(file, weights_only=False)


def through_pickle(layer):
    octets = pickle.dumps(layer)
    assert len(octets) < layer.weight.nbytes + 20_000
    return pickle.loads(octets)


def through_state_dict(layer):
    twin = catembed.Embedding(layer.num_embeddings, layer.embedding_dim, sparse=layer.sparse)
    twin.load_state_dict(layer.state_dict())
    return twin


@pytest.mark.parametrize("copied", [copy.deepcopy, through_file, through_pickle, through_state_dict])
def test_copies_hold_the_visible_rows_and_grow_on_their_own(copied):
    layer = table(4096, 64, sparse=True)
    append_rows(layer, rows_like(layer, 3))
    twin = copied(layer)
    assert twin.weight.untyped_storage().nbytes() == twin.weight.nbytes
    assert torch.equal(twin.weight, layer.weight)
    append_rows(twin, rows_like(twin, 1, 5.0))
    append_rows(layer, rows_like(layer, 1, 6.0))
    assert (twin.weight[-1].eq(5).all(), layer.weight[-1].eq(6).all()) == (True, True)
    twin(torch.tensor([4099])).sum().backward()
    assert twin.weight.grad.shape == (4100, 64)
    assert twin.num_embeddings == 4100


def test_a_table_from_a_file_grows_and_the_file_stays(tmp_path):
    path = tmp_path / "fruit.safetensors"
    catembed.save(path, table(5000, 64, sparse=True))
    octets = path.read_bytes()
    layer = catembed.load(path)
    optimizer = optim.SGD(layer.parameters(), lr=1.0)
    for _ in range(3):
        append_rows(layer, rows_like(layer, 2))
        layer(torch.tensor([0, len(layer.weight) - 1])).sum().backward()
        optimizer.step()
    assert path.read_bytes() == octets
    catembed.save(path, layer)
    assert torch.equal(catembed.load(path).weight, layer.weight)


# Compiled


@pytest.mark.parametrize("dynamic", [None, False])
def test_a_compiled_layer_is_right_after_each_growth(dynamic):
    torch._dynamo.reset()
    layer = table(sparse=False)
    compiled = torch.compile(layer, backend="aot_eager", dynamic=dynamic)
    for rows in range(4, 8):
        layer.zero_grad()
        ids = torch.tensor([0, rows - 1])
        out = compiled(ids)
        assert torch.equal(out, layer.weight[ids])
        append_rows(layer, rows_like(layer, 1, rows))
        later = compiled(torch.tensor([rows]))
        assert later.tolist() == [[rows] * 3]
        (out.sum() + later.sum()).backward()
        assert touched(layer) == [1] + [0] * (rows - 2) + [1, 1]


# What is refused


def refused(layer, fresh, error, match):
    before = layer.weight, layer.num_embeddings, tuple(layer.weight.shape)
    with pytest.raises(error, match=match):
        append_rows(layer, fresh)
    assert (layer.weight, layer.num_embeddings, tuple(layer.weight.shape)) == before


def test_rows_that_do_not_fit():
    layer = table()
    refused(layer, torch.ones(2, 4), ValueError, r"table 'fruit' have shape \(n, 3\) \(got \(2, 4\)\)")
    refused(layer, torch.ones(3), ValueError, r"got \(3,\)")
    refused(layer, torch.ones(2, 3).double(), TypeError, "table 'fruit' are torch.float32 as it is .got torch.float64")
    refused(layer, torch.ones(2, 3, device="meta"), RuntimeError, "rows to add to table 'fruit' are on the meta device")


def test_a_weight_on_the_meta_device():
    layer = table(device="meta")
    refused(layer, torch.ones(1, 3), RuntimeError, "table 'fruit' is on the meta device .* to_empty")


def test_a_weight_made_in_inference_mode():
    with torch.inference_mode():
        layer = table()
        refused(layer, torch.ones(1, 3), RuntimeError, "table 'fruit' was made in inference mode")
    refused(layer, torch.ones(1, 3), RuntimeError, "table 'fruit' was made in inference mode")


def test_a_weight_shared_with_other_processes():
    layer = table().share_memory()
    refused(layer, torch.ones(1, 3), RuntimeError, "table 'fruit' is shared with other processes")


def test_a_weight_that_is_no_parameter():
    layer = table()
    torch.nn.utils.parametrizations.weight_norm(layer)
    with pytest.raises(TypeError, match="table 'fruit' is parametrized"):
        append_rows(layer, torch.ones(1, 3))


class Sharded(torch.Tensor):
    """A stand-in for DTensor and its like: a tensor that is not all there is."""


def test_a_weight_of_another_kind():
    layer = table()
    layer.weight = torch.nn.Parameter(torch.ones(4, 3).as_subclass(Sharded))
    refused(layer, torch.ones(1, 3), TypeError, "table 'fruit' is a Sharded")


def test_a_weight_swapped_for_a_call():
    layer = table()

    class Growing(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = layer

        def forward(self):
            append_rows(self.inner, torch.ones(1, 3))

    with pytest.raises(TypeError, match="table 'fruit' is a Tensor"):
        torch.func.functional_call(Growing(), {"inner.weight": torch.ones(4, 3)}, ())
    assert layer.weight.shape == (4, 3)


def test_a_failure_leaves_the_table_as_it_was(monkeypatch):
    layer = table(4096, 64, sparse=True)
    loss = layer(torch.tensor([0])).sum()

    def fail(*args):
        raise MemoryError("full")

    with monkeypatch.context() as patch:
        patch.setattr(catembed.storage, "grow_rows", fail)
        refused(layer, rows_like(layer, 1), MemoryError, "full")
    append_rows(layer, rows_like(layer, 1))
    loss.backward()
    assert layer.weight.grad._indices().tolist() == [[0]]
