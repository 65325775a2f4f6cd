"""`bwn` has the names that it promises, and they stay what they are when their modules have been imported."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import bwn
from bwn.kernels.target.loader import KernelsError


@pytest.mark.parametrize("name", [name for name in bwn.__all__ if not name.startswith("__")])
def test_a_public_name_is_callable_whatever_was_imported(name: str) -> None:
    for module in pkgutil.iter_modules(bwn.__path__[:1]):  # a checkout's path has its root too
        importlib.import_module(
            f"bwn.{module.name}"
        )  # sets bwn.NAME to the module, also where NAME is a function
    assert callable(getattr(bwn, name)), f"bwn.{name} is {getattr(bwn, name)}"


def test_without_kernels_a_name_ends_in_an_error_of_bwn(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_name: str) -> None:
        raise KernelsError("no kernels at all")

    monkeypatch.setattr(bwn, "import_module", none)
    with pytest.raises(bwn.BwnError, match="no kernels at all"):
        bwn.Model  # noqa: B018  # to ask for it is the test


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="none_such"):
        bwn.none_such  # noqa: B018
