"""RMSE on MovieLens 100k beside the additive baseline: ``python -m benchmarks.movielens``.

Three random splits, 80 % to learn from and 20 % to be judged on; a tenth of the rows to learn from decides when to
stop. The recipe is the default of ``fit`` with ``model="fm"``; features and recipe were chosen on rows held out of the
training rows of the first split. Writes ``benchmarks/results/movielens.csv``.
"""

import argparse
import time

import numpy as np
import torch

from benchmarks.harness import environment, write_results
from examples.movielens import SEEDS, additive, fit, ratings, rmse, split, with_lists

PLAIN = {"lists": (), "share": ()}
CASES = {
    "user and film": {**PLAIN, "ignore": ("genres", "rated", "raters")},
    "+ films rated": {"lists": (), "ignore": ("genres", "raters")},
    "+ raters": {"lists": (), "ignore": ("genres",)},
    "+ genres (the example)": {},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    table, found = ratings(), {}
    for seed in SEEDS:
        train, test = split(table, seed)
        start = time.perf_counter()
        found.setdefault("mean, user bias and film bias", []).append(
            (rmse(additive(train, test), test), time.perf_counter() - start)
        )
        for name, settings in CASES.items():
            start = time.perf_counter()
            fitted, known = fit(train, seed, **settings)
            seconds = time.perf_counter() - start
            predicted = fitted.predict(with_lists(test, known))["prediction"].to_numpy()
            found.setdefault(f"catembed fm: {name}", []).append((rmse(predicted, test), seconds))
        print(f"seed {seed} done", flush=True)
    about = environment()
    rows = []
    for name, runs in found.items():
        errors, seconds = zip(*runs, strict=True)
        spread = f"{min(errors):.4f} – {max(errors):.4f}"
        rows.append(
            {"model": name, "rmse": f"{np.mean(errors):.4f}", "spread": spread, "seconds": f"{np.mean(seconds):.0f}"}
            | about
        )
        print(f"{name:40}  RMSE {rows[-1]['rmse']}  {spread}  {rows[-1]['seconds']:>4} s")
    print(f"written to {write_results('movielens', rows)}")


if __name__ == "__main__":
    main()
