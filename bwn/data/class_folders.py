"""A folder with one folder of images for each class: what is in it, decided in one look.

The images of a split are either in folders of their own, such as train/ and test/, each with a
folder for every class; or the class folders are directly in the folder, and one image in five is
held out for the test split.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bwn._text import count_noun, is_name, one_line
from bwn.data.folders import Skipped, images_in
from bwn.data.records import NOUNS, Split
from bwn.data.subfolders import loose_files, some, subfolders
from bwn.errors import DataError

_ROLES: dict[str, tuple[str, ...]] = {
    "train": ("train", "training", "trn", "tr"),
    "test": ("test", "testing", "tst", "te"),
    "validation": ("val", "valid", "validation", "dev", "eval", "evaluation", "holdout"),
}
_EXTRA = re.compile(r"(_?(set|data|split|images|imgs|pictures|photos))+$")
_START = re.compile(r"((?i:train|test|val|valid|validation|training|testing))([^a-z].*)?$")
"""A name that starts like a split's: `train_cats`, `testA`."""
_DATE = re.compile(r"(19|20)\d\d([-_. ]?\d\d){0,2}")
"""What folders inside a class are often called."""

Images = dict[Split, tuple[list[str], list[int]]]
"""For each split, the paths of its images and their labels."""


@dataclass(frozen=True)
class ClassFolders:
    """Images in class folders.

    Attributes:
        folder: The folder that was looked at.
        classes: Names of the classes, in the order of their labels.
        images: For each split, the paths of its images and their labels.
        layout: How the splits are recognized, in words.
        notes: What was skipped, one line each.
    """

    folder: Path
    classes: tuple[str, ...]
    images: Images
    layout: str
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """What is in the folder: a line for the whole, one for the classes, and the notes."""
        counts = {split: Counter(labels) for split, (_, labels) in self.images.items()}
        sizes = [
            f"{name} {' + '.join(f'{counts[split][label]:,}' for split in self.images)}"
            for label, name in enumerate(self.classes)
        ]
        more = f", ... ({len(sizes) - 20:,} more)" if len(sizes) > 20 else ""
        totals = " and ".join(
            f"{len(paths):,} {NOUNS[split]}" for split, (paths, _) in self.images.items()
        )
        return [
            f"{self.folder}: {len(self.classes):,} classes, {totals} images ({self.layout})",
            f"images of each class: {', '.join(sizes[:20])}{more}",
            *self.notes,
        ]


def look(folder: Path) -> ClassFolders:
    """Find the classes, the splits and the images of a folder.

    Raises:
        DataError: There are fewer than two classes, a split is ambiguous, or a class of the test
            split is not in the training split.
    """
    found = _Found()
    base = _descend(folder, found.notes)
    folders = subfolders(base, found.notes)
    roles = _split_folders(base, folders)
    if roles:
        images, names = _read_splits(base, roles, found)
        layout = ", ".join(f"{split} = {roles[split].name}/" for split in roles)
    else:
        images, names = _hold_out(base, folders, found)
        layout = "one in five of each class held out for test, by a hash of the name"
    classes, notes = _checked(names, base), found.lines(base)
    if len(classes) < 2:
        reasons = f" ({'; '.join(notes)})" if notes else ""
        if any(images_in(base, recursive=False)):
            reasons += "; if its images are of one class, give the folder that contains it"
        raise DataError(
            f"{base}: has {count_noun(len(classes), 'class folder')} with images; expected a "
            "folder of images for each of two or more classes, or a folder of IDX files or of "
            f"CIFAR-10 binary files{reasons}"
        )
    return ClassFolders(base, classes, images, layout, notes)


def _descend(folder: Path, notes: list[str], role: str | None = None) -> Path:
    """The folder, or the one in it that holds everything, as unpacked archives have it.

    A folder of images is a class, and so is one whose folders are dates: it is not entered.

    Args:
        folder: Where to look.
        notes: Says which folder was entered.
        role: The split that the folder is, which the one in it may be called after too.
    """
    inner = folder
    while True:
        folders = subfolders(inner, [])
        if len(folders) != 1 or loose_files(inner) or _role(folders[0].name) != role:
            break
        inner = folders[0]
    if (
        inner == folder
        or len(folders) < 2
        or any(images_in(inner, recursive=False))
        or all(_DATE.fullmatch(path.name) for path in folders)
    ):
        return folder
    name = one_line(inner.relative_to(folder.parent if role else folder))
    notes.append(f"the only folder is {name}/, so the folders in it are taken")
    return inner


def _role(name: str) -> str | None:
    """Which split a folder's name means: `train`, `test`, `validation` or none."""
    plain = _EXTRA.sub("", re.sub(r"[^a-z]+", "_", name.lower()).strip("_"))
    last = plain.rpartition("_")[2]
    return next((role for role, words in _ROLES.items() if last in words), None)


def _split_folders(base: Path, folders: Sequence[Path]) -> dict[Split, Path]:
    """The folders of the splits; none where the folders are classes.

    A folder of a split holds folders, and a class's holds images: so a class may be called `train`.
    """
    splits: dict[str, list[Path]] = {}
    others = []
    for path in folders:
        role = _role(path.name)
        if role is None or not subfolders(path, []):
            if any(images_in(path)):
                others.append(path)
        else:
            splits.setdefault(role, []).append(path)
    if not splits:
        _refuse_hidden_splits(base, others)
        return {}
    twice = next((paths for paths in splits.values() if len(paths) > 1), None)
    if twice is not None:
        raise DataError(
            f"{base}: {twice[0].name}/ and {twice[1].name}/ both look like the "
            f"{_role(twice[0].name)} split; rename or move one"
        )
    if others:
        split_name = next(iter(splits.values()))[0].name
        raise DataError(
            f"{base}: {split_name}/ holds folders like a split, but {_slashed(others)} next to it "
            f"{'holds' if len(others) == 1 else 'hold'} images like a class; move one of the two"
        )
    roles: dict[Split, Path] = {}
    if "train" in splits:
        roles["train"] = splits["train"][0]
    for role in ("test", "validation"):
        if role in splits and "test" not in roles and any(images_in(splits[role][0])):
            roles["test"] = splits[role][0]
    return roles


def _refuse_hidden_splits(base: Path, folders: Sequence[Path]) -> None:
    """Raise DataError where the folders are no classes, but splits of another layout."""
    if folders and all(_role(path.name) for path in folders):
        raise DataError(
            f"{base}: {_slashed(folders)} hold no class folders; expected a folder of images for "
            "each class in them"
        )
    starts = [match and match[1].lower() for match in (_START.match(p.name) for p in folders)]
    if len(set(starts)) > 1 and None not in starts:
        raise DataError(
            f"{base}: {_slashed(folders)} look like splits; expected train/ and test/ with a "
            "folder for each class in them"
        )
    inner = [{path.name for path in subfolders(folder, [])} for folder in folders]
    dated = folders and all(map(_DATE.fullmatch, inner[0]))
    if (
        len(folders) > 1
        and len(inner[0]) > 1
        and all(names == inner[0] for names in inner)
        and not dated
    ):
        same = some(f"{name}/" for name in sorted(inner[0]))
        raise DataError(
            f"{base}: {_slashed(folders)} all hold {same}, like splits; expected classes, or "
            "train/ and test/ with the classes in them"
        )


class _Found:
    """Finds the images of class folders, and notes what else is there.

    Attributes:
        notes: What was skipped so far, one line each.
        loose: Files in no class folder.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.loose: list[str] = []
        self._empty: list[str] = []
        self._nested: Counter[str] = Counter()  # images in folders inside a class, by folder
        self._skipped = Skipped()

    def images(self, folder: Path, prefix: str = "") -> list[str]:
        """The images of a class folder. prefix: what to write before its name in a note."""
        files = list(images_in(folder, skipped=self._skipped))
        if not files:
            self._empty.append(f"{prefix}{folder.name}/")
        inner = Counter(map(os.path.dirname, files))
        del inner[str(folder)]
        for path, count in inner.items():
            self._nested[f"{os.path.relpath(path, folder.parent)}/"] += count
        return files

    def lines(self, base: Path) -> tuple[str, ...]:
        """All notes; links are named relative to `base`."""
        notes = [*self.notes]
        if self._empty:
            notes.append(f"skipped, no images in it: {some(self._empty)}")
        if self._nested:
            notes.append(
                f"images in folders inside a class are of that class: {self._nested.total():,} "
                f"({some(self._nested)})"
            )
        if self.loose:
            notes.append(f"skipped, in no class folder: {some(self.loose)}")
        return (*notes, *(f"skipped, {line}" for line in self._skipped.lines(base)))


def _read_splits(base: Path, roles: dict[Split, Path], found: _Found) -> tuple[Images, list[str]]:
    """Images of folders such as train/ and test/, whose class folders have the same names."""
    names: list[str] = []
    images: Images = {}
    found.loose += loose_files(base)
    first = next(iter(roles.values()))
    unused = [path.name for path in subfolders(base, []) if path not in roles.values()]
    if unused:
        found.notes.append(f"not used: {some(f'{name}/' for name in unused)}")
    for split, root in roles.items():
        paths, labels = images[split] = [], []
        inner = _descend(root, found.notes, _role(root.name))
        prefix = f"{inner.relative_to(base)}/"
        found.loose += [prefix + name for name in loose_files(inner)]
        for path in subfolders(inner, found.notes, prefix):
            files = found.images(path, prefix)
            if not files:
                continue
            name = class_name(path)
            if root == first:
                names.append(name)
            label = match_class(name, names)
            if label is None:
                raise DataError(f"{root}: class '{name}' is not in {first}")
            paths += files
            labels += [label] * len(files)
    return images, names


def match_class(name: str, names: Sequence[str]) -> int | None:
    """Which of some classes a name means; other capitals or Unicode forms may be the same class."""
    if name in names:
        return names.index(name)
    folded = _composed(name).casefold()
    alike = [label for label, other in enumerate(names) if _composed(other).casefold() == folded]
    return alike[0] if len(alike) == 1 else None


def _composed(name: str) -> str:
    """A name in one of the Unicode forms that look the same; macOS uses another than Linux."""
    return unicodedata.normalize("NFC", name)


def _hold_out(base: Path, folders: Sequence[Path], found: _Found) -> tuple[Images, list[str]]:
    """Images of class folders, with one in five of each class in the test split."""
    names: list[str] = []
    images: Images = {"train": ([], []), "test": ([], [])}
    for path in folders:
        files = found.images(path)
        if not files:
            continue
        held = _held_out(files, base)
        for file in files:
            paths, labels = images["test" if file in held else "train"]
            paths.append(file)
            labels.append(len(names))
        names.append(class_name(path))
    found.loose += loose_files(base)
    return images, names


def _held_out(files: Sequence[str], base: Path) -> set[str]:
    """The images of one class that are in the test split.

    One in five, by a hash of the path, so that new images move none; of a small class at most one
    in three. A class of two or more images has at least one in each split, and a class's only image
    is trained on.
    """

    def draw(file: str) -> bytes:
        return hashlib.sha256(os.fsencode(os.path.relpath(file, base))).digest()

    if len(files) == 1:
        return set()
    by_hash = sorted(files, key=draw)
    held = [file for file in by_hash if draw(file)[0] % 5 == 0] or by_hash[:1]
    return set(held[: max(len(files) // 3, 1)])


def class_name(path: Path) -> str:
    """A class's name from its folder's; bytes that are not UTF-8 become `\\xNN`."""
    return os.fsencode(path.name).decode("utf-8", "backslashreplace")


def _checked(names: Sequence[str], base: Path) -> tuple[str, ...]:
    """The classes' names, if a model file can hold them."""
    counts = Counter(map(_composed, names))
    for name in names:
        if not is_name(name):
            raise DataError(
                f"{base}: the name of class folder '{name}' has a control character; rename it"
            )
        if counts[_composed(name)] > 1:
            raise DataError(
                f"{base}: two class folders are called '{name}', in different Unicode "
                "forms; merge them"
            )
    return tuple(names)


def _slashed(paths: Iterable[Path]) -> str:
    return some(f"{path.name}/" for path in paths)
