"""The .bwn file: SPEC.md is the page, `read` and `write` are the two verbs."""

from bwn.format.read import read
from bwn.format.write import write

__all__ = ["read", "write"]
