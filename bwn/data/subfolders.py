"""The folders in a folder that may be classes or splits: no sidecars, and none twice by links."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from bwn._text import one_line, read_failure
from bwn.data.folders import is_broken, is_folder, is_sidecar
from bwn.errors import DataError

LISTED = 5


def subfolders(base: Path, notes: list[str], prefix: str = "") -> list[Path]:
    """The folders in `base` that may be classes or splits.

    Args:
        base: Where to look.
        notes: Says what is skipped.
        prefix: What to write before names in notes.
    """
    entries = _entries(base)
    folders = [entry for entry in entries if is_folder(entry)]
    repeated = _repeated(base, [entry for entry in folders if not is_sidecar(entry.name)])
    for reason, names in (
        ("made by programs", [f"{entry.name}/" for entry in folders if is_sidecar(entry.name)]),
        ("links to folders already included", [f"{name}/" for name in sorted(repeated)]),
        ("links that lead nowhere", [entry.name for entry in entries if is_broken(entry)]),
    ):
        if names:
            notes.append(f"skipped, {reason}: {some(prefix + name for name in names)}")
    return [
        Path(entry.path)
        for entry in folders
        if not is_sidecar(entry.name) and entry.name not in repeated
    ]


def _repeated(base: Path, folders: Sequence[os.DirEntry[str]]) -> set[str]:
    """Names of the links to `base`, a folder around it, or a folder that is among the others."""
    links = {
        entry.name: Path(os.path.realpath(entry.path)) for entry in folders if entry.is_symlink()
    }
    if not links:
        return set()
    real = Path(os.path.realpath(base))
    around = {real, *real.parents}
    taken = {real / entry.name for entry in folders if entry.name not in links}
    repeated = set()
    for name, target in sorted(links.items(), key=lambda link: (link[1], link[0])):
        if target in around or taken & {target, *target.parents}:
            repeated.add(name)
        else:
            taken.add(target)
    return repeated


def loose_files(base: Path) -> list[str]:
    """Names of the files in a folder, without hidden ones."""
    return [
        entry.name
        for entry in _entries(base)
        if not (entry.name.startswith(".") or is_folder(entry) or is_broken(entry))
    ]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as listing:
            return sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(read_failure(folder, error)) from None


def some(names: Iterable[str]) -> str:
    """The first few names of several."""
    listed = [one_line(name) for name in names]
    more = f" and {len(listed) - LISTED:,} more" if len(listed) > LISTED else ""
    return ", ".join(listed[:LISTED]) + more
