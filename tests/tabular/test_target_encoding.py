import numpy as np
import pytest
import torch

from catembed.tabular import target_encoding


def fit(ids, targets, *, most=50, logits=False, seed=0):
    ids = torch.as_tensor(ids)
    sizes = [int(column.max()) + 1 for column in ids.T]
    return target_encoding.fit(
        ids, sizes, np.asarray(targets, np.float32).reshape(len(ids), -1), most=50, logits=logits, seed=seed
    )


def test_new_rows_get_the_shrunk_mean_of_their_category():
    ids = np.repeat([[0], [1]], 100, axis=0)
    targets = np.repeat([0.0, 1.0], 100)
    encoding, _ = fit(ids, targets)
    zero, one = encoding.encode(torch.tensor([[0], [1]])).ravel().tolist()
    # (100 · 0 + 20 · 0.5) / 120 and its mirror, both less the overall mean, on one scale
    assert zero == -one
    assert zero < 0


def test_a_training_row_never_sees_its_own_target():
    draw = np.random.default_rng(0)
    ids = draw.integers(0, 30, (600, 2))
    targets = draw.normal(size=600) + ids[:, 0]
    data = target_encoding._Training(ids, (30, 30), targets[:, None].astype(np.float32), seed=0)
    before = data.out_of_fold((0, 1))
    for row in range(0, 600, 37):
        changed = targets.copy()
        changed[row] += 1000
        other = target_encoding._Training(ids, (30, 30), changed[:, None].astype(np.float32), seed=0)
        other.prior = data.prior
        assert other.out_of_fold((0, 1))[row] == before[row]


def test_out_of_fold_means_follow_their_definition():
    draw = np.random.default_rng(1)
    ids = draw.integers(0, 4, (200, 1))
    targets = draw.normal(size=(200, 1)).astype(np.float32)
    data = target_encoding._Training(ids, (4,), targets, seed=3)
    found = data.out_of_fold((0,))
    for row in range(200):
        others = (ids[:, 0] == ids[row, 0]) & (data.folds != data.folds[row])
        total = targets[others, 0].sum(dtype=np.float64) + target_encoding.PRIOR_ROWS * data.prior[0]
        assert found[row, 0] == pytest.approx(total / (others.sum() + target_encoding.PRIOR_ROWS), rel=1e-6)


def test_an_interaction_is_found_in_a_pair():
    draw = np.random.default_rng(0)
    ids = draw.integers(0, 2, (2000, 3))
    targets = (ids[:, 0] ^ ids[:, 1]).astype(np.float32)  # neither column alone tells anything
    encoding, own = fit(ids, targets, logits=True)
    place = [cells.columns for cells in encoding.cells].index((0, 1))
    assert ((own[:, place] > 0).numpy() == targets.astype(bool)).all()


def test_noise_gives_no_inputs_that_generalise_worse_than_nothing():
    draw = np.random.default_rng(0)
    encoding, own = fit(draw.integers(0, 500, (2000, 1)), draw.normal(size=2000))
    assert (encoding.num_inputs, own.shape) == (0, (2000, 0))
    assert encoding.encode(torch.tensor([[3]])).shape == (1, 0)


def test_what_was_never_seen_is_average_and_two_rows_make_a_cell():
    ids = np.array([[0]] * 50 + [[1]] * 50 + [[2]])
    targets = np.array([0.0] * 50 + [1.0] * 51)
    encoding, _ = fit(ids, targets)
    assert encoding.cells[0].keys.tolist() == [0, 1]
    encoding = target_encoding.TargetEncoding((9,), encoding.default, encoding.cells)
    assert encoding.encode(torch.tensor([[2], [8]])).ravel().tolist() == [0.0, 0.0]


def test_large_keys_are_sorted_instead_of_counted():
    draw = np.random.default_rng(0)
    small = draw.integers(0, 3, (3000, 2))
    targets = small.sum(1) + draw.normal(size=3000)
    wide = target_encoding.fit(
        torch.from_numpy(small),
        (5_000_000, 5_000_000),
        targets[:, None].astype(np.float32),
        most=50,
        logits=False,
        seed=0,
    )
    narrow = target_encoding.fit(
        torch.from_numpy(small), (3, 3), targets[:, None].astype(np.float32), most=50, logits=False, seed=0
    )
    assert torch.equal(wide[1], narrow[1])
    assert torch.equal(wide[0].encode(torch.from_numpy(small)), narrow[0].encode(torch.from_numpy(small)))


def test_classes_have_a_mean_each():
    draw = np.random.default_rng(0)
    ids = draw.integers(0, 3, (900, 1))
    encoding, own = fit(ids, np.eye(3)[ids[:, 0]], logits=True)
    assert own.shape == (900, 3)
    assert encoding.encode(torch.tensor([[0], [1], [2]])).argmax(1).tolist() == [0, 1, 2]
