"""LiteRT (TensorFlow Lite with XNNPACK) on the CPU, float32 and int8, for chains of layers.

Its file is written here from the schema: no converter works without TensorFlow or torch. Planes are
(N, H, W, C).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bwn.ir.node import Array, Node
from bwn.onnx.session import Session
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.ops.pool import Pool
from bwn.ops.weighted import Weighted
from engines.case import Case, Contender, Floats, Run, UnsupportedError, load

OPERATORS = ("QUANTIZE", "CONV_2D", "MAX_POOL_2D", "RESHAPE", "FULLY_CONNECTED", "DEQUANTIZE")
VERSIONS = {"CONV_2D": 3, "MAX_POOL_2D": 2, "FULLY_CONNECTED": 4}
TYPES = {"float32": "FLOAT32", "int8": "INT8", "int32": "INT32"}
LEVELS, HALF = 255, 128

Ranges = dict[str, tuple[float, float]]
"""Smallest and largest value of each activation tensor."""


def float32(case: Case) -> Contender:
    """The float32 function."""
    return Contender("litert", "float32", _start(float_file(case), case))


def int8(case: Case) -> Contender:
    """8-bit activations with zero point, 8-bit weights with a scale per output; float32 ends."""
    return Contender("litert", "int8", _start(int8_file(case), case))


def float_file(case: Case) -> bytes:
    """The float32 file."""
    return LiteRTWriter(case).content()


def int8_file(case: Case) -> bytes:
    """The int8 file, with ranges by minimum and maximum over the calibration images."""
    writer = LiteRTWriter(case, {})  # an unsupported network is refused before it is run
    topology = case.spec.graph.topology
    names = {node.output for node in topology.nodes}
    tensors = Session(case.float_onnx).tensors(case.calibration, names)
    tensors[topology.input] = case.calibration
    writer.ranges = {
        name: (min(0.0, float(array.min())), max(0.0, float(array.max())))
        for name, array in tensors.items()
    }
    return writer.content()


def _start(model: bytes, case: Case) -> Run:
    interpreter = load("litert", "ai_edge_litert.interpreter").Interpreter(
        model_content=model, num_threads=case.threads
    )
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    result = interpreter.get_output_details()[0]["index"]

    def run(x: Floats) -> Floats:
        channels_last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x
        interpreter.set_tensor(source, channels_last)
        interpreter.invoke()
        scores: Floats = interpreter.get_tensor(result)
        return scores

    return run


class LiteRTWriter:
    """The file of a chain of layers."""

    def __init__(self, case: Case, ranges: Ranges | None = None) -> None:
        """Begin a file.

        Args:
            case: The network.
            ranges: Of each activation tensor, for int8; None for float32.
        """
        self.case, self.ranges = case, ranges
        self.forms = case.forms(FORMS, "LiteRT", chain=True)
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
        for node, form in self.forms:
            last = form(self, node, last)
        if self.ranges is not None:
            last = self.operate("DEQUANTIZE", [last], self.activation(topology.output, floats=True))
        return self.pack(first, last)

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

    def activation(self, name: str, *, floats: bool = False, like: str | None = None) -> int:
        """Add an activation: int8 in an int8 file.

        Args:
            name: Its name.
            floats: Whether it is float32 in any file.
            like: The activation whose scale it has; default one of its own.
        """
        if self.ranges is None or floats:
            return self.tensor(name, self.shape(name))
        if like is None:
            low, high = self.ranges[name]
            scale = (high - low) / LEVELS
            self.scales[name] = scale, round(-HALF - low / scale)
        else:
            self.scales[name] = self.scales[like]
        scale, zero_point = self.scales[name]
        return self.tensor(
            name, self.shape(name), dtype="int8", scales=scale, zero_point=zero_point
        )

    # Layers: each adds its operator after the tensor `source` and gives the index of its output

    def conv(self, node: Conv, source: int) -> int:
        """CONV_2D; XNNPACK's padding is the one that keeps the size."""
        same = tuple(d * (k - 1) // 2 for k, d in zip(node.kernel, node.dilation, strict=True))
        if node.stride != (1, 1) or node.pads != same * 2 or node.groups != 1:
            raise UnsupportedError(
                "strides, groups and padding that changes the size are not implemented for LiteRT"
            )
        options = self.schema.Conv2DOptionsT()
        options.padding = self.schema.Padding.SAME
        options.strideH, options.strideW = node.stride
        options.dilationHFactor, options.dilationWFactor = node.dilation
        weights = self.float_weights(node).transpose(0, 2, 3, 1)
        return self.layer("CONV_2D", node, source, weights, options)

    def dense(self, node: Dense, source: int) -> int:
        """FULLY_CONNECTED; after a Flatten its inputs are in the order of planes, channels last."""
        weights = self.float_weights(node)
        before = self.case.spec.graph.producers.get(node.input)
        if type(before) is Flatten:
            planes = weights.reshape(len(weights), *self.case.shapes[before.input])
            weights = np.moveaxis(planes, 1, -1).reshape(len(weights), -1)
        options = self.schema.FullyConnectedOptionsT()
        return self.layer("FULLY_CONNECTED", node, source, weights, options)

    def pool(self, node: Pool, source: int) -> int:
        """MAX_POOL_2D, whose output has the scale of its input."""
        if node.kind != "max" or any(node.pads):
            raise UnsupportedError("averages and padded pooling are not implemented for LiteRT")
        options = self.schema.Pool2DOptionsT()
        options.padding = self.schema.Padding.VALID
        options.strideH, options.strideW = node.stride
        options.filterHeight, options.filterWidth = node.kernel
        output = self.activation(node.output, like=node.input)
        return self.operate("MAX_POOL_2D", [source], output, options)

    def flatten(self, node: Flatten, source: int) -> int:
        """RESHAPE."""
        options = self.schema.ReshapeOptionsT()
        options.newShape = self.shape(node.output)
        output = self.activation(node.output, like=node.input)
        return self.operate("RESHAPE", [source], output, options)

    def float_weights(self, node: Weighted) -> Floats:
        """scale * w, in the shape of float weights."""
        return node.float_weights(self.case.spec.graph.tensors, self.case.shapes[node.input])

    def layer(self, kind: str, node: Weighted, source: int, weights: Floats, options: Any) -> int:
        """A layer with weights and its ReLU."""
        if (node.low, node.high) not in ((None, None), (0, None)):
            raise UnsupportedError("a clamp other than ReLU is not implemented for LiteRT")
        relu = "RELU" if node.low == 0 else "NONE"
        options.fusedActivationFunction = getattr(self.schema.ActivationFunctionType, relu)
        inputs = [source, *self.constants(node, weights)]
        return self.operate(kind, inputs, self.activation(node.output), options)

    def constants(self, node: Weighted, weights: Floats) -> list[int]:
        """Weights and bias as tensors."""
        bias = np.zeros(len(weights))
        if node.bias is not None:
            bias = self.case.spec.graph.tensors[node.bias].astype(np.float64)
        names = f"{node.output}.weight", f"{node.output}.bias"
        if self.ranges is None:
            return [
                self.tensor(names[0], [*weights.shape], weights),
                self.tensor(names[1], [len(bias)], bias),
            ]
        axes = tuple(range(1, weights.ndim))
        scales = np.abs(weights).max(axis=axes, keepdims=True) / 127
        quantized = np.rint(weights / scales)
        scales = scales.reshape(-1)
        sums = scales * self.scales[node.input][0]
        return [
            self.tensor(names[0], [*weights.shape], quantized, dtype="int8", scales=scales),
            self.tensor(names[1], [len(bias)], np.rint(bias / sums), dtype="int32", scales=sums),
        ]

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
            code.version = VERSIONS.get(name, 1)
            model.operatorCodes.append(code)
        model.version, model.subgraphs, model.buffers = 3, [graph], self.buffers
        builder = load("litert", "flatbuffers").Builder()
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


FORMS: dict[type[Node], Any] = {
    Conv: LiteRTWriter.conv,
    Dense: LiteRTWriter.dense,
    Pool: LiteRTWriter.pool,
    Flatten: LiteRTWriter.flatten,
}
"""How each operation is written; the others are refused."""
