"""``make bench``: the project's bars, printed one after the other; results go to ``benchmarks/results``."""

import subprocess
import sys

for name in ("train_step", "bags", "encode", "fit_vocabulary", "flights", "transformer", "report"):
    print(f"== benchmarks.{name}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
