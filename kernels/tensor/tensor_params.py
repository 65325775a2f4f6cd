"""Parameter blocks of kernels that are no GEMM; `kernels/params.py` says how they are read."""

from __future__ import annotations

from bwn.kernels.params import BIT_OUTPUT, PLANE_INPUT, PLANE_OUTPUT, SCRATCH, Params

BitpackedParams = Params(
    "BitpackedParams",
    "What moves between planes and packed signs. height, width are the output's, or both.",
    PLANE_INPUT,  # of packed signs x is the corner of the zeros around, and x_image counts bytes
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
    PLANE_OUTPUT,
    BIT_OUTPUT,
    SCRATCH,
)
ElementwiseParams = Params(
    "ElementwiseParams",
    "Every elementwise kernel. Planes share the stride of rows.",
    PLANE_INPUT,
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
    PLANE_OUTPUT,
)
UnaryParams = Params(
    "UnaryParams",
    "A function of each element. Planes share the stride of rows.",
    PLANE_INPUT,
    {
        "function": "A `Function`, or of the simple kernel a `SimpleFunction`.",
        "coefficients": "Address of two float32: its parameters alpha and beta.",
        "channels": "Channels of an image.",
        "positions": "Positions of a plane.",
        "mask": "As of GemmParams.",
        "bounds": "Address of two float32: low and high.",
    },
    PLANE_OUTPUT,
)
BinaryParams = Params(
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
    PLANE_OUTPUT,
)
ChannelParams = Params(
    "ChannelParams",
    "What combines channels. Planes share the stride of rows.",
    PLANE_INPUT,
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
    PLANE_OUTPUT,
)
ReduceParams = Params(
    "ReduceParams",
    "A reduction. Where columns stay, planes share the stride of rows.",
    PLANE_INPUT,
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
    PLANE_OUTPUT,
)
MatMulParams = Params(
    "MatMulParams",
    "Product of two tensors, a matrix for each channel.",
    PLANE_INPUT,
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
    PLANE_OUTPUT,
)
FakeQuantizeParams = Params(
    "FakeQuantizeParams",
    "Quantization that is undone at once. Planes share the stride of rows.",
    PLANE_INPUT,
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
    PLANE_OUTPUT,
)
PoolParams = Params(
    "PoolParams",
    "Pooling.",
    PLANE_INPUT,
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
    PLANE_OUTPUT,
)
CopyParams = Params(
    "CopyParams",
    """A copy of four axes, whose unit of work is one index of axes 0 and 1.

    Source and target do not overlap, and nothing outside them is touched.""",
    {"x": "Address of the first element that is read."},
    {f"x{axis}": f"Stride of axis {axis} of the source." for axis in range(4)},
    {"out": "Address of the first element that is written."},
    {f"out{axis}": f"Stride of axis {axis} of the target." for axis in range(4)},
    {f"n{axis}": f"Length of axis {axis}." for axis in range(1, 4)},
)
RearrangeParams = Params(
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
ResizeParams = Params(
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
    SCRATCH,
)
ClearParams = Params(
    "ClearParams",
    "Clearing.",
    {
        "out": "Address of the first byte.",
        "chunk": "Bytes of one unit of work.",
        "size": "Bytes in all.",
        "value": "The int8 that they become.",
    },
)
