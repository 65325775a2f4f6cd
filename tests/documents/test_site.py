"""What the site is made of: its checker sees broken links, and no public name or page is left out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import bwn
import bwn.train
from bwn.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(autouse=True)
def site_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS / "_site"))


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    from check_site import problems

    (tmp_path / "a.html").write_text(
        "<h1 id='top'>A</h1><a href='b.html'>b</a><a href='#top'>top</a><a href='#none'>x</a>"
        "<a href='https://example.org/'>elsewhere</a><img src='https://example.org/x.png'>"
    )
    (tmp_path / "a.css").write_text("@import 'https://example.org/font.css';")
    assert problems(tmp_path) == [
        "a.html: loads https://example.org/x.png",
        "a.html: b.html: no such file",
        "a.html: #none: no such anchor",
        "a.css: loads https://example.org/font.css",
    ]
    (tmp_path / "b.html").write_text("")
    assert len(problems(tmp_path)) == 3


def test_the_reference_of_commands_has_every_command_and_option() -> None:
    from command_pages import all_commands

    text = all_commands()
    for name in COMMANDS:
        assert f"\n## bwn {name}\n" in text
    assert "\n### bwn experiment report\n" in text
    assert "`--scheme [float|deterministic|stochastic|scaled|margin]`\n: How weights" in text
    assert "```text\nbwn infer model.bwn photos/ --top 3\n" in text
    assert "\b" not in text


def test_every_public_name_is_in_the_python_reference() -> None:
    page = (DOCS / "reference" / "python.md").read_text("utf-8")
    named = set(re.findall(r"^\.\. auto\w+:: bwn\.(\w+)$", page, re.MULTILINE))
    assert {name for name in bwn.__all__ if not name.startswith("__")} <= named
    assert "train" in named
    assert all(getattr(bwn.train, name).__doc__ for name in bwn.train.__all__ if name[0].islower())


def test_every_page_is_in_the_contents() -> None:
    """Sphinx says so too, but these tests do without it."""
    index = (DOCS / "index.md").read_text("utf-8")
    listed = set(re.findall(r"^([\w./-]+)$", index, re.MULTILINE))
    pages = {
        page.relative_to(DOCS).with_suffix("").as_posix()
        for page in DOCS.rglob("*.md")
        if "records" not in page.parts
        and ("decisions" not in page.parts or page.name == "README.md")
    }
    assert pages - {"index"} <= listed
