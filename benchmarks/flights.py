"""AUC on the flights beside two models anybody would try first: ``python -m benchmarks.flights``.

Every model has the same columns, the same 80 % of the rows to learn from and the same 20 % to be judged on, which no
model sees before; catembed takes a tenth of its rows to decide when to stop. It runs with its defaults and three
seeds; the rivals are deterministic. Writes ``benchmarks/results/flights.csv``.
"""

import argparse
import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, TargetEncoder

from benchmarks.harness import environment, write_results
from catembed import tabular
from examples.flights import COLUMNS, TARGET, flights

SEEDS = (0, 1, 2)


def split() -> tuple[pa.Table, pa.Table]:
    """The flights that arrived: 80 % to learn from, 20 % to be judged on."""
    table = flights()
    table = table.filter(table["arr_delay"].is_valid())
    order = np.random.default_rng(0).permutation(table.num_rows)
    cut = int(0.8 * table.num_rows)
    return table.take(order[:cut]), table.take(order[cut:])


def late(table: pa.Table) -> np.ndarray:
    return table["arr_delay"].to_numpy() > 15


def ours(train: pa.Table, test: pa.Table, seed: int) -> np.ndarray:
    fitted = tabular.fit(train, TARGET, categorical=COLUMNS, valid_fraction=0.1, seed=seed)
    return fitted.predict(test)["probability_true"].to_numpy()


def rivals(train: pa.Table, test: pa.Table) -> Iterator[tuple[str, float, float]]:
    frames = [table.select(COLUMNS).to_pandas().astype(str) for table in (train, test)]
    models = {
        "one-hot + LogisticRegression": make_pipeline(
            OneHotEncoder(handle_unknown="ignore"), LogisticRegression(max_iter=200)
        ),
        "TargetEncoder + HistGradientBoosting": make_pipeline(
            TargetEncoder(cv=StratifiedKFold(5, shuffle=True, random_state=0)),
            HistGradientBoostingClassifier(random_state=0),
        ),
    }
    for name, model in models.items():
        start = time.perf_counter()
        model.fit(frames[0], late(train))
        score = float(roc_auc_score(late(test), model.predict_proba(frames[1])[:, 1]))
        yield name, score, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    train, test = split()
    found = list(rivals(train, test))
    scores, seconds = [], []
    for seed in SEEDS:
        start = time.perf_counter()
        scores.append(float(roc_auc_score(late(test), ours(train, test, seed))))
        seconds.append(time.perf_counter() - start)
        print(f"seed {seed}: AUC {scores[-1]:.4f}, {seconds[-1]:.0f} s", flush=True)
    found.append((f"catembed, mean of {len(SEEDS)} seeds", float(np.mean(scores)), float(np.mean(seconds))))
    spread = {found[-1][0]: f"{min(scores):.4f} – {max(scores):.4f}"}
    about = environment("scikit-learn")
    rows = [
        {"model": name, "auc": f"{auc:.4f}", "spread": spread.get(name, ""), "seconds": f"{took:.0f}", **about}
        for name, auc, took in found
    ]
    for row in rows:
        print(f"{row['model']:40}  AUC {row['auc']}  {row['spread']:17} {row['seconds']:>4} s")
    print(f"written to {write_results('flights', rows)}")


if __name__ == "__main__":
    main()
