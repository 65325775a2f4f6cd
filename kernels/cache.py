"""Where compiled code and measurements are kept, and what they hold for: the sources of this package."""

from __future__ import annotations

import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path


@cache
def sources_digest() -> str:
    """Hash of all files of this package."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def cache_folder() -> Path:
    """Folder of this version of the kernels: in BWN_CACHE_DIR, else the user's cache folder, else a temporary one."""
    named = os.environ.get("BWN_CACHE_DIR")
    if named:
        roots = [Path(named)]
    else:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        user = os.getuid() if hasattr(os, "getuid") else "user"
        roots = [Path(home) / "bwn", Path(tempfile.gettempdir()) / f"bwn-{user}"]
    for root in roots:
        folder = root / f"kernels-{sources_digest()}"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            continue
        if os.access(folder, os.W_OK) and _is_mine(folder):
            return folder
    return Path(tempfile.mkdtemp(prefix="bwn-kernels-"))


def _is_mine(folder: Path) -> bool:
    # Cached code is executed: never take it from a folder that another user made.
    return not hasattr(os, "getuid") or folder.stat().st_uid in (os.getuid(), 0)
