"""The code blocks of Markdown documents, and what a comment before a block says of running it.

<!-- not run: REASON -->      only parsed
<!-- needs MODULE -->         run where this Python package is installed
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(
    r"^(?:<!-- ([^\n]*?) -->\n\s*)?^```([\w{}-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
RUN = ("", "sh", "python")
"""Languages of blocks that are run; one without a language is for a shell."""
SHOWN = ("text", "{toctree}", "{eval-rst}")
"""What is only shown: outputs, files, and what the site makes of it."""


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        page: The file.
        line: Where it starts in it, from 1.
        language: What stands after the backquotes.
        code: Its lines.
        not_run: Why it is not run, "" where it is.
        needs: The Python package that it needs, or "".
    """

    page: Path
    line: int
    language: str
    code: str
    not_run: str
    needs: str


def blocks(page: Path) -> list[Block]:
    """All code blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        comment, language, code = match.group(1) or "", match.group(2), match.group(3)
        kind, _, rest = comment.partition(" ")
        not_run = comment.removeprefix("not run: ") if comment.startswith("not run: ") else ""
        line = text.count("\n", 0, match.start(3))
        found.append(Block(page, line, language, code, not_run, rest if kind == "needs" else ""))
    return found
