"""Lookup as functions: any integer index, pooling of bags in any form, and range errors that say what was wrong."""

from catembed.functional.bag import MODES, embedding_bag, pooled
from catembed.functional.bags import as_bags
from catembed.functional.ids import as_ids
from catembed.functional.jagged import Jagged
from catembed.functional.lookup import embedding

__all__ = ["MODES", "Jagged", "as_bags", "as_ids", "embedding", "embedding_bag", "pooled"]
