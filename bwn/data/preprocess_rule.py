"""How a packed model prepares images: what the source says, what the caller says, or a guess."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any, Literal, get_args

import msgspec
from PIL import ImageColor

from bwn._text import count_noun
from bwn.data.presets import preset_fields
from bwn.errors import ArgumentError
from bwn.ir.model_spec import Interpolation, Preprocess
from bwn.ir.node import Shape

USUAL: dict[int, Literal["L", "RGB"]] = {1: "L", 3: "RGB"}
"""What a number of channels usually means."""
NUMBERS = ("mean", "std")
"""Fields of preprocessing with a number for each channel."""
FORMS = {
    "size": "height and width in pixels",
    "resize": "stretch, crop or a number of pixels",
    "color": "L, RGB or BGR",
    "mean": "a list with a number for each channel",
    "std": "a list with a number for each channel",
    "interpolation": "one of " + ", ".join(get_args(Interpolation)),
    "background": "red, green and blue, each 0 to 255, or the name of a color",
    "scale": "255 or 1",
}
"""What each field of preprocessing may be, for messages."""


def choose_preprocess(
    own: Preprocess | None, replacement: Preprocess | Mapping[str, Any] | None, shape: Shape
) -> tuple[Preprocess | None, list[str]]:
    """Preprocessing of the file, and notes on what was assumed.

    Args:
        own: What the source says.
        replacement: What the caller says; fields that are None say nothing. Besides fields of
            Preprocess, a mapping may have `preset`, a name of `bwn.data.presets`, to which its
            other fields are exceptions, and the name of a color as `background`.
        shape: Shape of one input.

    Raises:
        ArgumentError: The caller's fields are not enough, or have wrong types.
    """
    fields, notes = caller_fields(replacement, shape)
    preset = fields.pop("preset", None)
    base = own or default_rule(fields, shape)
    if base is None:
        if fields or preset is not None:
            raise ArgumentError(f"preprocess: an input of shape {shape} needs size and color")
        return None, [
            f"preprocessing is unknown for an input of shape {shape}; "
            "to classify images set size and color"
        ]
    if base.scale == 1 and "scale" not in fields and fields.keys() & NUMBERS:
        raise ArgumentError(
            "preprocess: the network takes pixels from 0 to 255; leave out mean and std"
        )
    rule = replaced(base, fields)
    if preset is not None:
        channels = 1 if rule.color == "L" else 3
        said = preset_fields(preset, fields.get("color"), channels, rule.size)
        if own is not None and own.takes_pixels:
            said = {key: value for key, value in said.items() if key in ("color", "resize")}
            notes.append(
                f"mean and std of preset '{preset}' are left out: the network takes pixels from 0 "
                "to 255 and normalizes them itself"
            )
        fields = said | fields
        rule = replaced(base, fields)
    if own is not None or ("mean" in fields and "std" in fields):
        return rule, notes
    return rule, [*notes, f"the source does not say how images are prepared; assumed: {rule}"]


def caller_fields(
    replacement: Preprocess | Mapping[str, Any] | None, shape: Shape
) -> tuple[dict[str, Any], list[str]]:
    """The caller's fields of preprocessing as a file holds them, and notes; see above."""
    fields = plain_fields(replacement)
    if len(shape) == 3:
        check_counts(fields, shape[0])
    if isinstance(name := fields.get("background"), str):
        fields["background"] = color_of(name)
    if fields.get("scale", 255) == 255 and (scaled := unit_scale(fields)):
        note = "mean and std are of pixels from 0 to 255: they are stored divided by 255"
        return fields | scaled, [note]
    return fields, []


def plain_fields(replacement: Preprocess | Mapping[str, Any] | None) -> dict[str, Any]:
    """The caller's fields of preprocessing that are not None, without numpy's types."""
    if isinstance(replacement, Preprocess):
        return msgspec.structs.asdict(replacement)
    if not isinstance(replacement, Mapping | None):
        raise ArgumentError(f"preprocess is {type(replacement).__name__}, expected a mapping")
    return {key: _plain(value) for key, value in (replacement or {}).items() if value is not None}


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # arrays and numbers of numpy, and torch's tensors
        value = value.tolist()
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value


def color_of(name: str) -> tuple[int, ...]:
    """Red, green and blue of a color such as `white` or `#ffffff`. Raises ArgumentError."""
    try:
        return ImageColor.getrgb(name)[:3]
    except ValueError:
        raise ArgumentError(f"background '{name}' is no color such as white or #ffffff") from None


def default_rule(fields: Mapping[str, Any], shape: Shape) -> Preprocess | None:
    """Pixels from 0 to 1 of the caller's, or the usual, size and color; None without these."""
    size, color = fields.get("size"), fields.get("color")
    if len(shape) == 3:
        size, color = size or shape[1:], color or USUAL.get(shape[0])
    if size is None or color is None:
        return None
    channels = 1 if color == "L" else 3
    return Preprocess(size=size, color=color, mean=(0.0,) * channels, std=(1.0,) * channels)


def check_counts(fields: Mapping[str, Any], channels: int) -> None:
    """Raise ArgumentError where mean or std does not have a number for each channel."""
    for name in NUMBERS:
        numbers = fields.get(name)
        if isinstance(numbers, (list, tuple)) and len(numbers) != channels:
            count = count_noun(len(numbers), "number")
            raise ArgumentError(
                f"{name} has {count}, but the input has {count_noun(channels, 'channel')}"
            )


def unit_scale(fields: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    """Mean and std for pixels from 0 to 1, where those of `fields` are for pixels from 0 to 255.

    No mean or standard deviation of pixels from 0 to 1 is above 1.

    Returns:
        The fields to replace; none where the numbers are for pixels from 0 to 1.

    Raises:
        ArgumentError: One of the two is for 0 to 255 and the other is not, or is missing.
    """
    numbers = {name: fields[name] for name in NUMBERS if name in fields}
    try:
        large = {name: max(map(abs, values)) > 1 for name, values in numbers.items()}
    except (TypeError, ValueError):  # no numbers: refused where their types are checked
        return {}
    if not any(large.values()):
        return {}
    mean, std = numbers.get("mean", (0.0,)), numbers.get("std", (0.0,))
    if any(not 1 <= value <= 255 for value in std) or any(
        0 < abs(value) <= 1 or abs(value) > 255 for value in mean
    ):
        given = (f"{name} {numbers[name]}" if name in numbers else f"no {name}" for name in NUMBERS)
        raise ArgumentError(
            f"preprocess: {' and '.join(given)} are not both for pixels from 0 to 255, nor both "
            "for 0 to 1"
        )
    return {name: tuple(value / 255 for value in values) for name, values in numbers.items()}


def replaced(base: Preprocess, fields: Mapping[str, Any]) -> Preprocess:
    """`base` with other fields, names and types checked."""
    for name in fields.keys() - FORMS.keys():
        raise ArgumentError(
            f"preprocess has no field {reprlib.repr(name)}; fields: {', '.join(FORMS)}, preset"
        )
    try:
        return msgspec.convert({**msgspec.structs.asdict(base), **fields}, Preprocess)
    except msgspec.ValidationError as error:
        _, _, path = str(error).replace("`", "").partition(" - at $.")
        field = path.partition("[")[0]
        raise ArgumentError(
            f"preprocess, {field}: expected {FORMS[field]}, got {reprlib.repr(fields[field])}"
        ) from None


def check_preprocess(rule: Preprocess, shape: Shape) -> None:
    """Raise ArgumentError where preprocessing does not fit an input of `shape`, (C, H, W)."""
    if len(shape) != 3:
        return  # the checker compares the number of elements
    if (1 if rule.color == "L" else 3) != shape[0]:
        raise ArgumentError(f"color {rule.color}: the input has {count_noun(shape[0], 'channel')}")
    if rule.size != shape[1:]:
        height, width = rule.size
        raise ArgumentError(
            f"size {height} x {width}: the network takes {shape[1]} x {shape[2]} images"
        )
