import torch

from catembed import Vocabulary
from catembed.tabular.bags import Bags
from catembed.tabular.columns import Columns


def test_vectors_lie_side_by_side_and_a_shared_vocabulary_is_one_table():
    airports, tags = Vocabulary(["JFK", "SFO"]), Vocabulary(["x", "y", "z"])
    columns = Columns.of({"origin": airports, "dest": airports, "via": airports, "tags": tags}, int, num_lists=2)
    bags = Bags.of(torch.tensor([0, 1, 1]), torch.tensor([2, 1])), Bags.of(torch.tensor([2]), torch.tensor([0, 1]))
    out = columns(torch.tensor([[0, 1], [1, 1]]), bags)
    airport, tag = columns.weights()
    assert columns.layers()["origin"] is columns.layers()["via"]
    assert (list(columns.layers()), columns.width) == (["origin", "dest", "via", "tags"], 9)
    expected = [
        torch.cat([airport[0], airport[1], airport.mean(0), torch.zeros(3)]),
        torch.cat([airport[1], airport[1], airport[1], tag[2]]),
    ]
    torch.testing.assert_close(out, torch.stack(expected))
    out.sum().backward()
    assert airport.grad is not None
    assert airport.grad[:, 0].tolist() == [1.5, 4.5]  # once as origin, half of a list; the rest


def test_lists_alone_and_nothing_at_all():
    tags = Vocabulary(["x", "y"])
    bags = Bags.of(torch.tensor([0, 1]), torch.tensor([2, 0]))
    none = torch.empty((2, 0), dtype=torch.int64)
    columns = Columns.of({"tags": tags}, int, num_lists=1, pooling="sqrtn")
    (weight,) = columns.weights()
    torch.testing.assert_close(columns(none, [bags]), torch.stack([weight.sum(0) / 2**0.5, torch.zeros(2)]))
    assert Columns.of({}, int)(none, []).shape == (2, 0)
