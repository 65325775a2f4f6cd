"""The entry of C libraries that makes a network's input of an image: the numbers of
`bwn.data.resizing`, without memory of its own."""

from __future__ import annotations

from collections.abc import Callable

from bwn.kernels.aot.c_image import ImageRule, image_params, make_finish
from bwn.kernels.aot.c_resample import make_resample


def make_prepare(rule: ImageRule) -> Callable[[int, int, int, int], None]:
    """The entry that prepares images so."""
    return _make_nearest(rule) if rule.interpolation == "nearest" else make_resample(rule)


def _make_nearest(rule: ImageRule) -> Callable[[int, int, int, int], None]:
    (height, width), axis, planes = rule.size, rule.axis, rule.planes
    sample, last, finish = rule.sample, rule.last, make_finish(rule)

    def prepare(p: int, begin: int, end: int, part: int) -> None:
        """p: address of ImageParams."""
        f = image_params(p)
        start_y, step_y, first_y = axis(f.height, f.width, height, width)
        start_x, step_x, first_x = axis(f.width, f.height, width, height)
        y = start_y + step_y * 0.5  # summed up as Pillow does, and rounded as there
        for row in range(first_y + height):
            x = start_x + step_x * 0.5
            for column in range(first_x + width if row >= first_y else 0):
                if column >= first_x:
                    place = (row - first_y) * width + column - first_x
                    inside = x >= 0 and x < f.width and y >= 0 and y < f.height
                    at = f.pixels + int(y) * f.stride + int(x) * f.channels
                    for channel in range(planes):
                        level = sample(at, f.channels, abs(last - channel)) if inside else 0
                        finish(f.x, channel * height * width + place, channel, level)
                x += step_x
            y += step_y

    return prepare
