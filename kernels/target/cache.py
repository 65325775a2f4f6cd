"""Where compiled code and measurements are cached, by a hash of the sources of this package."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path

NOWHERE = Path(os.devnull) / "none"
"""A folder that cannot exist, for this or another user."""

compiling = threading.RLock()
"""Held while kernels are imported and compiled. A fork waits for it: the child has no other thread
that could release it."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=compiling.acquire,
        after_in_child=compiling.release,
        after_in_parent=compiling.release,
    )


@cache
def sources_digest() -> str:
    """Hash of all files of this package but the ahead-of-time build."""
    digest = hashlib.sha256()
    package = Path(__file__).parents[1]
    for path in sorted(
        path for path in package.rglob("*.py") if "aot" not in path.relative_to(package).parts
    ):
        digest.update(path.relative_to(package).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def cache_folder() -> Path:
    """Cache folder of this version of the kernels.

    In BWN_CACHE_DIR, else in the user's cache folder, else temporary. NOWHERE on a read-only
    system: bundled kernels need no folder.
    """
    for root in _roots():
        folder = root / f"kernels-{sources_digest()}"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            continue
        if os.access(folder, os.W_OK) and _is_mine(folder):
            return folder
    import tempfile

    try:
        return Path(tempfile.mkdtemp(prefix="bwn-kernels-"))
    except OSError:
        return NOWHERE


def _roots() -> Iterator[Path]:
    chosen = os.environ.get("BWN_CACHE_DIR")
    if chosen:
        yield Path(chosen)
        return
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    if os.path.isabs(home):  # a user without a home leaves `~` as it is
        yield Path(home) / "bwn"
    import tempfile  # costs 3 ms, and asking for the folder writes a file

    try:
        root = (
            Path(tempfile.gettempdir()) / f"bwn-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
        )
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return
    if _is_mine(root):  # its owner could replace our folder
        yield root


def _is_mine(folder: Path) -> bool:
    # Cached code is executed: never load it from a folder that another user created.
    return not hasattr(os, "getuid") or folder.stat().st_uid in (os.getuid(), 0)
