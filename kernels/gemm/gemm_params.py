"""Parameter blocks of GEMM kernels; `kernels/params.py` says how they are read."""

from __future__ import annotations

from bwn.kernels.params import BIT_OUTPUT, PLANE_OUTPUT, SCRATCH, Params

EPILOGUE = {
    "mask": "Address of int32, whole vectors: -1 where a position is an output, else 0.",
    "scale": "Address of float32, one an output channel.",
    "bias": "Address of float32, one an output channel.",
    "bounds": "Address of six float32, low and high: of sums, after `added`, of quantized outputs.",
    "activation": "An `Activation`, applied to sums within their bounds, before `added`.",
    "added": "Address of planes that are added, as `x` of elementwise kernels; 0 for none.",
    "added_image": "Stride.",
    "added_plane": "Stride.",
    "added_lead": "Elements of a plane before position 0.",
    "rounding": "Address of six float32, where outputs are 8-bit integers: their scale, its "
    "reciprocal, what that lacks, least and greatest output before rounding, what is taken off "
    "after it; else 0.",
}
_QUANTIZED_INPUT = {
    "correction": "Address of float32, one an output channel: zero-point corrections of the sums; "
    "of int32 where weights are int8.",
    "x_scales": "Address of float32 quantization scales, one an image or one a position.",
    "scale_per_position": "1 where each position has its scale, else 0.",
}
_OFFSET_INPUT = {
    "x": "Address of position 0 of channel 0 of image 0.",
    "x_image": "Stride.",
    "words": "Address of the packed weights: rows of uint64 words, of float32, or of bytes.",
    "row_words": "Words, float32 or bytes from one row of weights to the next.",
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
    PLANE_OUTPUT,
    EPILOGUE,
    SCRATCH,
)

GemmParams = Params(
    "GemmParams",
    "A GEMM over planes whose inputs lie at offsets from each position.",
    *_GEMM,
)
StridedParams = Params(
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
LutPermuteParams = Params(
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
    PLANE_OUTPUT,
    EPILOGUE,
    SCRATCH,
)
LutWindowParams = Params(
    "LutWindowParams",
    "A GEMM by tables that are shared by the taps of a window.",
    {
        "x": "Address of position 0 of channel 0 of image 0.",
        "x_image": "Stride.",
        "x_group": "Stride from one group of channels to the next.",
        "x_plane": "Stride.",
        "x_row": "Stride.",
        "channels": "Input channels of one group.",
        "rectangles": "Rectangles of taps that share tables.",
        "taps": "Address of int64, three a rectangle: its rows, its columns, and from position 0 "
        "to what its first tap reads.",
        "words": "Address of the packed weights.",
        "words_group": "Bytes of one group of them.",
        "images": "Images of the batch.",
        "groups": "Groups of channels.",
        "outputs": "Output channels of one group.",
        "shares": "Parts of the outputs of a group that are units of work of their own.",
        "height": "Rows of the output.",
        "width": "Columns of the output.",
        "out_row": "Stride of rows of the output.",
    },
    _QUANTIZED_INPUT,
    PLANE_OUTPUT,
    EPILOGUE,
    SCRATCH,
)
XnorParams = Params(
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
    BIT_OUTPUT,
    PLANE_OUTPUT,
    EPILOGUE,
    SCRATCH,
)
F32ToBitsParams = Params(
    "F32ToBitsParams",
    "A GEMM of float32 whose outputs are written as packed signs.",
    _OFFSET_INPUT,
    {
        "plane_row": "Positions from one row to the next; `width` of them are outputs.",
        "scale": "Address of float32, one an output channel.",
        "bias": "Address of float32, one an output channel.",
        "bounds": "Address of two float32: low and high.",
    },
    BIT_OUTPUT,
    SCRATCH,
)
