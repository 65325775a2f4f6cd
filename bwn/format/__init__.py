"""The .bwn file. SPEC.md defines it; `read` and `write` are its two functions."""

from bwn.format.reader import read
from bwn.format.writer import write

__all__ = ["read", "write"]
