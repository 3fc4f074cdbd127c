"""A table and a target in, trained embeddings out: ``fit``, ``Fitted``."""

from catembed.tabular.fitting import Plan, fit
from catembed.tabular.fitted import Fitted, load_layer
from catembed.tabular.reading import read
from catembed.tabular.training import Progress

__all__ = ["Fitted", "Plan", "Progress", "fit", "load_layer", "read"]
