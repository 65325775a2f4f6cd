"""Images found in folders: which files are taken, and which are skipped."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from bwn._types import StrPath

SUFFIXES = frozenset(
    [
        ".png",
        ".apng",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".mpo",
        ".bmp",
        ".dib",
        ".gif",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".tif",
        ".tiff",
        ".webp",
        ".jp2",
        ".j2k",
        ".jpf",
        ".jpx",
        ".avif",
        ".avifs",
        ".heic",
        ".heif",
        ".hif",
    ]
)
"""Endings of the names that a search of a folder takes for images, in upper or lower case."""

SIDECARS = frozenset(
    name.lower()
    for name in (
        "__MACOSX",  # macOS, inside zip archives
        "__pycache__",
        "@eaDir",  # Synology
        "@Recycle",  # QNAP
        "@Recently-Snapshot",
        "#recycle",  # Synology
        "#snapshot",
        "$RECYCLE.BIN",  # Windows
        "RECYCLER",
        "System Volume Information",
        "lost+found",  # ext4
        "Network Trash Folder",
        "Temporary Items",
        "CANONMSC",  # Canon cameras, in DCIM
        "_gsdata_",
        "thumbnails",
        "_thumbs",
    )
)
"""Folders that systems, storage boxes and cameras put among pictures, in lower case."""


class Skipped:
    """Files that a search did not take, by the ending of their names.

    Attributes:
        counts: Ending, with its dot, to how many files have it.
        first: Ending to the name of the first of them.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def add(self, path: str) -> None:
        """Count a file."""
        suffix = os.path.splitext(path)[1].lower() or "(no ending)"
        self.counts[suffix] += 1
        self.first.setdefault(suffix, os.path.basename(path))

    def __str__(self) -> str:
        return ", ".join(
            f"{count:,} {suffix} ({self.first[suffix]}{', ...' * (count > 1)})"
            for suffix, count in self.counts.most_common(5)
        ) + ", ..." * (len(self.counts) > 5)


def is_sidecar(name: str) -> bool:
    """Return whether a file or a folder of this name is never a picture or a class."""
    return name.startswith(".") or name.lower() in SIDECARS


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder, or a link to one that can be followed."""
    try:
        return entry.is_dir()
    except OSError:  # a loop of links, or no permission
        return False


def find_images(
    paths: Iterable[StrPath], recursive: bool = True, skipped: Skipped | None = None
) -> Iterator[Path]:
    """Yield the paths of images in the order of `paths`, one at a time.

    A folder gives its files that are named as images (SUFFIXES), sorted, with those of its
    subfolders if `recursive`; hidden names, SIDECARS and links to folders inside it are skipped.
    Any other path is yielded unchanged.

    Args:
        paths: Files and folders.
        recursive: Whether to search folders inside folders.
        skipped: Counts the files of folders that are not named as images.
    """
    for path in map(Path, paths):
        if os.path.isdir(path):  # never raises, as Path's does for a name that is too long
            yield from map(Path, images_in(path, recursive, skipped))
        else:
            yield path


def images_in(
    folder: StrPath, recursive: bool = True, skipped: Skipped | None = None
) -> Iterator[str]:
    """Yield the images of a folder as `find_images` does; or itself if it cannot be listed."""
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError:
        yield os.fspath(folder)  # reading it says why
        return
    for entry in entries:
        if is_sidecar(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            if recursive:
                yield from images_in(entry.path, recursive, skipped)
        elif entry.is_symlink() and os.path.isdir(entry.path):
            continue
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
            yield entry.path
        elif skipped is not None:
            skipped.add(entry.path)
