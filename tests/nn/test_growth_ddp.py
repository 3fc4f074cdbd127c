"""Growth under DistributedDataParallel is refused, and only there."""

import pytest
import torch

import catembed
from catembed.nn.growth import append_rows

Wrapper = torch.nn.parallel.DistributedDataParallel


pytestmark = pytest.mark.usefixtures("one_process_group")


class Growing(torch.nn.Module):
    """Adds a row before it looks one up."""

    def __init__(self, trained=True):
        super().__init__()
        self.table = catembed.Embedding(4, 3, name="fruit", sparse=True).requires_grad_(trained)
        self.head = torch.nn.Linear(3, 1)

    def forward(self):
        append_rows(self.table, torch.ones(1, 3))
        return self.head(self.table(torch.tensor([4])))


@pytest.mark.parametrize("trained", [True, False])
def test_in_a_forward(trained):
    module = Growing(trained)
    with pytest.raises(RuntimeError, match="table 'fruit': DistributedDataParallel replicates it"):
        Wrapper(module)()
    assert module.table.weight.shape == (4, 3)


def test_in_the_forward_of_another_model():
    """Which holds neither the weight nor its accumulator."""
    other = Growing()

    class Outer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 1)

        def forward(self):
            return self.layer(other().flatten().expand(3))

    assert Wrapper(Outer())().shape == (1,)
    assert other.table.num_embeddings == 5


class Sub(Wrapper):
    pass


@pytest.mark.parametrize("kind", [Wrapper, Sub])
def test_between_two_forwards(kind):
    module = Growing()
    wrapper = kind(module)
    with pytest.raises(RuntimeError, match="table 'fruit': DistributedDataParallel replicates it"):
        append_rows(module.table, torch.ones(1, 3))
    del wrapper
    append_rows(module.table, torch.ones(1, 3))
    assert kind(torch.nn.Sequential(module.table))(torch.tensor([4])).shape == (1, 3)


def test_a_graph_alone_is_no_wrapper():
    module = Growing()
    module().sum().backward()
    loss = module().sum()
    append_rows(module.table, torch.ones(1, 3))
    loss.backward()
    assert module.table.num_embeddings == 7
