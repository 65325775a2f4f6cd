"""What is written lands where it was asked for, or is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bwn._files import check_ending, check_target, same_file, write_atomically
from bwn._text import one_line
from bwn.errors import ArgumentError, FileError


def test_a_pipe_or_device_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"  # stands for /dev/null, which root could rename over
    os.mkfifo(pipe)
    with pytest.raises(FileError, match="pipe: cannot be written: it is not a regular file"):
        write_atomically(pipe, b"model")
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_link_stays_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    link = tmp_path / "latest.pt"
    link.symlink_to("runs/1.pt")
    for data in (b"first", b"second"):  # the target is missing at first
        write_atomically(link, data)
        assert link.is_symlink()
        assert (tmp_path / "runs" / "1.pt").read_bytes() == data


def test_refusals_name_the_path_that_was_given(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path, "it is a folder"),
        (tmp_path / "none" / "a", "no such folder"),
        (tmp_path / "a\0b", "embedded null byte"),
    ):
        with pytest.raises(FileError) as caught:
            write_atomically(path, b"")
        assert str(caught.value) == one_line(f"{path}: cannot be written: {reason}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["n" * 255, "\u732b" * 85], ids=["ascii", "chinese"])
def test_a_name_may_have_255_bytes(tmp_path: Path, name: str) -> None:
    write_atomically(tmp_path / name, b"model")
    assert (tmp_path / name).read_bytes() == b"model"
    with pytest.raises(FileError, match=r"n: cannot be written: File name too long$"):
        check_target(tmp_path / f"{name}n")


@pytest.mark.parametrize("name", ["a.pt", "a.PTH", "a", "a.ckpt", "run.1"])
def test_a_checkpoint_can_have_any_name_but_that_of_another_kind(name: str) -> None:
    check_ending(name, ".pt")
    if name.lower().startswith("a.pt"):
        with pytest.raises(
            ArgumentError, match=r"cannot be named \.pth?, which is for checkpoints$"
        ):
            check_ending(name, ".bwn")


def test_same_file(tmp_path: Path) -> None:
    real, link = tmp_path / "a", tmp_path / "b"
    real.touch()
    link.symlink_to(real)
    assert same_file(real, tmp_path / "." / "a")
    assert same_file(link, real)
    assert not same_file(real, tmp_path / "c")
