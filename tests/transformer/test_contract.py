"""scikit-learn's own checks."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

import catembed

CROSS_FITTED = "fit_transform is cross fitted, so that it differs from transform, where anything is learned"


class OfCategories(catembed.sklearn.CategoryEmbedder):
    """The tag makes the checks feed whole numbers, so that they train."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = True
        return tags


@parametrize_with_checks(
    [
        catembed.sklearn.CategoryEmbedder(),
        catembed.sklearn.CategoryEmbedder(output="vectors", epochs=1, numeric="passthrough"),
    ]
)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore:The least populated class")
@parametrize_with_checks(
    [OfCategories(epochs=1, cv=2)],
    expected_failed_checks=lambda estimator: dict.fromkeys(
        ["check_transformer_general", "check_transformer_data_not_an_array"], CROSS_FITTED
    ),
)
def test_checks_of_scikit_learn_on_categories(estimator, check):
    check(estimator)
