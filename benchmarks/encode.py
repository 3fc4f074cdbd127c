"""Encoding a column against a vocabulary, ours beside every rival: ``python -m benchmarks.encode`` (about 6 minutes).

Every contender gives the int64 ids of the same values, checked before they are timed. What a rival can keep between
calls (pandas' hash table, polars' frame, scikit-learn's fitted encoder) is made before. Each is timed in three ways:
batch after batch, for 20 ms at a turn; one batch at a turn, after all the others have been at work ("between"), so that
nothing is left in the caches; and made and called once ("cold"). Keras takes part where it is installed. Writes
``benchmarks/results/encode.csv``.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import torch
from sklearn.preprocessing import OrdinalEncoder

from benchmarks.encode_files import opening
from benchmarks.harness import environment, interleave, summary, write_results
from catembed import Vocabulary

CATEGORIES, BATCH = 1_000_000, 65_536
TURN = 0.02  # seconds
Encode = Callable[[Any], Any]


class Contender:
    """Something that encodes: how it is made from the categories, and in what form it takes a column."""

    def __init__(self, name: str, make: Callable[[Any], Encode], column: Callable[[list[Any]], Any]) -> None:
        self.name, self.make, self.column = name, make, column


def with_vocabulary(categories: list[Any]) -> Encode:
    return Vocabulary(categories).encode


def with_dict(categories: list[Any]) -> Encode:
    ids = dict(zip(categories, range(len(categories)), strict=True))
    return lambda column: np.fromiter(map(ids.__getitem__, column), np.int64, len(column))


def with_pandas(categories: list[Any]) -> Encode:
    index = pd.Index(categories)
    return lambda column: index.get_indexer(column)


def with_pandas_categorical(categories: list[Any]) -> Encode:
    index = pd.Index(categories)
    return lambda column: index.get_indexer(column.cat.categories)[column.cat.codes]


def with_join(categories: list[Any]) -> Encode:
    frame = pl.DataFrame({"value": pl.Series(categories), "id": np.arange(len(categories))})
    return lambda column: (
        pl.DataFrame({"value": column}).join(frame, on="value", how="left", maintain_order="left")["id"].to_numpy()
    )


def with_enum(categories: list[Any]) -> Encode:
    enum = pl.Enum(categories)
    return lambda column: column.cast(enum).to_physical().to_numpy().astype(np.int64)


def with_index_in(categories: list[Any]) -> Encode:
    options = pc.SetLookupOptions(pa.array(categories))
    return lambda column: pc.call_function("index_in", [column], options).to_numpy().astype(np.int64)


def with_ordinal_encoder(categories: list[Any]) -> Encode:
    order = np.argsort(np.array(categories, object))  # it knows only sorted categories
    encoder = OrdinalEncoder(categories=[np.array(categories, object)[order]], dtype=np.int64)
    encoder.fit([[categories[0]]])
    return lambda column: order[encoder.transform(column)[:, 0]]


def with_keras(categories: list[Any]) -> Encode:
    import keras  # pyright: ignore[reportMissingImports]

    lookup = keras.layers.StringLookup(vocabulary=categories, num_oov_indices=0)
    return lambda column: np.asarray(lookup(column)).astype(np.int64)


OURS_ARROW = Contender("catembed, Arrow", with_vocabulary, pa.array)
OURS_LIST = Contender("catembed, list", with_vocabulary, list)
OURS_NUMPY = Contender("catembed, NumPy", with_vocabulary, np.array)
OURS_DICTIONARY = Contender("catembed, Arrow dictionary", with_vocabulary, lambda v: pa.array(v).dictionary_encode())
OURS_POLARS = Contender("catembed, polars", with_vocabulary, pl.Series)
DICT = Contender("dict over a list", with_dict, list)
PANDAS = Contender("pandas get_indexer", with_pandas, lambda values: pd.Index(values))
PANDAS_NUMPY = Contender("pandas get_indexer", with_pandas, np.array)
PANDAS_CATEGORY = Contender(
    "pandas get_indexer of categories", with_pandas_categorical, lambda v: pd.Series(v, dtype="category")
)
JOIN = Contender("polars join", with_join, pl.Series)
ENUM = Contender("polars cast to Enum", with_enum, pl.Series)
INDEX_IN = Contender("pyarrow index_in", with_index_in, pa.array)
INDEX_IN_DICTIONARY = Contender("pyarrow index_in", with_index_in, lambda values: pa.array(values).dictionary_encode())
ORDINAL = Contender("scikit-learn OrdinalEncoder", with_ordinal_encoder, lambda v: np.array(v, object)[:, None])
KERAS = Contender("Keras StringLookup", with_keras, np.array)

STRINGS = [OURS_ARROW, OURS_POLARS, OURS_LIST, DICT, PANDAS, JOIN, ENUM, INDEX_IN, ORDINAL]
INTEGERS = [OURS_NUMPY, DICT, PANDAS_NUMPY, JOIN, INDEX_IN]
DICTIONARIES = [OURS_DICTIONARY, PANDAS_CATEGORY, INDEX_IN_DICTIONARY]


def strings(count: int) -> list[str]:
    """Distinct strings of 6 to 12 letters, in no order."""
    return [f"item_{number}" for number in np.random.default_rng(1).permutation(3 * count)[:count]]


def close_integers(count: int) -> list[int]:
    """Half of the integers below twice their number, in no order: ids as databases give them."""
    return np.random.default_rng(1).permutation(2 * count)[:count].tolist()


def far_integers(count: int) -> list[int]:
    """Integers from all of int64: hashes, or ids made at random."""
    return np.unique(np.random.default_rng(1).integers(-(2**63), 2**63, 2 * count))[:count].tolist()


def places(count: int, batch: int, distribution: str) -> np.ndarray:
    """Which categories a batch has; Zipf: rank r as often as r^-1.1."""
    generator = np.random.default_rng(batch)
    if distribution == "uniform":
        return generator.integers(0, count, batch)
    cdf = np.cumsum(np.arange(1, count + 1, dtype=np.float64) ** -1.1)
    return np.searchsorted(cdf / cdf[-1], generator.random(batch))


def case(
    what: str, values: list[Any], contenders: Iterable[Contender], batch: int, distribution: str, seconds: float
) -> Iterator[dict]:
    """Result rows of one case. Batches rotate, so that none of them lies in the caches for being the same."""
    rotation = 12 if batch <= BATCH else 2
    which = np.array_split(places(len(values), batch * rotation, distribution), rotation)
    calls, cold = {}, {}
    for contender in contenders:
        batches = [contender.column([values[place] for place in part]) for part in which]
        start = time.perf_counter()
        encode = contender.make(values)
        ids = encode(batches[0])
        cold[contender.name] = (time.perf_counter() - start) * 1e3
        if not np.array_equal(np.asarray(ids), which[0]):
            raise AssertionError(f"{contender.name} gives other ids")
        turns = itertools.cycle(batches)
        calls[contender.name] = lambda encode=encode, turns=turns: encode(next(turns))
    between = interleave(calls, seconds=seconds / 2, warmup=rotation, turn=0)
    for name, times in interleave(calls, seconds=seconds, turn=TURN).items():
        median, low, high = summary(times)
        figures = {"median_ms": median, "q1_ms": low, "q3_ms": high}
        figures |= {"between_ms": summary(between[name])[0], "cold_ms": cold[name]}
        row = {
            "case": what,
            "categories": len(values),
            "values": batch,
            "distribution": distribution,
            "contender": name,
        }
        yield show(row | {key: f"{value:.4g}" for key, value in figures.items()})


def show(row: dict) -> dict:
    print(
        f"{row['case']:<12}{row['categories']:>10,}{row['values']:>10,}  {row['distribution']:<9}{row['contender']:<34}"
        f"{row['median_ms']:>10} ms [{row['q1_ms']} .. {row['q3_ms']}]  between {row['between_ms']}  "
        f"cold {row['cold_ms']}",
        flush=True,
    )
    return row


def memory() -> Iterator[dict]:
    """Bytes for each category beyond its own: offsets and hash table."""
    for what, make in (("string", strings), ("int64", close_integers), ("int64, far", far_integers)):
        values = make(CATEGORIES)
        vocabulary = Vocabulary(values)
        vocabulary.encode(values)
        own = sum(map(len, values)) if isinstance(values[0], str) else 8 * len(values)
        extra = (vocabulary._index.nbytes - own) / len(values)
        print(f"memory, {what}: {extra:.1f} bytes for each category beyond its own")
        yield {"what": f"bytes per category beyond its own, {what}", "figure": f"{extra:.1f}"}


def installed_keras() -> list[Contender]:
    try:
        import keras  # noqa: F401  # pyright: ignore[reportMissingImports, reportUnusedImport]
    except ImportError:
        return []
    return [KERAS]


def cases(seconds: float) -> Iterator[dict]:
    values = strings(CATEGORIES)
    rivals = [*STRINGS, *installed_keras()]
    for distribution in ("uniform", "Zipf(1.1)"):
        yield from case("string", values, rivals, BATCH, distribution, seconds * 4)
    for batch in (1, 10, 1_000, 1_000_000):
        yield from case("string", values, [OURS_ARROW, OURS_LIST, DICT, PANDAS, INDEX_IN], batch, "uniform", seconds)
    yield from one(values, seconds)
    few = strings(1_000)
    yield from case("string", few, STRINGS, BATCH, "uniform", seconds)
    yield from case("dictionary", few, DICTIONARIES, BATCH, "uniform", seconds)
    for what, make in (("int64", close_integers), ("int64, far", far_integers)):
        numbers = make(CATEGORIES)
        for distribution in ("uniform", "Zipf(1.1)"):
            yield from case(what, numbers, INTEGERS, BATCH, distribution, seconds * 2)


def one(values: list[str], seconds: float) -> Iterator[dict]:
    """A single Python string, another one each time."""
    turns = itertools.cycle([values[place] for place in places(len(values), 10_000, "uniform")])
    vocabulary, ids = Vocabulary(values), dict(zip(values, range(len(values)), strict=True))
    calls = {
        "catembed, one string": lambda: vocabulary.encode(next(turns)),
        "dict and torch.tensor": lambda: torch.tensor(ids[next(turns)]),
        "torch.tensor(0) alone": lambda: torch.tensor(0),
    }
    for name, times in interleave(calls, seconds=seconds, turn=TURN).items():
        median, low, high = summary(times)
        figures = {"median_ms": median, "q1_ms": low, "q3_ms": high, "between_ms": 0.0, "cold_ms": 0.0}
        row = {"case": "one string", "categories": len(values), "values": 1, "distribution": "uniform"}
        row |= {"contender": name}
        yield show(row | {key: f"{value:.4g}" for key, value in figures.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5, help="time for a small case (default 5)")
    parser.add_argument("--threads", type=int, default=2, help="torch threads (default 2)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    facts = environment("pandas", "polars", "pyarrow", "scikit-learn", "keras")
    write_results("encode", [row | facts for row in cases(options.seconds)])
    write_results("encode_memory", [row | facts for row in [*memory(), *opening()]])


if __name__ == "__main__":
    main()
