"""Optimisers that train a table at the cost of the rows touched, and the clipping that goes with them."""

from catembed.optim.adagrad import Adagrad, RowwiseAdagrad
from catembed.optim.adam import Adam, AdamW
from catembed.optim.clip import clip_grad_norm_, clip_grad_value_
from catembed.optim.sgd import SGD
from catembed.optim.warmup import warmup

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "RowwiseAdagrad", "clip_grad_norm_", "clip_grad_value_", "warmup"]
