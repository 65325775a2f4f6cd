"""Images found in folders: which files are taken, and which are skipped."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from bwn._text import one_line
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


LINKED = "links to folders"
BROKEN = "links that lead nowhere"


class Skipped:
    """Files and links that a search did not take.

    Attributes:
        counts: Ending of names, with its dot, to how many files have it.
        first: Ending to the name of the first of them.
        links: LINKED or BROKEN to the paths of such links.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        self.links: dict[str, list[str]] = {}

    def add(self, entry: os.DirEntry[str]) -> None:
        """Count a file, or a link to none."""
        if is_broken(entry):
            self.add_link(entry, BROKEN)
            return
        suffix = os.path.splitext(entry.name)[1].lower() or "(no ending)"
        self.counts[suffix] += 1
        self.first.setdefault(suffix, entry.name)

    def add_link(self, entry: os.DirEntry[str], reason: str) -> None:
        """Count a link; `reason`: LINKED or BROKEN."""
        self.links.setdefault(reason, []).append(entry.path)

    def lines(self, base: StrPath | None = None) -> list[str]:
        """What was not taken, one line for each reason; links are named relative to `base`."""
        lines = self.link_lines(base)
        if self.counts:
            endings = ", ".join(
                one_line(f"{count:,} {suffix} ({self.first[suffix]}{', ...' * (count > 1)})")
                for suffix, count in self.counts.most_common(5)
            )
            lines.append(f"not named as images: {endings}" + ", ..." * (len(self.counts) > 5))
        return lines

    def link_lines(self, base: StrPath | None = None) -> list[str]:
        """The lines on links alone."""
        lines = []
        for reason, paths in sorted(self.links.items()):
            first = one_line(os.path.relpath(paths[0], base) if base else paths[0])
            lines.append(f"{reason}: {len(paths):,} ({first}{', ...' * (len(paths) > 1)})")
        return lines


def is_sidecar(name: str) -> bool:
    """Return whether a file or a folder of this name is never a picture or a class."""
    return name.startswith(".") or name.lower() in SIDECARS


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder, or a link to one that can be followed."""
    try:
        return entry.is_dir()
    except OSError:  # a loop of links, or no permission
        return False


def is_broken(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a link that leads nowhere, or in a circle."""
    return entry.is_symlink() and not os.path.exists(entry.path)


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
        skipped: Counts the files of folders that are not named as images, and links.
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
            if skipped is not None:
                skipped.add_link(entry, LINKED)
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
            yield entry.path
        elif skipped is not None:
            skipped.add(entry)
