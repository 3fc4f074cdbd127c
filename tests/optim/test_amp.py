"""Loss scaling: `GradScaler` with dense and row gradients, with and without `unscale_`, and steps that are skipped."""

import pytest
import torch

import catembed
from catembed import optim

ALL = [optim.SGD, optim.Adagrad, optim.RowwiseAdagrad, optim.Adam, optim.AdamW]


def model_and_twin():
    torch.manual_seed(0)
    model = torch.nn.Sequential(catembed.Embedding(20, 4, sparse=True), torch.nn.Linear(4, 1))
    twin = torch.nn.Sequential(catembed.Embedding(20, 4, sparse=True), torch.nn.Linear(4, 1))
    twin.load_state_dict(model.state_dict())
    return model, twin


def optimizer_of(make, model, **kwargs):
    return make(model.parameters(), lr=0.1, **kwargs, **({"momentum": 0.9} if make is optim.SGD else {}))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("unscale", [False, True])
@pytest.mark.parametrize("make", ALL)
def test_a_scaled_loss_trains_as_an_unscaled_one(make, unscale, fused):
    model, twin = model_and_twin()
    scaled, plain = optimizer_of(make, model, fused=fused), optimizer_of(make, twin, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for _ in range(5):
        ids = torch.randint(0, 20, (8,))
        scaled.zero_grad()
        scaler.scale(model(ids).square().sum()).backward()
        if unscale:
            scaler.unscale_(scaled)
            optim.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(scaled)
        scaler.update()
        plain.zero_grad()
        twin(ids).square().sum().backward()
        if unscale:
            optim.clip_grad_norm_(twin.parameters(), 1.0)
        plain.step()
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, other)  # a power of two scales without rounding
    assert scaler.get_scale() == 2.0**10
    assert not hasattr(scaled, "grad_scale")


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("where", ["rows", "dense"])
@pytest.mark.parametrize("make", ALL)
def test_a_gradient_that_is_not_finite_skips_the_whole_step(make, where, fused):
    model, _ = model_and_twin()
    optimizer = optimizer_of(make, model, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)

    def step(spoil):
        optimizer.zero_grad()
        scaler.scale(model(torch.tensor([1, 2])).square().sum()).backward()
        if spoil:
            grad = model[0].weight.grad._values() if where == "rows" else model[1].bias.grad
            grad.view(-1)[0] = float("inf")
        scaler.step(optimizer)
        scaler.update()

    def everything():
        state = [v for entry in optimizer.state.values() for v in entry.values() if isinstance(v, torch.Tensor)]
        return [t.detach().clone() for t in [*model.parameters(), *state]]

    step(spoil=False)
    before = everything()
    step(spoil=True)
    assert all(torch.equal(one, other) for one, other in zip(before, everything(), strict=True))
    assert scaler.get_scale() == 2.0
    step(spoil=False)
    assert not any(torch.equal(one, other) for one, other in zip(before[:3], everything(), strict=False))


def test_float16_weights_train_with_scaler_step_alone():
    layer = catembed.Embedding(20, 4, sparse=True, dtype=torch.float16)
    twin = catembed.Embedding(20, 4, sparse=True, _weight=layer.weight.detach().float())
    half, full = optim.Adam(layer.parameters(), lr=0.01), optim.Adam(twin.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    for _ in range(10):
        ids = torch.tensor([3, 4, 3])
        half.zero_grad()
        scaler.scale(layer(ids).float().square().sum()).backward()
        scaler.step(half)
        scaler.update()
        full.zero_grad()
        twin(ids).square().sum().backward()
        full.step()
    # Ten updates of 0.01, each rounded to float16: half a unit in the last place, 2^-11, of numbers up to 4.
    torch.testing.assert_close(layer.weight.float(), twin.weight, rtol=0, atol=10 * 2**-10)


def test_an_empty_row_gradient_passes_the_scaler():
    layer = catembed.Embedding(4, 2, sparse=True)
    optimizer = optim.Adam(layer.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = layer.weight.detach().clone()
    scaler.scale(layer(torch.zeros(0, dtype=torch.int64)).sum()).backward()
    scaler.step(optimizer)
    assert torch.equal(layer.weight, before)
    assert optimizer.state[layer.weight]["step"] == 1
