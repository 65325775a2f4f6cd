"""Checks a built site: links and anchors inside it exist, and nothing is loaded from elsewhere.

python check_site.py SITE
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "srcset"}
"""What a browser fetches to show a page; other links wait for a click."""


class Page(HTMLParser):
    """The links, the anchors and the fetched addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect what a tag names."""
        named = {name: value or "" for name, value in attrs}
        self.anchors |= {named[name] for name in ("id", "name") if name in named}
        if tag == "a" and "href" in named:
            self.links.append(named["href"])
        if address := named.get(LOADED.get(tag, "")):
            self.fetched.append(address)


def problems(site: Path) -> list[str]:
    """One line for each link that leads nowhere, and for each address outside of the site."""
    pages = {path.resolve(): Page(path.read_text("utf-8")) for path in site.rglob("*.html")}
    found = []
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        found += [f"{name}: loads {a}" for a in page.fetched if urlsplit(a).netloc]
        for link in [*page.links, *page.fetched]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                found.append(f"{name}: {link}: no such file")
            elif parts.fragment and target in pages and parts.fragment not in pages[target].anchors:
                found.append(f"{name}: {link}: no such anchor")
    for style in site.rglob("*.css"):
        outside = re.findall(r"(?:url\(|@import)\s*['\"]?(https?:[^'\")\s]+)", style.read_text())
        found += [f"{style.name}: loads {address}" for address in outside]
    return found


def main() -> None:
    """Print what is wrong; exit 1 where something is."""
    site = Path(sys.argv[1])
    wrong = problems(site)
    print(*wrong, sep="\n", end="\n" if wrong else "")
    pages = sum(1 for _ in site.rglob("*.html"))
    print(f"{pages} pages, {len(wrong)} links or addresses are wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
