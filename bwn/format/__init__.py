"""The .bwn file: SPEC.md is the page, `read` and `write` are the two verbs."""

from bwn.format.reader import read
from bwn.format.writer import write

__all__ = ["read", "write"]
