"""The lists of kernels, and the choice among GEMMs.

Planner, tests, benchmarks and libraries loop over these lists: a kernel that is not here is not
shipped. GEMMs have their rows in `gemm/specs.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from bwn.kernels.gemm import gemm_params
from bwn.kernels.gemm.gemm_spec import (
    Cost,
    Element,
    GemmSpec,
    IndirectGemm,
    LutPermuteGemm,
    LutWindowGemm,
    Weights,
    Work,
)
from bwn.kernels.gemm.specs import SPECS
from bwn.kernels.gemm.tiles import dots_form
from bwn.kernels.target.cpu import features
from bwn.kernels.target.kernel import Kernel
from bwn.kernels.tensor import tensor_params

__all__ = [
    "GEMMS", "KERNELS", "OTHERS", "Choice", "Element", "GemmSpec", "IndirectGemm", "Kernel",
    "LutPermuteGemm", "LutWindowGemm", "Weights", "fitting", "select",
]  # fmt: skip

GEMMS: tuple[GemmSpec, ...] = tuple(spec for spec in SPECS if spec.runs_on(features()))
"""Those that this CPU can run."""

_FMA = {"x86-64-avx2": [r"vfmadd\d+ps\s.*[yz]mm"], "aarch64": [r"fmla\s+v\d+\.4s"]}
_COUNTS = {"aarch64": [r"cnt\s+v\d+\.16b", r"uadalp\s+v\d+\.4s"]}
_LANE_COUNTS = {"x86-64-avx512": [r"vpopcntd\s.*zmm", r"vpternlogd\s.*zmm"], **_COUNTS}

AFFINE = Kernel("tensor.elementwise.f32_f32_affine", tensor_params.ElementwiseParams, expected=_FMA)
BINARY: dict[str, Kernel] = {
    function: Kernel(f"tensor.broadcast.f32_f32_{function}", tensor_params.BinaryParams)
    for function in ("add", "sub", "mul", "div", "max", "min", "prelu", "pow")
}
"""The kernel of each function of two operands."""
SIGN = Kernel("tensor.elementwise.f32_s1_sign", tensor_params.ElementwiseParams)
FLOAT = Kernel("tensor.elementwise.i8_f32_float", tensor_params.ElementwiseParams)
SCALES = Kernel("tensor.elementwise.f32_f32_scales", tensor_params.ElementwiseParams)
SCALES_LANES = Kernel("tensor.elementwise.f32_f32_scales_lanes", tensor_params.ElementwiseParams)
QUANTIZE = Kernel("tensor.elementwise.f32_i8_quantize", tensor_params.ElementwiseParams)
FAKE_QUANTIZE = Kernel("tensor.rounding.f32_f32_fake_quantize", tensor_params.FakeQuantizeParams)
RANGES = Kernel("tensor.rounding.f32_f32_ranges", tensor_params.FakeQuantizeParams)
RANGES_LANES = Kernel("tensor.rounding.f32_f32_ranges_lanes", tensor_params.FakeQuantizeParams)
SOFTMAX = Kernel("tensor.channelwise.f32_f32_softmax", tensor_params.ChannelParams)
UNARY = Kernel("tensor.unary_functions.f32_f32_unary", tensor_params.UnaryParams, expected=_FMA)
SIMPLE_UNARY = Kernel("tensor.unary_functions.f32_f32_simple_unary", tensor_params.UnaryParams)
LAYER_NORM = Kernel("tensor.channelwise.f32_f32_layer_norm", tensor_params.ChannelParams)
GROUP_NORM = Kernel("tensor.channelwise.f32_f32_group_norm", tensor_params.ChannelParams)
LOCAL_RESPONSE = Kernel("tensor.channelwise.f32_f32_local_response", tensor_params.ChannelParams)
REDUCE = Kernel("tensor.reductions.f32_f32_reduce", tensor_params.ReduceParams)
MATMUL = Kernel("tensor.products.f32_f32_matmul", tensor_params.MatMulParams, expected=_FMA)
COPY_F32 = Kernel("tensor.copy.f32_f32_copy", tensor_params.CopyParams)
COPY_I8 = Kernel("tensor.copy.i8_i8_copy", tensor_params.CopyParams)
REARRANGE = Kernel("tensor.copy.f32_f32_rearrange", tensor_params.RearrangeParams)
RESIZE = Kernel("tensor.interpolation.f32_f32_resize", tensor_params.ResizeParams)
CLEAR = Kernel("tensor.copy.clear", tensor_params.ClearParams)
MAX_F32 = Kernel("tensor.pooling.f32_f32_max_pool", tensor_params.PoolParams)
MAX_I8 = Kernel("tensor.pooling.i8_i8_max_pool", tensor_params.PoolParams)
AVERAGE = Kernel("tensor.pooling.f32_f32_average_pool", tensor_params.PoolParams)
XNOR_SIGNS = Kernel("gemm.xnor.b1_b1_b1_signs_xnor", gemm_params.XnorParams, expected=_LANE_COUNTS)
XNOR_PLANES = Kernel("gemm.xnor.b1_b1_f32_planes_xnor", gemm_params.XnorParams, expected=_COUNTS)
PACK = Kernel("tensor.bitpacked.f32_b1_sign", tensor_params.BitpackedParams)
FLOAT_SIGNS = Kernel(
    "gemm.f32_to_bits.f32_f32_b1_signs_multiply", gemm_params.F32ToBitsParams, expected=_FMA
)
STRIDED = Kernel(
    "gemm.depthwise.f32_f32_f32_planes_strided", gemm_params.StridedParams, expected=_FMA
)
STRIDED_RUNS = (
    Kernel("gemm.depthwise_dots.i8_i8_f32_planes_strided", gemm_params.StridedParams)
    if dots_form() in ("vpdpbusd", "sdot")
    else None
)
"""The same with 8-bit activations, where dot products pay."""
MAX_B1 = Kernel("tensor.bitpacked.b1_b1_max_pool", tensor_params.BitpackedParams)
UNPACK_F32 = Kernel("tensor.bitpacked.b1_f32_unpack", tensor_params.BitpackedParams)
UNPACK_S1 = Kernel("tensor.bitpacked.b1_s1_unpack", tensor_params.BitpackedParams)

OTHERS: tuple[Kernel, ...] = (
    *BINARY.values(), *(kernel for kernel in vars().values() if isinstance(kernel, Kernel)),
)  # fmt: skip
"""Every kernel above."""

KERNELS: dict[str, Kernel] = {kernel.name: kernel for kernel in (*GEMMS, *OTHERS)}


class Choice(NamedTuple):
    """The GEMM for some work.

    Attributes:
        kernel: It.
        microseconds: Its predicted time on one thread.
        why: The reason, one line.
    """

    kernel: GemmSpec
    microseconds: float
    why: str


def fitting(activations: Element, weights: Weights, depth: int) -> list[GemmSpec]:
    """The GEMMs that read these types and hold sums of `depth` products, in order of the list."""
    return [spec for spec in _reading(activations, weights) if depth <= spec.max_depth]


@cache
def _reading(activations: Element, weights: Weights) -> tuple[GemmSpec, ...]:
    read = activations, weights
    return tuple(spec for spec in GEMMS if (spec.activations, spec.weights) == read)


def short(microseconds: float) -> str:
    """Three digits, or all before the point: `0.348`, `31.2`, `2124`."""
    return f"{microseconds:.0f}" if microseconds >= 100 else f"{microseconds:.3g}"


def select(activations: Element, weights: Weights, work: Work, costs: Mapping[str, Cost]) -> Choice:
    """The GEMM of least predicted time among `fitting` ones.

    Args:
        activations: What it reads.
        weights: What it reads.
        work: What it computes.
        costs: Of each kernel, by name.

    Raises:
        ValueError: None fits.
    """
    specs = _reading(activations, weights)
    times = {spec: spec.microseconds(work, costs[spec.name]) for spec in specs}
    fit = fitting(activations, weights, work.depth)
    best = min(fit, key=times.__getitem__)
    others = ", ".join(f"{spec.variant} {short(times[spec])}" for spec in fit if spec is not best)
    too_small = [spec for spec in specs if spec not in fit]
    slow = times[best] > min(times.values())  # a faster one exists that cannot hold the sums
    why = f"{'slow' if slow else 'fastest' if others else 'the only one'}: {short(times[best])} us"
    why += f" ({others})" * bool(others)
    overflows = [f"K = {work.depth} would overflow {spec.variant}" for spec in too_small]
    return Choice(best, times[best], "; ".join([why, *overflows]))
