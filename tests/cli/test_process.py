"""What only a real process shows: ``python -m catembed``, Ctrl-C, a closed pipe."""

import json
import os
import signal
import subprocess
import sys

from catembed import tabular

COMMAND = [sys.executable, "-m", "catembed"]


def test_the_module_is_the_program(source, tmp_path):
    done = subprocess.run(
        [*COMMAND, "fit", source, "--target", "price", "--out", tmp_path / "m", "--epochs", "1", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["task"] == "regression"
    wrong = subprocess.run([*COMMAND, "info", tmp_path / "none"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "Traceback" not in wrong.stderr


def test_ctrl_c_keeps_the_best_so_far(source, tmp_path):
    process = subprocess.Popen(
        [*COMMAND, "fit", source, "--target", "price", "--out", tmp_path / "m", "--epochs", "1000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    printed = ""
    while "epoch 2/" not in printed:
        line = process.stdout.readline()
        assert line, printed
        printed += line
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert "Interrupted: kept the best so far" in out
    report = tabular.Fitted.load(tmp_path / "m").report
    assert report["interrupted"]
    assert list(report["validation"]) == ["catembed", "mean"]
    assert [each.name for each in tmp_path.iterdir()] == ["m"]


def test_a_closed_pipe_is_no_traceback(model):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*COMMAND, "info", model], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert "Traceback" not in done.stderr
