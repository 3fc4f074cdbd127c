"""How kernels come to be: compiled once, kept on disk, whatever the folders allow."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
RUN = """
import logging, torch
logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s")
from catembed.kernels.dispatch import kernel
groups = kernel("group", torch.device("cpu"))(torch.tensor([2, 0, 2]), 3)
print(groups.rows.tolist(), groups.starts.tolist(), groups.order.tolist())
"""


def run(cache, source=SOURCE, **changed):
    environment = os.environ | {"CATEMBED_CACHE_DIR": str(cache), "PYTHONPATH": str(source)} | changed
    done = subprocess.run([sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[0, 2] [0, 1, 3] [1, 0, 2]\n"
    return [line for line in done.stderr.splitlines() if line.startswith("catembed.kernels compiling")]


def test_a_kernel_is_compiled_once_and_then_loaded(tmp_path):
    first = run(tmp_path)
    assert "catembed.kernels compiling unpack of group, once" in first
    assert run(tmp_path) == []


@pytest.mark.parametrize("changed", ["cpu/lanes.py", "table.py"])  # not the file that holds the kernel
def test_changed_sources_are_compiled_anew(tmp_path, changed):
    source = tmp_path / "source"
    subprocess.run(["cp", "-r", str(SOURCE), str(source)], check=True)
    assert run(tmp_path / "cache", source)
    helper = source / "catembed" / "kernels" / changed
    helper.write_text(helper.read_text() + "\n# changed\n")
    assert run(tmp_path / "cache", source)


@pytest.mark.parametrize("place", ["/proc/nowhere", "a file"])
def test_without_a_folder_to_write_kernels_still_run(tmp_path, place):
    if place == "a file":
        place = tmp_path / "file"
        place.write_text("")
    assert run(place)
    assert run(place)


def test_nothing_is_written_beside_the_package(tmp_path):
    source = tmp_path / "source"
    subprocess.run(["cp", "-r", str(SOURCE), str(source)], check=True)
    before = sorted(path for path in source.rglob("*") if "__pycache__" not in path.parts)
    run(tmp_path / "cache", source, PYTHONDONTWRITEBYTECODE="1")
    assert sorted(path for path in source.rglob("*") if "__pycache__" not in path.parts) == before
    assert not list(source.rglob("*.nbc"))
