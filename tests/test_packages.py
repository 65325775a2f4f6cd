"""The packages listed by hand in pyproject.toml are the folders that are there, and their data files exist."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
HOMES = {"bwn": "bwn", "cli": "bwn.cli", "kernels": "bwn.kernels"}


@pytest.fixture(scope="module")
def setuptools() -> dict[str, Any]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found: dict[str, Any] = settings["tool"]["setuptools"]
    return found


def folder_of(package: str) -> Path:
    """Where the sources of an installed package lie: bwn.cli.x in cli/x, bwn.format in bwn/format."""
    for folder, home in HOMES.items():
        if home != "bwn" and (package == home or package.startswith(home + ".")):
            return ROOT / folder / package.removeprefix(home).removeprefix(".").replace(".", "/")
    return ROOT / package.replace(".", "/")


def test_listed_packages_are_the_folders_with_an_init_file(setuptools: dict[str, Any]) -> None:
    there = [
        ".".join([home, *init.parent.relative_to(ROOT / folder).parts])
        for folder, home in HOMES.items()
        for init in (ROOT / folder).rglob("__init__.py")
    ]
    assert sorted(setuptools["packages"]) == sorted(there)


def test_no_module_lies_in_a_folder_that_is_not_a_package() -> None:
    for folder in HOMES:
        for module in (ROOT / folder).rglob("*.py"):
            assert (module.parent / "__init__.py").exists(), module


def test_every_data_pattern_names_files_that_are_there(setuptools: dict[str, Any]) -> None:
    for package, patterns in setuptools["package-data"].items():
        for pattern in patterns:
            assert list(folder_of(package).glob(pattern)), f"{package}: {pattern} matches nothing"


def test_every_data_file_is_covered_by_a_pattern(setuptools: dict[str, Any]) -> None:
    covered = {
        path
        for package, patterns in setuptools["package-data"].items()
        for pattern in patterns
        for path in folder_of(package).glob(pattern)
    }
    for folder in HOMES:
        for path in (ROOT / folder).rglob("*"):
            if (
                path.is_file()
                and path.suffix not in {".py", ".pyc"}
                and "__pycache__" not in path.parts
            ):
                assert path in covered, f"{path.relative_to(ROOT)} would not be installed"


def test_the_sample_is_found_as_an_installed_file_and_small() -> None:
    sample = resources.files("bwn.data") / "mnist-sample"
    sizes = [len(entry.read_bytes()) for entry in sample.iterdir()]
    assert sizes
    assert sum(sizes) <= 1_500_000


@pytest.mark.parametrize(
    "code",
    [
        "import bwn; bwn.load",
        "import bwn.kernels.bits",
        "from bwn.cli.main import main",
        "import runpy; runpy.run_module('bwn.cli', run_name='nothing')",
    ],
)
def test_a_checkout_finds_its_own_packages_without_an_import_hook(code: str) -> None:
    """Inside a checkout the folder bwn/ comes before an installed bwn, and -S leaves out the hook of an editable one."""
    script = f"import sys; sys.path[1:] = {sys.path!r}; {code}"
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


PROGRAM = """
import bwn

try:
    model = bwn.load("model.bwn", threads=2)
    shape: str = model.input_shape
except bwn.BwnError as error:
    code: str = error.exit_code
"""
SKIPPED = """
[mypy]
[mypy-numpy.*,PIL.*,msgspec.*]
follow_imports = skip
[mypy-bwn.data.*,bwn.format.*,bwn.plan.*,bwn.runtime.*,bwn.tools.*,bwn.train.*]
follow_imports = skip
"""
"""What says nothing about how bwn is found, and takes mypy ten seconds."""


def test_a_type_checker_finds_bwn_in_this_environment(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "mypy.ini").write_text(SKIPPED)
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "program.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert re.findall(r"program.py:(\d+): error: .* \[([a-z-]+)\]", done.stdout) == [
        ("6", "assignment"),
        ("8", "assignment"),
    ], done.stdout + done.stderr
