"""Images as they arrive in folders: what a camera, or whoever copies files, puts there."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bwn.images import find_images

INTERVAL = 0.25
"""Seconds between two looks."""


class Stamp(NamedTuple):
    """What changes when a file is written."""

    modified: int
    size: int


def arrivals(
    folders: Sequence[str | Path], recursive: bool = True, wait: Callable[[], object] | None = None
) -> Iterator[Path]:
    """Yield images that are new in the folders or written anew, for ever; those there at the first look are not.

    An image counts as written when two looks one after the other find it the same; one that is renamed into a folder
    is found likewise. The folders are listed anew each time: that works on every file system, network drives included.
    A folder that is gone, or cannot be listed, is waited for, after one line of warning.

    wait: called between two looks, default a sleep of INTERVAL.
    """
    lost = _lost(folders)
    done = before = _look([folder for folder in folders if folder not in lost], recursive)
    while True:
        wait() if wait is not None else time.sleep(INTERVAL)
        lost = _lost(folders, lost)
        now = _look([folder for folder in folders if folder not in lost], recursive)
        for path, stamp in now.items():
            if before.get(path) == stamp and done.get(path) != stamp:
                done[path] = stamp
                yield path
        if not lost:  # what is on a drive that comes back is not new
            done = {path: stamp for path, stamp in done.items() if path in now}
        before = now


def _lost(folders: Sequence[str | Path], known: Collection[str | Path] = ()) -> list[str | Path]:
    """Folders that cannot be listed; says why of those not known."""
    lost = []
    for folder in folders:
        try:
            os.scandir(folder).close()
        except OSError as error:
            lost.append(folder)
            if folder not in known:
                logging.getLogger(__name__).warning("%s: %s; waiting for it", folder, error.strerror)
    return lost


def _look(folders: Sequence[str | Path], recursive: bool) -> dict[Path, Stamp]:
    found = {}
    for path in find_images(folders, recursive):
        try:
            status = path.stat()
        except OSError:  # gone since it was listed
            continue
        found[path] = Stamp(status.st_mtime_ns, status.st_size)
    return found
