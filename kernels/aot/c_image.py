"""Images for C libraries: what the entry that prepares them takes, and how pixels are read."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bwn.kernels.simd.scalars import get_u8, put_f32, reader
from bwn.kernels.target.jit import helper


class ImageParams(NamedTuple):
    """What the entry takes.

    Attributes:
        pixels: Address of the first row, bytes.
        width: Pixels of a row.
        height: Rows.
        channels: Bytes of a pixel: 1 gray, 3 RGB, 4 RGB and one that is not read.
        stride: Bytes from one row to the next.
        x: Address of the input to make, (C, H, W) float32.
        work: Address of memory to work in, aligned to 8.
        work_bytes: Its size, `work_bytes` or more.
    """

    pixels: int
    width: int
    height: int
    channels: int
    stride: int
    x: int
    work: int
    work_bytes: int


image_params = reader(ImageParams)


class ImageRule(NamedTuple):
    """How an image becomes an input, as `bwn.ir.model_spec.Preprocess` says.

    Attributes:
        size: Height and width of the input.
        color: `L`, `RGB` or `BGR`.
        mean: One number a channel.
        std: One number a channel.
        scale: What pixels are divided by.
        interpolation: Pillow's name of the filter.
        axis: What `c_geometry.make_axis` makes.
    """

    size: tuple[int, int]
    color: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: int
    interpolation: str
    axis: Any

    @property
    def planes(self) -> int:
        """Channels of the input."""
        return len(self.mean)

    @property
    def last(self) -> int:
        """Channel c of a pixel is plane abs(last - c) of the input."""
        return 2 if self.color == "BGR" else 0

    @property
    def sample(self) -> Any:
        """The compiled function (pixel, channels, channel) to a level from 0 to 255."""
        return gray if self.planes == 1 else red_green_blue


@helper
def gray(pixel: int, channels: int, channel: int) -> int:
    """The gray level of a pixel at an address, as Pillow computes it (ITU-R 601)."""
    if channels < 3:
        return get_u8(pixel, 0)
    red, green, blue = get_u8(pixel, 0), get_u8(pixel, 1), get_u8(pixel, 2)
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


@helper
def red_green_blue(pixel: int, channels: int, channel: int) -> int:
    """A channel of a pixel at an address."""
    return get_u8(pixel, channel if channels >= 3 else 0)


def make_finish(rule: ImageRule) -> Any:
    """The function (x, place, channel, level) that stores a pixel's level in the input."""
    scale, mean, std = np.float32(rule.scale), rule.mean, rule.std

    @helper
    def finish(x: int, place: int, channel: int, level: int) -> None:
        value = np.float32(level) / scale - np.float32(mean[channel])
        put_f32(x, place, value / np.float32(std[channel]))

    return finish
