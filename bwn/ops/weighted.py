"""Operations with weights: the common part of convolutions and fully connected layers.

For output channel n,

    y[n] = clamp(scale[n] * sum_k w[n, k] * x[k] + bias[n], low, high)

with float32 weights; with one-bit weights w = +-1 in packed uint64 words (`kernels/bits.py` has the
bit rule); or with int8 weights, integers within +-127. A missing scale is 1, a missing bias 0, a
missing bound infinite. Zero padding adds nothing to the sum. With 8-bit activations x ~ input_scale
* q, the sum is over integers q.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from bwn._text import count_noun
from bwn.ir.node import (
    Array,
    Node,
    Reals,
    Shape,
    Tensors,
    check_bounds,
    check_finite,
    check_vector,
    elements,
    is_float32,
    largest,
)
from bwn.ir.quantization import QUANT_RANGES, Activations
from bwn.kernels import bits
from bwn.kernels import reference as plain
from bwn.kernels.gemm.depths import INT8_MAX_DEPTH, UINT8_MAX_DEPTH
from bwn.ops.clamp import clamp_to_onnx
from bwn.ops.window import Window

if TYPE_CHECKING:
    from bwn.ir.graph import Graph
    from bwn.onnx.exporter import OnnxGraph
    from bwn.plan.builder import PlanBuilder

INT8_WEIGHT_LIMIT = 127
"""Largest magnitude of an int8 weight."""
WeightType = Literal["1 bit", "int8", "float32"]
"""How weights are stored."""
WEIGHT_TYPES: dict[type[np.generic], WeightType] = {
    np.uint64: "1 bit",
    np.int8: "int8",
    np.float32: "float32",
}


def layer_names(graph: Graph) -> dict[str, str]:
    """Name of the node that makes each tensor, for tables; most nodes are named as the tensor.

    A layer is named after its module, if the name of its weights has it (`fc1.weight`), else by its
    kind: `conv1`, `dense2`. Numbers of torch's Sequential do not count as names of modules.
    """
    names: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for node in graph.nodes:
        name = node.output
        if isinstance(node, Weighted):
            counts[node.op] += 1
            module, _, field = node.weight.rstrip("'").rpartition(".")
            known = field == "weight" and not module.isdigit()
            name = module if known else f"{node.op}{counts[node.op]}"
        while name in names.values():
            name += "'"
        names[node.output] = name
    return names


class Weighted(Node, frozen=True, kw_only=True):
    """A layer with weights, an epilogue, and a choice of how it reads its input.

    Attributes:
        weight: Name of float32 or int8 weights, or of packed uint64 words.
        scale: Name of a (outputs,) float32 vector, or None for 1.
        bias: Name of a (outputs,) float32 vector, or None for 0.
        low: Lower clamp bound, or None.
        high: Upper clamp bound, or None.
        activations: Precision of its input. `binary` needs one-bit weights, 8 bits one-bit or int8
            weights. Int8 weights need 8-bit activations.
        input_scale: With 8-bit activations, the fixed scale in x ~ input_scale * q; None: max|x| /
            qmax of each image. The file calls it `step`.
    """

    weight: str
    scale: str | None = None
    bias: str | None = None
    low: float | None = None
    high: float | None = None
    activations: Activations = "float32"
    input_scale: float | None = msgspec.field(default=None, name="step")

    rank: ClassVar[int]
    """Axes of an input example."""

    def window(self, shape: Shape) -> Window:
        """The window that each output sums over. shape: shape of the input."""
        raise NotImplementedError

    def sums(self, x: Reals, weights: Reals) -> Reals:
        """The plain sums of products, from weights as `float_weights` shapes them."""
        raise NotImplementedError

    def unpack(self, words: npt.NDArray[np.uint64], shape: Shape) -> npt.NDArray[np.int8]:
        """Packed weights as +-1, in the shape of float weights."""
        raise NotImplementedError

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of the stored tensors that it reads."""
        return tuple(name for name in (self.weight, self.scale, self.bias) if name is not None)

    @property
    def is_quantized(self) -> bool:
        """Whether it rounds its input to 8 bits."""
        return self.activations in QUANT_RANGES

    @property
    def since(self) -> int:  # type: ignore[override]  # a class variable of operations without choice
        """First version of the .bwn file that may hold it: uint8 came with version 2."""
        return 2 if self.activations == "uint8" else 1

    def is_packed(self, tensors: Tensors) -> bool:
        """Whether its weights are one bit each."""
        return self.weight_type(tensors) == "1 bit"

    def weight_type(self, tensors: Tensors) -> WeightType:
        """How its weights are stored."""
        return WEIGHT_TYPES[tensors[self.weight].dtype.type]

    def depth(self, shape: Shape) -> int:
        """K, the number of products in an output. shape: shape of the input."""
        window = self.window(shape)
        return window.taps * shape[0] // window.groups

    # Checks

    def check(self, inputs: Sequence[Shape], tensors: Tensors, signs: set[str]) -> None:
        """Weights, epilogue and activations are legal."""
        check_bounds(self, self.low, self.high)
        (shape,) = inputs
        outputs = self._check_weight(shape, tensors[self.weight])
        for name in (self.scale, self.bias):
            if name is not None:
                check_vector(self, name, tensors[name], outputs)
        self._check_activations(shape, tensors, signs)
        self._check_range(self.depth(shape), outputs, tensors)

    def _check_range(self, depth: int, outputs: int, tensors: Tensors) -> None:
        """Check that outputs fit float32, if the input is bounded."""
        if self.is_quantized and self.input_scale is not None:
            largest_input = self.input_scale * max(map(abs, QUANT_RANGES[self.activations]))
        elif self.activations == "binary":
            largest_input = 1.0
        else:
            return
        scale, bias = (
            np.full(outputs, fill) if name is None else np.abs(tensors[name].astype(np.float64))
            for name, fill in ((self.scale, 1.0), (self.bias, 0.0))
        )
        if self.weight_type(tensors) == "int8":
            largest_input *= INT8_WEIGHT_LIMIT
        reach = depth * largest_input * scale + bias
        channel = int(reach.argmax())
        if not is_float32(reach[channel]):
            raise self.refuse(
                f"output channel {channel} reaches {reach[channel]:.3g}, which float32 cannot "
                f"hold: its scale is {scale[channel]:.3g}, its bias {bias[channel]:.3g}, "
                f"its step {self.input_scale or 1:.3g}"
            )

    def _check_weight(self, shape: Shape, weight: Array) -> int:
        """Check the stored weights. Returns the output channels."""
        if len(shape) != self.rank:
            expected = "(channels, height, width)" if self.rank == 3 else "(features,)"
            raise self.refuse(f"input has shape {shape}, expected {expected}")
        if weight.ndim < 2 or weight.shape[0] < 1:
            raise self.refuse(f"weights have shape {weight.shape}, expected (outputs, ...)")
        outputs, groups = weight.shape[0], self.window(shape).groups
        if shape[0] % groups or outputs % groups:
            raise self.refuse(
                f"{groups} groups do not divide {count_noun(shape[0], 'input')} "
                f"and {count_noun(outputs, 'output')}"
            )
        stored = WEIGHT_TYPES.get(weight.dtype.type)
        packed, depth = stored == "1 bit", self.depth(shape)
        expected_shape = (
            (outputs, bits.words_for(depth)) if packed else self.weight_shape(outputs, shape)
        )
        if stored is None or weight.shape != expected_shape:
            kind = weight.dtype if stored else "float32"
            raise self.refuse(
                f"weights '{self.weight}' are {weight.dtype} {weight.shape}, "
                f"expected {kind} {expected_shape}"
            )
        if stored == "int8":
            self._check_int8_weights(weight, depth)
        if packed and not bits.pads_are_zero(weight.astype(np.uint64, copy=False), depth):
            raise self.refuse(
                f"weights '{self.weight}' have bits set after the last of {depth} signs of a row"
            )
        check_finite(self, self.weight, weight)
        return int(outputs)

    def _check_int8_weights(self, weight: Array, depth: int) -> None:
        if int(weight.astype(np.int8).min()) < -INT8_WEIGHT_LIMIT:
            raise self.refuse(
                f"weights '{self.weight}' hold -128, expected -{INT8_WEIGHT_LIMIT} to "
                f"{INT8_WEIGHT_LIMIT}"
            )
        if depth > INT8_MAX_DEPTH:
            raise self.refuse(
                f"sums {depth:,} products; int8 weights allow at most {INT8_MAX_DEPTH:,}"
            )

    def weight_shape(self, outputs: int, shape: Shape) -> Shape:
        """Shape of weights that are not packed. shape: shape of the input."""
        raise NotImplementedError

    def _check_activations(self, shape: Shape, tensors: Tensors, signs: set[str]) -> None:
        kind, weights = self.activations, self.weight_type(tensors)
        if kind != "float32" and weights == "float32":
            raise self.refuse(f"{kind} activations need one-bit weights, these are float32")
        if weights == "int8" and not self.is_quantized:
            raise self.refuse(f"int8 weights need int8 or uint8 activations, these are {kind}")
        if kind == "binary" and self.input not in signs:
            raise self.refuse(
                f"binary activations need an input of signs, '{self.input}' is not one"
            )
        if kind == "uint8" and self.depth(shape) > UINT8_MAX_DEPTH:
            raise self.refuse(
                f"sums {self.depth(shape):,} products; uint8 activations allow at most "
                f"{UINT8_MAX_DEPTH:,}: use int8"
            )
        if self.input_scale is not None and not self.is_quantized:
            raise self.refuse(f"a step needs int8 or uint8 activations, these are {kind}")
        if self.input_scale is not None and not (
            is_float32(self.input_scale) and np.float32(self.input_scale) > 0
        ):
            raise self.refuse(f"the step is {self.input_scale}, expected a finite number above 0")

    # Meaning

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """The sums, then scale, bias and bounds."""
        sums, scale = self.accumulate(inputs[0], tensors)
        bias = None if self.bias is None else tensors[self.bias]
        return plain.epilogue(sums, scale, bias, self.low, self.high)

    def accumulate(self, x: Reals, tensors: Tensors) -> tuple[Reals, Reals | None]:
        """The sums before scale and bias, and their scale.

        Returns:
            sums: (N, outputs, ...) float64, or int64 with 8-bit or sign activations.
            scale: (outputs,), or (N, outputs) including each image's input scale, or None for 1.
        """
        weights = self._weights(tensors, x.shape[1:])
        scale: Reals | None = None
        if self.scale is not None:
            scale = tensors[self.scale].astype(np.float64)
        if self.is_quantized:
            x, input_scales = plain.quantize(
                x.astype(np.float32), self.input_scale, *QUANT_RANGES[self.activations]
            )
            ones = np.ones(len(weights)) if scale is None else scale
            scale = input_scales.astype(np.float64)[:, None] * ones  # (N, outputs)
        elif self.activations == "binary":
            x = plain.sign(x)
        return self.sums(x, weights), scale

    def _weights(self, tensors: Tensors, shape: Shape) -> Reals:
        weight = tensors[self.weight]
        if not self.is_packed(tensors):
            return weight
        return self.unpack(weight.astype(np.uint64, copy=False), shape)

    def float_weights(self, tensors: Tensors, shape: Shape) -> npt.NDArray[np.float32]:
        """scale * w as float32, in the shape of float weights. shape: shape of the input."""
        weights = self._weights(tensors, shape).astype(np.float32)
        if self.scale is not None:
            scale = tensors[self.scale].astype(np.float32)
            weights = weights * scale.reshape(-1, *[1] * (weights.ndim - 1))
        return np.ascontiguousarray(weights)

    # Conclusions

    def makes_nonnegative(self, nonnegative: set[str], tensors: Tensors) -> bool:
        """If its lower bound is at least 0."""
        return self.low is not None and self.low >= 0

    def float_terms(self, shape: Shape, *, floats: bool = False) -> int:
        """K float products; sums of integers are exact until they become float32."""
        return self.depth(shape) if floats or self.activations == "float32" else 0

    def magnitude(self, inputs: Sequence[Reals], tensors: Tensors) -> float:
        """The scaled sums plus the bias, before clamping."""
        sums, scale = self.accumulate(inputs[0], tensors)
        if scale is not None:
            sums = sums * scale.reshape(*scale.shape, *[1] * (sums.ndim - 2))
        return largest(sums, None if self.bias is None else tensors[self.bias])

    def absolute_sum(self, x: Reals, tensors: Tensors) -> float:
        """The largest sum of absolute scaled products, for an input that is not quantized."""
        ones = np.ones_like(self._weights(tensors, x.shape[1:]))
        sums = self.sums(np.abs(x.astype(np.float64)), ones)
        if self.scale is not None:
            scale = np.abs(tensors[self.scale].astype(np.float64))
            sums = sums * scale.reshape(-1, *[1] * (sums.ndim - 2))
        return largest(sums)

    def work(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Its multiply-accumulates."""
        return self.macs(inputs, output)

    def macs(self, inputs: Sequence[Shape], output: Shape) -> int:
        """K for each element of the output."""
        return elements(output) * self.depth(inputs[0])

    # Where it goes

    def lower(self, plan: PlanBuilder) -> None:
        """A GEMM kernel, with the following nodes fused into its epilogue."""
        plan.gemm(self)

    def to_onnx(self, graph: OnnxGraph) -> None:
        """Conv or Gemm with scaled weights, then a clamp."""
        weights = self.float_weights(graph.tensors, graph.shapes[self.input])
        packed = graph.qonnx and self.is_packed(graph.tensors)
        keep = graph.bipolar if packed else graph.constant
        inputs = [self.input, keep(self.weight, weights)]
        if self.bias is not None:
            inputs.append(graph.constant(self.bias, graph.tensors[self.bias]))
        clamps = self.low is not None or self.high is not None
        output = graph.inner(f"{self.output}.sum") if clamps else self.output
        op_type, attributes = self.onnx_form()
        graph.emit(op_type, inputs, output, **attributes)
        if clamps:
            clamp_to_onnx(graph, output, self.output, self.low, self.high)

    def onnx_form(self) -> tuple[str, dict[str, Any]]:
        """ONNX operation and its attributes."""
        raise NotImplementedError
