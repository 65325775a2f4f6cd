"""Digits, and a service that most tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from http_service import Server, running

from bwn.tools.demo import write_digits


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two images of each digit."""
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder)
    return sorted(folder.rglob("*.png"))


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A service with limits that tests reach."""
    with running("--max-bytes", "100K", "--timeout", "1", "--max-queue", "32") as server:
        yield server
