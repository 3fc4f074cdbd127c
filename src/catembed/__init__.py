"""Categories in, vectors out: the embedding layer for PyTorch."""

__version__ = "0.1.0"
