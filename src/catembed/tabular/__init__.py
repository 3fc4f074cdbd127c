"""A table and a target in, trained embeddings out: ``fit``, ``Fitted``."""

from catembed.tabular.fitted import Fitted, check_writable, load_layer
from catembed.tabular.fitting import Plan, fit
from catembed.tabular.reading import check_file, read, write
from catembed.tabular.training import Progress

__all__ = ["Fitted", "Plan", "Progress", "check_file", "check_writable", "fit", "load_layer", "read", "write"]
