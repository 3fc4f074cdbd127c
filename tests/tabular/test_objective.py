import numpy as np
import pytest
import torch
from sklearn import metrics

from catembed.tabular.objective import Objective, auc


def test_auc_is_that_of_scikit_learn_with_ties():
    draw = np.random.default_rng(0)
    labels, scores = draw.integers(0, 2, 500), draw.integers(0, 40, 500) / 40
    assert auc(labels, scores) == pytest.approx(metrics.roc_auc_score(labels, scores), rel=1e-12)
    assert auc(np.ones(3, int), np.arange(3.0)) is None


def test_metrics_are_those_of_scikit_learn():
    draw = np.random.default_rng(0)
    values = draw.integers(0, 3, 300)
    shares = draw.dirichlet([1, 1, 1], 300)
    found = Objective("multiclass", ["a", "b", "c"]).metrics(values, shares)
    assert found["accuracy"] == metrics.accuracy_score(values, shares.argmax(1))
    assert found["log loss"] == pytest.approx(metrics.log_loss(values, shares), rel=1e-6)
    truth, guess = draw.normal(size=300), draw.normal(size=300)
    found = Objective("regression", []).metrics(truth, guess)
    assert found["RMSE"] == pytest.approx(metrics.root_mean_squared_error(truth, guess))
    assert found["MAE"] == pytest.approx(metrics.mean_absolute_error(truth, guess))
    assert found["R²"] == pytest.approx(metrics.r2_score(truth, guess))


def test_regression_is_learned_on_a_unit_scale_and_told_in_its_own():
    values = np.array([10.0, 20.0, 60.0], np.float32)
    objective = Objective.fit("regression", [], values)
    targets = objective.targets(values)
    assert (float(targets.mean()), float(targets.std(correction=0))) == pytest.approx((0, 1), abs=1e-6)
    assert objective.predictions(targets) == pytest.approx(values, rel=1e-6)
    assert objective.constant(values, 2).tolist() == [30.0, 30.0]


def test_probabilities_belong_to_their_classes():
    binary = Objective("binary", ["no", "yes"])
    assert binary.predictions(torch.tensor([[0.0], [100.0]])).tolist() == [[0.5, 0.5], [0.0, 1.0]]
    many = Objective("multiclass", ["a", "b", "c"])
    assert many.predictions(torch.tensor([[0.0, 0.0, 50.0]])).argmax() == 2
    assert many.constant(np.array([0, 0, 2, 2]), 1).tolist() == [[0.5, 0.0, 0.5]]


def test_losses_are_lowest_at_the_targets():
    for objective, values in (
        (Objective("binary", [0, 1]), np.array([0, 1])),
        (Objective("multiclass", [0, 1, 2]), np.array([0, 2])),
    ):
        targets = objective.targets(values)
        right = torch.tensor([[-9.0], [9.0]]) if objective.task == "binary" else 9.0 * torch.eye(3)[[0, 2]]
        assert objective.loss(right, targets) < 1e-3 < objective.loss(-right, targets)
