"""The entry of C libraries that fills an arena: parameter blocks with the addresses they need."""

from __future__ import annotations

from typing import NamedTuple

from bwn.kernels.simd.scalars import get_i32, get_i64, put_i64, reader


class InstallParams(NamedTuple):
    """What `install` takes.

    Attributes:
        arena: Address of the arena.
        image: Address of its first words. Those that are addresses are offsets here.
        image_words: How many.
        own: Address of the int32 indices of words that point into the arena.
        own_count: How many.
        fixed: Address of the int32 indices of words that point into the constants.
        fixed_count: How many.
        constants: Address of the constants.
    """

    arena: int
    image: int
    image_words: int
    own: int
    own_count: int
    fixed: int
    fixed_count: int
    constants: int


install_params = reader(InstallParams)


def install(p: int, begin: int, end: int, part: int) -> None:
    """Copy the image to the arena, and make its offsets addresses. p: of InstallParams."""
    f = install_params(p)
    for i in range(f.image_words):
        put_i64(f.arena, i, get_i64(f.image, i))
    for i in range(f.own_count):
        word = get_i32(f.own, i)
        put_i64(f.arena, word, get_i64(f.arena, word) + f.arena)
    for i in range(f.fixed_count):
        word = get_i32(f.fixed, i)
        put_i64(f.arena, word, get_i64(f.arena, word) + f.constants)
