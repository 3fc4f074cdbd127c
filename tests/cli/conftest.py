"""A folder that ``catembed fit`` wrote, and a way to run a command in this process."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from catembed import cli


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV in which fruit and shop decide the price."""
    draw = np.random.default_rng(0)
    fruit, shop = draw.integers(0, 4, 300), draw.integers(0, 3, 300)
    names = np.array(["apple", "banana", "candy", "date"])
    rows = pa.table({"fruit": names[fruit], "shop": shop, "open": shop > 0, "price": fruit * 2.0 + shop})
    path = tmp_path_factory.mktemp("source") / "fruit.csv"
    pa.csv.write_csv(rows, path)
    return path


@pytest.fixture(scope="session")
def model(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fitted model."""
    path = tmp_path_factory.mktemp("model") / "m"
    with pytest.raises(SystemExit) as end:
        cli.main(["fit", str(source), "--target", "price > 3", "--out", str(path), "--epochs", "2"])
    assert end.value.code == 0
    return path


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command; gives its exit code, what it printed, and its errors."""

    def command(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main([str(each) for each in arguments])
        printed = capfd.readouterr()
        return int(end.value.code or 0), printed.out, printed.err

    return command
