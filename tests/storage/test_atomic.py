"""A file is the old one or the new one, whole, whatever fails and whenever the process dies."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from catembed.storage import atomic
from catembed.storage.atomic import replace_file

OLD, NEW = b"old" * 1000, b"new" * 2000


def parts(content=NEW):
    return [content[:1000], memoryview(content)[1000:]]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(OLD)
    return path


def test_replaces_and_leaves_nothing_else(path):
    replace_file(path, parts())
    assert path.read_bytes() == NEW
    assert os.listdir(path.parent) == [path.name]


def test_makes_a_file_where_there_was_none(tmp_path):
    replace_file(str(tmp_path / "y"), parts())
    assert (tmp_path / "y").read_bytes() == NEW


def test_what_is_open_keeps_the_old_content(path):
    with open(path, "rb") as file:
        replace_file(path, parts())
        assert file.read() == OLD


@pytest.mark.parametrize("step", ["open", "chmod", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_a_step_that_fails_leaves_the_old_file_alone(path, monkeypatch, step, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(atomic.os, step, fail)
    with pytest.raises(type(error)) as caught:
        replace_file(path, parts())
    monkeypatch.undo()
    assert path.read_bytes() == OLD
    assert os.listdir(path.parent) == [path.name]
    if isinstance(error, OSError):
        assert caught.value.filename == str(path)
        assert caught.value.errno == errno.ENOSPC


def test_a_part_that_fails_leaves_the_old_file_alone(path):
    def failing():
        yield NEW[:1000]
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        replace_file(path, failing())
    assert path.read_bytes() == OLD
    assert os.listdir(path.parent) == [path.name]


def test_a_folder_that_cannot_be_synced_is_told_and_the_new_file_is_whole(path, monkeypatch):
    synced = []

    def fail_for_folders(descriptor):
        synced.append(descriptor)
        if len(synced) == 2:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(atomic.os, "fsync", fail_for_folders)
    with pytest.raises(OSError, match="Input/output error") as caught:
        replace_file(path, parts())
    assert caught.value.filename == str(path)
    assert path.read_bytes() == NEW
    assert os.listdir(path.parent) == [path.name]


def test_content_is_synced_before_it_takes_the_name_and_the_folder_after(path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace

    def watch_fsync(descriptor):
        is_folder = os.path.samestat(os.fstat(descriptor), os.stat(path.parent))
        done.append(("folder", 0) if is_folder else ("file", os.fstat(descriptor).st_size))
        fsync(descriptor)

    monkeypatch.setattr(atomic.os, "fsync", watch_fsync)
    monkeypatch.setattr(atomic.os, "replace", lambda a, b: (done.append(("replace", 0)), replace(a, b)))
    replace_file(path, parts())
    assert done == [("file", len(NEW)), ("replace", 0), ("folder", 0)]


def test_a_folder_in_its_place_is_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        replace_file(tmp_path / "folder", parts())
    assert caught.value.filename == str(tmp_path / "folder")
    assert os.listdir(tmp_path) == ["folder"]


def test_a_folder_that_is_not_there_is_told_with_the_path_given(tmp_path):
    path = tmp_path / "nowhere" / "x"
    with pytest.raises(FileNotFoundError) as caught:
        replace_file(path, parts())
    assert caught.value.filename == str(path)


def test_the_longest_name_a_file_can_have(tmp_path):
    replace_file(tmp_path / ("n" * 255), parts())
    assert (tmp_path / ("n" * 255)).read_bytes() == NEW


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_permissions_are_those_of_the_umask_or_of_the_file_replaced(tmp_path):
    before = os.umask(0o027)
    try:
        replace_file(tmp_path / "x", parts())
        assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640
        os.chmod(tmp_path / "x", 0o600)
        replace_file(tmp_path / "x", parts())
        assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)


def test_a_link_stays_and_what_it_leads_to_is_replaced(path):
    (path.parent / "sub").mkdir()
    link = path.parent / "sub" / "link"
    link.symlink_to(path)
    replace_file(link, parts())
    assert link.is_symlink()
    assert path.read_bytes() == NEW
    assert os.listdir(path.parent / "sub") == ["link"]


def test_writers_at_the_same_path_leave_the_file_of_one(path):
    contents = [bytes([letter]) * 200_000 for letter in b"abcdefgh"]
    threads = [threading.Thread(target=replace_file, args=(path, parts(content))) for content in contents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert path.read_bytes() in (OLD, *contents)
    assert path.read_bytes() in contents
    assert os.listdir(path.parent) == [path.name]


WRITE_FOREVER = """
import runpy, sys
replace_file = runpy.run_path(sys.argv[1])["replace_file"]
contents = [bytes([letter]) * 300_000 for letter in b"abc"]
while True:
    for content in contents:
        replace_file(sys.argv[2], [content[:100_000], content[100_000:]])
        print("written", flush=True)
"""


def test_a_writer_that_is_killed_leaves_a_whole_file(path):
    whole = [bytes([letter]) * 300_000 for letter in b"abc"]
    for round in range(20):
        command = [sys.executable, "-c", WRITE_FOREVER, atomic.__file__, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(0.0007 * round)
            writer.send_signal(signal.SIGKILL)
            writer.stdout.read()
        assert path.read_bytes() in whole
    leftovers = [name for name in os.listdir(path.parent) if name != path.name]
    assert leftovers, "no kill came while a file was being written"
    assert all(name.startswith(".catembed-") and name.endswith(".tmp") for name in leftovers)
