"""``make bench``: the project's bars, printed one after the other; results go to ``benchmarks/results``."""

import subprocess
import sys

NAMES = ("train_step", "bags", "columns", "encode", "fit_vocabulary", "flights", "transformer", "report")
for name in NAMES:
    print(f"== benchmarks.{name}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
