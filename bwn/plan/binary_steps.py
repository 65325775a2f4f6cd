"""Steps of two operands, each of which is repeated along the axes where its size is 1."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bwn.kernels.registry import BINARY, Kernel
from bwn.kernels.simd.widths import LANES
from bwn.plan.buffers import Buffer
from bwn.plan.fusion import Epilogue
from bwn.plan.state import PlanState, elementwise_time
from bwn.plan.step import Call

POWER_OPERATIONS = 6
"""A power takes about as long as so many simple elementwise steps."""
Operand = Buffer | str
"""A buffer, or the name of a stored tensor."""


def binary(
    plan: PlanState,
    kernel: Kernel,
    operands: tuple[Operand, Operand],
    out: Buffer,
    epilogue: Epilogue,
) -> None:
    """Add a step of two operands."""
    buffers = [operand for operand in operands if isinstance(operand, Buffer)]
    for buffer in buffers:
        if (buffer.height, buffer.width) == (out.height, out.width):
            buffer.share_rows(out)

    def call() -> Call:
        params = {
            **operand_params(plan, "x", operands[0], out),
            **operand_params(plan, "other", operands[1], out),
            **plan.planes("out", out),
            "out_row": out.row,
            "channels": out.channels,
            "height": out.height,
            "positions": out.positions,
            "mask": plan.mask(out),
            "bounds": plan.bounds(epilogue.bounds),
        }
        units = out.images * out.channels
        time = elementwise_time(units * out.positions)
        if kernel is BINARY["pow"]:
            time *= POWER_OPERATIONS
        return Call(kernel, params, units, time, epilogue.note)

    plan.step((*buffers, out), call)


def operand_params(plan: PlanState, prefix: str, operand: Operand, out: Buffer) -> dict[str, int]:
    """The parameters that describe an operand of a step that makes `out`."""
    if isinstance(operand, Buffer):
        channels, height, width = operand.channels, operand.height, operand.width
        address, image, plane, row = plan.position_0(operand), *operand.strides[:3]
    else:
        tensor = plan.graph.tensors[operand].astype(np.float32, copy=False)
        channels, height, width = (*tensor.shape, 1, 1)[:3]
        row = out.row if (height, width) == (out.height, out.width) else width
        # Vectors start in the row before, and end past the last row of the output.
        margin = out.row + LANES
        planes = tensor.reshape(channels, height, width)
        key = ("operand", operand, row, margin)
        address = plan.constant(key, lambda: with_margins(planes, row, margin)) + 4 * margin
        image, plane = 0, height * row
    aligned = (height, width) == (out.height, out.width)
    strides = {
        "": address,
        "_image": image,
        "_plane": 0 if channels == 1 else plane,
        "_row": 0 if height == 1 and not aligned else row,
        "_column": 0 if width == 1 and not aligned else 1,
    }
    return {f"{prefix}{field}": value for field, value in strides.items()}


def with_margins(planes: npt.NDArray[np.float32], row: int, margin: int) -> npt.NDArray[np.float32]:
    """Planes (channels, height, width) with rows of `row` numbers, between readable margins."""
    channels, height, width = planes.shape
    numbers = np.zeros(channels * height * row + 2 * margin, np.float32)
    rows = numbers[margin : numbers.size - margin].reshape(channels, height, row)
    rows[:, :, :width] = planes
    return numbers
