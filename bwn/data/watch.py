"""Images as they arrive in folders: what a camera or a copy puts there."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from bwn._types import StrPath
from bwn.data.folders import Skipped, images_in

INTERVAL = 0.25
"""Seconds between two scans."""
REST = 9
"""Pause after a scan, in times that it took: large folders must not keep the CPU busy."""
PATIENCE = 2.0
"""Seconds after which a file that is replaced without pause is taken as it is."""
REMEMBERED = 100_000
"""Images that are gone and remembered, unless there were more at once: about 40 MB."""


class Stamp(NamedTuple):
    """What changes when a file is written or replaced.

    Attributes:
        modified: Its time, in nanoseconds.
        size: Bytes.
        inode: Another one where a new file took the name.
    """

    modified: int
    size: int
    inode: int

    def grew_from(self, before: Stamp | None) -> bool:
        """Whether this is the same file, longer: it is still being written."""
        return before is not None and self.inode == before.inode and self.size > before.size

    def matches(self, known: Stamp | None, was_gone: bool) -> bool:
        """Whether this is the known file; one that was gone may have another inode since."""
        return self == known or (was_gone and known is not None and self[:2] == known[:2])


def arrivals(
    folders: Sequence[StrPath],
    recursive: bool = True,
    wait: Callable[[], object] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Path]:
    """Yield the images that arrive or change in folders after this call, without end.

    An image counts as written when its size and time are the same in two scans. One that changes in
    every scan, without growing, or is removed again and again, is being replaced: its newest state
    is yielded at least every PATIENCE seconds. The folders are listed again for each scan, which
    works on every file system, network drives included. When a folder disappears or cannot be
    listed, one line warns of it, and it is waited for. An image that comes back with its name, size
    and time, as those of a drive that is mounted again, is not new. Links to folders inside a
    folder are not followed; one line warns of those that are there at the start.

    Args:
        folders: The folders to watch.
        recursive: Whether to watch folders inside them.
        wait: Called between two scans; None: sleep INTERVAL, or longer after long scans (REST).
        clock: Tells the time in seconds.
    """
    scanner = _Scanner(folders, recursive)
    skipped = Skipped()
    before = scanner.scan(skipped)
    for line in skipped.link_lines():
        logging.getLogger(__name__).warning("not watched, %s", line)
    return _arrivals(scanner, before, wait, clock)


def _arrivals(
    scanner: _Scanner,
    before: dict[str, Stamp],
    wait: Callable[[], object] | None,
    clock: Callable[[], float],
) -> Iterator[Path]:
    """Yield what `arrivals` does. before: what was there at its call."""
    done = before.copy()
    most = len(before)
    since: dict[str, float] = {}  # when an image was first replaced, and not yet taken
    while True:
        wait() if wait is not None else time.sleep(max(INTERVAL, REST * scanner.seconds))
        now = scanner.scan()
        for path, stamp in now.items():
            last = before.get(path)
            if stamp.matches(done.get(path), was_gone=last is None):
                done[path] = stamp
                since.pop(path, None)
            elif last == stamp or clock() - since.get(path, clock()) > PATIENCE:
                done.pop(path, None)
                done[path] = stamp  # the last one
                since.pop(path, None)
                yield Path(path)
                if not os.path.exists(path):  # perhaps it went away before it was read
                    del done[path]
            elif last is not None and not stamp.grew_from(last):
                since.setdefault(path, clock())
        if not scanner.missing:  # images on a drive that comes back are not new
            for path in before.keys() - now.keys():
                if done.get(path) != before[path]:  # removed before it was taken; it may come back
                    since.setdefault(path, clock())
        since = {
            path: start
            for path, start in since.items()
            if path in now or clock() - start <= 2 * PATIENCE
        }
        most = max(most, len(now))
        if len(done) > len(now) + REMEMBERED:
            _forget(done, now, max(REMEMBERED, most))
        before = now


def _forget(done: dict[str, Stamp], now: dict[str, Stamp], most: int) -> None:
    """Drop the images taken longest ago of those that are gone, beyond `most`."""
    gone = [path for path in done if path not in now]
    for path in gone[: max(len(gone) - most, 0)]:
        del done[path]


class _Scanner:
    """Lists the images of folders.

    Attributes:
        missing: Folders that the last scan could not list.
        seconds: Time that it took.
    """

    def __init__(self, folders: Sequence[StrPath], recursive: bool) -> None:
        self.folders, self.recursive = folders, recursive
        self.missing: list[StrPath] = []
        self.seconds = 0.0

    def scan(self, skipped: Skipped | None = None) -> dict[str, Stamp]:
        """The images in the folders; warns of a folder that was there before."""
        start = time.perf_counter()
        missing_before, self.missing = self.missing, []
        images = {}
        for folder in self.folders:
            try:
                os.scandir(folder).close()
            except OSError as error:
                self.missing.append(folder)
                if folder not in missing_before:
                    logging.getLogger(__name__).warning(
                        "%s: %s; waiting for it", folder, error.strerror
                    )
                continue
            for path in images_in(folder, self.recursive, skipped):
                with suppress(OSError):  # deleted since it was listed
                    status = os.stat(path)
                    images[path] = Stamp(status.st_mtime_ns, status.st_size, status.st_ino)
        self.seconds = time.perf_counter() - start
        return images
