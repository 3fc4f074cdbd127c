"""Profilers and hooks see every step, though nothing is done for them while there are none."""

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from catembed import Embedding, optim


@pytest.fixture
def trained():
    layer = Embedding(5, 3, sparse=True)
    optimizer = optim.Adam(layer.parameters())

    def train():
        optimizer.zero_grad()
        layer([1, 2]).sum().backward()
        optimizer.step()

    return optimizer, train


def test_a_profiler_finds_torchs_ranges(trained):
    _, train = trained
    train()
    with torch.profiler.profile() as profile:
        train()
    names = {event.key for event in profile.key_averages()}
    assert {"Optimizer.step#Adam.step", "Optimizer.zero_grad#Adam.zero_grad"} <= names


@pytest.mark.parametrize("everywhere", [False, True])
def test_hooks_run_once_around_each_step(trained, everywhere):
    optimizer, train = trained
    train()
    calls = []

    def note(kind):
        return lambda *_: calls.append(kind)

    if everywhere:
        handles = [register_optimizer_step_pre_hook(note("pre")), register_optimizer_step_post_hook(note("post"))]
    else:
        handles = [optimizer.register_step_pre_hook(note("pre")), optimizer.register_step_post_hook(note("post"))]
    train()
    assert calls == ["pre", "post"]
    for handle in handles:
        handle.remove()
    train()
    assert calls == ["pre", "post"]


def test_zero_grad_forgets_or_zeroes(trained):
    optimizer, train = trained
    train()
    (weight,) = optimizer.param_groups[0]["params"]
    optimizer.zero_grad(set_to_none=False)
    assert weight.grad is not None
    assert not weight.grad.to_dense().any()
    optimizer.zero_grad()
    assert weight.grad is None
