"""Learning vocabularies: counting, from columns and from files, in bounded memory; what is kept, and in which order."""

from catembed.vocabulary.fitting.sources import open_files

__all__ = ["open_files"]
