"""The page on which one draws a character or opens a photo, and sees its classes.

One page for two back ends: `bwn serve` sends it, and `bwn compile --target wasm32 --page` writes it
next to a module. No build step and nothing from elsewhere; networks.js holds what differs.
"""

from __future__ import annotations

from pathlib import Path

INDEX = "index.html"
FILES = (INDEX, "style.css", "picture.js", "networks.js", "page.js")
_SERVICE = 'data-module=""'


def page_files(module: str = "") -> dict[str, bytes]:
    """Read the files of the page.

    Args:
        module: Name of the WebAssembly module that classifies; without, the service that sends the
            page.

    Returns:
        Their contents by name; `index.html` is the page.
    """
    folder = Path(__file__).parent
    texts = {name: (folder / name).read_text(encoding="utf-8") for name in FILES}
    assert texts[INDEX].count(_SERVICE) == 1
    texts[INDEX] = texts[INDEX].replace(_SERVICE, f'data-module="{module}"')
    return {name: text.encode() for name, text in texts.items()}
