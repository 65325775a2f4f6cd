"""Layers that read bitpacked signs, to planes or straight to the next layer's signs.

A layer whose sums only a Sign reads (a maximum may come between: the sign of a maximum is the
maximum of signs) compares its integer sums with a threshold for each channel and writes bits.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from bwn.ir.node import Array
from bwn.kernels import bits, registry
from bwn.kernels.gemm import tiles, xnor_packing
from bwn.kernels.gemm.xnor_packing import Axis
from bwn.kernels.simd.widths import BLOCK
from bwn.ops.window import Window
from bwn.plan.bit_buffers import BitBuffer
from bwn.plan.bit_steps import written
from bwn.plan.buffers import STORE
from bwn.plan.gemm_layer import Gemm
from bwn.plan.step import Call

SPEED = 2_000_000
"""Multiply-accumulates a microsecond on one thread, roughly."""


class BitWindow(Window, frozen=True):
    """A layer over bits as a convolution; a fully connected one over planes has them as its window.

    Attributes:
        images: Images of a run.
        steps: Bytes from one image, row and column of outputs to the next.
    """

    images: int = 1
    steps: tuple[int, int, int] = (0, 0, 0)

    @staticmethod
    def of(gemm: Gemm, source: BitBuffer) -> BitWindow:
        """The window of a layer over `source`."""
        if gemm.node.rank == 3:
            window, (row, column) = gemm.window, gemm.window.stride
            steps = (source.image, row * source.line, column * source.position)
            return BitWindow(**msgspec.structs.asdict(window), images=source.images, steps=steps)
        if source.vectors:
            return BitWindow(steps=(0, 0, source.position))
        size = (source.height, source.width)
        return BitWindow(kernel=size, stride=(1, 0), steps=(0, 0, source.image))

    def runs(self, source: BitBuffer) -> tuple[list[int], int]:
        """Where runs of word pairs begin, from tap (0, 0), and the pairs of each.

        Neighboring taps are one run.
        """
        (height, width), (dy, dx) = self.kernel, self.dilation
        pairs = source.words // self.groups
        if self.groups == 1 and dx == 1:
            return [y * dy * source.line for y in range(height)], width * pairs
        steps = (dy * source.line, dx * source.position)
        return [y * steps[0] + x * steps[1] for y in range(height) for x in range(width)], pairs


def multiply_bits(gemm: Gemm) -> None:
    """Add the product of a layer that reads bits; to bits again where `gemm.out` is bits."""
    source, out = gemm.source, gemm.out
    assert isinstance(source, BitBuffer)
    compares = isinstance(out, BitBuffer)
    kernel = registry.XNOR_SIGNS if compares else registry.XNOR_PLANES
    what = "packed signs, compared with thresholds" if compares else "packed signs, summed"
    why = "; ".join(filter(None, (what, gemm.epilogue.note)))

    def call() -> Call:
        window = BitWindow.of(gemm, source)
        chunks = out.height if compares else -(-out.positions // STORE)
        units = chunks * window.images * -(-out.channels // BLOCK)
        params = {
            **_input_params(gemm, source, window),
            **_weight_params(gemm, source, window),
            **_output_params(gemm),
        }
        return Call(kernel, params, units, gemm.macs / SPEED, why, gemm.work)

    gemm.plan.step(gemm.buffers, call, scratch=tiles.xnor_scratch)


def _input_params(gemm: Gemm, source: BitBuffer, window: BitWindow) -> dict[str, int]:
    """Where activations lie."""
    plan = gemm.plan
    runs, pairs = window.runs(source)
    return {
        "x": plan.address(source) + source.offset_of(window.pads),
        "x_image": window.steps[0],
        "x_row": window.steps[1],
        "x_position": window.steps[2],
        "x_group": source.position // window.groups,
        "runs": plan.constant(("runs", gemm.node.output), lambda: np.array(runs, np.int64)),
        "run_count": len(runs),
        "run_pairs": pairs,
        "images": window.images,
        "groups": window.groups,
    }


def _weight_params(gemm: Gemm, source: BitBuffer, window: BitWindow) -> dict[str, int]:
    """Weights, and what sums are compared with or start from."""
    plan, out = gemm.plan, gemm.out
    signs = weight_signs(gemm, source)
    (rows, class_y), (columns, class_x) = (
        Axis(
            size, outputs, window.kernel[i], window.stride[i], window.pads[i], window.dilation[i]
        ).classes()
        for i, (size, outputs) in enumerate(
            ((source.height, out.height), (source.width, out.width))
        )
    )
    base, flips = xnor_packing.base_sums(signs, rows, columns), np.zeros(out.channels, np.bool_)
    if isinstance(out, BitBuffer):
        thresholds, flips = _thresholds(gemm, signs.shape[1] * signs.shape[2])
        limits = xnor_packing.max_differences(base, thresholds)
    else:
        limits = xnor_packing.in_blocks(base, 0)

    def kept(name: str, array: Array) -> int:
        return plan.constant((name, gemm.node.output), lambda: array)

    return {
        "words": kept("words", xnor_packing.pack(signs)),
        "blocks": -(-out.channels // window.groups // BLOCK),
        "thresholds": kept("limits", limits),
        "thresholds_row": limits.shape[1] * limits.itemsize,
        "class_y": kept("class_y", class_y * len(columns)),
        "class_x": kept("class_x", class_x),
        "inverted": kept("flips", bits.pack(np.where(flips, 1, -1)[None])),
    }


def _thresholds(gemm: Gemm, depth: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The sum from which each channel is +1, and the channels where it is the other way round."""
    node, tensors, channels = gemm.node, gemm.plan.graph.tensors, gemm.out.channels
    scale, bias = (
        np.full(channels, fill, np.float32) if name is None else tensors[name].astype(np.float32)
        for name, fill in ((node.scale, 1), (node.bias, 0))
    )
    return xnor_packing.sum_thresholds(scale, bias, node.low, node.high, depth)


def weight_signs(gemm: Gemm, source: BitBuffer) -> npt.NDArray[np.int8]:
    """Signs of a layer's weights: (outputs, taps, channels) int8, taps in the window's order."""
    words = gemm.plan.graph.tensors[gemm.node.weight].astype(np.uint64, copy=False)
    if gemm.node.rank == 3:
        return bits.unpack(words, gemm.depth).reshape(len(words), -1, gemm.channels)
    taps = 1 if source.vectors else source.height * source.width
    signs = np.empty((len(words), taps, source.channels), np.int8)
    # A byte a weight is the most memory that a plan takes: once, not twice.
    for first in range(0, len(words), BLOCK):
        rows = bits.unpack(words[first : first + BLOCK], taps * source.channels)
        rows = rows.reshape(-1, source.channels, taps)
        signs[first : first + BLOCK] = rows.transpose(0, 2, 1)
    return signs


def _output_params(gemm: Gemm) -> dict[str, int]:
    """Where outputs go, and the epilogue."""
    plan, out = gemm.plan, gemm.out
    bit_params = ("out_row", "out_position", "top", "left", "rows", "columns")
    plane_params = ("out_plane", "out_lead", "plane_row", "positions", "mask")
    unread = dict.fromkeys(plane_params if isinstance(out, BitBuffer) else bit_params, 0)
    if isinstance(out, BitBuffer):
        params = written(plan, out)
    else:
        params = plan.planes("out", out) | {
            "plane_row": out.row,
            "positions": out.positions,
            "mask": plan.mask(out),
        }
    sizes = {"height": out.height, "width": out.width, "outputs": out.channels}
    return unread | params | sizes | gemm.vectors() | gemm.epilogue_params()
