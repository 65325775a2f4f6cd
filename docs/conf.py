"""Settings of the documentation site, which `make docs` builds with Sphinx.

Its source is the whole repository, so that each link between Markdown files works there as here.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_site"))

from command_pages import all_commands  # noqa: E402  # found by the path above

from bwn._text import __version__  # noqa: E402  # as above

project = "bwn"
author = "the authors of bwn"
project_copyright = "the authors of bwn, Apache-2.0"
release = version = __version__
language = "en"

root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "bwn/format/SPEC.md",
    "models/README.md",
    "benchmarks/README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
]
exclude_patterns = [".*", "build", "dist", "docs/_site", "docs/records"]
templates_path = ["_site/templates"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]
highlight_language = "sh"  # of blocks without a language
default_role = "code"  # docstrings are written as Markdown is: `code`
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_type_aliases = {"npt.ArrayLike": "numpy.typing.ArrayLike"}
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"bwn {__version__}"
html_static_path = ["_site/static"]
html_css_files = ["bwn.css"]
html_show_search_summary = False  # it reads other pages, which a browser forbids to files
html_copy_source = False
html_additional_pages = {"index": "redirect.html"}


def from_markdown(
    _app: Sphinx, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]
) -> None:
    """Docstrings are for people: a star is a star, and what is indented after `:` is code."""
    for number, line in enumerate(lines):
        parts = re.split(r"(`[^`]*`)", line)
        lines[number] = "".join(
            part if part.startswith("`") else part.replace("*", r"\*") for part in parts
        )
        if line.endswith(":") and lines[number + 1 : number + 2] == [""]:
            lines[number] += ":"


def complete_page(_app: Sphinx, name: str, source: list[str]) -> None:
    """The reference of commands is made from their code, the list of decisions from the folder."""
    if name == "docs/reference/commands":
        source[0] += all_commands()
    elif name == "docs/decisions/README":
        source[0] += "\n```{toctree}\n:glob:\n:reversed:\n\n2*\n```\n"


def unlink_folders(app: Sphinx, doctree: nodes.document) -> None:
    """A link to a folder, which a repository shows and a site does not, becomes its text."""
    page = Path(app.env.doc2path(app.env.docname))
    for link in list(doctree.findall(pending_xref)):
        if (page.parent / link.get("reftarget", "")).is_dir():
            link.replace_self(link.children)


def setup(app: Sphinx) -> None:
    """Connect what is done to pages and docstrings."""
    app.connect("source-read", complete_page)
    app.connect("autodoc-process-docstring", from_markdown, priority=400)  # before napoleon
    app.connect("doctree-read", unlink_folders)
