"""What kernels are given: the fields of each parameter block, int64 all of them, in this order.

A kernel gets the address of such a block; addresses in it point into the caller's buffers. This file knows nothing of
how kernels are compiled.
"""

# Annotations are types here, not text: NamedTuple would compile each text, 30 ms at every start.
from enum import IntEnum
from typing import NamedTuple


class Activation(IntEnum):
    """Codes of the field `activation`; the formulas are in `simd/activations.py`, under these names."""

    NONE = 0
    HARD_SWISH = 1


class GemmParams(NamedTuple):
    """Fields of every product. Sizes count elements unless they say bytes."""

    x: int
    """Address of position 0 of channel 0 of image 0."""
    x_image: int
    x_group: int
    words: int
    """Address of the weights' rows: packed uint64 words, or float32."""
    row_words: int
    """Words, or float32 weights, from one row to the next."""
    depth: int
    """K: inputs of one output."""
    offsets: int
    """Address of (depth,) int64: where input k of position 0 lies, in elements from x."""
    images: int
    groups: int
    outputs: int
    """Output channels of one group."""
    positions: int
    out: int
    """Address of the first element of the first plane, padding included."""
    out_image: int
    out_plane: int
    out_lead: int
    """Elements of a plane before position 0."""
    mask: int
    """Address of int32, as many as positions up to a multiple of 16: -1 where a position is an output, else 0."""
    scale: int
    """Address of float32, one an output channel."""
    bias: int
    shift: int
    """Likewise; what products of 8-bit activations add to their sums, see `maps.py`."""
    bounds: int
    """Address of six float32, low and high: of the sums, of those with the planes that are added, of 8 bits."""
    activation: int
    """An `Activation`: what is done to sums within their bounds, before planes are added."""
    added: int
    """Address of the first element of the planes that are added, padding included; 0 where there are none."""
    added_image: int
    added_plane: int
    added_lead: int
    out_step: int
    """Address of the quantization step of the outputs; 0 where they are float32."""
    steps: int
    """Address of float32 quantization steps, one an image, or one a position."""
    steps_per_lane: int
    scratch: int
    scratch_part: int
    """Bytes of scratch of each part."""


class LutPermuteParams(NamedTuple):
    """Fields of a permuted product. Sizes count elements unless they say bytes."""

    x: int
    """Address of position 0 of channel 0 of image 0."""
    x_image: int
    x_group: int
    x_plane: int
    x_segment: int
    """From the channels of one segment (a phase of a strided convolution) to those of the next."""
    channels: int
    """Input channels of one group."""
    chunk: int
    """Tables of one chunk of channels."""
    segments: int
    taps: int
    """Address of (segments + 1,) int64: where each segment's taps begin in `shifts`."""
    shifts: int
    """Address of (taps,) int64: from an output's position to the tap's."""
    least: int
    most: int
    """Smallest and largest shift."""
    indices: int
    """Address of what `prepare` made."""
    index_group: int
    """Bytes of one group of it."""
    images: int
    groups: int
    outputs: int
    """Output channels of one group."""
    starts: int
    """Address of (blocks + 1,) int64: first position of each block of 4, then the plane's end."""
    blocks: int
    band: int
    """Blocks of one unit of work."""
    out: int
    """Address of the first element of the first plane, padding included."""
    out_image: int
    out_plane: int
    out_lead: int
    mask: int
    """As in GemmParams, likewise what follows; but scale, bias, shift of a group are padded to whole vectors."""
    scale: int
    bias: int
    shift: int
    bounds: int
    activation: int
    added: int
    added_image: int
    added_plane: int
    added_lead: int
    out_step: int
    steps: int
    steps_per_lane: int
    room: int
    """Bytes of scratch for a chunk's activations around a band, as int16."""
    scratch: int
    scratch_part: int


class XnorParams(NamedTuple):
    """Fields of a product of packed signs. Strides are bytes unless they say otherwise."""

    x: int
    """Address of what tap 0 of output position 0 of image 0 reads; it may lie in the zeros around the image."""
    x_image: int
    x_row: int
    """From one output position to the next row's."""
    x_position: int
    x_group: int
    words: int
    """Address of the weights as `prepare` lays them out."""
    runs: int
    """Address of int64: where each run of pairs begins, from the first tap's first pair."""
    run_count: int
    run_pairs: int
    images: int
    groups: int
    blocks: int
    """Blocks of a group."""
    height: int
    width: int
    """Output positions."""
    limits: int
    """Address of int32 rows, one for each class of positions: `limits` or `base`, a number for each channel."""
    limits_row: int
    class_y: int
    """Address of int64: row of `limits` of each output row; of each column in class_x, to be added."""
    class_x: int
    flips: int
    """Address of uint64, one a block: bits of channels whose output is -1 up to the limit."""
    out: int
    """Address of the first element of the output: the corner of the zeros around, or of the first plane."""
    out_image: int
    out_row: int
    out_position: int
    top: int
    left: int
    rows: int
    """Rows of the output with the zeros around; columns likewise."""
    columns: int
    out_plane: int
    """Elements of float32; likewise out_lead, positions. The fields from here on serve float32 planes."""
    out_lead: int
    plane_row: int
    positions: int
    outputs: int
    mask: int
    scale: int
    bias: int
    bounds: int
    activation: int
    added: int
    added_image: int
    added_plane: int
    added_lead: int
    out_step: int
    scratch: int
    scratch_part: int


class F32ToBitsParams(NamedTuple):
    """Fields of a product of floats to packed signs: those of GemmParams, and of packed signs as in XnorParams."""

    x: int
    x_image: int
    words: int
    row_words: int
    depth: int
    offsets: int
    images: int
    outputs: int
    positions: int
    plane_row: int
    """Positions from one row to the next; `width` of them are outputs."""
    height: int
    width: int
    scale: int
    bias: int
    bounds: int
    out: int
    out_image: int
    out_row: int
    out_position: int
    top: int
    left: int
    rows: int
    columns: int
    scratch: int
    scratch_part: int


class BitpackedParams(NamedTuple):
    """Fields of what moves between planes and packed signs. Strides of planes count elements, of signs bytes."""

    x: int
    """Address of the first element of the first plane; where signs are read, the corner of the zeros around."""
    x_image: int
    x_plane: int
    x_lead: int
    x_row: int
    x_position: int
    x_top: int
    x_left: int
    out: int
    out_image: int
    out_plane: int
    out_lead: int
    out_row: int
    out_position: int
    top: int
    left: int
    rows: int
    columns: int
    images: int
    channels: int
    height: int
    """Positions of the output, or of both; likewise width."""
    width: int
    kernel_y: int
    kernel_x: int
    tap_row: int
    """From one position of a window to the next row's; likewise tap_position."""
    tap_position: int
    mask: int
    """As in GemmParams, of planes that are written."""
    scratch: int
    scratch_part: int


class ElementwiseParams(NamedTuple):
    """Fields of every elementwise step. Sizes count elements."""

    x: int
    """Address of the first element of the first plane, padding included; likewise other and out."""
    x_image: int
    x_plane: int
    x_lead: int
    other: int
    """The second operand."""
    other_image: int
    other_plane: int
    other_lead: int
    other_broadcast: int
    """1 where position 0 of each plane of `other` serves all positions, else 0."""
    out: int
    out_image: int
    out_plane: int
    out_lead: int
    channels: int
    positions: int
    mask: int
    """As in GemmParams; likewise scale and bias."""
    scale: int
    bias: int
    bounds: int
    """Address of two float32: low and high."""
    activation: int
    """Of `f32_f32_affine`, as in GemmParams."""
    steps: int
    """Address of quantization steps, to read or to write."""
    steps_per_lane: int


class PoolParams(NamedTuple):
    """Fields of pooling. Sizes count elements."""

    x: int
    """Address of the first element of the first plane, padding included; likewise out."""
    x_image: int
    x_plane: int
    x_lead: int
    x_row: int
    height: int
    width: int
    out: int
    out_image: int
    out_plane: int
    out_lead: int
    out_row: int
    out_height: int
    out_width: int
    channels: int
    kernel_y: int
    kernel_x: int
    stride_y: int
    stride_x: int
    top: int
    left: int
    window: int
    """What an average divides by; 0 for the number of positions inside the image."""


class CopyParams(NamedTuple):
    """Fields of a copy: addresses of the first elements, strides of four axes in elements, lengths of axes 1 to 3.

    A unit of work is one index of axes 0 and 1. Source and target do not overlap, and nothing outside them is touched.
    """

    x: int
    x0: int
    x1: int
    x2: int
    x3: int
    out: int
    out0: int
    out1: int
    out2: int
    out3: int
    n1: int
    n2: int
    n3: int


class ClearParams(NamedTuple):
    """Fields of clearing: address, bytes of one unit of work, bytes in all, and the int8 that they become."""

    out: int
    chunk: int
    size: int
    value: int
