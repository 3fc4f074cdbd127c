"""How fast ``catembed fit`` trains, beside the loop that people write: ``python -m benchmarks.fit_speed``.

The same network on the same flights with the same batch size, one epoch a turn, in turn: rows per second of

- ours: ``tabular.training.train``, which ``fit`` calls, with all that it does besides (schedule, validation of 1,024
  rows, hiding of rare categories, reports);
- plain: ``TensorDataset`` and ``DataLoader(batch_size, shuffle=True)``, an ``nn.Embedding`` for each column,
  ``torch.optim.AdamW`` as it comes;
- plain, by hand: the same without a ``DataLoader``: the rows of a batch are taken from the tensors by index, and
  AdamW is fused.

Target encodings, where the model has them, are made before, for all. Writes ``benchmarks/results/fit_speed.csv``.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.flights import late, split
from benchmarks.harness import environment, interleave, write_results
from catembed.tabular import target_encoding
from catembed.tabular.encoding import Encoder
from catembed.tabular.factorisation import DIMENSION
from catembed.tabular.model import Inputs, dimensions
from catembed.tabular.models import kind
from catembed.tabular.objective import Objective
from catembed.tabular.schema import classify
from catembed.tabular.training import train
from examples.flights import COLUMNS, TARGET

ROWS = 131_072
BATCH = 2048  # what ``fit`` takes for all the flights
MODELS = ("mlp", "fm", "deepfm")


def perceptron(width: int, layers: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for _ in range(layers):
        parts += [nn.Linear(width, 128), nn.ReLU(), nn.Dropout(0.3)]
        width = 128
    return nn.Sequential(*parts, nn.Linear(width, 1))


class Plain(nn.Module):
    """The three networks as one writes them in torch."""

    def __init__(self, model: str, sizes: Sequence[int], encoded: int) -> None:
        super().__init__()
        dims = [dimensions(size) if model == "mlp" else DIMENSION for size in sizes]
        self.model = model
        self.tables = nn.ModuleList(nn.Embedding(size, dim) for size, dim in zip(sizes, dims, strict=True))
        if model == "mlp":
            self.dropout = nn.Dropout(0.1)
            self.first, self.second = perceptron(sum(dims) + encoded, 2), perceptron(sum(dims), 1)
        else:
            self.weights = nn.ModuleList(nn.Embedding(size, 1) for size in sizes)
            self.bias = nn.Parameter(torch.zeros(1))
            self.deep = perceptron(sum(dims), 2) if model == "deepfm" else None

    def forward(self, ids: Tensor, encoded: Tensor) -> list[Tensor]:  # noqa: D102
        vectors = [table(ids[:, column]) for column, table in enumerate(self.tables)]
        if self.model == "mlp":
            row = torch.cat([self.dropout(each) for each in vectors], 1)
            return [self.first(torch.cat([row, encoded], 1)), self.second(row)]
        stacked = torch.stack(vectors, 1)
        pairs = (stacked.sum(1) ** 2 - (stacked**2).sum(1)).sum(1, keepdim=True) / 2
        out = self.bias + pairs + sum(table(ids[:, column]) for column, table in enumerate(self.weights))
        return [out if self.deep is None else out + self.deep(torch.cat(vectors, 1))]


def plain(model: Plain, rows: Inputs, targets: Tensor, objective: Objective, *, by_hand: bool) -> Callable[[], None]:
    """One epoch of a loop in torch."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2, fused=True if by_hand else None)
    loader = DataLoader(TensorDataset(rows.ids, rows.encoded, targets), BATCH, shuffle=True)

    def step(ids: Tensor, encoded: Tensor, known: Tensor) -> None:
        loss = torch.stack([objective.loss(each, known) for each in model(ids, encoded)]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def epoch() -> None:
        model.train()
        if not by_hand:
            for batch in loader:
                step(*batch)
            return
        for chosen in torch.randperm(len(targets)).split(BATCH):
            step(rows.ids[chosen], rows.encoded[chosen], targets[chosen])

    return epoch


def contenders(name: str) -> dict[str, Callable[[], object]]:
    table = split()[0].slice(0, ROWS)
    encoder = Encoder.fit(classify(table, TARGET.split()[0], categorical=COLUMNS).features, table)
    encoded, chosen = encoder.encode(table), kind(name)
    known = late(table).astype(np.int64)
    objective = Objective.fit("binary", [False, True], known)
    sizes = [len(each) for each in encoder.vocabularies.values()]
    most = target_encoding.most_inputs(ROWS) if chosen.encodes else 0
    averaged = objective.averaged(known)
    encoding, own = target_encoding.fit(encoded.ids, sizes, averaged, most=most, logits=True, seed=0)
    rows, targets = Inputs(encoded.ids, (), encoded.numbers, own), objective.targets(known)
    ours = chosen.build(chosen.columns(encoder.vocabularies, 0), 0, encoding.num_inputs, 1)
    recipe = type(chosen.recipe)(**vars(chosen.recipe) | {"epochs": 1, "batch_size": BATCH})
    few = torch.arange(1024)
    data = rows, targets, rows.take(few), targets[few]
    counts, generator = encoder.counts(encoded), torch.Generator().manual_seed(0)
    networks = [Plain(name, sizes, encoding.num_inputs) for _ in range(2)]
    return {
        "catembed": lambda: train(ours, objective, recipe, *data, counts=counts, generator=generator),
        "plain: DataLoader, nn.Embedding, AdamW": plain(networks[0], rows, targets, objective, by_hand=False),
        "plain, by hand: tensors by index, fused AdamW": plain(networks[1], rows, targets, objective, by_hand=True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=40)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    about, found = environment(), []
    for model in MODELS:
        times = interleave(contenders(model), seconds=given.seconds, warmup=1)
        ours = times["catembed"]
        for name, each in times.items():
            ratios = [other / own for own, other in zip(ours, each, strict=True)]
            low, ratio, high = statistics.quantiles(ratios, n=4)
            speed = ROWS / statistics.median(each)
            found.append(
                {
                    "model": model,
                    "loop": name,
                    "rows_per_second": f"{speed:.0f}",
                    "ours_is_faster_by": f"{ratio:.2f}",
                    "quartiles": f"{low:.2f} – {high:.2f}",
                    **about,
                }
            )
            print(f"{model:7} {name:46} {speed:>9,.0f} rows/s  ×{ratio:.2f}  ({low:.2f} – {high:.2f})", flush=True)
    print(f"written to {write_results('fit_speed', found)}")


if __name__ == "__main__":
    main()
