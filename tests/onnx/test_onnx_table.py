"""docs/onnx.md lists every ONNX operation that is read. `python tests/onnx/test_onnx_table.py`
writes its table.
"""

from __future__ import annotations

from pathlib import Path

import bwn.onnx.importer  # noqa: F401  # fills READERS
from bwn.onnx.functions import EXPANDED
from bwn.ops.onnx_reading import READERS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "onnx.md"
HEAD = "| ONNX operation | how it is read |\n|---|---|\n"


def table() -> str:
    """A row for each reader: its operations, and the first sentence of its docstring."""
    names: dict[str, list[str]] = {}
    for op_type, reader in sorted(READERS.items()):
        if "." in op_type:  # made by the importer itself
            continue
        line = (reader.__doc__ or "").strip().split("\n")[0].replace("|", "\\|")
        names.setdefault(line, []).append(op_type)
    return HEAD + "".join(f"| {', '.join(ops)} | {line} |\n" for line, ops in names.items())


def test_the_table_is_current() -> None:
    assert table() in DOCUMENT.read_text(encoding="utf-8"), "run tests/onnx/test_onnx_table.py"


def test_the_functions_that_are_expanded_are_listed() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert not [name for name in EXPANDED - {"CastLike"} if name not in document]


def test_every_reader_is_described() -> None:
    assert not [name for name, reader in READERS.items() if not (reader.__doc__ or "").strip()]


if __name__ == "__main__":
    before = DOCUMENT.read_text(encoding="utf-8").split(HEAD)[0]
    DOCUMENT.write_text(before + table(), encoding="utf-8")
