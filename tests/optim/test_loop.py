"""The training loop stays PyTorch's: closures, hooks, schedules, accumulation, compiled models, wrappers."""

import pytest
import torch

import catembed
from catembed import optim

ALL = [optim.SGD, optim.Adagrad, optim.RowwiseAdagrad, optim.Adam, optim.AdamW]


class Model(torch.nn.Module):
    """One table used by two features, and a dense layer."""

    def __init__(self, sparse=True):
        super().__init__()
        torch.manual_seed(0)
        self.table = catembed.Embedding(30, 4, sparse=sparse)
        self.out = torch.nn.Linear(8, 1)

    def forward(self, one, two):
        return self.out(torch.cat([self.table(one), self.table(two)], dim=1))


def batch(seed, count=10):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 30, (2, count), generator=generator).unbind()


def run(model, optimizer, steps=4, after=lambda: None):
    for seed in range(steps):
        optimizer.zero_grad()
        model(*batch(seed)).square().sum().backward()
        optimizer.step()
        after()


def assert_same(one, other, **tolerance):
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, **tolerance)


@pytest.mark.parametrize("make", ALL)
def test_a_closure_runs_once_with_gradients_and_gives_its_loss(make):
    model, twin = Model(), Model()
    mine, plain = make(model.parameters(), lr=0.1), make(twin.parameters(), lr=0.1)
    calls = []

    def closure():
        assert torch.is_grad_enabled()
        calls.append(1)
        mine.zero_grad()
        loss = model(*batch(0)).square().sum()
        loss.backward()
        return loss

    loss = mine.step(closure)
    assert len(calls) == 1
    run(twin, plain, steps=1)
    assert loss == Model()(*batch(0)).square().sum()
    assert_same(model, twin, rtol=0, atol=0)


@pytest.mark.parametrize("make", ALL)
def test_hooks_run_once_and_the_profiler_sees_one_step(make):
    torch.optim.SGD([torch.zeros(1)]).step()  # torch's classes carry their own hooks once used
    getattr(torch.optim, make.__name__, torch.optim.Adagrad)([torch.zeros(1)]).step()
    model = Model()
    optimizer = make(model.parameters(), lr=0.1)
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("pre"))
    optimizer.register_step_post_hook(lambda *_: seen.append("post"))
    with torch.profiler.profile() as profile:
        run(model, optimizer, steps=1)
    assert seen == ["pre", "post"]
    assert [e.count for e in profile.key_averages() if e.key == f"Optimizer.step#{make.__name__}.step"] == [1]


def test_gradients_are_back_in_their_place_also_after_a_failure():
    model = Model()
    optimizer = optim.Adam(model.parameters())
    model(*batch(0)).sum().backward()
    grads = [param.grad for param in model.parameters()]
    optimizer.step()
    assert all(param.grad is grad for param, grad in zip(model.parameters(), grads, strict=True))
    optimizer.param_groups[0]["betas"] = None  # torch's own half of the step fails
    with pytest.raises(TypeError):
        optimizer.step()
    assert all(param.grad is grad for param, grad in zip(model.parameters(), grads, strict=True))


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize(
    "schedule",
    [
        lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=10, cycle_momentum=False),
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5),
    ],
    ids=["OneCycleLR", "CosineAnnealingLR"],
)
@pytest.mark.parametrize("tensor", [False, True])
def test_schedules_reach_rows_and_dense_parameters_alike(make, schedule, tensor):
    """Every row, one number wide, is touched at each step: row gradients and dense ones must lead to the same."""
    kwargs = {"eps": 1e-12} if make in (optim.Adam, optim.AdamW) else {}
    models = [catembed.Embedding(5, 1, sparse=sparse, dtype=torch.float64) for sparse in (True, False)]
    models[1].load_state_dict(models[0].state_dict())
    for model in models:
        optimizer = make(model.parameters(), lr=torch.tensor(0.1) if tensor else 0.1, **kwargs)
        scheduler = schedule(optimizer)
        for _ in range(8):
            optimizer.zero_grad()
            (model(torch.arange(5)) - 1).square().sum().backward()
            optimizer.step()
            scheduler.step()
    torch.testing.assert_close(models[0].weight, models[1].weight, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("make", ALL)
def test_accumulated_gradients_are_those_of_the_joined_batch(make):
    model, twin = Model(), Model()
    mine, plain = make(model.parameters(), lr=0.1), make(twin.parameters(), lr=0.1)
    for seed in range(3):
        one, two = batch(seed), batch(seed + 100)
        mine.zero_grad()
        model(*one).square().sum().backward()
        model(*two).square().sum().backward()
        mine.step()
        plain.zero_grad()
        twin(torch.cat([one[0], two[0]]), torch.cat([one[1], two[1]])).square().sum().backward()
        plain.step()
    # Sums in another order, then Adam's division by the gradient's own size.
    assert_same(model, twin, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("make", ALL)
def test_an_empty_batch_moves_no_row_and_counts_as_a_step(make, set_to_none):
    layer = catembed.Embedding(4, 2, sparse=True)
    optimizer = make(layer.parameters(), lr=0.1)
    layer(torch.tensor([1])).sum().backward()
    optimizer.step()
    weight = layer.weight.detach().clone()
    optimizer.zero_grad(set_to_none=set_to_none)
    layer(torch.zeros(0, dtype=torch.int64)).sum().backward()
    assert layer.weight.grad._nnz() == 0
    optimizer.step()
    assert torch.equal(layer.weight, weight)
    if make is not optim.SGD:
        assert optimizer.state[layer.weight]["step"] == 2
    optimizer.zero_grad(set_to_none=set_to_none)
    layer(torch.tensor([2])).sum().backward()
    optimizer.step()
    assert (layer.weight != weight).any(dim=1).tolist() == [False, False, True, False]


@pytest.mark.parametrize("make", ALL)
def test_torchs_own_sparse_layers_train_as_ours_do(make):
    model, twin = Model(), Model()
    twin.table = torch.nn.Embedding(30, 4, sparse=True, _weight=model.table.weight.detach().clone())
    run(model, make(model.parameters(), lr=0.1))
    run(twin, make(twin.parameters(), lr=0.1))
    assert_same(model, twin, rtol=0, atol=0)


@pytest.mark.parametrize("untouched", ["lazy", "exact"])
def test_a_compiled_model_trains_as_an_eager_one(untouched):
    model, twin = Model(), Model()
    compiled = torch.compile(model, backend="aot_eager")
    mine, plain = optim.Adam(model.parameters(), untouched=untouched), optim.Adam(twin.parameters())
    if untouched == "exact":
        plain = optim.Adam(twin.parameters(), untouched="exact")
    run(compiled, mine)
    run(twin, plain)
    mine.flush()
    plain.flush()
    assert_same(model, twin)


def test_a_compiled_step_is_the_eager_step():
    model, twin = Model(), Model()
    mine, plain = optim.Adam(model.parameters()), optim.Adam(twin.parameters())
    step = torch.compile(lambda: mine.step(), backend="eager")
    for seed in range(3):
        for each, optimizer in ((model, mine), (twin, plain)):
            optimizer.zero_grad()
            each(*batch(seed)).square().sum().backward()
        step()
        plain.step()
    assert_same(model, twin, rtol=0, atol=0)


class Wrapped(torch.optim.Optimizer):
    """As accelerate's `AcceleratedOptimizer`: another optimiser inside, everything handed on."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    state = property(lambda self: self.optimizer.state)
    param_groups = property(lambda self: self.optimizer.param_groups)
    defaults = property(lambda self: self.optimizer.defaults)

    def zero_grad(self, set_to_none=True):
        self.optimizer.zero_grad(set_to_none)

    def step(self, closure=None):
        return self.optimizer.step(closure)


def test_a_wrapped_optimizer_steps_and_is_scheduled():
    model, twin = Model(), Model()
    mine, plain = optim.AdamW(model.parameters(), lr=0.1), optim.AdamW(twin.parameters(), lr=0.1)
    wrapped = Wrapped(mine)
    schedules = [torch.optim.lr_scheduler.StepLR(each, 2) for each in (mine, plain)]
    run(model, wrapped, after=schedules[0].step)
    run(twin, plain, after=schedules[1].step)
    assert_same(model, twin, rtol=0, atol=0)


def test_two_threads_train_two_models():
    import threading

    models = [Model() for _ in range(3)]
    run(models[2], optim.Adam(models[2].parameters()), steps=30)
    threads = [
        threading.Thread(target=run, args=(model, optim.Adam(model.parameters())), kwargs={"steps": 30})
        for model in models[:2]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_same(models[0], models[2], rtol=0, atol=0)
    assert_same(models[1], models[2], rtol=0, atol=0)
