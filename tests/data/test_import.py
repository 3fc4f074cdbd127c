"""``catembed.data`` is loaded when it is asked for, and loads no pyarrow before there are rows."""

import json
import subprocess
import sys

LOOK = """
import json, sys
import catembed
before = "catembed.data" in sys.modules
catembed.data.Encode
print(json.dumps([before, "catembed.data" in sys.modules, "pyarrow" in sys.modules, "numba" in sys.modules]))
"""


def test_it_is_loaded_when_it_is_asked_for():
    run = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == [False, True, False, False]
