"""Images that arrive in a folder: new ones and changed ones, once each, and not before they are written."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest

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


def test_an_image_that_is_gone_and_comes_back_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    os.utime(path, ns=(5, 5))

    def back() -> None:
        path.write_bytes(b"one")
        os.utime(path, ns=(5, 5))

    assert taken(arrivals([tmp_path], wait=looks(path.unlink, back, nothing)), 1) == ["a.png"]


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
