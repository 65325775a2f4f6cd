"""Whether code in a folder may be run: only this user and root can have put it there."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

MOST_LINKS = 40
OTHERS = stat.S_IWGRP | stat.S_IWOTH


def distrust(folder: Path) -> str:
    """Why code in a folder must not be run; empty where it may.

    The folder, every folder above it and every link on the way belong to this user or to root, and
    nobody else may write to them. In a sticky folder, as /tmp is, others cannot replace what is
    not theirs. What lies in the folder is checked likewise.
    """
    if not hasattr(os, "getuid"):
        return ""
    try:
        steps = list(_steps(folder))
        for path in steps:
            shared = path != steps[-1]
            if why := _problem(path, os.lstat(path), sticky=shared):
                return why
        return _problem_inside(folder) if folder.is_dir() else ""
    except OSError as error:
        return f"{error.filename} cannot be looked at: {error.strerror}"


def _steps(path: Path) -> Iterator[Path]:
    """Every folder and link that is passed on the way to a path, from the root on."""
    todo = list(reversed(path.absolute().parts))
    current, links = Path(todo.pop()), 0
    yield current
    while todo:
        part = todo.pop()
        if part == "..":
            current = current.parent
            continue
        yield (step := current / part)
        if not step.is_symlink():
            current = step
            continue
        links += 1
        if links > MOST_LINKS:
            raise OSError(errno.ELOOP, "too many links", str(path))
        target = Path(os.readlink(step))
        parts = list(target.parts)
        if target.is_absolute():
            current = Path(parts.pop(0))
            yield current
        todo += reversed(parts)


def _problem(path: Path, entry: os.stat_result, *, sticky: bool) -> str:
    """What is wrong with one folder, file or link.

    Args:
        path: Its name.
        entry: What `lstat` says of it.
        sticky: Whether others may write to it if it is sticky.
    """
    if entry.st_uid not in (os.getuid(), 0):
        return f"{path} belongs to another user"
    if stat.S_ISLNK(entry.st_mode) or (sticky and entry.st_mode & stat.S_ISVTX):
        return ""
    writers = entry.st_mode & OTHERS
    if writers & stat.S_IWOTH or (writers and not _is_own_group(entry.st_gid)):
        return f"{path} can be written by other users"
    return ""


def _is_own_group(group: int) -> bool:
    """Whether a group is this user's alone, as many systems give one to each user."""
    import grp
    import pwd

    try:
        user, entry = pwd.getpwuid(os.getuid()), grp.getgrgid(group)
    except KeyError:
        return False
    own = entry.gr_gid == user.pw_gid and entry.gr_name == user.pw_name
    return own and set(entry.gr_mem) <= {user.pw_name}


def _problem_inside(folder: Path) -> str:
    """What is wrong with what lies in a folder; a link in it could lead anywhere."""
    # Nobody else reaches what lies in a private folder, whatever its own mode.
    private = not os.stat(folder).st_mode & (stat.S_IXGRP | stat.S_IXOTH)
    for parent, folders, files in os.walk(folder, onerror=_raise):
        for name in (*folders, *files):
            path = Path(parent, name)
            entry = os.lstat(path)
            if stat.S_ISLNK(entry.st_mode):
                return f"{path} is a link"
            if entry.st_uid not in (os.getuid(), 0):
                return f"{path} belongs to another user"
            if not private and (why := _problem(path, entry, sticky=False)):
                return why
    return ""


def _raise(error: OSError) -> None:
    raise error
