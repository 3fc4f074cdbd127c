"""AUC of gradient boosting behind three encoders of the flights' categories: ``python -m benchmarks.transformer``.

Columns, rows and split are those of ``benchmarks.flights``: every encoder and every booster learns from the same 80 %
of the rows, and is judged on the same 20 %, which nothing has seen. ``CategoryEmbedder`` has its defaults and three
seeds; its vectors and its prediction are also judged alone, as columns of the same embedder. scikit-learn's own
encoders are deterministic; ``TargetEncoder`` has its defaults but for a shuffled split, the booster its own.
Seconds are those of encoding and boosting the training rows. Writes ``benchmarks/results/transformer.csv``
and prints the table of ``docs/sklearn.md``.
"""

import argparse
import time
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from sklearn.base import TransformerMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import OrdinalEncoder, TargetEncoder

from benchmarks.flights import late, split
from benchmarks.harness import environment, write_results
from catembed.sklearn import CategoryEmbedder
from examples.flights import COLUMNS

SEEDS = (0, 1, 2)
Found = tuple[str, float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    train, test = split()
    frames = [table.select(COLUMNS).to_pandas().astype(str) for table in (train, test)]
    data = (*frames, late(train), late(test))
    found = [*rivals(*data)]
    for seed in SEEDS:
        found += ours(*data, seed)
        print(found[-3:], flush=True)
    about = environment("scikit-learn")
    rows = []
    print("| encoder | AUC | range | seconds |\n| --- | --- | --- | --- |")
    for name in dict.fromkeys(name for name, _, _ in found):
        scores, seconds = zip(*(each[1:] for each in found if each[0] == name), strict=True)
        spread = f"{min(scores):.4f} – {max(scores):.4f}" if len(scores) > 1 else ""
        row = {"encoder": name, "auc": f"{np.mean(scores):.4f}", "spread": spread, "seconds": f"{np.mean(seconds):.0f}"}
        rows.append(row | about)
        print(f"| {' | '.join(row.values())} |")
    print(f"written to {write_results('transformer', rows)}")


def rivals(train: pd.DataFrame, test: pd.DataFrame, y: np.ndarray, truth: np.ndarray) -> Iterator[Found]:
    ordinal = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, max_categories=255)
    encoders: dict[str, tuple[TransformerMixin, dict]] = {
        "OrdinalEncoder, native categories": (ordinal, {"categorical_features": list(range(len(COLUMNS)))}),
        "TargetEncoder": (TargetEncoder(cv=StratifiedKFold(5, shuffle=True, random_state=0)), {}),
    }
    for name, (encoder, options) in encoders.items():
        start = time.perf_counter()
        encoded = encoder.fit_transform(train, y)
        seconds = time.perf_counter() - start
        yield boosted(name, (encoded, encoder.transform(test)), y, truth, seconds, **options)


def ours(train: pd.DataFrame, test: pd.DataFrame, y: np.ndarray, truth: np.ndarray, seed: int) -> Iterator[Found]:
    embedder = CategoryEmbedder("all", random_state=seed)
    start = time.perf_counter()
    encoded = embedder.fit_transform(train, y)
    seconds = time.perf_counter() - start
    tested = embedder.transform(test)
    for output, part in {"both": slice(None), "vectors": slice(-1), "prediction": slice(-1, None)}.items():
        name = f"CategoryEmbedder, {output}" + (" (the default)" if output == embedder.output else "")
        yield boosted(name, (encoded[:, part], tested[:, part]), y, truth, seconds)


def boosted(
    name: str, data: tuple[np.ndarray, np.ndarray], y: np.ndarray, truth: np.ndarray, seconds: float, **options: object
) -> Found:
    start = time.perf_counter()
    booster = HistGradientBoostingClassifier(random_state=0, **options).fit(data[0], y)
    seconds += time.perf_counter() - start
    return name, float(roc_auc_score(truth, booster.predict_proba(data[1])[:, 1])), seconds


if __name__ == "__main__":
    main()
