"""What a network is made of: its modules, and the calls that its forward pass makes."""

from __future__ import annotations

from isometry.anatomy.blocks import Block, Kind, Path, blocks
from isometry.anatomy.modules import Anatomy, Chain, is_activation, read
from isometry.anatomy.tape import Tape, record

__all__ = [
    "Anatomy",
    "Block",
    "Chain",
    "Kind",
    "Path",
    "Tape",
    "blocks",
    "is_activation",
    "read",
    "record",
]
