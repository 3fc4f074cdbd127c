"""Where rows live: memory whose pages appear when touched, and files."""

from catembed.storage.file import map_file, read_file, write_file
from catembed.storage.growth import grow_rows
from catembed.storage.layout import pack, unpack
from catembed.storage.memory import HugeWhenFull, advise_huge, zeros
from catembed.storage.room import room

__all__ = [
    "HugeWhenFull",
    "advise_huge",
    "grow_rows",
    "map_file",
    "pack",
    "read_file",
    "room",
    "unpack",
    "write_file",
    "zeros",
]
