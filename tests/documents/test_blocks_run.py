"""The code blocks of the documents run as printed, one after the other, in one folder for each page."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from document_blocks import RUN, SHOWN, Block, blocks

ROOT = Path(__file__).resolve().parents[2]
HISTORY = ("docs/decisions/",)
"""Notes that say what was true on their day."""
ELSEWHERE = {
    "docs/own-training.md": "tests/train/test_own_training_page.py: small networks, few epochs",
    "docs/c-library.md": "tests/compile/test_examples.py: a library that is compiled once",
    "docs/web.md": "tests/compile/test_page.py: the page, in a browser",
    "docs/serve.md": "tests/serve/test_service.py: a server that is stopped",
    "docs/benchmarks.md": "tests/benchmarks/test_compare_networks.py: without the peers",
}
"""Pages whose subject another test runs, and how."""
PAGES = [
    page
    for page in sorted([*ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("docs/**/*.md")])
    if blocks(page)
    and not (name := page.relative_to(ROOT).as_posix()).startswith(HISTORY)
    and name not in ELSEWHERE
]
SLOW = ("docs/board.md", "docs/own-network.md", "docs/training.md", "docs/tutorial.md")
"""Pages that train for minutes; run by `make pages`, which sets this variable."""
EVERY_PAGE = "BWN_EVERY_PAGE" in os.environ
LONGEST = 300
"""Seconds that a block may take."""


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def environment() -> dict[str, str]:
    """`bwn` and `python` of this environment come first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_WAIT_POLICY": "PASSIVE"}


def run(block: Block, folder: Path) -> None:
    """Run a block; it must end well."""
    command = {"python": [sys.executable, "-c", block.code]}.get(
        block.language, ["bash", "-euo", "pipefail", "-c", block.code]
    )
    done = subprocess.run(
        command, cwd=folder, env=environment(), text=True, capture_output=True, timeout=LONGEST
    )
    place = f"{block.page}:{block.line}"
    assert done.returncode == 0, (
        f"{place}\n{block.code}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_blocks_of_a_page_run_as_printed(page: Path, workplace: Path) -> None:
    if name_of(page) in SLOW and not EVERY_PAGE:
        pytest.skip("trains for minutes: make pages")
    for block in blocks(page):
        if block.not_run or block.language in SHOWN:
            continue
        if block.needs and importlib.util.find_spec(block.needs) is None:
            continue  # optional packages, as for tests/onnx/test_brevitas.py
        run(block, workplace)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_block_is_run_or_says_why_not(page: Path) -> None:
    for block in blocks(page):
        assert block.language in (*RUN, *SHOWN) or block.not_run, f"{block.line}: {block.language}"
        assert not block.not_run or len(block.not_run.split()) >= 2, f"{block.line}: no reason"


def test_the_tests_of_other_pages_exist() -> None:
    for page, test in ELSEWHERE.items():
        assert (ROOT / page).exists()
        assert (ROOT / test.partition(":")[0]).exists()


def test_most_blocks_are_run() -> None:
    found = [block for page in PAGES for block in blocks(page) if block.language in RUN]
    skipped = [block for block in found if block.not_run]
    assert len(found) - len(skipped) >= 15
    assert len(skipped) < len(found)


def test_a_block_that_fails_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- needs os -->\n\n```\nfalse | cat\n```\n\n```python\n1 / 0\n```\n")
    shell, python = blocks(page)
    assert (shell.needs, shell.line, python.language) == ("os", 3, "python")
    for block, why in ((shell, "false"), (python, "ZeroDivisionError")):
        with pytest.raises(AssertionError, match=why):
            run(block, tmp_path)


def test_a_comment_belongs_to_the_block_after_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- not run: needs a board -->\n\n```\nx\n```\n\ntext\n\n```\ny\n```\n")
    assert [block.not_run for block in blocks(page)] == ["needs a board", ""]
