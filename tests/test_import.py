"""Importing the package is cheap and without side effects; looked at in a fresh process."""

import json
import subprocess
import sys

HEAVY = ["numba", "llvmlite", "triton", "pyarrow", "pandas", "polars", "sklearn", "scipy", "matplotlib"]

LOOK = """
import json, sys, threading, warnings
import torch
before = (threading.active_count(), torch.get_num_threads(), torch.get_default_dtype(), torch.initial_seed())
with warnings.catch_warnings():
    warnings.simplefilter("error")
    import catembed
after = (threading.active_count(), torch.get_num_threads(), torch.get_default_dtype(), torch.initial_seed())
print(json.dumps({
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
    "unchanged": before == after,
    "exported": [name for name in catembed.__all__ if hasattr(catembed, name)] == list(catembed.__all__),
    "used": catembed.Embedding(3, 5)([0, 2]).shape[1],
    "modules_after_use": sorted({name.partition(".")[0] for name in sys.modules}),
}))
"""


def test_import_loads_nothing_heavy_and_changes_nothing():
    run = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)
    seen = json.loads(run.stdout)
    assert not set(HEAVY) & set(seen["modules"])
    assert not set(HEAVY) & set(seen["modules_after_use"])
    assert "catembed" in seen["modules"]
    assert seen["unchanged"]
    assert seen["exported"]
    assert seen["used"] == 5
