"""LiteRT's file of a network, written from its schema: no converter works without TensorFlow or
torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from bwn._types import Floats
from bwn.ir.node import Array, Node
from bwn.ops.add import Add
from bwn.ops.clamp import Clamp
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.ops.pool import Pool
from bwn.ops.sign import Sign
from bwn.ops.weighted import Weighted
from engines.case import Case, UnsupportedError, load
from engines.ranges import Ranges

VERSIONS = {
    "QUANTIZE": 1, "DEQUANTIZE": 1, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "MAX_POOL_2D": 2,
    "MEAN": 2, "RESHAPE": 1, "FULLY_CONNECTED": 4, "ADD": 2, "MUL": 2, "PAD": 2, "RELU": 2,
    "RELU6": 2,
}  # fmt: skip
"""Operators, in the order of their codes, and versions that have int8."""
OPERATORS = tuple(VERSIONS)
TYPES = {"float32": "FLOAT32", "int8": "INT8", "int32": "INT32"}
ACTIVATIONS = {(None, None): "NONE", (0, None): "RELU", (0, 6): "RELU6"}
LEVELS, HALF = 255, 128
HUGE = 1e30


class LiteRTWriter:
    """Writes a network."""

    def __init__(self, case: Case, ranges: Ranges | None = None) -> None:
        """Begin a file.

        Args:
            case: The network.
            ranges: Of each activation tensor, for int8; None for float32.
        """
        self.case, self.ranges = case, ranges
        self.forms = case.forms(FORMS, "LiteRT")
        self.indices: dict[str, int] = {}
        self.schema = load("litert", "ai_edge_litert.schema_py_generated")
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [self.schema.BufferT()]
        self.operators: list[Any] = []
        self.scales: dict[str, tuple[float, int]] = {}

    def content(self) -> bytes:
        """The file's bytes.

        Raises:
            UnsupportedError: A layer has no form here.
        """
        topology = self.case.spec.graph.topology
        first = last = self.activation(topology.input, floats=True)
        if self.ranges is not None:
            last = self.operate("QUANTIZE", [first], self.activation(topology.input))
        self.indices[topology.input] = last
        for node, form in self.forms:
            if node.output not in self.indices:  # else an earlier operator has made it
                self.indices[node.output] = form(self, node)
        last = self.indices[topology.output]
        if self.ranges is not None:
            last = self.operate("DEQUANTIZE", [last], self.activation(topology.output, floats=True))
        return self.pack(first, last)

    def refuse_signs(self) -> None:
        """Raise UnsupportedError where a network has signs, which 8 bits would not keep."""
        if any(isinstance(node, Sign) for node, _ in self.forms):
            raise UnsupportedError("signs in 8 bits are not implemented for LiteRT")

    # Tensors

    def shape(self, name: str) -> list[int]:
        """Shape of an activation, channels last."""
        shape = self.case.shapes[name]
        return [self.case.batch, *shape[1:], shape[0]]

    def tensor(
        self,
        name: str,
        shape: list[int],
        array: Array | None = None,
        *,
        dtype: str = "float32",
        scales: Any = None,
        zero_point: int = 0,
    ) -> int:
        """Add a tensor and give its index.

        Args:
            name: Its name.
            shape: Its shape.
            array: Its value, of a constant.
            dtype: Type of its elements.
            scales: Quantization scale, one for all or one for each row.
            zero_point: The integer that stands for 0.
        """
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape = name, shape
        tensor.type = getattr(self.schema.TensorType, TYPES[dtype])
        if array is not None:
            buffer = self.schema.BufferT()
            content = np.ascontiguousarray(array.astype(dtype)).tobytes()
            buffer.data = np.frombuffer(content, np.uint8)
            self.buffers.append(buffer)
            tensor.buffer = len(self.buffers) - 1
        if scales is not None:
            tensor.quantization = self.schema.QuantizationParametersT()
            tensor.quantization.scale = np.atleast_1d(scales).astype(np.float32)
            tensor.quantization.zeroPoint = np.full(np.size(scales), zero_point, np.int64)
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def activation(
        self,
        name: str,
        *,
        floats: bool = False,
        like: str | None = None,
        shape: list[int] | None = None,
    ) -> int:
        """Add an activation: int8 in an int8 file.

        Args:
            name: Its name.
            floats: Whether it is float32 in any file.
            like: The activation whose scale it has; default one of its own.
            shape: Its shape, channels last; default that of the network's tensor of this name.
        """
        shape = shape or self.shape(name)
        if self.ranges is None or floats:
            return self.tensor(name, shape)
        if like is None:
            low, high = self.ranges[name]
            scale = (high - low) / LEVELS
            self.scales[name] = scale, round(-HALF - low / scale)
        else:
            self.scales[name] = self.scales[like]
        scale, zero_point = self.scales[name]
        return self.tensor(name, shape, dtype="int8", scales=scale, zero_point=zero_point)

    # Layers: each adds its operator and gives the index of its output

    def conv(self, node: Conv) -> int:
        """CONV_2D, or DEPTHWISE_CONV_2D where each channel has its own filters."""
        channels = self.case.shapes[node.input][0]
        weights = self.float_weights(node)
        if node.groups == 1:
            name, options = "CONV_2D", self.schema.Conv2DOptionsT()
            weights = weights.transpose(0, 2, 3, 1)
        elif node.groups == channels:
            name, options = "DEPTHWISE_CONV_2D", self.schema.DepthwiseConv2DOptionsT()
            options.depthMultiplier = len(weights) // channels
            weights = weights.transpose(1, 2, 3, 0)
        else:
            raise UnsupportedError("convolutions of several groups are not implemented for LiteRT")
        same = tuple(d * (k - 1) // 2 for k, d in zip(node.kernel, node.dilation, strict=True))
        source = self.indices[node.input]
        if node.stride == (1, 1) and node.pads == same * 2:
            options.padding = self.schema.Padding.SAME
        else:
            source = self.padded(node, source)
            options.padding = self.schema.Padding.VALID
        options.strideH, options.strideW = node.stride
        options.dilationHFactor, options.dilationWFactor = node.dilation
        return self.layer(name, node, source, weights, options)

    def dense(self, node: Dense) -> int:
        """FULLY_CONNECTED; after a Flatten its inputs are in the order of planes, channels last."""
        weights = self.float_weights(node)
        before = self.case.spec.graph.producers.get(node.input)
        if type(before) is Flatten:
            planes = weights.reshape(len(weights), *self.case.shapes[before.input])
            weights = np.moveaxis(planes, 1, -1).reshape(len(weights), -1)
        options = self.schema.FullyConnectedOptionsT()
        return self.layer("FULLY_CONNECTED", node, self.indices[node.input], weights, options)

    def pool(self, node: Pool) -> int:
        """MAX_POOL_2D, whose output has the scale of its input, or MEAN over all of a plane."""
        source = self.indices[node.input]
        if node.kind == "average":
            if node.kernel != self.case.shapes[node.input][1:] or any(node.pads):
                raise UnsupportedError("averages of a part are not implemented for LiteRT")
            options = self.schema.ReducerOptionsT()
            options.keepDims = True
            axes = self.tensor(f"{node.output}.axes", [2], np.array([1, 2]), dtype="int32")
            return self.operate("MEAN", [source, axes], self.activation(node.output), options)
        if any(node.pads):
            low = getattr(self.case.spec.graph.producers.get(node.input), "low", None)
            if low is None or low < 0:
                raise UnsupportedError("padded maxima of negative numbers are not implemented")
            source = self.padded(node, source)
        options = self.schema.Pool2DOptionsT()
        options.padding = self.schema.Padding.VALID
        options.strideH, options.strideW = node.stride
        options.filterHeight, options.filterWidth = node.kernel
        output = self.activation(node.output, like=node.input)
        return self.operate("MAX_POOL_2D", [source], output, options)

    def padded(self, node: Conv | Pool, source: int) -> int:
        """PAD with zeros, where a window has padding."""
        if not any(node.pads):
            return source
        top, left, bottom, right = node.pads
        channels, height, width = self.case.shapes[node.input]
        pads = np.array([[0, 0], [top, bottom], [left, right], [0, 0]])
        shape = [self.case.batch, height + top + bottom, width + left + right, channels]
        sizes = self.tensor(f"{node.output}.pads", [4, 2], pads, dtype="int32")
        output = self.activation(f"{node.output}.padded", like=node.input, shape=shape)
        return self.operate("PAD", [source, sizes], output)

    def add(self, node: Add) -> int:
        """ADD, with the ReLU that alone reads it."""
        reader = self.case.spec.graph.sole_consumer(node.output)
        options, output = self.schema.AddOptionsT(), node.output
        if isinstance(reader, Clamp):
            output = reader.output
            options.fusedActivationFunction = self.fused(reader)
        sources = [self.indices[name] for name in node.inputs]
        self.indices[output] = self.operate("ADD", sources, self.activation(output), options)
        return self.indices[output]

    def clamp(self, node: Clamp) -> int:
        """RELU or RELU6."""
        name = activation(node)
        return self.operate(name, [self.indices[node.input]], self.activation(node.output))

    def sign(self, node: Sign) -> int:
        """A large multiple, clipped: exact except for numbers below 1e-30."""
        options = self.schema.MulOptionsT()
        options.fusedActivationFunction = self.schema.ActivationFunctionType.RELU_N1_TO_1
        huge = self.tensor(f"{node.output}.huge", [1], np.array([HUGE]))
        sources = [self.indices[node.input], huge]
        return self.operate("MUL", sources, self.activation(node.output), options)

    def flatten(self, node: Flatten) -> int:
        """RESHAPE."""
        options = self.schema.ReshapeOptionsT()
        options.newShape = self.shape(node.output)
        output = self.activation(node.output, like=node.input)
        return self.operate("RESHAPE", [self.indices[node.input]], output, options)

    def float_weights(self, node: Weighted) -> Floats:
        """scale * w, in the shape of float weights."""
        return node.float_weights(self.case.spec.graph.tensors, self.case.shapes[node.input])

    def layer(self, kind: str, node: Weighted, source: int, weights: Floats, options: Any) -> int:
        """A layer with weights and its ReLU."""
        options.fusedActivationFunction = self.fused(node)
        inputs = [source, *self.constants(node, weights, -1 if "DEPTHWISE" in kind else 0)]
        return self.operate(kind, inputs, self.activation(node.output), options)

    def fused(self, node: Weighted | Clamp) -> int:
        """The code of the activation that an operator applies."""
        code: int = getattr(self.schema.ActivationFunctionType, activation(node))
        return code

    def constants(self, node: Weighted, weights: Floats, outputs: int) -> list[int]:
        """Weights, whose axis `outputs` is that of the outputs, and bias as tensors."""
        bias = np.zeros(weights.shape[outputs])
        if node.bias is not None:
            bias = self.case.spec.graph.tensors[node.bias].astype(np.float64)
        names = f"{node.output}.weight", f"{node.output}.bias"
        if self.ranges is None:
            return [
                self.tensor(names[0], [*weights.shape], weights),
                self.tensor(names[1], [len(bias)], bias),
            ]
        outputs %= weights.ndim
        axes = tuple(axis for axis in range(weights.ndim) if axis != outputs)
        scales = np.abs(weights).max(axis=axes, keepdims=True) / 127
        quantized = np.rint(weights / scales)
        scales = scales.reshape(-1)
        sums = scales * self.scales[node.input][0]
        stored = self.tensor(names[0], [*weights.shape], quantized, dtype="int8", scales=scales)
        self.tensors[stored].quantization.quantizedDimension = outputs
        bias = np.rint(bias / sums)
        return [stored, self.tensor(names[1], [len(bias)], bias, dtype="int32", scales=sums)]

    # The file

    def operate(self, name: str, inputs: list[int], output: int, options: Any = None) -> int:
        """Add an operator and give the index of its output."""
        operator = self.schema.OperatorT()
        operator.opcodeIndex = OPERATORS.index(name)
        operator.inputs, operator.outputs = inputs, [output]
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, kind)
            operator.builtinOptions = options
        self.operators.append(operator)
        return output

    def pack(self, first: int, last: int) -> bytes:
        """The model as a flatbuffer, from its input to its output."""
        graph, model = self.schema.SubGraphT(), self.schema.ModelT()
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs, graph.outputs = [first], [last]
        model.operatorCodes = []
        for name in OPERATORS:
            code = self.schema.OperatorCodeT()
            builtin = getattr(self.schema.BuiltinOperator, name)
            code.builtinCode = code.deprecatedBuiltinCode = builtin
            code.version = VERSIONS[name]
            model.operatorCodes.append(code)
        model.version, model.subgraphs, model.buffers = 3, [graph], self.buffers
        builder = load("litert", "flatbuffers").Builder()
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def activation(node: Weighted | Clamp) -> str:
    """LiteRT's name of a clamp. Raises UnsupportedError where it has none."""
    name = ACTIVATIONS.get((node.low, node.high))
    if name is None:
        raise UnsupportedError("a clamp other than ReLU and ReLU6 is not implemented for LiteRT")
    return name


FORMS: dict[type[Node], Any] = {
    Add: LiteRTWriter.add,
    Clamp: LiteRTWriter.clamp,
    Conv: LiteRTWriter.conv,
    Dense: LiteRTWriter.dense,
    Pool: LiteRTWriter.pool,
    Sign: LiteRTWriter.sign,
    Flatten: LiteRTWriter.flatten,
}
"""How each operation is written; the others are refused."""
