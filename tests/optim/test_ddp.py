"""DistributedDataParallel over gloo with row gradients: two processes equal one with the joined batch."""

import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import catembed
from catembed import optim

MAKERS = {
    "sgd": lambda params: optim.SGD(params, lr=0.1),
    "rowwise": lambda params: optim.RowwiseAdagrad(params, lr=0.1),
    "adam": lambda params: optim.Adam(params, lr=0.1),
    "adamw_exact": lambda params: optim.AdamW(params, lr=0.1, untouched="exact"),
}


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        catembed.Embedding(30, 4, sparse=True, dtype=torch.float64), torch.nn.Linear(4, 1, dtype=torch.float64)
    )


def batches():
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 30, (8,), generator=generator) for _ in range(5)]


def train(module, optimizer, ids_of):
    for ids in batches():
        optimizer.zero_grad()
        module(ids_of(ids)).square().mean().backward()
        optimizer.step()
    optimizer.flush()


def worker(rank, store, results):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    for case, make in MAKERS.items():
        module = model()
        wrapped = torch.nn.parallel.DistributedDataParallel(module)
        train(wrapped, make(wrapped.parameters()), lambda ids: ids.chunk(2)[rank])
        torch.save(module.state_dict(), f"{results}/{case}-{rank}")
    dist.barrier()
    # Not by destroy_process_group(): torch would wait, holding the interpreter's lock, for gloo's threads to end, which
    # may wait for that lock.
    os._exit(0)


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ddp")
    mp.spawn(worker, args=(folder / "store", folder), nprocs=2)
    return folder


@pytest.mark.parametrize("case", MAKERS)
def test_two_processes_equal_one(case, two_processes):
    module = model()
    train(module, MAKERS[case](module.parameters()), lambda ids: ids)
    for rank in range(2):
        for name, value in torch.load(two_processes / f"{case}-{rank}").items():
            torch.testing.assert_close(value, module.state_dict()[name], rtol=1e-9, atol=1e-10)
