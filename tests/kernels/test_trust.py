"""Compiled code is loaded only from where this user and root alone can have put it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bwn.kernels.target import cache, loader, targets, trust
from bwn.kernels.target.cache import cache_folder
from bwn.kernels.target.trust import distrust

NOBODY = 65534

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="files have no owners here")
needs_root = pytest.mark.skipif(
    hasattr(os, "getuid") and os.getuid() != 0, reason="only root can give a file away"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An own folder, two levels deep."""
    path = tmp_path / "above" / "cache"
    path.mkdir(parents=True, mode=0o755)
    path.parent.chmod(0o755)
    (path / "sub").mkdir(mode=0o755)
    (path / "sub" / "code.nbi").write_bytes(b"code")
    (path / "sub" / "code.nbi").chmod(0o644)
    return path


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """The cache folder is chosen once a process: choose it anew."""
    cache_folder.cache_clear()
    yield
    cache_folder.cache_clear()


def test_an_own_folder_is_trusted(folder: Path) -> None:
    assert distrust(folder) == ""
    assert distrust(folder / "sub" / "code.nbi") == ""


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o772, 0o1777])
@pytest.mark.parametrize("which", [".", "sub"])
def test_a_folder_that_others_may_write_to_is_not(folder: Path, which: str, mode: int) -> None:
    (folder / which).chmod(mode)
    assert "can be written by other users" in distrust(folder)


@pytest.mark.parametrize("mode", [0o777, 0o733])
def test_a_folder_above_that_others_may_write_to_is_not(folder: Path, mode: int) -> None:
    folder.parent.chmod(mode)
    assert distrust(folder) == f"{folder.parent} can be written by other users"


def test_a_sticky_folder_above_is_trusted(folder: Path) -> None:
    folder.parent.chmod(0o1777)
    assert distrust(folder) == ""


def test_a_file_that_others_may_write_to_is_not_trusted(folder: Path) -> None:
    code = folder / "sub" / "code.nbi"
    code.chmod(0o666)
    assert distrust(folder) == f"{code} can be written by other users"
    folder.chmod(0o700)  # then nobody else gets to it
    assert distrust(folder) == ""


def test_links_inside_are_not_trusted(folder: Path) -> None:
    (folder / "linked").symlink_to(folder.parent)
    assert distrust(folder) == f"{folder / 'linked'} is a link"


def test_own_links_on_the_way_are_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("above")
    assert distrust(tmp_path / "link" / "cache") == ""
    folder.parent.chmod(0o777)
    assert "can be written" in distrust(tmp_path / "link" / "cache")


def test_a_link_through_a_folder_of_all_is_not_trusted(folder: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    (shared / "hop").symlink_to(folder)
    (tmp_path / "link").symlink_to(shared / "hop")
    assert distrust(tmp_path / "link") == f"{shared} can be written by other users"


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert "too many links" in distrust(tmp_path / "a")


def test_what_is_missing_is_not_trusted(tmp_path: Path) -> None:
    assert "cannot be looked at" in distrust(tmp_path / "none")


@needs_root
@pytest.mark.parametrize("which", ["..", ".", "sub", "sub/code.nbi"])
def test_what_belongs_to_another_user_is_not_trusted(folder: Path, which: str) -> None:
    os.chown(folder / which, NOBODY, NOBODY)
    assert "belongs to another user" in distrust(folder)


@needs_root
def test_a_link_of_another_user_is_not_trusted(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder)
    os.lchown(link, NOBODY, NOBODY)
    assert distrust(link) == f"{link} belongs to another user"


def test_a_group_of_one_user_may_write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.chmod(0o775)
    for own in (True, False):
        monkeypatch.setattr(trust, "_is_own_group", lambda group, own=own: own)
        assert (distrust(folder) == "") == own


PLANTED = """
import pickle, sys
from pathlib import Path
class Payload:
    def __reduce__(self):
        return exec, (f"open({sys.argv[2]!r}, 'w').close()",)
for path in Path(sys.argv[1]).rglob("*.nbi"):
    path.write_bytes(pickle.dumps(Payload()))
"""
ADD = "from bwn.kernels import registry; print(registry.BINARY['add'].entry().loaded)"


def add(folder: Path) -> tuple[str, list[str]]:
    """Whether the cache had a kernel, and what is said on standard error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ADD],
        env={**os.environ, "BWN_KERNELS": "jit", "BWN_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr.splitlines()


def test_a_planted_kernel_is_not_run(tmp_path: Path) -> None:
    folder, trace = tmp_path / "cache", tmp_path / "ran"
    assert add(folder)[0] == "False"
    assert add(folder) == ("True", [])
    for path in (folder, *folder.glob("kernels-*")):
        path.chmod(0o777)
    command = [sys.executable, "-c", PLANTED, str(folder), str(trace)]
    subprocess.run(command, check=True)
    loaded, lines = add(folder)
    assert loaded == "False"
    assert not trace.exists()
    (warning, _) = lines
    assert "is not used, since" in warning
    assert "can be written by other users; a private folder is used instead" in warning


def test_new_folders_are_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BWN_CACHE_DIR", str(tmp_path / "a" / "b"))
    mask = os.umask(0)
    try:
        folder = cache_folder()
    finally:
        os.umask(mask)
    assert folder.parent == tmp_path / "a" / "b"
    for path in (folder, *folder.parents[:2]):
        assert path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o700, 0o777])
def test_a_temporary_folder_that_others_may_write_to_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    monkeypatch.delenv("BWN_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    shared = tmp_path / f"bwn-{os.getuid()}"
    shared.mkdir()
    shared.chmod(mode)
    assert (cache_folder().parent == shared) == (mode == 0o700)
    assert cache_folder().stat().st_mode & 0o777 == 0o700


def test_a_library_that_others_may_write_to_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = targets.TARGETS[0]
    path = tmp_path / f"{target.name}.so"
    path.write_bytes(b"")
    path.chmod(0o666)
    monkeypatch.setattr(loader, "FOLDER", tmp_path)
    with pytest.raises(
        loader.KernelsError, match="can be written by other users; it is not loaded"
    ):
        loader.Library(target)
    path.chmod(0o644)
    with pytest.raises(loader.KernelsError, match="file too short"):
        loader.Library(target)


def test_a_bundled_library_is_trusted_as_the_package_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "kernels"
    libraries = package / "libraries"
    libraries.mkdir(parents=True)
    library = libraries / "x.so"
    library.write_bytes(b"")
    monkeypatch.setattr(loader, "__file__", str(package / "target" / "loader.py"))
    assert loader._distrusted(library) == ""
    library.chmod(0o666)
    assert loader._distrusted(library) == f"{library} can be written by other users"
    package.chmod(0o777)  # so are its sources
    assert loader._distrusted(library) == ""


def test_the_cost_table_is_in_the_trusted_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bwn.kernels import costs

    tmp_path.chmod(0o777)
    monkeypatch.setenv("BWN_CACHE_DIR", str(tmp_path / "cache"))
    assert not costs.table_path().is_relative_to(tmp_path / "cache")
    assert cache_folder() != cache.NOWHERE
