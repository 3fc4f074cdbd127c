"""Files on disk: mapped, private, independent of what comes after; each fault is told with the path."""

import mmap
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from catembed import FormatError
from catembed.storage import read_file, write_file


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "table.safetensors"
    write_file(path, {"ids": torch.arange(3), "weight": torch.arange(15.0).view(3, 5)}, {"name": "fruit"})
    return path


def test_what_was_written_is_read(path):
    tensors, header = read_file(path)
    assert header == {"name": "fruit"}
    assert tensors["ids"].tolist() == [0, 1, 2]
    assert tensors["weight"].tolist() == torch.arange(15.0).view(3, 5).tolist()
    assert load_file(path)["weight"].tolist() == tensors["weight"].tolist()


def test_what_is_read_is_private(path):
    before = path.read_bytes()
    first, second = (read_file(path)[0]["weight"] for _ in range(2))
    first.zero_()
    assert path.read_bytes() == before
    assert second[2, 4] == 14.0


def test_what_is_read_outlives_the_file(path):
    weight = read_file(path)[0]["weight"]
    write_file(path, {"weight": torch.zeros(3, 5)}, {})
    assert weight[2, 4] == 14.0
    os.unlink(path)
    assert weight[1, 1] == 6.0


def test_a_tensor_read_from_a_file_can_be_written_to_it(path):
    tensors, header = read_file(path)
    tensors["weight"][0, 0] = 99.0
    write_file(path, tensors, header)
    assert read_file(path)[0]["weight"][0].tolist() == [99.0, 1.0, 2.0, 3.0, 4.0]


OPEN_LARGE = """
import resource, sys, torch
from catembed.storage import read_file
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
table = read_file(sys.argv[1], verify=False)[0]["weight"]
table[123_456, 7] += 1
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(tuple(table.shape), table[123_456, 7].item(), grown)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss in KiB")
def test_opening_touches_only_the_pages_used(tmp_path):
    write_file(tmp_path / "x", {"weight": torch.ones(1_000_000, 16)}, {})
    run = subprocess.run([sys.executable, "-c", OPEN_LARGE, str(tmp_path / "x")], capture_output=True, text=True)
    shape, value, grown = run.stdout.replace("(1000000, 16)", "shape").split()
    assert (shape, value) == ("shape", "2.0")
    assert int(grown) < 8_000  # KiB, of a table of 62,500


def test_each_fault_is_told_with_the_path(path):
    data = path.read_bytes()
    for content, reason in [
        (b"", "truncated: 0 bytes"),
        (data[:100], "truncated"),
        (data[:-1], "truncated"),
        (data + b"\0", "1 bytes follow the last tensor"),
        (data[:-1] + b"\1", "tensor 'weight' is damaged"),
    ]:
        path.write_bytes(content)
        with pytest.raises(FormatError, match=f"table.safetensors: .*{reason}"):
            read_file(path)


def test_every_truncation_on_disk_is_told(path):
    while size := os.path.getsize(path):
        os.truncate(path, size - 1)
        with pytest.raises(FormatError, match=r"table\.safetensors: "):
            read_file(path)


def test_no_file_and_a_folder_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        read_file(tmp_path / "nowhere")
    assert caught.value.filename == str(tmp_path / "nowhere")
    with pytest.raises(IsADirectoryError):
        read_file(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="has no such pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FormatError, match="a pipe"):
        read_file(tmp_path / "pipe")


def test_the_table_lies_at_a_page_in_memory(path):
    assert read_file(path)[0]["weight"].data_ptr() % min(4096, mmap.PAGESIZE) == 0
