"""A layer with weights in a plan, whichever kernel sums it."""

from __future__ import annotations

from functools import lru_cache

import msgspec
import numpy as np
import numpy.typing as npt

from bwn.ir.node import Array
from bwn.ir.quantization import QUANT_RANGES
from bwn.kernels import bits
from bwn.kernels.costs import Work
from bwn.kernels.gemm.gemm_spec import Packing
from bwn.kernels.lazy import lazy
from bwn.kernels.registry import Element, Kernel, Weights
from bwn.ops.weighted import Weighted, WeightType
from bwn.ops.window import Window
from bwn.plan.buffers import Buffer, round_up
from bwn.plan.fusion import Epilogue
from bwn.plan.reciprocal_rounding import divides_exactly, rounding
from bwn.plan.state import PlanState, activation_code
from bwn.plan.window_taps import rectangles

ELEMENTS: dict[str, Element] = {"float32": "f32", "int8": "i8", "uint8": "i8", "binary": "s1"}
"""The type that a layer's activations are read in, as kernels name it."""
WEIGHTS: dict[WeightType, Weights] = {"1 bit": "b1", "int8": "i8", "float32": "f32"}
"""The type of its weights, as kernels name it."""


class Gemm(msgspec.Struct, frozen=True, eq=False, dict=True):
    """A layer and its buffers.

    Attributes:
        plan: The plan being built.
        node: The layer.
        source: What it reads, phases of a stride included.
        out: What it makes.
        epilogue: What it does after its sums.
        added: The planes that it adds.
    """

    plan: PlanState
    node: Weighted
    source: Buffer
    out: Buffer
    epilogue: Epilogue
    added: Buffer | None = None

    @lazy
    def window(self) -> Window:
        """Its window."""
        return self.node.window(self.plan.shape(self.node.input))

    @lazy
    def groups(self) -> int:
        """Groups of channels."""
        return self.window.groups

    @lazy
    def channels(self) -> int:
        """Input channels of a group."""
        return self.plan.shape(self.node.input)[0] // self.groups

    @lazy
    def outputs(self) -> int:
        """N: output channels of a group."""
        return self.out.channels // self.groups

    @lazy
    def depth(self) -> int:
        """K: inputs of one output."""
        return self.node.depth(self.plan.shape(self.node.input))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a run."""
        out = self.out
        return out.images * out.height * out.width * out.channels * self.depth

    @lazy
    def packed(self) -> bool:
        """Whether its weights are one bit each."""
        return self.node.is_packed(self.plan.graph.tensors)

    @lazy
    def reads(self) -> tuple[Element, Weights]:
        """Types of activations and weights."""
        stored = self.node.weight_type(self.plan.graph.tensors)
        return ELEMENTS[self.node.activations], WEIGHTS[stored]

    @property
    def work(self) -> Work:
        """Its size; asked for when the row strides are known."""
        out = self.out
        values = out.height * out.width
        return Work(
            self.depth, self.outputs, out.positions, values, out.images, self.groups,
            self.window.taps, out.height, tuple(r[:2] for r in rectangles(self.window)),
            self.window.phase_count,
        )  # fmt: skip

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """The buffers that its step uses."""
        return tuple(b for b in (self.source, self.out, self.added) if b is not None)

    def correction(self) -> Array:
        """What its sums lack where 8-bit activations are stored less their zero point: (N,).

        float32; int32 with int8 weights, whose sums may be no float32.
        """
        weight, kind = self.plan.graph.tensors[self.node.weight], self.reads[1]
        zero_point, dtype = zero_point_of(self.node), np.int32 if kind == "i8" else np.float32
        if zero_point == 0:
            return np.zeros(len(weight), dtype)
        if kind == "i8":
            sums = weight.reshape(len(weight), -1).sum(axis=1, dtype=np.int64)
        else:
            sums = bits.sums(weight.astype(np.uint64, copy=False), self.depth)
        return np.asarray(zero_point * sums, dtype)

    @property
    def taps(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Of each tap, its phase of the stride and its shift from an output's position: (taps,)."""
        return taps_of(self.window, self.source.row)

    def epilogue_params(self) -> dict[str, int]:
        """The parameters of the epilogue."""
        plan, node, epilogue, added = self.plan, self.node, self.epilogue, self.added
        quantized = epilogue.quantized
        qrange = None if quantized is None else QUANT_RANGES[quantized.activations]
        params = {
            "bounds": plan.bounds((node.low, node.high), epilogue.bounds, qrange),
            "activation": activation_code(epilogue.activation),
            "rounding": 0 if quantized is None else self._rounding(quantized),
        }
        if added is not None:
            return params | plan.planes("added", added)
        return params | dict.fromkeys(("added", "added_image", "added_plane", "added_lead"), 0)

    def _rounding(self, reader: Weighted) -> int:
        """Address of how outputs become what a layer reads."""
        scale, qrange = reader.input_scale or 1.0, QUANT_RANGES[reader.activations]
        bounds = self.node.low, self.node.high
        key = ("rounding", scale, *qrange, *bounds)
        return self.plan.constant(key, lambda: rounding(scale, qrange, bounds))

    def weight_params(self, kernel: Kernel, packing: Packing) -> dict[str, int]:
        """Its weights, packed for a kernel."""
        weight = self.plan.graph.tensors[self.node.weight]
        rows = weight.reshape(len(weight), -1)
        key = (kernel.name, self.node.weight)
        return {
            "words": self.plan.constant(key, lambda: packing.pack(rows)),
            "row_words": packing.row_words(rows.shape[1]),
        }

    def vectors(self) -> dict[str, int]:
        """Scale and bias of the output channels."""
        plan, channels = self.plan, self.out.channels
        return {
            "scale": plan.vector(self.node.scale, channels, 1.0),
            "bias": plan.vector(self.node.bias, channels, 0.0),
        }

    def plane_params(self) -> dict[str, int]:
        """The parameters that all GEMMs over planes share."""
        plan, out, node = self.plan, self.out, self.node
        ones = plan.vector(None, out.images, 1.0)
        return self.epilogue_params() | {
            "x": plan.position_0(self.source),
            "x_image": self.source.image,
            "images": out.images,
            **plan.planes("out", out),
            "mask": plan.mask(out),
            "x_scales": input_scales(plan, node) if node.is_quantized else ones,
            "scale_per_position": int(out.vectors) if node.is_quantized else 0,
        }


@lru_cache(maxsize=256)
def taps_of(window: Window, row: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """As `Gemm.taps`. row: elements from one row of the input to the next."""
    (kh, kw), (dy, dx), (sy, sx) = window.kernel, window.dilation, window.stride
    y, x = np.arange(kh)[:, None] * dy, np.arange(kw)[None, :] * dx
    if (sy, sx) == (1, 1):
        top, left = window.pads[:2]
        return np.zeros(kh * kw, np.int64), ((y - top) * row + (x - left)).ravel()
    _, phases = np.unique(((y % sy) * sx + x % sx).ravel(), return_inverse=True)
    return phases, (y // sy * row + x // sx).ravel()


def output_shares(units: int, threads: int) -> int:
    """Into how many to divide the output channels so that threads get even shares of few units."""
    return threads if units < 8 * threads and units % threads else 1


def zero_point_of(node: Weighted) -> int:
    """The middle of the range of q, less which 8-bit activations are stored."""
    return sum(QUANT_RANGES[node.activations]) // 2 if node.is_quantized else 0


def quantization(node: Weighted) -> tuple[str, str, float | None]:
    """What a layer's 8-bit input depends on: layers in which it is equal read the same integers."""
    return node.input, node.activations, node.input_scale


def rounds_before(reader: Weighted) -> bool:
    """Whether the layer before can write what a layer reads as 8 bits: its scale is fixed, and
    rounding by it needs no division."""
    scale = reader.input_scale
    return (
        reader.is_quantized
        and scale is not None
        and divides_exactly(scale, QUANT_RANGES[reader.activations])
    )


def input_scales(plan: PlanState, node: Weighted) -> int:
    """Address of the scales of a layer's 8-bit input, one a position or image.

    A run fills them unless the layer has a scale of its own.
    """
    count = round_up(plan.batch, 16)
    scale = node.input_scale or 1.0
    key = ("scales", quantization(node))
    keep = plan.variable if node.input_scale is None else plan.constant
    return keep(key, lambda: np.full(count, scale, np.float32))


def quantized_buffer(plan: PlanState, node: Weighted, like: Buffer | None) -> Buffer:
    """A new buffer for what a layer reads as 8 bits."""
    buffer = plan.buffer(f"{node.output}:i8", "i8", plan.shape(node.input), like=like)
    buffer.fill = -zero_point_of(node)
    return buffer
