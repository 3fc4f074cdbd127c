import itertools

import pytest
import torch

from catembed import Vocabulary
from catembed.tabular.bags import Bags
from catembed.tabular.columns import Columns
from catembed.tabular.factorisation import DIMENSION, DeepFM, FactorisationMachine
from catembed.tabular.model import Inputs


def rows() -> Inputs:
    bags = Bags.of(torch.tensor([0, 1, 1]), torch.tensor([2, 1, 0]))
    return Inputs(
        torch.tensor([[0, 1], [1, 2], [1, 0]]), (bags,), torch.tensor([[0.5], [-2.0], [0.0]]), torch.empty(3, 0)
    )


def columns(pooling: str = "sqrtn") -> Columns:
    vocabularies = {"a": Vocabulary(["x", "y"]), "b": Vocabulary(["p", "q", "r"]), "tags": Vocabulary(["s", "t"])}
    return Columns.of(vocabularies, lambda rows: DIMENSION, 1, pooling)


def machine(kind: type, outputs: int):
    torch.manual_seed(0)
    model = kind(columns(), 1, outputs)
    with torch.no_grad():
        for each in model.parameters():
            each.normal_()
    return model.eval()


def fields(model: FactorisationMachine, inputs: Inputs, row: int) -> tuple[list, list]:
    """The weights and vectors of a row's features, one after the other, as the paper writes them."""
    starts, tables = model.linear.starts, model.columns.weights()
    weights = [model.linear.weights.weight[start + at] for start, at in zip(starts, inputs.ids[row], strict=False)]
    vectors = [table[at] for table, at in zip(tables, inputs.ids[row], strict=False)]
    bags = inputs.bags[0]
    members = bags.values[bags.offsets[bags.rows[row]] : bags.offsets[bags.rows[row] + 1]]
    root = max(1, len(members)) ** 0.5
    weights.append(model.linear.weights.weight[starts[2] + members].sum(0) / root)
    vectors.append(tables[2][members].sum(0) / root)
    number = inputs.numbers[row, 0]
    return [*weights, number * model.linear.numbers[0]], [*vectors, number * model.numbers[0]]


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_factorisation_machine_is_the_papers_sum_over_pairs(outputs):
    model, inputs = machine(FactorisationMachine, outputs), rows()
    for row, found in enumerate(model(inputs)[0]):
        weights, vectors = fields(model, inputs, row)
        factors = sum(one * other for one, other in itertools.combinations(vectors, 2))
        pairs = factors.sum() if model.classes is None else model.classes(factors)
        torch.testing.assert_close(found, model.linear.bias + sum(weights) + pairs, rtol=1e-5, atol=1e-4)


def test_deepfm_is_that_plus_a_network_on_the_same_vectors():
    model, inputs = machine(DeepFM, 1), rows()
    vectors = model.columns(inputs.ids, inputs.bags)
    deep = model.deep(torch.cat([vectors, inputs.numbers], 1))
    torch.testing.assert_close(model(inputs)[0], FactorisationMachine.forward(model, inputs)[0] + deep)
    assert not torch.equal(deep, torch.zeros_like(deep))


def test_all_that_is_looked_up_is_penalised_and_the_network_is_not():
    model = machine(DeepFM, 3)
    tables = {id(each) for each in model.tables()}
    names = {name for name, each in model.named_parameters() if id(each) not in tables}
    assert {name.split(".")[0] for name in names} == {"deep", "classes", "linear"}
    assert [name for name in names if name.startswith("linear")] == ["linear.bias"]
