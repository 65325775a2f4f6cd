"""Parameters of kernels: the fields of each parameter block, int64 all of them, in the order given
here.

A kernel gets the address of such a block; addresses in it point into the caller's buffers. Nothing
here knows how kernels are compiled.

A plane is one channel of one image: its positions row by row, padding before and after. Strides go
from one image, channel, row, position to the next. Sizes and strides count elements unless they say
bytes.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping
from enum import IntEnum
from typing import Any


class Activation(IntEnum):
    """Codes of the field `activation`; `simd/activations.py` has the formulas, by these names."""

    NONE = 0
    HARD_SWISH = 1
    SILU = 2
    SIGMOID = 3


class Rounding(IntEnum):
    """Codes of the field `rounding`: to the nearest whole number, halves to even; down; up."""

    ROUND = 0
    FLOOR = 1
    CEIL = 2


class Function(IntEnum):
    """Codes of the field `function`; `tensor/unary_functions.py` has their formulas."""

    ABS = 0
    CEIL = 1
    CELU = 2
    ELU = 3
    ERF = 4
    EXP = 5
    FLOOR = 6
    GELU = 7
    GELU_TANH = 8
    LEAKY_RELU = 9
    LOG = 10
    MISH = 11
    RECIPROCAL = 12
    ROUND = 13
    SIGMOID = 14
    SILU = 15
    SOFTPLUS = 16
    SOFTSIGN = 17
    SQRT = 18
    TANH = 19
    THRESHOLDED_RELU = 20


class Reduction(IntEnum):
    """Codes of the field `reduction` of `tensor/reductions.py`."""

    SUM = 0
    MAGNITUDES = 1
    SQUARES = 2
    MAX = 3
    MIN = 4


def _struct(name: str, about: str, *parts: Mapping[str, str]) -> Any:
    """A NamedTuple with the fields of all parts, whose docstring describes each."""
    fields = {field: text for part in parts for field, text in part.items()}
    make: Any = namedtuple  # whose names mypy would have as literals
    struct = make(name, fields, module=__name__)
    lines = [f"    {field}: {text}" for field, text in fields.items()]
    struct.__doc__ = "\n".join([about, "", "Attributes:", *lines])
    return struct


_SCRATCH = {
    "scratch": "Address of memory to work in.",
    "scratch_part": "Bytes of it that each part has.",
}
_PLANE_INPUT = {
    "x": "Address of the first element of the first plane, padding included.",
    "x_image": "Stride.",
    "x_plane": "Stride.",
    "x_lead": "Elements of a plane before position 0.",
}
_PLANE_OUTPUT = {
    "out": "Address of the first element of the first plane, padding included.",
    "out_image": "Stride.",
    "out_plane": "Stride.",
    "out_lead": "Elements of a plane before position 0.",
}
_BIT_OUTPUT = {
    "out": "Address of the corner of the zeros around image 0 of the bitpacked output.",
    "out_image": "Stride, bytes.",
    "out_row": "Stride, bytes.",
    "out_position": "Stride, bytes.",
    "top": "Rows of zeros above the image.",
    "left": "Columns of zeros before the image.",
    "rows": "Rows of the output with the zeros around.",
    "columns": "Columns of the output with the zeros around.",
    "height": "Rows of the image.",
    "width": "Columns of the image.",
}
_EPILOGUE = {
    "mask": "Address of int32, whole vectors: -1 where a position is an output, else 0.",
    "scale": "Address of float32, one an output channel.",
    "bias": "Address of float32, one an output channel.",
    "bounds": "Address of six float32, low and high: of sums, after `added`, of quantized outputs.",
    "activation": "An `Activation`, applied to sums within their bounds, before `added`.",
    "added": "Address of planes that are added, as `x` of elementwise kernels; 0 for none.",
    "added_image": "Stride.",
    "added_plane": "Stride.",
    "added_lead": "Elements of a plane before position 0.",
    "out_scale": "Address of the quantization scale of the outputs; 0 where they are float32.",
}
_QUANTIZED_INPUT = {
    "correction": "Address of float32, one an output channel: zero-point corrections of the sums.",
    "x_scales": "Address of float32 quantization scales, one an image or one a position.",
    "scale_per_position": "1 where each position has its scale, else 0.",
}
_OFFSET_INPUT = {
    "x": "Address of position 0 of channel 0 of image 0.",
    "x_image": "Stride.",
    "words": "Address of the packed weights: rows of uint64 words, or of float32.",
    "row_words": "Words, or float32, from one row of weights to the next.",
    "depth": "K, the inputs of one output.",
    "offsets": "Address of (K,) int64: where input k of position 0 lies, from x.",
    "images": "Images of the batch.",
    "outputs": "Output channels of one group.",
    "positions": "Positions of a plane.",
}

_GEMM = (
    _OFFSET_INPUT,
    {
        "x_group": "Stride from one group of channels to the next.",
        "groups": "Groups of channels.",
    },
    _QUANTIZED_INPUT,
    _PLANE_OUTPUT,
    _EPILOGUE,
    _SCRATCH,
)

GemmParams = _struct(
    "GemmParams",
    "A GEMM over planes whose inputs lie at offsets from each position.",
    *_GEMM,
)
StridedParams = _struct(
    "StridedParams",
    "The same where neighboring outputs read inputs a stride apart.",
    *_GEMM,
    {
        "x_row": "Stride from what one output row reads to the next.",
        "x_step": "Stride from what one output reads to the next of its row.",
        "height": "Rows of the output.",
        "width": "Columns of the output.",
        "out_row": "Stride of rows of the output.",
        "neighbors": "Columns of a window of stride 2 without gaps; 0 of others.",
    },
)
LutPermuteParams = _struct(
    "LutPermuteParams",
    "A GEMM by tables in registers. scale, bias and correction of a group are whole vectors.",
    {
        "x": "Address of position 0 of channel 0 of image 0.",
        "x_image": "Stride.",
        "x_group": "Stride from one group of channels to the next.",
        "x_plane": "Stride.",
        "x_segment": "Stride from the channels of one segment, a phase of the stride, to the next.",
        "channels": "Input channels of one group.",
        "chunk": "Tables of one chunk of channels.",
        "segments": "Segments.",
        "taps": "Address of (segments + 1,) int64: where each segment's taps begin in `shifts`.",
        "shifts": "Address of (taps,) int64: from an output's position to the tap's.",
        "min_shift": "Smallest shift.",
        "max_shift": "Largest shift.",
        "indices": "Address of the packed weights.",
        "index_group": "Bytes of one group of them.",
        "images": "Images of the batch.",
        "groups": "Groups of channels.",
        "outputs": "Output channels of one group.",
        "starts": "Address of (blocks + 1,) int64: first position of each block; the plane's end.",
        "blocks": "Blocks of positions of a plane.",
        "band": "Blocks of one unit of work.",
        "rows_bytes": "Bytes of scratch for a chunk's activations around a band, as int16.",
    },
    _QUANTIZED_INPUT,
    _PLANE_OUTPUT,
    _EPILOGUE,
    _SCRATCH,
)
XnorParams = _struct(
    "XnorParams",
    "A GEMM of packed signs on both sides, to packed signs or planes. Input strides are bytes.",
    {
        "x": "Address of what tap 0 of output position 0 reads; it may lie in the zeros around.",
        "x_image": "Stride.",
        "x_row": "Stride from one output position to the next row's.",
        "x_position": "Stride from one output position to the next.",
        "x_group": "Stride from one group of channels to the next.",
        "words": "Address of the packed weights.",
        "runs": "Address of int64: where each run of pairs begins, from the first pair of all.",
        "run_count": "Runs.",
        "run_pairs": "Pairs of a run.",
        "images": "Images of the batch.",
        "groups": "Groups of channels.",
        "blocks": "Blocks of output channels of a group.",
        "thresholds": "Address of int32 rows, one a class of positions: a number for each channel.",
        "thresholds_row": "Bytes from one row of them to the next.",
        "class_y": "Address of int64: the row of `thresholds` of each output row.",
        "class_x": "Address of int64, to be added: of each column.",
        "inverted": "Address of uint64, one a block: channels that are -1 up to the threshold.",
        "plane_row": "Stride of rows of an output plane.",
        "positions": "Positions of an output plane.",
        "outputs": "Output channels of all groups.",
    },
    _BIT_OUTPUT,
    _PLANE_OUTPUT,
    _EPILOGUE,
    _SCRATCH,
)
F32ToBitsParams = _struct(
    "F32ToBitsParams",
    "A GEMM of float32 whose outputs are written as packed signs.",
    _OFFSET_INPUT,
    {
        "plane_row": "Positions from one row to the next; `width` of them are outputs.",
        "scale": "Address of float32, one an output channel.",
        "bias": "Address of float32, one an output channel.",
        "bounds": "Address of two float32: low and high.",
    },
    _BIT_OUTPUT,
    _SCRATCH,
)
BitpackedParams = _struct(
    "BitpackedParams",
    "What moves between planes and packed signs. height, width are the output's, or both.",
    _PLANE_INPUT,  # of packed signs x is the corner of the zeros around, and x_image counts bytes
    {
        "x_row": "Stride; bytes of packed signs.",
        "x_position": "Stride, bytes.",
        "x_top": "Rows of zeros above the image.",
        "x_left": "Columns of zeros before the image.",
        "images": "Images of the batch.",
        "channels": "Channels.",
        "kernel_y": "Rows of a window.",
        "kernel_x": "Columns of a window.",
        "tap_row": "Bytes from one position of a window to the next row's.",
        "tap_position": "Bytes from one position of a window to the next.",
        "mask": "As of GemmParams, of planes that are written.",
    },
    _PLANE_OUTPUT,
    _BIT_OUTPUT,
    _SCRATCH,
)
ElementwiseParams = _struct(
    "ElementwiseParams",
    "Every elementwise kernel. Planes share the stride of rows.",
    _PLANE_INPUT,
    {
        "channels": "Channels of an image.",
        "positions": "Positions of a plane.",
        "mask": "As of GemmParams.",
        "scale": "Address of float32, one a channel.",
        "bias": "Address of float32, one a channel.",
        "bounds": "Address of two float32: low and high.",
        "activation": "An `Activation`, of f32_f32_affine.",
        "x_scales": "As of GemmParams, to read or to write.",
        "scale_per_position": "As of GemmParams.",
    },
    _PLANE_OUTPUT,
)
UnaryParams = _struct(
    "UnaryParams",
    "A function of each element. Planes share the stride of rows.",
    _PLANE_INPUT,
    {
        "function": "A `Function`.",
        "coefficients": "Address of two float32: its parameters alpha and beta.",
        "channels": "Channels of an image.",
        "positions": "Positions of a plane.",
        "mask": "As of GemmParams.",
        "bounds": "Address of two float32: low and high.",
    },
    _PLANE_OUTPUT,
)
BinaryParams = _struct(
    "BinaryParams",
    "Elementwise kernels of two operands. A stride of 0 repeats an operand along that axis.",
    {
        f"{operand}{field}": text
        for operand in ("x", "other")
        for field, text in {
            "": "Address of the first value of the first plane.",
            "_image": "Stride.",
            "_plane": "Stride.",
            "_row": "Stride.",
            "_column": "Stride, 1 or 0.",
        }.items()
    },
    {
        "channels": "Channels of an image of the output.",
        "height": "Rows of the output.",
        "positions": "Positions of a plane of the output.",
        "mask": "As of GemmParams.",
        "bounds": "Address of two float32: low and high.",
        "out_row": "Stride.",
    },
    _PLANE_OUTPUT,
)
ChannelParams = _struct(
    "ChannelParams",
    "What combines channels. Planes share the stride of rows.",
    _PLANE_INPUT,
    {
        "channels": "Channels of an image.",
        "groups": "Groups of channels that are normalized.",
        "positions": "Positions of a plane.",
        "size": "Positions of a plane that are values.",
        "blocks": "Vectors of a plane.",
        "mask": "As of GemmParams.",
        "scale": "Address of float32, one a channel.",
        "bias": "Address of float32, one a channel.",
        "coefficients": "Address of float32: epsilon, or what the kernel says.",
        "log": "1 where a softmax gives its logarithm.",
        "before": "Channels before each that count.",
        "after": "Channels after each that count.",
    },
    _PLANE_OUTPUT,
)
ReduceParams = _struct(
    "ReduceParams",
    "A reduction. Where columns stay, planes share the stride of rows.",
    _PLANE_INPUT,
    {
        "x_row": "Stride.",
        "reduction": "A `Reduction`.",
        "depth": "Channels that are combined: all or 1.",
        "rows": "Rows that are combined: all or 1.",
        "width": "Columns that are combined; 0 where they stay.",
        "height": "Rows of the output.",
        "channels": "Channels of the output.",
        "positions": "Positions of a plane of the output.",
        "mask": "Address of int32: of the output as of GemmParams, or of one row of the input.",
        "fill": "Address of float32, one a lane of a row: what changes nothing after its end.",
        "factor": "Address of the float32 that results are multiplied by.",
        "root": "1 where their square roots are taken.",
        "out_row": "Stride.",
    },
    _PLANE_OUTPUT,
)
MatMulParams = _struct(
    "MatMulParams",
    "Product of two tensors, a matrix for each channel.",
    _PLANE_INPUT,
    {
        "x_row": "Stride.",
        "other": "As x, of the second operand.",
        "other_image": "Stride.",
        "other_plane": "Stride.",
        "other_lead": "Elements of a plane before position 0.",
        "other_row": "Stride.",
        "channels": "Matrices of an image.",
        "height": "Rows of x.",
        "depth": "Columns of x, rows of the second operand.",
        "width": "Columns of the second operand.",
        "rows": "Rows of a unit of work.",
        "mask": "Address of int32, for the lanes of one vector of a row.",
        "out_row": "Stride.",
    },
    _PLANE_OUTPUT,
)
FakeQuantizeParams = _struct(
    "FakeQuantizeParams",
    "Quantization that is undone at once. Planes share the stride of rows.",
    _PLANE_INPUT,
    {
        "channels": "Channels of an image.",
        "positions": "Positions of a plane.",
        "mask": "As of GemmParams.",
        "scales": "Address of float32 scales, one an image or one a position.",
        "scale_per_position": "As of GemmParams.",
        "lows": "Address of the smallest q, likewise.",
        "highs": "Address of the largest q, likewise.",
        "zero": "Address of float32: what is added before rounding, and subtracted after.",
        "rounding": "A `Rounding`.",
    },
    _PLANE_OUTPUT,
)
PoolParams = _struct(
    "PoolParams",
    "Pooling.",
    _PLANE_INPUT,
    {
        "x_row": "Stride.",
        "height": "Rows of the input.",
        "width": "Columns of the input.",
        "out_row": "Stride.",
        "out_height": "Rows of the output.",
        "out_width": "Columns of the output.",
        "channels": "Channels of an image.",
        "kernel_y": "Rows of a window.",
        "kernel_x": "Columns of a window.",
        "stride_y": "Rows from one window to the next.",
        "stride_x": "Columns from one window to the next.",
        "top": "Rows of padding above the image.",
        "left": "Columns of padding before the image.",
        "window": "What an average divides by; 0 for the number of positions inside the image.",
    },
    _PLANE_OUTPUT,
)
CopyParams = _struct(
    "CopyParams",
    """A copy of four axes, whose unit of work is one index of axes 0 and 1.

    Source and target do not overlap, and nothing outside them is touched.""",
    {"x": "Address of the first element that is read."},
    {f"x{axis}": f"Stride of axis {axis} of the source." for axis in range(4)},
    {"out": "Address of the first element that is written."},
    {f"out{axis}": f"Stride of axis {axis} of the target." for axis in range(4)},
    {f"n{axis}": f"Length of axis {axis}." for axis in range(1, 4)},
)
RearrangeParams = _struct(
    "RearrangeParams",
    """Rows copied from anywhere to anywhere, whose unit of work is one row of one image.

    Source and target do not overlap, and nothing outside them is touched.""",
    {
        "x": "Address of element 0 of image 0.",
        "x_image": "Stride.",
        "x_rows": "Address of (rows,) int64: where each row's first element lies, from element 0.",
        "x_step": "Stride within a row.",
        "out": "Address of element 0 of image 0.",
        "out_image": "Stride.",
        "out_rows": "As x_rows.",
        "out_step": "Stride within a row.",
        "rows": "Rows of an image.",
        "length": "Elements of a row.",
    },
)
ResizeParams = _struct(
    "ResizeParams",
    "Linear interpolation between rows and columns. A unit of work is one channel of one image.",
    {
        "x": "Address of position 0 of channel 0 of image 0.",
        "x_image": "Stride.",
        "x_plane": "Stride.",
        "x_row": "Stride.",
        "out": "Address of position 0 of channel 0 of image 0.",
        "out_image": "Stride.",
        "out_plane": "Stride.",
        "out_row": "Stride.",
        "channels": "Channels of an image.",
        "width": "Columns of the input.",
        "out_height": "Rows of the output.",
        "out_width": "Columns of the output.",
        "rows": "Address of (out_height, 2) int64: the two input rows around each.",
        "row_weights": "Address of (out_height, 2) float32: what each of them counts.",
        "columns": "Address of (out_width, 2) int64: the two input columns around each.",
        "column_weights": "Address of (out_width, 2) float32: what each of them counts.",
    },
    _SCRATCH,
)
ClearParams = _struct(
    "ClearParams",
    "Clearing.",
    {
        "out": "Address of the first byte.",
        "chunk": "Bytes of one unit of work.",
        "size": "Bytes in all.",
        "value": "The int8 that they become.",
    },
)
