"""Where compiled code and measurements are cached, by a hash of the sources of this package."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from bwn.kernels.target.trust import distrust

PACKAGE = Path(__file__).parents[1]
DIGEST_FILE = PACKAGE / "libraries" / "digest"
"""The digest of the sources in a wheel with libraries: reading all of them takes longer than most
of what else is done at a start."""
NOWHERE = Path(os.devnull) / "none"
"""A folder that cannot exist, for this or another user."""


@cache
def sources_digest() -> str:
    """Hash of all files of this package but the ahead-of-time build."""
    try:
        return DIGEST_FILE.read_text(encoding="ascii")
    except OSError:
        return compute_digest()


def compute_digest() -> str:
    """The same, whatever a wheel says."""
    import hashlib

    digest = hashlib.sha256()
    for path in sorted(
        path for path in PACKAGE.rglob("*.py") if "aot" not in path.relative_to(PACKAGE).parts
    ):
        digest.update(path.relative_to(PACKAGE).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def cache_folder() -> Path:
    """Cache folder of this version of the kernels.

    In BWN_CACHE_DIR, else in the user's cache folder, else temporary. A folder that others may
    write to is not used: what is cached is run. NOWHERE on a read-only system: bundled kernels
    need no folder.
    """
    for root in _roots():
        folder = root / f"kernels-{sources_digest()}"
        try:
            _make_private(folder)
        except OSError:
            continue
        if not os.access(folder, os.W_OK):
            continue
        why = distrust(folder)
        if not why:
            return folder
        logging.getLogger(__name__).warning(
            "the cache of kernels %s is not used, since %s; a private folder is used instead",
            folder,
            why,
        )
    import tempfile

    try:
        return Path(tempfile.mkdtemp(prefix="bwn-kernels-"))
    except OSError:
        return NOWHERE


def _roots() -> Iterator[Path]:
    chosen = os.environ.get("BWN_CACHE_DIR")
    if chosen:
        yield Path(chosen).absolute()
        return
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    if os.path.isabs(home):  # a user without a home leaves `~` as it is
        yield Path(home) / "bwn"
    import tempfile  # costs 3 ms, and asking for the folder writes a file

    try:
        temporary = Path(tempfile.gettempdir())
    except OSError:
        return
    yield temporary / f"bwn-{os.getuid() if hasattr(os, 'getuid') else 'user'}"


def _make_private(folder: Path) -> None:
    """Make a folder and those above it that are missing, for this user alone."""
    if not folder.is_dir():
        _make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
