import subprocess
import sys

LOOK = """
import sys, catembed
assert "pyarrow" not in sys.modules
assert catembed.tabular.fit is sys.modules["catembed.tabular"].fit
import catembed.cli
heavy = {"pandas", "polars", "sklearn", "scipy"} & set(sys.modules)
assert not heavy, heavy
try:
    catembed.nothing
except AttributeError as error:
    print(error)
"""


def test_tabular_is_loaded_when_asked_for():
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)
    assert done.stdout == "module 'catembed' has no attribute 'nothing'\n"
