"""torch's own optimiser cases (`OptimizerInfo`) run on ours: sparse, dense bit for bit, and the errors."""

import warnings

import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.testing._internal.common_optimizers import (
    OptimizerErrorEnum,
    OptimizerInfo,
    OptimizerInput,
    optim_db,
)

from catembed import optim

TORCHS = {info.optim_cls: info for info in optim_db}


def info_of(ours, torchs, sparse):
    """torch's entry for its optimiser, for ours in its place, with the sparse cases of ``sparse``."""
    entry, cases = TORCHS[torchs], TORCHS[sparse]
    return OptimizerInfo(
        ours,
        optim_inputs_func=entry.optim_inputs_func,
        scheduler_inputs=entry.scheduler_inputs,
        supported_impls=entry.supported_impls,
        supports_sparse=True,
        metadata_for_sparse=cases.metadata_for_sparse,
        has_capturable_arg=entry.has_capturable_arg,
        optim_error_inputs_func=entry.optim_error_inputs_func,
        supports_fused_on=entry.supports_fused_on,
    )


T = torch.optim
OURS = {
    "SGD": (info_of(optim.SGD, T.SGD, T.SGD), T.SGD, T.SGD),
    "Adagrad": (info_of(optim.Adagrad, T.Adagrad, T.Adagrad), T.Adagrad, T.Adagrad),
    "RowwiseAdagrad": (info_of(optim.RowwiseAdagrad, T.Adagrad, T.Adagrad), T.Adagrad, None),
    "Adam": (info_of(optim.Adam, T.Adam, T.SparseAdam), T.Adam, T.SparseAdam),
    "AdamW": (info_of(optim.AdamW, T.AdamW, T.SparseAdam), T.AdamW, None),
}


@pytest.fixture(params=OURS)
def case(request):
    return OURS[request.param]


def rosenbrock(params):
    x, y = params.tolist()
    return 100 * (y - x**2) ** 2 + (1 - x) ** 2


def rosenbrock_sparse_grad(params, which, sign):
    """One of the two entries of the gradient of Rosenbrock's function, as a sparse gradient with a duplicate index."""
    x, y = params.detach().tolist()
    slope = sign * (-400 * x * (y - x**2) - 2 * (1 - x), 200 * (y - x**2))[which]
    values = torch.tensor([slope / 4, slope - slope / 4], dtype=params.dtype)
    return torch.sparse_coo_tensor([[which, which]], values, (2,))


def descend(make, kwargs, schedulers, steps=200):
    """The path of torch's sparse Rosenbrock test."""
    params = torch.nn.Parameter(torch.tensor([1.5, 1.5], dtype=torch.float64))
    optimizer = make([params], **kwargs)
    schedules = [constructor(optimizer) for constructor in schedulers]
    path = [params.detach().clone()]
    for index in range(steps):
        params.grad = rosenbrock_sparse_grad(params, index % 2, -1 if kwargs["maximize"] else 1)
        optimizer.step()
        for schedule in schedules:
            schedule.step(*([float(index)] if isinstance(schedule, ReduceLROnPlateau) else []))
        path.append(params.detach().clone())
    return torch.stack(path)


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("scheduled", [False, True])
def test_sparse_rosenbrock(case, scheduled, maximize):
    info, _, sparse = case
    kwargs, schedulers = info.metadata_for_sparse
    schedulers = (schedulers or [lambda opt: torch.optim.lr_scheduler.StepLR(opt, 50, 0.5)]) if scheduled else []
    kwargs = {**kwargs, "maximize": maximize}
    path = descend(info.optim_cls, kwargs, schedulers)
    if sparse is not None:
        torch.testing.assert_close(path, descend(sparse, kwargs, schedulers), rtol=1e-9, atol=1e-12)
    assert rosenbrock(path[-1]) < rosenbrock(path[0]) / 2


def train(make, inputs, steps=4):
    """A small model with dense gradients, seeded; all its values and all state after some steps."""
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Linear(5, 2))
    optimizer = make(model.parameters(), **inputs.kwargs)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(7, 4)).square().sum().backward()
        optimizer.step()
    state = [value for entry in optimizer.state.values() for value in entry.values() if value is not None]
    return [param.detach() for param in model.parameters()] + [torch.as_tensor(value) for value in state]


def test_dense_parameters_get_what_torch_gives(case):
    info, dense, _ = case
    assert {"foreach", "fused"} <= set(info.supported_impls)
    flags = ({}, {"foreach": True}, {"foreach": False}, {"fused": True})
    inputs = [
        OptimizerInput(None, given.kwargs | flag, given.desc)
        for given in info.optim_inputs_func("cpu")
        for flag in flags
        if not (flag.get("foreach") and isinstance(given.kwargs.get("lr"), torch.Tensor))
    ]
    for each in inputs:
        for ours, theirs in zip(train(info.optim_cls, each), train(dense, each), strict=True):
            assert torch.equal(ours, theirs), each


def test_arguments_that_torch_refuses_are_refused(case):
    info, _, _ = case
    errors = [e for e in info.optim_error_inputs_func("cpu", torch.float32) if "cuda" not in e.error_regex]
    at_construction = [e for e in errors if e.error_on is OptimizerErrorEnum.CONSTRUCTION_ERROR]
    assert at_construction
    for error in at_construction:
        given = error.optimizer_error_input  # some of them warn
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(error.error_type, match=error.error_regex):
                info.optim_cls(given.params, **given.kwargs)
