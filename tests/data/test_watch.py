"""Images that arrive in a folder: new ones and changed ones, once each, and not before they are written."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import pytest

from bwn.data import watch
from bwn.data.watch import arrivals


def looks(*steps: Callable[[], object]) -> Callable[[], object]:
    """What happens before each look; after the last one nothing more."""
    left = iter(steps)

    def wait() -> object:
        step = next(left, None)
        assert step is not None, "looked more often than anything happened"
        return step()

    return wait


def nothing() -> None:
    pass


def taken(watched: Iterator[Path], count: int) -> list[str]:
    return [path.name for path in islice(watched, count)]


def test_what_is_there_is_passed_over_and_what_comes_is_found(tmp_path: Path) -> None:
    (tmp_path / "old.png").write_bytes(b"old")
    (tmp_path / "notes.txt").write_text("no image")
    new = tmp_path / "deep" / "new.png"

    def arrive() -> None:
        new.parent.mkdir()
        new.write_bytes(b"new")

    assert taken(arrivals([tmp_path], wait=looks(arrive, nothing)), 1) == ["new.png"]


def test_an_image_that_comes_before_the_first_look_is_new(tmp_path: Path) -> None:
    watched = arrivals([tmp_path], wait=looks(nothing, nothing))
    (tmp_path / "new.png").write_bytes(b"new")
    assert taken(watched, 1) == ["new.png"]


def test_an_image_counts_when_it_no_longer_grows(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    sizes = []

    def grow() -> None:
        with path.open("ab") as file:
            file.write(b"part")

    def stand() -> None:
        sizes.append(path.stat().st_size)

    watched = arrivals([tmp_path], wait=looks(grow, grow, grow, stand))
    assert taken(watched, 1) == ["a.jpg"]
    assert sizes == [12]


def test_an_image_written_anew_is_found_again_and_only_then(tmp_path: Path) -> None:
    path, other = tmp_path / "a.png", tmp_path / "b.png"
    path.write_bytes(b"one")
    steps = (
        lambda: os.utime(path, ns=(1, 1)),  # as a new picture of the same size
        nothing,
        nothing,  # not twice
        lambda: other.write_bytes(b"two"),
        nothing,
    )
    assert taken(arrivals([tmp_path], wait=looks(*steps)), 2) == ["a.png", "b.png"]


class Drive:
    """A folder on a drive that is unplugged and plugged in again; its file numbers may change."""

    def __init__(self, folder: Path, spare: Path, copies: bool) -> None:
        self.folder, self.spare, self.copies = folder, spare, copies

    def _move(self, source: Path, target: Path) -> None:
        for path in sorted(source.rglob("*")):
            moved = target / path.relative_to(source)
            if path.is_dir():
                moved.mkdir(parents=True, exist_ok=True)
            elif self.copies:
                moved.write_bytes(bytes(path.stat().st_size + 7))  # takes the old one's number
                shutil.copy2(path, moved)
            else:
                path.rename(moved)
        shutil.rmtree(source)
        source.mkdir()

    def unplug(self) -> None:
        self.spare.mkdir(exist_ok=True)
        self._move(self.folder, self.spare)

    def plug_in(self) -> None:
        self._move(self.spare, self.folder)


@pytest.fixture(params=[False, True], ids=["same files", "copies"])
def drive(tmp_path: Path, request: pytest.FixtureRequest) -> Drive:
    folder = tmp_path / "drive"
    (folder / "deep").mkdir(parents=True)
    for name in ("old.png", "deep/old2.png"):
        (folder / name).write_bytes(b"old")
        os.utime(folder / name, ns=(5, 5))
    return Drive(folder, tmp_path / "spare", request.param)


def test_images_of_a_drive_that_is_mounted_again_are_not_new(drive: Drive) -> None:
    answered = drive.folder / "deep" / "answered.png"
    steps = (
        lambda: answered.write_bytes(b"answered"),
        nothing,
        drive.unplug,
        nothing,
        drive.plug_in,
        nothing,
        drive.unplug,
        drive.plug_in,
        nothing,
        lambda: (drive.folder / "new.png").write_bytes(b"new"),
        nothing,
    )
    watched = arrivals([drive.folder], wait=looks(*steps))
    assert taken(watched, 2) == ["answered.png", "new.png"]


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"longer"),
        lambda path: (path.write_bytes(b"new"), os.utime(path, ns=(9, 9))),
        lambda path: (path.unlink(), path.write_bytes(b"new")),
        lambda path: (path.write_bytes(b"older"), os.utime(path, ns=(1, 1))),
    ],
)
def test_images_that_changed_while_the_drive_was_away_are_found(
    drive: Drive, change: Callable[[Path], object]
) -> None:
    steps = (
        drive.unplug,
        lambda: change(drive.spare / "deep" / "old2.png"),
        drive.plug_in,
        nothing,
        lambda: (drive.folder / "end.png").write_bytes(b"end"),
        nothing,
    )
    watched = arrivals([drive.folder], wait=looks(*steps))
    assert taken(watched, 2) == ["old2.png", "end.png"]


def test_an_image_that_went_away_before_it_was_read_is_found_again(drive: Drive) -> None:
    path = drive.folder / "a.png"
    steps = (lambda: path.write_bytes(b"new"), nothing, nothing, drive.plug_in, nothing)
    watched = arrivals([drive.folder], wait=looks(*steps))
    assert next(watched) == path
    drive.unplug()  # while the image is decoded
    assert next(watched) == path


def test_an_image_half_written_when_the_drive_went_is_found_when_it_is_whole(drive: Drive) -> None:
    path = drive.folder / "a.png"

    def grow() -> None:
        with path.open("ab") as file:
            file.write(b"part")

    steps = (grow, grow, drive.unplug, drive.plug_in, grow, nothing)
    watched = arrivals([drive.folder], wait=looks(*steps))
    assert next(watched).stat().st_size == 12


def test_links_to_folders_are_not_watched_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watched, elsewhere = tmp_path / "watched", tmp_path / "elsewhere"
    watched.mkdir()
    elsewhere.mkdir()
    (watched / "link").symlink_to(elsewhere)
    steps = (
        lambda: (elsewhere / "a.png").write_bytes(b"a"),
        nothing,
        lambda: (watched / "b.png").write_bytes(b"b"),
        nothing,
    )
    assert taken(arrivals([watched], wait=looks(*steps)), 1) == ["b.png"]
    (record,) = caplog.records
    assert record.getMessage() == f"not watched, links to folders: 1 ({watched / 'link'})"


def test_a_new_file_of_the_same_size_and_time_in_place_is_found(tmp_path: Path) -> None:
    path, other = tmp_path / "a.png", tmp_path / ".b"
    path.write_bytes(b"one")
    os.utime(path, ns=(5, 5))

    def replace() -> None:
        other.write_bytes(b"two")
        os.utime(other, ns=(5, 5))
        other.replace(path)

    assert taken(arrivals([tmp_path], wait=looks(replace, nothing)), 1) == ["a.png"]


def test_images_that_are_gone_are_forgotten_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "REMEMBERED", 2)
    paths = [tmp_path / f"{index}.png" for index in range(4)]

    def write(path: Path) -> None:
        path.write_bytes(b"one")
        os.utime(path, ns=(5, 5))

    steps = [step for path in paths for step in (partial(write, path), nothing, path.unlink)]
    steps += [partial(write, paths[3]), nothing, partial(write, paths[0]), nothing]
    names = taken(arrivals([tmp_path], wait=looks(*steps)), 5)
    assert names == ["0.png", "1.png", "2.png", "3.png", "0.png"]


def test_without_recursion_folders_inside_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()

    def arrive() -> None:
        (tmp_path / "deep" / "a.png").write_bytes(b"a")
        (tmp_path / "b.png").write_bytes(b"b")

    assert taken(arrivals([tmp_path], recursive=False, wait=looks(arrive, nothing)), 1) == ["b.png"]


def test_a_folder_that_is_gone_is_told_once_and_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, away = tmp_path / "camera", tmp_path / "away"
    folder.mkdir()
    (folder / "old.png").write_bytes(b"old")

    def back_with_an_image() -> None:
        folder.unlink()
        away.rename(folder)
        (folder / "new.png").write_bytes(b"new")

    steps = (
        lambda: folder.rename(away),
        lambda: folder.write_text("no folder"),
        nothing,
        back_with_an_image,
        nothing,
    )
    with caplog.at_level(logging.WARNING):
        assert taken(arrivals([folder], wait=looks(*steps)), 1) == ["new.png"]
    (record,) = caplog.records
    assert record.getMessage() == f"{folder}: No such file or directory; waiting for it"


def test_images_on_a_drive_that_comes_back_are_not_new(tmp_path: Path) -> None:
    folder, away, other = tmp_path / "drive", tmp_path / "away", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    (folder / "old.png").write_bytes(b"old")
    steps = (
        lambda: folder.rename(away),
        nothing,
        lambda: away.rename(folder),
        nothing,
        lambda: (other / "new.png").write_bytes(b"new"),
        nothing,
    )
    assert taken(arrivals([folder, other], wait=looks(*steps)), 1) == ["new.png"]


def test_long_looks_rest_longer_and_answers_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, slept = [0.0], []

    def tick() -> float:
        clock[0] += 1.0  # a look asks twice: it takes a second
        return clock[0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        (tmp_path / f"{(len(slept) + 1) // 2}.png").write_bytes(b"new")

    monkeypatch.setattr("bwn.data.watch.time.perf_counter", tick)
    monkeypatch.setattr("bwn.data.watch.time.sleep", sleep)
    watched = arrivals([tmp_path])
    assert next(watched).name == "1.png"
    clock[0] += 1000.0  # classified slowly
    assert next(watched).name == "2.png"
    assert set(slept) == {9.0}


def test_an_image_that_is_replaced_without_pause_is_found_every_two_seconds(tmp_path: Path) -> None:
    path, temporary = tmp_path / "a.jpg", tmp_path / ".a"
    contents: list[str] = []
    time = iter(range(10**6))  # a tenth of a second a scan

    def replace() -> None:
        contents.append(f"{len(contents):03d}")
        temporary.write_text(contents[-1])
        temporary.replace(path)

    watched = arrivals([tmp_path], wait=replace, clock=lambda: next(time) / 20)
    for _ in range(3):
        before = len(contents)
        assert next(watched).read_text() == contents[-1], "the newest wins"
        assert 15 < len(contents) - before < 30


def test_an_image_that_is_removed_and_written_in_turns_is_found(tmp_path: Path) -> None:
    path, time, scans = tmp_path / "a.jpg", iter(range(10**6)), 0

    def write_or_remove() -> None:
        nonlocal scans
        scans += 1
        assert scans < 200, "it is never found"
        path.write_text(str(scans)) if scans % 2 else path.unlink()

    watched = arrivals([tmp_path], wait=write_or_remove, clock=lambda: next(time) / 20)
    assert [next(watched).read_text() == str(scans) for _ in range(3)] == [True] * 3


def test_a_slow_copy_is_not_taken_before_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    time = iter(range(10**6))

    def grow() -> None:
        if path.exists() and path.stat().st_size >= 100:
            return
        with path.open("ab") as file:
            file.write(b"p")

    assert next(arrivals([tmp_path], wait=grow, clock=lambda: float(next(time)))) == path
    assert path.stat().st_size == 100


def test_a_file_that_is_overwritten_with_any_size_is_found(tmp_path: Path) -> None:
    path, time, sizes = tmp_path / "a.jpg", iter(range(10**6)), [50, 90, 20, 70, 95, 10, 40, 99]

    def overwrite() -> None:
        sizes.append(sizes.pop(0))
        path.write_bytes(b"p" * sizes[-1])
        os.utime(path, ns=(next(time), next(time)))

    watched = arrivals([tmp_path], wait=overwrite, clock=lambda: next(time) / 40)
    assert taken(watched, 3) == ["a.jpg"] * 3
