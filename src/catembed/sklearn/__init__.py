"""The scikit-learn transformer: ``CategoryEmbedder``. Needs the extra ``catembed[sklearn]``."""

try:
    import sklearn as _sklearn  # noqa: F401
except ImportError as _fact:
    raise ImportError("catembed.sklearn needs scikit-learn 1.6 or newer: pip install 'catembed[sklearn]'") from _fact

from catembed.sklearn.embedder import CategoryEmbedder

__all__ = ["CategoryEmbedder"]
