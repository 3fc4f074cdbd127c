"""Where rows live: memory whose pages appear when touched, and files."""

from catembed.storage.memory import advise_huge, zeros

__all__ = ["advise_huge", "zeros"]
