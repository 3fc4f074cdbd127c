import numpy as np
import pytest

from catembed.sklearn.align import Turn


@pytest.fixture
def vectors():
    return np.random.default_rng(0).normal(size=(20, 4)) * [3, 2, 1, 0.5] + 5


def test_a_turned_table_is_turned_back(vectors):
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))
    moved = vectors @ turn + [1, 2, 3, 4]
    np.testing.assert_allclose(Turn.onto(moved, vectors, np.ones(20))(moved), vectors, atol=1e-5)  # float32 near 5


@pytest.mark.parametrize(("own", "theirs"), [(4, 2), (2, 4), (1, 1)])
def test_tables_of_other_widths(vectors, own, theirs):
    out = Turn.onto(vectors[:, :own], vectors[:, :theirs], np.ones(20))(vectors[:, :own])
    assert out.shape == (20, theirs)


def test_principal_axes(vectors):
    counts = np.arange(1, 21)
    out = Turn.principal(vectors, counts)(vectors).astype(np.float64)
    spread = (out * counts[:, None]).T @ out
    np.testing.assert_allclose(counts @ out, 0, atol=1e-3)  # 210 rows of float32
    np.testing.assert_allclose(spread, np.diag(np.diag(spread)), atol=1e-2)
    assert (np.diff(np.diag(spread)) < 0).all()
    distances = [np.linalg.norm(each[0] - each[7]) for each in (vectors, out)]
    assert distances[0] == pytest.approx(distances[1], rel=1e-5)


def test_nothing_in_common():
    turn = Turn.onto(np.empty((0, 2)), np.empty((0, 3)), np.empty(0))
    assert np.isfinite(turn(np.ones((4, 2)))).all()
