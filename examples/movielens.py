"""Who likes which film: a factorisation machine on MovieLens 100k, and the films that are alike by its vectors.

Run as ``python -m examples.movielens``. The data (943 users, 1,682 films, 100,000 ratings from 1 to 5; Harper & Konstan
2015) come in the package recbole, whose files are read by path: ``pip install --no-deps recbole==1.2.1``.

A rating is predicted from the user, the film, its genres, the films that the user has rated, and the users who have
rated the film: the last two as lists, which say who is where and nothing of how they rated. Lists are made of the rows
that are learned from alone. The films that are alike come from a second model, without genres and raters, in which all
that is known of a film is its own vector.
"""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pyarrow import csv

from catembed import tabular

SEEDS = (0, 1, 2)
FILMS = ("Alien (1979)", "Toy Story (1995)", "Star Wars (1977)", "Pulp Fiction (1994)", "Sense and Sensibility (1995)")
FIT: dict[str, Any] = {
    "model": "fm",
    "categorical": ("user", "film"),
    "lists": ("genres",),
    "separator": " ",
    "share": [("film", "rated")],
}
VECTORS: dict[str, Any] = {"lists": (), "ignore": ("genres", "raters")}  # for films alike
_HELD_OUT = 10  # one of so many training rows decides when to stop
_SHRINK = 5.0  # of the baseline's biases, in ratings


def ratings() -> pa.Table:
    """User, film, the film's genres and the rating, of every rating."""
    given, films = _read("inter"), _read("item")
    names = pc.binary_join_element_wise(films["movie_title"], " (", films["release_year"], ")", "")
    seen = pc.value_counts(names)
    several = seen.field("values").filter(pc.greater(seen.field("counts"), 1))
    numbered = pc.binary_join_element_wise(names, " #", films["item_id"], "")
    names = pc.if_else(pc.is_in(names, several), numbered, names)
    place = pc.index_in(given["item_id"], films["item_id"])
    return pa.table(
        {
            "user": given["user_id"],
            "film": names.take(place),
            "genres": films["class"].take(place),
            "rating": given["rating"].cast(pa.float32()),
        }
    )


def _read(part: str) -> pa.Table:
    package = importlib.util.find_spec("recbole")
    if package is None or not package.submodule_search_locations:
        sys.exit("the ratings come with a package: pip install --no-deps recbole==1.2.1")
    path = Path(package.submodule_search_locations[0], "dataset_example", "ml-100k", f"ml-100k.{part}")
    text = {name: pa.string() for name in ("user_id:token", "item_id:token", "release_year:token")}
    table = csv.read_csv(
        path,
        parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
        convert_options=csv.ConvertOptions(column_types=text),
    )
    return table.rename_columns([name.split(":")[0] for name in table.column_names])


def split(table: pa.Table, seed: int) -> tuple[pa.Table, pa.Table]:
    """80 % to learn from, 20 % to be judged on, at random."""
    order = np.random.default_rng(seed).permutation(table.num_rows)
    cut = int(0.8 * table.num_rows)
    return table.take(order[:cut]), table.take(order[cut:])


def with_lists(table: pa.Table, known: pa.Table) -> pa.Table:
    """The rows with two lists: what their user has rated, and who has rated their film, among the ``known`` rows."""
    return table.append_column("rated", _listed(table, known, "user", "film")).append_column(
        "raters", _listed(table, known, "film", "user")
    )


def _listed(table: pa.Table, known: pa.Table, of: str, members: str) -> pa.Array:
    groups = known.group_by(of).aggregate([(members, "list")])
    lists = groups[f"{members}_list"].combine_chunks()
    coded = lists.values.dictionary_encode()  # texts are kept once, however many lists they are in
    lists = pa.ListArray.from_arrays(lists.offsets, coded)
    return pc.fill_null(lists.take(pc.index_in(table[of], groups[of]).combine_chunks()), pa.scalar([], lists.type))


def fit(train: pa.Table, seed: int, **settings: Any) -> tuple[tabular.Fitted, pa.Table]:
    """The model of the training rows, and the rows that its lists are made of: nine tenths of them."""
    held = np.arange(train.num_rows) % _HELD_OUT == 0
    known, rest = train.filter(pa.array(~held)), train.filter(pa.array(held))
    rows, valid = with_lists(known, known), with_lists(rest, known)
    return tabular.fit(rows, "rating", valid=valid, seed=seed, **(FIT | settings)), known


def rmse(predicted: np.ndarray, test: pa.Table) -> float:
    """The root of the mean squared error; predictions outside the scale are put at its ends."""
    return float(np.sqrt(np.mean((predicted.clip(1, 5) - test["rating"].to_numpy()) ** 2)))


def additive(train: pa.Table, test: pa.Table, sweeps: int = 20) -> np.ndarray:
    """The baseline: the mean, a bias of the user and a bias of the film, shrunk towards 0."""
    users, films = (pc.unique(train[name]) for name in ("user", "film"))
    user, film = (_places(train[name], known) for name, known in (("user", users), ("film", films)))
    rating = train["rating"].to_numpy().astype(float)
    mean, of_user, of_film = rating.mean(), np.zeros(len(users) + 1), np.zeros(len(films) + 1)
    for _ in range(sweeps):
        for biases, place, other in ((of_user, user, of_film[film]), (of_film, film, of_user[user])):
            rest = other if place is film else of_film[film]
            sums = np.bincount(place, rating - mean - rest, len(biases))
            biases[:] = sums / (np.bincount(place, minlength=len(biases)) + _SHRINK)
    return mean + of_user[_places(test["user"], users)] + of_film[_places(test["film"], films)]


def _places(column: pa.ChunkedArray, known: pa.Array) -> np.ndarray:
    """Where each value is among the known ones; behind them where it is not."""
    return pc.fill_null(pc.index_in(column, known), len(known)).to_numpy()


def alike(fitted: tabular.Fitted, known: pa.Table, film: str, number: int = 5, fewest: int = 50) -> list[str]:
    """The films with the vectors nearest to that of ``film``, among those with so many ratings at least."""
    layer = fitted.layers["film"]
    vocabulary = layer.vocabulary
    vectors = torch.nn.functional.normalize(layer.embedding.weight.detach(), dim=1)
    own = int(vocabulary.encode(film))
    cosines = vectors @ vectors[own]
    cosines[: vocabulary.num_reserved] = cosines[own] = -torch.inf
    counts = pc.value_counts(known["film"])
    often = set(counts.field("values").filter(pc.greater_equal(counts.field("counts"), fewest)).to_pylist())
    nearest = (vocabulary.decode(at) for at in cosines.argsort(descending=True).tolist() if cosines[at] > -1)
    return [each for each in nearest if each in often][:number]


def main() -> None:
    table = ratings()
    figures, baselines = [], []
    for seed in SEEDS:
        train, test = split(table, seed)
        fitted, known = fit(train, seed)
        predicted = fitted.predict(with_lists(test, known))["prediction"].to_numpy()
        figures.append(rmse(predicted, test))
        baselines.append(rmse(additive(train, test), test))
        print(f"seed {seed}: RMSE {figures[-1]:.4f}, mean and biases alone {baselines[-1]:.4f}", flush=True)
    print(f"mean of {len(SEEDS)}: RMSE {np.mean(figures):.4f}, mean and biases alone {np.mean(baselines):.4f}\n")
    fitted, known = fit(table, 0, **VECTORS)
    for film in FILMS:
        print(f"{film}: {', '.join(alike(fitted, known, film))}")


if __name__ == "__main__":
    main()
