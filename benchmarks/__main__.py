"""``make bench``: the project's bars, printed one after the other; results go to ``benchmarks/results``."""

import subprocess
import sys

for module in ("benchmarks.train_step", "benchmarks.bags", "benchmarks.flights", "benchmarks.report"):
    print(f"== {module}", flush=True)
    subprocess.run([sys.executable, "-m", module], check=True)
