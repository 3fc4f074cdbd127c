"""scikit-learn's own checks."""

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

import catembed

ARRAY_API = {
    "check_array_api_input",
    "check_array_api_input_and_values",
}  # for estimators that say they take such arrays
# fit_transform is cross fitted, so that it differs from fit().transform() where anything is learned.
EQUAL_TRANSFORMS = {"check_transformer_general", "check_transformer_data_not_an_array"}


class OfCategories(catembed.sklearn.CategoryEmbedder):
    """The tag makes the checks feed whole numbers, so that they train."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = True
        return tags


def checks_of(estimator, leave_out):
    pairs = [(each, check, check.func.__name__) for each, check in estimator_checks_generator(estimator)]
    return [pytest.param(each, check, id=name) for each, check, name in pairs if name not in leave_out]


@pytest.mark.parametrize(("estimator", "check"), checks_of(catembed.sklearn.CategoryEmbedder(), ARRAY_API))
def test_the_default(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    ("estimator", "check"), checks_of(catembed.sklearn.CategoryEmbedder(output="vectors", epochs=1), ARRAY_API)
)
def test_vectors_alone(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore:The least populated class")
@pytest.mark.parametrize(("estimator", "check"), checks_of(OfCategories(epochs=1, cv=2), ARRAY_API | EQUAL_TRANSFORMS))
def test_on_categories(estimator, check):
    check(estimator)
