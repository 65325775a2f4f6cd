"""How a packed model prepares images: what the source says, what the caller says, or a guess."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from bwn._text import count_noun
from bwn.errors import ArgumentError
from bwn.ir.model_spec import Preprocess
from bwn.ir.node import Shape


def choose_preprocess(
    own: Preprocess | None, replacement: Preprocess | Mapping[str, Any] | None, shape: Shape
) -> tuple[Preprocess | None, list[str]]:
    """Preprocessing of the file, and notes on what was assumed.

    Args:
        own: What the source says.
        replacement: What the caller says; fields that are None say nothing.
        shape: Shape of one input.

    Raises:
        ArgumentError: The caller's fields are not enough, or have wrong types.
    """
    if isinstance(replacement, Preprocess):
        replacement = msgspec.structs.asdict(replacement)
    if not isinstance(replacement, Mapping | None):
        raise ArgumentError(f"preprocess is {type(replacement).__name__}, expected a mapping")
    fields = {key: value for key, value in (replacement or {}).items() if value is not None}
    if len(shape) == 3:
        check_counts(fields, shape[0])
    notes = []
    if scaled := unit_scale(fields):
        fields |= scaled
        notes.append("mean and std are of pixels from 0 to 255: they are stored divided by 255")
    if own is not None:
        return (replaced(own, fields) if fields else own), notes
    color = fields.get("color", {1: "L", 3: "RGB"}.get(shape[0] if len(shape) == 3 else 0))
    size = fields.get("size", shape[1:] if len(shape) == 3 else None)
    if color is None or size is None:
        if fields:
            raise ArgumentError(f"preprocess: an input of shape {shape} needs size and color")
        return None, [
            f"preprocessing is unknown for an input of shape {shape}; "
            "to classify images set size and color"
        ]
    channels = 1 if color == "L" else 3
    base = Preprocess(size=size, color=color, mean=(0.0,) * channels, std=(1.0,) * channels)
    rule = replaced(base, fields)
    if "mean" in fields and "std" in fields:
        return rule, notes
    return rule, [*notes, f"the source does not say how images are prepared; assumed: {rule}"]


def check_counts(fields: Mapping[str, Any], channels: int) -> None:
    """Raise ArgumentError where mean or std does not have a number for each channel."""
    for name in ("mean", "std"):
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
    numbers = {name: fields[name] for name in ("mean", "std") if name in fields}
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
        raise ArgumentError(
            f"preprocess: mean {fields.get('mean')} and std {fields.get('std')} are not both for "
            "pixels from 0 to 255, nor both for 0 to 1"
        )
    return {name: tuple(value / 255 for value in values) for name, values in numbers.items()}


def replaced(base: Preprocess, fields: Mapping[str, Any]) -> Preprocess:
    """`base` with other fields, types checked."""
    try:
        return msgspec.convert({**msgspec.structs.asdict(base), **fields}, Preprocess)
    except msgspec.ValidationError as error:
        why, _, field = str(error).replace("`", "").partition(" - at $.")
        raise ArgumentError(f"preprocess{field and f', {field}'}: {why}") from None


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
