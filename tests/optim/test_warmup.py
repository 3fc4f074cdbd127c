"""After ``warmup`` no training step compiles anything."""

import os
import subprocess
import sys

import pytest
import torch

import catembed

TRAIN = """
import logging, sys, torch, catembed
from catembed import optim
dtype = getattr(torch, sys.argv[1])
if sys.argv[2] == "warm":
    catembed.warmup(dtype)
logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s")
for kind, options in [
    (optim.SGD, {}), (optim.SGD, {"momentum": 0.9, "untouched": "exact"}), (optim.Adagrad, {}),
    (optim.RowwiseAdagrad, {}), (optim.Adam, {}), (optim.AdamW, {"untouched": "exact"}),
]:
    layer = catembed.Embedding(50, 8, sparse=True, dtype=dtype)
    bag = catembed.EmbeddingBag(50, 8, sparse=True, dtype=dtype, _weight=layer.weight)
    optimizer = kind(layer.parameters(), lr=0.1, **options)
    for _ in range(3):
        layer(torch.randint(50, (20,))).sum().backward()
        bag(torch.randint(50, (20, 3))).sum().backward()
        optim.clip_grad_norm_(layer.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    layer.eval()
"""


def compiled(cache, dtype, warm):
    environment = os.environ | {"CATEMBED_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", TRAIN, dtype, warm]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stderr.splitlines() if "compiling" in line]


def test_training_after_warmup_compiles_nothing(tmp_path):
    assert compiled(tmp_path / "warm", "float32", "warm") == []
    assert compiled(tmp_path / "cold", "float32", "cold")


def test_tables_that_are_not_trained_have_nothing_to_warm_up():
    with pytest.raises(TypeError, match=r"got torch\.int8"):
        catembed.warmup(torch.int8)
