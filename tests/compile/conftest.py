"""One compiled library for all tests here."""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path

import pytest

from bwn.compile.library import compile_library
from bwn.kernels.aot import linker

MODEL = Path(__file__).resolve().parents[2] / "models" / "mnist-lenet.bwn"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library `net` of LeNet for this machine, which takes most of the time of these tests."""
    if not sys.platform.startswith("linux") or platform.machine() not in linker.PAGES:
        pytest.skip("libraries are for Linux")
    if not all(map(shutil.which, ("ld", "as"))):
        pytest.skip("no binutils")
    folder = tmp_path_factory.mktemp("c")
    compile_library(MODEL, folder, name="net")
    return folder
