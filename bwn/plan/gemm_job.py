"""One product of a plan in the making, whichever kernel will sum it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from bwn.ir.graph import QUANT_RANGES, Array, Conv, Dense
from bwn.ir.shapes import depth
from bwn.kernels import bits
from bwn.kernels.costs import Work
from bwn.kernels.registry import Element, Weights
from bwn.plan.bit_steps import float_tensor
from bwn.plan.buffers import Buffer, RowClass, round_up
from bwn.plan.builder import Lowering
from bwn.plan.fusion import Ending, ending

ELEMENTS: dict[str, Element] = {"float32": "f32", "int8": "i8", "uint8": "i8", "binary": "s1"}
"""The type that a node's activations are read in, as kernels name it."""

NOTHING = Ending("")


def middle(node: Conv | Dense) -> int:
    """The middle of the range of a node's 8-bit activations, less which they are stored (`kernels/tensor/elementwise.py`)."""
    return sum(QUANT_RANGES[node.activations]) // 2 if node.is_quantized else 0


@dataclass(frozen=True)
class Job:
    """A Conv or Dense node and its buffers.

    source: what it reads, phases of a stride included. steps: address of 8-bit quantization steps, or 0. index: of the
    node. end: how it ends. added: the planes that are added.
    """

    lower: Lowering
    node: Conv | Dense
    source: Buffer
    out: Buffer
    steps: int
    index: int
    end: Ending = NOTHING
    added: Buffer | None = None

    @property
    def groups(self) -> int:
        """Groups of channels; 1 for a Dense."""
        return self.node.groups if isinstance(self.node, Conv) else 1

    @property
    def channels(self) -> int:
        """Input channels of a group."""
        return self.lower.shapes[self.node.input][0] // self.groups

    @property
    def outputs(self) -> int:
        """Output channels of a group."""
        return self.out.channels // self.groups

    @property
    def depth(self) -> int:
        """K: inputs of one output."""
        return depth(self.node, self.lower.shapes[self.node.input])

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a run."""
        return self.out.images * self.out.height * self.out.width * self.out.channels * self.depth

    @property
    def reads(self) -> tuple[Element, Weights]:
        """Types of activations and weights."""
        return ELEMENTS[self.node.activations], "b1" if self.lower.graph.is_packed(
            self.node
        ) else "f32"

    @property
    def work(self) -> Work:
        """Its size; asked for when the row strides are known."""
        taps = prod(self.node.kernel) if isinstance(self.node, Conv) else 1
        out = self.out
        return Work(
            self.depth,
            self.outputs,
            out.positions,
            out.height * out.width,
            out.images,
            self.groups,
            taps,
        )

    @property
    def shift(self) -> Array:
        """What its sums lack where 8-bit activations are stored less `middle`: (outputs of all groups,) float32."""
        weight, lack = self.lower.graph.tensors[self.node.weight], middle(self.node)
        if lack == 0:
            return np.zeros(len(weight), np.float32)
        return np.asarray(
            lack * bits.sums(weight.astype(np.uint64, copy=False), self.depth), np.float32
        )

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """The buffers that its step uses."""
        return (
            (self.source, self.out) if self.added is None else (self.source, self.out, self.added)
        )

    def ends(self) -> dict[str, int]:
        """The fields that say how sums end: bounds, and planes that are added."""
        lower, node, added = self.lower, self.node, self.added
        then = self.end.rounded
        eight = QUANT_RANGES[then.activations] if then is not None else (None, None)
        fields = {
            "bounds": lower.bounds(node.low, node.high, self.end.low, self.end.high, *eight),
            "out_scale": 0 if then is None else steps_of(lower, then),
            "activation": 0,
        }
        if added is None:
            return fields | {"added": 0, "added_image": 0, "added_plane": 0, "added_lead": 0}
        at, image, plane, lead = lower.address(added), added.image, added.plane, added.lead
        return fields | {
            "added": at,
            "added_image": image,
            "added_plane": plane,
            "added_lead": lead,
        }

    def fields(self) -> dict[str, int]:
        """The fields that parameter blocks of all products over planes have."""
        lower, out = self.lower, self.out
        return self.ends() | {
            "x": lower.start(self.source), "x_image": self.source.image, "images": out.images,
            "out": lower.address(out), "out_image": out.image, "out_plane": out.plane, "out_lead": out.lead,
            "mask": lower.mask(out), "x_scales": self.steps or lower.vector(None, out.images, 1.0),
            "scale_per_position": int(out.vectors) if self.steps else 0,
            "scratch": lower.scratch_address, "scratch_part": lower.scratch,
        }  # fmt: skip


def taps(node: Conv | Dense, source: Buffer) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Of each tap, the number of its phase of the stride, and the shift from an output's position: (taps,) int64."""
    if isinstance(node, Dense):
        return np.zeros(1, np.int64), np.zeros(1, np.int64)
    (kh, kw), (dy, dx), (sy, sx) = node.kernel, node.dilation, node.stride
    y, x = np.arange(kh)[:, None] * dy, np.arange(kw)[None, :] * dx
    if node.stride == (1, 1):
        shifts = (y - node.pads[0]) * source.row + (x - node.pads[1])
        return np.zeros(kh * kw, np.int64), shifts.ravel().astype(np.int64)
    _, phase = np.unique(((y % sy) * sx + x % sx).ravel(), return_inverse=True)
    return phase.astype(np.int64), ((y // sy) * source.row + x // sx).ravel().astype(np.int64)


def steps_of(lower: Lowering, node: Conv | Dense) -> int:
    """Address of the steps of a node's 8-bit activations, one a position or image; 1 where a run finds them."""
    count = round_up(lower.batch, 16)
    return lower.constant(
        ("steps", node.output), lambda: np.full(count, node.step or 1.0, np.float32)
    )


def eight_bits(lower: Lowering, node: Conv | Dense, like: Buffer | None) -> Buffer:
    """A new buffer for what `node` reads as 8 bits."""
    made = lower.buffer(f"{node.output}:i8", "i8", lower.shapes[node.input], like=like)
    made.fill = -middle(node)
    return made


def ended(
    lower: Lowering, node: Conv | Dense, like: Buffer | None = None
) -> tuple[Ending, Buffer | None, Buffer]:
    """How a product that makes planes ends, the planes that are added, and those that it makes.

    like: the buffer whose rows they share.
    """
    end = ending(lower, node.output)
    added = None if end.added is None else float_tensor(lower, end.added)
    if end.rounded is None:
        out = lower.output(end.output, "f32", like=like)
    else:
        out = lower.rounded[end.rounded.output] = eight_bits(lower, end.rounded, like)
    if added is not None:
        RowClass.join(out, added)
    return end, added, out
