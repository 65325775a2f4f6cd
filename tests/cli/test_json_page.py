"""docs/reference/json.md has the keys and types that `--json` prints, no more and no fewer."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from bwn.cli.main import bwn as group
from bwn.data.datasets import load_dataset
from bwn.format import read
from bwn.onnx.exporter import to_onnx_bytes

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "json.md"
COMMANDS = {
    "infer": "infer model.bwn digits --top 2",
    "evaluate": "evaluate model.bwn --data mnist-sample",
    "verify": "verify model.bwn model.onnx",
    "pack": "pack model.onnx -o packed.bwn",
    "inspect": "inspect model.bwn --plan",
    "bench": "bench model.bwn --threads 1 --seconds 0.01 --layers --no-compare",
    "train": "train --data mnist-sample --width 16 --epochs 1 -o model.pt",
    "report": "report model.bwn",
    "export": "export model.bwn -o exported.onnx",
    "doctor": "doctor",
    "tune": "tune --show",
}
NAMES = {
    str: "string", bool: "boolean", int: "integer", float: "number", dict: "object",
    type(None): "null",
}  # fmt: skip


def documented(command: str) -> dict[str, set[str]]:
    """Types of the keys in the table of a command."""
    section = PAGE.read_text("utf-8").partition(f"\n## bwn {command}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \| ([a-z ]+) \|", section, re.MULTILINE)
    return {key: set(types.split(" or ")) for key, types in rows}


def leaves(value: Any, known: dict[str, set[str]], key: str = "") -> Iterator[tuple[str, str]]:
    """Keys and types of a document, no deeper than the page says."""
    described = any(other.startswith((f"{key}.", f"{key}[")) for other in known)
    if isinstance(value, dict) and (described or not key):
        for name, item in value.items():
            yield from leaves(item, known, f"{key}.{name}".removeprefix("."))
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item, known, f"{key}[]")
    elif not (value is None and described):  # an array or object that may be null
        yield key, NAMES[type(value)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("json")
    shutil.copy(ROOT / "models" / "mnist-mlp.bwn", made / "model.bwn")
    (made / "model.onnx").write_bytes(to_onnx_bytes(read(made / "model.bwn")))
    (made / "digits").mkdir()
    Image.fromarray(load_dataset("mnist-sample", "test").images[0]).save(made / "digits/7.png")
    return made


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_has_the_keys_and_types_that_are_printed(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(group, [*COMMANDS[command].split(), "--json"])
    assert done.exit_code == 0, done.output
    lines = command in ("infer", "train")
    documents = [json.loads(t) for t in (done.stdout.splitlines() if lines else [done.stdout])]
    known = documented(command)
    printed = {pair for document in documents for pair in leaves(document, known)}
    for key, kind in sorted(printed):
        assert key in known, f"{key} ({kind}) is not on the page"
        fits = kind in known[key] or (kind == "integer" and "number" in known[key])
        assert fits, f"{key} is {kind}, the page says {known[key]}"
    empty = {key for key in known if "[]" in key} | {"results[].left_out"}  # arrays without items
    assert set(known) - {key for key, _ in printed} <= empty


def test_every_command_with_the_option_is_on_the_page() -> None:
    text = PAGE.read_text("utf-8")
    for name in group.list_commands(None):  # type: ignore[arg-type]  # it needs no context
        command = group.get_command(None, name)  # type: ignore[arg-type]  # it needs no context
        if command is not None and any("--json" in p.opts for p in command.params):
            assert f"bwn {name}" in text, name
