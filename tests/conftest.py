"""What tests of several folders need."""

import multiprocessing

import pytest
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore


@pytest.fixture
def in_forked_child():
    """Call a function in a forked child; what it returns there. A child that hangs fails the test, not the run."""

    def call(function):
        receiver, sender = multiprocessing.Pipe(duplex=False)
        child = multiprocessing.get_context("fork").Process(target=lambda: sender.send(function()))
        child.start()
        try:
            assert receiver.poll(60), "the child hangs"
            return receiver.recv()
        finally:
            child.kill()
            child.join()

    return call


@pytest.fixture
def one_process_group():
    """A process group of this process alone, without threads.

    Gloo's threads may wait for the interpreter's lock while torch, holding it, waits for them to end: a test that ends
    its group soon after a collective can hang for good.
    """
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()
