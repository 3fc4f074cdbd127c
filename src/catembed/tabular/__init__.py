"""A table and a target in, trained embeddings out: ``fit``, ``Fitted``."""

from catembed.tabular.fitted import Fitted, check_writable, load_layer
from catembed.tabular.fitting import Plan, fit
from catembed.tabular.reading import check_file, read, write
from catembed.tabular.schema import Feature, classify
from catembed.tabular.training import Progress, Recipe

__all__ = [
    "Feature",
    "Fitted",
    "Plan",
    "Progress",
    "Recipe",
    "check_file",
    "check_writable",
    "classify",
    "fit",
    "load_layer",
    "read",
    "write",
]
