"""What ``Embedding`` and ``EmbeddingBag`` both owe: to be torch's layer wherever torch's layer would have worked."""

import copy
import inspect
import io
import pickle

import pytest
import torch
from torch import nn

from catembed import Embedding, EmbeddingBag, OutOfRangeError

PAIRS = [(Embedding, nn.Embedding), (EmbeddingBag, nn.EmbeddingBag)]
both = pytest.mark.parametrize(("ours", "torchs"), PAIRS, ids=["Embedding", "EmbeddingBag"])
IDS = torch.tensor([[1, 3], [0, 1]])

# One argument each that changes what the layer is or does.
VARIANTS = [
    {},
    {"padding_idx": 1},
    {"padding_idx": -1},
    {"max_norm": 0.5},
    {"max_norm": 0.5, "norm_type": 1.0},
    {"scale_grad_by_freq": True},
    {"sparse": True},
    {"dtype": torch.float64},
    {"dtype": torch.bfloat16},
]


def seeded(cls, *args, **kwargs):
    torch.manual_seed(7)
    return cls(*args, **kwargs)


def step(layer, ids=IDS):
    """Output, gradient and weight after one forward and backward."""
    out = layer(ids)
    out.backward(torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape))
    return out, layer.weight.grad, layer.weight


def assert_same_bits(got, expected):
    for a, b in zip(got, expected, strict=True):
        assert (a.dtype, a.layout, a.shape, a.requires_grad) == (b.dtype, b.layout, b.shape, b.requires_grad)
        if a.layout == torch.sparse_coo:
            assert a.is_coalesced() == b.is_coalesced()
            assert_same_bits([a._indices(), a._values()], [b._indices(), b._values()])
        else:
            assert torch.equal(a, b)


@both
def test_every_argument_of_torch_is_taken_in_torchs_order(ours, torchs):
    for method in ("__init__", "from_pretrained", "forward"):
        mine = inspect.signature(getattr(ours, method)).parameters
        theirs = inspect.signature(getattr(torchs, method)).parameters
        added = ["name"] if method != "forward" else ["lengths", "mask"] if ours is EmbeddingBag else []
        assert list(mine) == [*theirs, *added]
        assert [p.default for p in mine.values()][: len(theirs)] == [p.default for p in theirs.values()]
    assert inspect.signature(ours).parameters["name"].kind is inspect.Parameter.KEYWORD_ONLY


@both
@pytest.mark.parametrize("kwargs", VARIANTS, ids=repr)
def test_same_seed_same_weights_same_step(ours, torchs, kwargs):
    mine, theirs = seeded(ours, 4, 3, **kwargs), seeded(torchs, 4, 3, **kwargs)
    assert torch.equal(mine.weight, theirs.weight)
    (out, grad, weight), expected = step(mine), step(theirs)
    if ours is EmbeddingBag and grad.is_sparse:  # summed already
        assert_same_bits([grad.coalesce()], [expected[1].coalesce()])
        grad = expected[1]
    assert_same_bits([out, grad, weight], expected)
    mine, theirs = (layer.requires_grad_(False) for layer in (mine, theirs))
    assert_same_bits([mine(IDS)], [theirs(IDS)])


@both
@pytest.mark.parametrize("padding_idx", [4, -5, 100])
def test_a_padding_idx_outside_the_table_is_an_assertion_error(ours, torchs, padding_idx):
    for cls in (torchs, ours):
        with pytest.raises(AssertionError, match="must be within num_embeddings"):
            cls(4, 3, padding_idx=padding_idx)


@both
def test_a_weight_of_another_shape_is_an_assertion_error(ours, torchs):
    for cls in (torchs, ours):
        with pytest.raises(AssertionError, match="Shape of weight does not match"):
            cls(4, 3, _weight=torch.ones(3, 4))


@both
def test_the_given_weight_is_used_not_copied(ours, torchs):
    w = torch.randn(4, 3)
    layer = ours(4, 3, _weight=w)
    assert layer.weight.data_ptr() == w.data_ptr()
    assert layer.weight.requires_grad
    w[1] = 9.0
    assert torch.equal(layer.weight[1], torch.full((3,), 9.0))


@both
@pytest.mark.parametrize("freeze", [True, False])
def test_from_pretrained(ours, torchs, freeze):
    w = torch.randn(4, 3)
    kwargs = {"freeze": freeze, "padding_idx": 2, "max_norm": 1.0, "norm_type": 1.0, "sparse": True}
    mine, theirs = ours.from_pretrained(w.clone(), name="fruit", **kwargs), torchs.from_pretrained(w.clone(), **kwargs)
    assert type(mine) is ours
    assert mine.name == "fruit"
    assert {k: v for k, v in vars(mine).items() if k not in ("name", "_parameters")} == {
        k: v for k, v in vars(theirs).items() if k != "_parameters"
    }
    assert_same_bits([mine.weight, mine(IDS), mine.weight], [theirs.weight, theirs(IDS), theirs.weight])
    with pytest.raises(AssertionError, match="2-dimensional"):
        ours.from_pretrained(torch.ones(3))


@both
def test_repr_is_torchs_and_the_name(ours, torchs):
    kwargs = {"padding_idx": 1, "max_norm": 2.0, "norm_type": 3.0, "scale_grad_by_freq": True}
    assert repr(ours(4, 3)) == repr(torchs(4, 3))
    assert repr(ours(4, 3, **kwargs)) == repr(torchs(4, 3, **kwargs))
    assert repr(ours(4, 3, name="fruit")) == repr(torchs(4, 3))[:-1] + ", name='fruit')"


@both
def test_state_dicts_go_both_ways(ours, torchs):
    mine, theirs = seeded(ours, 4, 3, name="fruit"), torchs(4, 3)
    assert list(mine.state_dict()) == list(theirs.state_dict()) == ["weight"]
    theirs.load_state_dict(mine.state_dict())
    assert torch.equal(theirs.weight, mine.weight)
    third = ours(4, 3)
    parameter = third.weight
    third.load_state_dict(theirs.state_dict())
    assert torch.equal(third.weight, mine.weight)
    assert third.weight is parameter
    with pytest.raises(RuntimeError, match="size mismatch"):
        ours(5, 3).load_state_dict(theirs.state_dict())


def copies(layer):
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    yield copy.deepcopy(layer)
    yield pickle.loads(pickle.dumps(layer))
    yield torch.load(buffer, weights_only=False)


@both
def test_copies_are_equal_and_independent(ours, torchs):
    layer = seeded(ours, 4, 3, padding_idx=1, sparse=True, name="fruit").eval()
    for twin in copies(layer):
        assert type(twin) is ours
        assert repr(twin) == repr(layer)
        assert not twin.training
        assert torch.equal(twin(IDS), layer(IDS))
        with torch.no_grad():
            twin.weight.fill_(0)
        assert layer.weight.count_nonzero() == 9


@both
def test_a_pickle_without_a_name_still_works(ours, torchs):
    layer = ours(4, 3)
    state = layer.__getstate__().copy()
    del state["name"]  # as any pickle of torch's own layer, or one made before names
    old = ours.__new__(ours)
    old.__setstate__(state)
    assert old.name is None
    assert torch.equal(old(IDS), layer(IDS))
    with pytest.raises(OutOfRangeError, match="the table"):
        old([[4]])


@both
def test_moves_of_dtype_and_device(ours, torchs):
    layer = ours(4, 3, name="fruit")
    assert layer.double()(IDS).dtype == torch.float64
    assert layer.to(torch.bfloat16)(IDS).dtype == torch.bfloat16
    layer = layer.to("meta")
    assert layer(IDS.to("meta")).device.type == "meta"
    assert layer([[0, 1]]).device.type == "meta"  # a list follows the table
    back = layer.to_empty(device="cpu")
    back.reset_parameters()
    assert torch.isfinite(back(IDS)).all()
    assert back.name == "fruit"


@both
@pytest.mark.parametrize(("rows", "width"), [(0, 3), (4, 0), (0, 0)])
def test_empty_tables(ours, torchs, rows, width):
    mine, theirs = ours(rows, width), torchs(rows, width)
    assert repr(mine) == repr(theirs)
    assert mine.weight.shape == (rows, width)
    with pytest.raises(OutOfRangeError, match=rf"{rows} at \[0, 0\]"):
        mine([[rows]])
    none = torch.zeros(0, 2, dtype=torch.int64)
    assert_same_bits(step(mine, none), step(theirs, none))
    if rows:
        rows_out = mine(torch.arange(4).repeat(50, 2))  # torch's bag raises here on more than one thread
        assert rows_out.shape == ((50, 8, 0) if ours is Embedding else (50, 0))
        rows_out.sum().backward()
        assert mine.weight.grad.shape == (4, 0)


@both
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(ours, torchs, dtype):
    mine, theirs = seeded(ours, 4, 3), seeded(torchs, 4, 3)
    with torch.autocast("cpu", dtype=dtype):
        assert_same_bits([mine(IDS)], [theirs(IDS)])


@both
def test_compile_in_one_graph(ours, torchs):
    torch._dynamo.reset()
    layer = ours(4, 3)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    for ids in (IDS, IDS.int(), IDS.to(torch.uint8), IDS.to(torch.uint64), IDS.tolist(), torch.tensor([[2]])):
        assert torch.equal(compiled(ids), layer(ids))
    expected = step(copy.deepcopy(layer))
    assert_same_bits([*step(compiled)[:1], layer.weight.grad], expected[:2])


@both
@pytest.mark.parametrize("strict", [False, True])
def test_export(ours, torchs, strict):
    layer = ours(4, 3)
    shapes = {"input": {0: torch.export.Dim("rows", max=100)}}
    program = torch.export.export(layer, (IDS,), dynamic_shapes=shapes, strict=strict)
    ids = torch.tensor([[3, 3], [0, 1], [2, 0]])
    assert torch.equal(program.module()(ids), layer(ids))


@both
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_fx_trace_and_jit_trace(ours, torchs):
    model = nn.Sequential(ours(4, 3), nn.Linear(3, 2))
    assert torch.equal(torch.fx.symbolic_trace(model)(IDS), model(IDS))
    assert torch.equal(torch.jit.trace(model, (IDS,))(IDS.flip(0)), model(IDS.flip(0)))


@both
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_functional_transforms(ours, torchs):
    layer = ours(4, 3)
    weights = torch.randn(2, 4, 3)

    def call(weight, ids):
        return torch.func.functional_call(layer, {"weight": weight}, (ids,))

    each = torch.stack([call(w, IDS) for w in weights])
    assert torch.equal(torch.func.vmap(call, (0, None))(weights, IDS), each)
    many = torch.stack([IDS, IDS.flip(0)])
    torch.testing.assert_close(torch.func.vmap(layer)(many), torch.stack([layer(ids) for ids in many]))
    gradient = torch.func.grad(lambda w: call(w, IDS).square().sum())(weights[0])
    w = weights[0].clone().requires_grad_()
    call(w, IDS).square().sum().backward()
    assert torch.equal(gradient, w.grad)
    with pytest.raises((IndexError, RuntimeError), match=r"index out of range in self|not in the valid range"):
        torch.func.vmap(layer)(many + 2)  # torch's own refusal: ids cannot be read inside vmap


@both
def test_hooks_and_subclasses(ours, torchs):
    class Doubled(ours):
        def forward(self, *args):
            return 2 * super().forward(*args)

    layer, seen = Doubled(4, 3, name="fruit"), []
    layer.register_forward_hook(lambda module, args, out: seen.append(out))
    plain = torchs(4, 3, _weight=layer.weight.detach())
    assert torch.equal(layer(IDS), 2 * plain(IDS))
    assert len(seen) == 1
    with pytest.raises(OutOfRangeError, match="table 'fruit'"):
        layer([[4]])
