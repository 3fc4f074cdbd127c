"""A small table with something to learn, in every form that ``fit`` reads."""

import numpy as np
import pyarrow as pa
import pytest

from catembed import tabular


def fruit_table(rows: int = 400, seed: int = 0) -> pa.Table:
    """Fruit and shop decide the price; colour is noise, and a few values of each kind are missing."""
    draw = np.random.default_rng(seed)
    fruit = draw.integers(0, 6, rows)
    shop = draw.integers(0, 4, rows)
    weight = draw.normal(100, 20, rows)
    price = fruit * 2.0 + shop + 0.05 * weight + draw.normal(0, 0.3, rows)
    names = ["apple", "banana", "candy", "date", "elder", "fig"]
    return pa.table(
        {
            "fruit": [None if row % 50 == 7 else names[at] for row, at in enumerate(fruit)],
            "shop": pa.array(shop),
            "weight": [None if row % 40 == 3 else float(each) for row, each in enumerate(weight)],
            "colour": [["red", "green"][at] for at in draw.integers(0, 2, rows)],
            "day": pa.array(np.datetime64("2024-01-01") + draw.integers(0, 400, rows)),
            "price": price,
        }
    )


@pytest.fixture(scope="session")
def table() -> pa.Table:
    return fruit_table()


@pytest.fixture(scope="session")
def fitted(table: pa.Table) -> tabular.Fitted:
    """A binary model, whatever the test asks of it."""
    return tabular.fit(table, "price > 12", epochs=3)
