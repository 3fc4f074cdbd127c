"""Exact mode around the step: what brings rows up to date, what must not, and what is refused."""

import copy
import gc
import pickle

import pytest
import torch
import torch.nn.functional as F

import catembed
from catembed import optim
from catembed.optim import exact


def lagging(make=optim.AdamW, *, rows=40, **options):
    """A layer with rows that lag, its optimiser, and the weight that it has once all are settled."""
    torch.manual_seed(0)
    layer = catembed.Embedding(rows, 3, sparse=True, name="fruit")
    optimizer = make(layer.parameters(), lr=0.05, weight_decay=0.1, untouched="exact", **options)
    train(layer, optimizer, 12)
    twin, other = copy_of(layer, optimizer)
    other.flush()
    assert not torch.equal(twin, raw(layer))
    return layer, optimizer, twin


def copy_of(layer, optimizer):
    """The state of affairs, lag included, in a layer of its own; returns its weight and its optimiser."""
    settler = exact.settler_of(layer.weight)
    weight = torch.nn.Parameter(raw(layer))
    other = type(optimizer)([weight], lr=0.05, untouched="exact")
    twin = exact.attach(other, settler.rule, weight, False)
    twin.now, twin.last, twin._known = settler.now, settler.last.clone(), settler._known
    twin._history, twin._state = settler._history.clone(), settler._state.clone()
    return weight.detach(), other


def raw(layer):
    """The weight as it lies in memory."""
    return layer.weight.detach().clone()


def train(layer, optimizer, steps, ids=None):
    for _ in range(steps):
        optimizer.zero_grad()
        rows = torch.randint(len(layer.weight), (3,)) if ids is None else ids
        layer(rows).sum().backward()
        optimizer.step()


RULES = [optim.AdamW, lambda params, **options: optim.SGD(params, momentum=0.9, **options)]


# What settles


@pytest.mark.parametrize("make", RULES)
@pytest.mark.parametrize(
    "act",
    [
        lambda layer, optimizer: optimizer.flush(),
        lambda layer, optimizer: optimizer.state_dict(),
        lambda layer, optimizer: optimizer.load_state_dict(optimizer.state_dict()),
        lambda layer, optimizer: pickle.dumps(optimizer),
        lambda layer, optimizer: copy.deepcopy(optimizer),
        lambda layer, optimizer: layer.eval(),
        lambda layer, optimizer: torch.nn.Sequential(layer).eval(),
        lambda layer, optimizer: layer.state_dict(),
        lambda layer, optimizer: torch.nn.Sequential(layer).state_dict(),
        lambda layer, optimizer: pickle.dumps(layer),
        lambda layer, optimizer: copy.deepcopy(layer),
        lambda layer, optimizer: layer.to(torch.float32),
        lambda layer, optimizer: layer.freeze_rows([1]),
        lambda layer, optimizer: layer.thaw_rows(),
    ],
)
def test_all_rows_are_settled_by(act, make):
    layer, optimizer, settled = lagging(make)
    act(layer, optimizer)
    assert torch.equal(raw(layer), settled)


def test_copies_hold_settled_rows():
    layer, _, settled = lagging()
    assert torch.equal(layer.state_dict()["weight"], settled)
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(copied.weight, settled)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("shape", [(), (2, 3), (0,)])
def test_lookup_in_training_settles_its_rows_alone(shape, grad):
    layer, _, settled = lagging()
    before = raw(layer)
    ids = torch.randint(10, shape)
    with torch.set_grad_enabled(grad):
        out = layer(ids)
    assert torch.equal(out.detach(), settled[ids])
    others = torch.ones(len(before), dtype=torch.bool)
    others[ids.flatten()] = False
    assert torch.equal(raw(layer)[others], before[others])


@pytest.mark.parametrize(
    "ids", [3, [3, 4], torch.tensor([3, 4], dtype=torch.uint8), torch.tensor([4], dtype=torch.int32)]
)
def test_lookup_settles_rows_of_any_kind_of_ids(ids):
    layer, _, settled = lagging()
    assert torch.equal(layer(ids).detach(), settled[torch.as_tensor(ids).long()])


def test_bags_settle_their_rows():
    layer, _, settled = lagging()
    bag = catembed.EmbeddingBag(40, 3, mode="sum", sparse=True, _weight=layer.weight)
    bag.weight = layer.weight
    out = bag(torch.tensor([1, 2, 30]), torch.tensor([0, 2]))
    torch.testing.assert_close(out.detach(), torch.stack([settled[1] + settled[2], settled[30]]))


def test_lookup_in_eval_mode_writes_nothing():
    layer, optimizer, _ = lagging()
    layer.eval()
    layer.weight.grad = None
    layer(torch.tensor([1])).sum().backward()
    optimizer.step()
    before = raw(layer)
    layer(torch.arange(40))
    assert torch.equal(raw(layer), before)


def test_ids_out_of_range_are_told_as_ever_and_settle_nothing():
    layer, _, _ = lagging()
    before = raw(layer)
    with pytest.raises(catembed.OutOfRangeError, match="in table 'fruit'"):
        layer(torch.tensor([1, 40]))
    assert torch.equal(raw(layer), before)


def test_lookup_inside_vmap_settles():
    layer, _, settled = lagging()
    out = torch.func.vmap(layer)(torch.tensor([[1, 2], [30, 4]]))
    assert torch.equal(out.detach(), settled[torch.tensor([[1, 2], [30, 4]])])


def test_loading_into_the_layer_keeps_what_is_loaded():
    layer, optimizer, _ = lagging()
    loaded = torch.randn(40, 3)
    layer.load_state_dict({"weight": loaded.clone()})
    optimizer.flush()
    assert torch.equal(raw(layer), loaded)


def test_version_rises_when_rows_were_moved_and_only_then():
    layer, _, _ = lagging()
    version = layer.weight._version
    layer(torch.arange(40))
    assert layer.weight._version > version
    version = layer.weight._version
    layer(torch.arange(40))
    assert layer.weight._version == version


def test_optimizer_that_is_gone_leaves_rows_to_settle():
    layer, optimizer, settled = lagging()
    del optimizer
    gc.collect()
    assert exact.settler_of(layer.weight).owner() is None
    assert torch.equal(layer(torch.tensor([5])).detach()[0], settled[5])
    layer.eval()
    assert torch.equal(raw(layer), settled)


def test_settler_ends_with_its_weight():
    before = len(exact._settlers)
    layer, optimizer, _ = lagging()
    assert len(exact._settlers) > before
    del layer, optimizer
    gc.collect()
    assert len(exact._settlers) <= before


# What goes on afterwards


@pytest.mark.parametrize("make", RULES)
def test_resumed_training_equals_uninterrupted(make):
    def build():
        torch.manual_seed(3)
        layer = catembed.Embedding(40, 3, sparse=True)
        return layer, make(layer.parameters(), lr=0.05, weight_decay=0.1, untouched="exact")

    straight, broken, (layer, optimizer) = build(), build(), build()
    torch.manual_seed(4)
    train(*straight, 30)
    torch.manual_seed(4)
    train(*broken, 15)
    layer.load_state_dict(broken[0].state_dict())
    optimizer.load_state_dict(pickle.loads(pickle.dumps(broken[1].state_dict())))
    train(layer, optimizer, 15)
    straight[1].flush()
    optimizer.flush()
    torch.testing.assert_close(layer.weight, straight[0].weight, rtol=1e-5, atol=1e-6)


def test_dense_state_loads_and_exact_state_loads_into_torch():
    torch.manual_seed(5)
    start = torch.randn(30, 3)
    dense = torch.nn.Parameter(start.double())
    layer = catembed.Embedding(30, 3, sparse=True, _weight=start.clone())
    theirs = torch.optim.AdamW([dense], lr=0.05)
    mine = optim.AdamW(layer.parameters(), lr=0.05, untouched="exact")

    def step(ids):
        theirs.zero_grad()
        mine.zero_grad()
        dense.grad = torch.zeros_like(dense).index_add_(0, ids, torch.ones(len(ids), 3).double())
        layer(ids).sum().backward()
        theirs.step()
        mine.step()

    def check():
        mine.flush()
        torch.testing.assert_close(layer.weight.detach().double(), dense.detach(), rtol=1e-5, atol=1e-6)

    for ids in torch.randint(30, (20, 2)):
        step(ids)
    check()
    mine.load_state_dict(copy.deepcopy(theirs.state_dict()))  # torch's optimisers share their steps on loading
    for ids in torch.randint(30, (20, 2)):
        step(ids)
    check()
    theirs.load_state_dict(copy.deepcopy(mine.state_dict()))
    for ids in torch.randint(30, (20, 2)):
        step(ids)
    check()


def test_from_exact_to_lazy_and_back():
    layer, optimizer, settled = lagging()
    optimizer.param_groups[0]["untouched"] = "lazy"
    train(layer, optimizer, 1, torch.tensor([0]))
    assert torch.equal(raw(layer)[1:], settled[1:])
    assert exact.settler_of(layer.weight) is None
    before = raw(layer)
    optimizer.param_groups[0]["untouched"] = "exact"
    train(layer, optimizer, 2, torch.tensor([0]))
    optimizer.flush()
    assert (raw(layer)[1:] != before[1:]).any(dim=1).all()  # decay reaches all


def test_rows_that_come_later_start_as_settled():
    layer, optimizer, _ = lagging()
    old = raw(layer)
    grown = torch.cat([old, torch.ones(5, 3)])
    layer.weight.grad = None
    layer.weight.data = torch.empty(0, dtype=torch.float64)
    layer.weight.data = grown
    layer.num_embeddings = 45
    assert torch.equal(layer(torch.tensor([42])).detach(), torch.ones(1, 3))
    train(layer, optimizer, 4, torch.tensor([1, 44]))
    optimizer.flush()
    decay = (1 - 0.05 * 0.1) ** 4
    torch.testing.assert_close(raw(layer)[40:44], torch.full((4, 3), decay))
    assert (raw(layer)[44] < 0.9).all()


# Frozen rows


@pytest.mark.parametrize("make", RULES)
def test_frozen_and_padding_rows_are_never_moved(make):
    torch.manual_seed(0)
    layer = catembed.Embedding(20, 3, padding_idx=7, sparse=True)
    optimizer = make(layer.parameters(), lr=0.05, weight_decay=0.1, untouched="exact")
    train(layer, optimizer, 10)
    layer.freeze_rows([1, 2])
    before = raw(layer)
    train(layer, optimizer, 10)
    train(layer, optimizer, 1, torch.tensor([1, 7, 8]))
    optimizer.flush()
    assert torch.equal(raw(layer)[[1, 2, 7]], before[[1, 2, 7]])
    assert (raw(layer)[[0, 3, 8]] != before[[0, 3, 8]]).any(dim=1).all()
    layer.thaw_rows([1])
    thawed = raw(layer)
    train(layer, optimizer, 1, torch.tensor([8]))
    optimizer.flush()
    assert torch.equal(raw(layer)[2], before[2])
    # One step's worth, not what was missed while frozen.
    step = (raw(layer)[1] - thawed[1]).abs()
    assert (step > 0).all()
    assert (step < 0.2).all()


# What is refused


def refused(layer, optimizer, match):
    """The step raises and changes nothing."""
    before = raw(layer), copy_state(optimizer)
    with pytest.raises(RuntimeError, match=match):
        optimizer.step()
    assert torch.equal(raw(layer), before[0])
    after = copy_state(optimizer)
    assert all(torch.equal(after[key], value) for key, value in before[1].items())


def copy_state(optimizer):
    return {
        (index, key): value.clone()
        for index, state in enumerate(optimizer.state.values())
        for key, value in state.items()
        if isinstance(value, torch.Tensor)
    }


def test_lookup_past_the_layer_is_noticed():
    layer, optimizer, _ = lagging()
    optimizer.zero_grad()
    row = int((exact.settler_of(layer.weight).last.abs() < 12).nonzero()[0])
    F.embedding(torch.tensor([row]), layer.weight, sparse=True).sum().backward()
    refused(layer, optimizer, rf"table 'fruit' were looked up before .*first is row {row}, .*catembed.convert")
    optimizer.flush()  # the remedy
    optimizer.zero_grad()
    F.embedding(torch.tensor([row]), layer.weight, sparse=True).sum().backward()
    optimizer.step()


def test_torch_layer_is_refused_at_its_second_step_not_trained_wrongly():
    layer = torch.nn.Embedding(10, 2, sparse=True)
    optimizer = optim.Adam(layer.parameters(), untouched="exact")
    train(layer, optimizer, 1, torch.tensor([1]))
    layer(torch.tensor([1, 2])).sum().backward()
    refused(layer, optimizer, "catembed.convert")


def test_torch_layer_needs_no_catching_up_where_rows_do_not_move():
    for make in (optim.SGD, optim.Adagrad):
        layer = torch.nn.Embedding(10, 2, sparse=True)
        train(layer, make(layer.parameters(), lr=0.1, untouched="exact"), 3)


def test_lookup_in_eval_mode_is_noticed_at_the_step():
    layer, optimizer, _ = lagging()
    layer.eval()
    optimizer.zero_grad()
    layer(torch.tensor([1])).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    layer(torch.tensor([1, 2])).sum().backward()
    refused(layer, optimizer, "in eval mode")


def test_backward_delayed_past_another_step_is_noticed():
    layer, optimizer, _ = lagging()
    late = layer(torch.tensor([2])).sum()
    train(layer, optimizer, 1, torch.tensor([1]))
    optimizer.zero_grad()
    late.backward()
    refused(layer, optimizer, "1 steps behind.*delayed past another step")


def test_other_parameters_are_untouched_when_one_is_refused():
    linear = torch.nn.Linear(3, 1)
    other = catembed.Embedding(10, 3, sparse=True)
    optimizer = optim.AdamW(
        [*linear.parameters(), *other.parameters(), torch.nn.Parameter(torch.ones(2))], untouched="exact"
    )
    for _ in range(2):
        optimizer.zero_grad()
        linear(other(torch.tensor([1]))).sum().backward()
        optimizer.step()
    optimizer.zero_grad()
    linear(F.embedding(torch.tensor([2]), other.weight, sparse=True)).sum().backward()
    before = [parameter.detach().clone() for parameter in linear.parameters()]
    refused(other, optimizer, "row 2")
    assert all(torch.equal(*pair) for pair in zip(linear.parameters(), before, strict=True))


def test_two_exact_optimizers_on_one_weight_are_refused():
    layer, optimizer, _ = lagging()
    second = optim.SGD(layer.parameters(), lr=0.1, momentum=0.9, untouched="exact")
    second.zero_grad()
    layer(torch.tensor([1])).sum().backward()
    refused(layer, second, "table 'fruit' is trained by two optimizers")
    del optimizer
    gc.collect()
    second.step()


# Tied weights


def test_tied_output_layer_equals_dense():
    torch.manual_seed(0)
    layer = catembed.Embedding(15, 3, sparse=True)
    dense = torch.nn.Parameter(layer.weight.detach().double())
    mine, theirs = optim.AdamW(layer.parameters(), lr=0.05, untouched="exact"), torch.optim.AdamW([dense], lr=0.05)
    for step in range(40):
        ids, tied = torch.randint(15, (2,)), step % 3 == 0
        if tied:
            mine.flush()  # the whole weight is about to be read
        mine.zero_grad()
        theirs.zero_grad()
        for weight, rows in ((layer.weight, layer(ids)), (dense, dense[ids])):
            (rows @ weight.T if tied else rows).square().sum().backward()
        mine.step()
        theirs.step()
    mine.flush()
    torch.testing.assert_close(layer.weight.detach().double(), dense.detach(), rtol=1e-4, atol=1e-5)


def test_dense_gradient_from_rows_that_lag_is_noticed():
    layer, optimizer, _ = lagging()
    optimizer.zero_grad()
    (layer(torch.tensor([1])) @ layer.weight.T).sum().backward()
    refused(layer, optimizer, r"call optimizer.flush\(\) before it")


def test_dense_gradient_of_settled_rows_alone_is_taken():
    layer, optimizer, settled = lagging()
    optimizer.zero_grad()
    gradient = torch.zeros(40, 3)
    layer(torch.tensor([4]))
    gradient[4] = 1
    layer.weight.grad = gradient
    optimizer.step()
    optimizer.flush()
    assert torch.isfinite(layer.weight).all()
    assert (raw(layer) != settled).any(dim=1).all()


# Elsewhere


def test_found_inf_step_does_not_count():
    layer, optimizer, _ = lagging()
    now = exact.settler_of(layer.weight).now
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for value, counted in ((float("inf"), 0), (1.0, 1)):
        optimizer.zero_grad()
        scaler.scale(layer(torch.tensor([1])).sum() * value).backward()
        scaler.step(optimizer)
        scaler.update()
        assert exact.settler_of(layer.weight).now == now + counted


def test_compiled_layer_settles():
    layer, _, settled = lagging()
    compiled = torch.compile(layer, backend="eager")
    assert torch.equal(compiled(torch.tensor([5, 6])).detach(), settled[5:7])


def test_without_exact_optimizer_graphs_stay_full():
    lagging()  # another table's
    layer = catembed.Embedding(5, 2, sparse=True)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    assert torch.equal(compiled(torch.tensor([3])), layer(torch.tensor([3])))
