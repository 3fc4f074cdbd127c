"""Where rows live: memory whose pages appear when touched, and files."""

from catembed.storage.file import read_file, write_file
from catembed.storage.layout import pack, unpack
from catembed.storage.memory import HugeWhenFull, advise_huge, zeros

__all__ = ["HugeWhenFull", "advise_huge", "pack", "read_file", "unpack", "write_file", "zeros"]
