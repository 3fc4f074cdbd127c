"""The errors that catembed raises on its users' input.

Every message says which value, where it stood, what was allowed and what to do. Each class is also the
built-in that torch or Python would have raised, so existing ``except`` clauses go on working.
"""

__all__ = ["CatembedError", "FormatError", "OutOfRangeError", "TableError", "UnseenCategoryError", "VocabularyError"]


class CatembedError(Exception):
    """Base of every error that catembed raises on purpose."""


class OutOfRangeError(CatembedError, IndexError):
    """An id outside ``[0, num_embeddings)``; the message keeps torch's ``index out of range in self``."""


class UnseenCategoryError(CatembedError, KeyError):
    """A category that the vocabulary does not hold, where ``unseen="error"`` (or ``missing="error"``)."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, which would escape every line break of the message.
        return str(self.args[0]) if self.args else ""


class VocabularyError(CatembedError, ValueError):
    """Values that cannot be categories of a vocabulary, or two vocabularies that do not fit together."""


class FormatError(CatembedError, ValueError):
    """A file that is not a sound catembed file: truncated, damaged, of another version or not ours."""


class TableError(CatembedError, ValueError):
    """A table, a column of it or a target that cannot be learned from."""
