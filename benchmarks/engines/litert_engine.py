"""LiteRT (TensorFlow Lite with XNNPACK) on the CPU, float32 and int8, for chains of layers such as the MLP and the VGG.

The file is written here from its schema: there is no converter without TensorFlow or torch. Planes are (N, H, W, C).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bwn.ir.node import Array, Node, Shape
from bwn.onnx.session import Session
from bwn.ops import Conv, Dense, Flatten, Pool
from engines.case import Case, Contender, Floats, Run, UnsuitedError

try:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter
except ImportError:
    raise UnsuitedError("ai-edge-litert is not installed (pip install 'bwn[bench]')") from None

OPERATORS = ("QUANTIZE", "CONV_2D", "MAX_POOL_2D", "RESHAPE", "FULLY_CONNECTED", "DEQUANTIZE")
VERSIONS = {"CONV_2D": 3, "MAX_POOL_2D": 2, "FULLY_CONNECTED": 4}
DTYPES = {"float32": "FLOAT32", "int8": "INT8", "int32": "INT32"}
LEVELS, HALF = 255, 128


def float32(case: Case) -> Contender:
    """The float32 function."""
    return Contender("litert", "float32", _start(Writer(case).written(), case))


def int8(case: Case) -> Contender:
    """8-bit activations with zero point, 8-bit weights with a scale per output; float32 at both ends."""
    return Contender("litert", "int8", _start(int8_file(case), case))


def int8_file(case: Case) -> bytes:
    """The int8 file, with ranges by minimum and maximum over the calibration images."""
    session = Session(case.float_onnx)
    names = {node.output for node in case.spec.graph.nodes}
    seen = {
        **session.tensors(case.calibration, names),
        case.spec.graph.topology.input: case.calibration,
    }
    ranges = {
        name: (min(0.0, float(array.min())), max(0.0, float(array.max())))
        for name, array in seen.items()
    }
    return Writer(case, ranges).written()


def _start(model: bytes, case: Case) -> Run:
    interpreter = Interpreter(model_content=model, num_threads=case.threads)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    result = interpreter.get_output_details()[0]["index"]

    def run(x: Floats) -> Floats:
        interpreter.set_tensor(
            source, np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x
        )
        interpreter.invoke()
        scores: Floats = interpreter.get_tensor(result)
        return scores

    return run


class Writer:
    """The file of a chain of layers. ranges: of each activation for int8, None for float32."""

    def __init__(self, case: Case, ranges: dict[str, tuple[float, float]] | None = None) -> None:
        self.case, self.ranges = case, ranges
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [schema.BufferT()]
        self.operators: list[Any] = []
        self.steps: dict[str, tuple[float, int]] = {}
        graph = case.spec.graph
        self.planes = {
            node.output: case.shapes[node.input]
            for node in graph.nodes
            if isinstance(node, Flatten)
        }

    def written(self) -> bytes:
        """The file's bytes. Raises UnsuitedError where another layer stands in the network."""
        graph = self.case.spec.graph
        ends = graph.topology.input, graph.topology.output
        first = last = self.activation(ends[0], ranged=False)
        if self.ranges:
            last = self.operate("QUANTIZE", [first], self.activation(ends[0]))
        for node in graph.nodes:
            last = self.add(node, last)
        if self.ranges:
            last = self.operate("DEQUANTIZE", [last], self.activation(ends[1], ranged=False))
        return self.is_packed(first, last)

    def shape(self, name: str) -> list[int]:
        """Of an activation, channels last."""
        shape: Shape = self.case.shapes[name]
        return [self.case.batch, *shape[1:], shape[0]]

    def add(self, node: Node, source: int) -> int:
        """The operator of one node."""
        if isinstance(node, (Conv, Dense)):
            return self.product(node, source)
        if isinstance(node, Pool) and node.kind == "max" and not any(node.pads):
            options = schema.Pool2DOptionsT()
            options.padding = schema.Padding.VALID
            options.strideH, options.strideW = node.stride
            options.filterHeight, options.filterWidth = node.kernel
            # A maximum keeps the step of what it reads.
            return self.operate(
                "MAX_POOL_2D", [source], self.activation(node.output, like=node.input), options
            )
        if isinstance(node, Flatten):
            options = schema.ReshapeOptionsT()
            options.newShape = self.shape(node.output)
            return self.operate(
                "RESHAPE", [source], self.activation(node.output, like=node.input), options
            )
        raise UnsuitedError(f"{type(node).__name__} is not written for LiteRT here")

    def tensor(
        self, name: str, shape: list[int], kind: str, array: Array | None, steps: Any, zero: int
    ) -> int:
        """A tensor, constant where `array` is given. steps: one for all or one for each row, or None."""
        found = schema.TensorT()
        found.name, found.shape, found.type = name, shape, getattr(schema.TensorType, DTYPES[kind])
        if array is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
            self.buffers.append(buffer)
            found.buffer = len(self.buffers) - 1
        if steps is not None:
            found.quantization = schema.QuantizationParametersT()
            found.quantization.scale = np.atleast_1d(steps).astype(np.float32)
            found.quantization.zeroPoint = np.full(np.size(steps), zero, np.int64)
        self.tensors.append(found)
        return len(self.tensors) - 1

    def step(self, name: str) -> tuple[float, int]:
        """Step and zero point of an activation."""
        assert self.ranges is not None
        low, high = self.ranges[name]
        step = (high - low) / LEVELS
        return step, round(-HALF - low / step)

    def activation(self, name: str, *, ranged: bool = True, like: str | None = None) -> int:
        """An activation: int8 with its own step or that of `like`; float32 where ranges are unknown or not asked."""
        if self.ranges is None or not ranged:
            return self.tensor(name, self.shape(name), "float32", None, None, 0)
        self.steps[name] = self.steps[like] if like else self.step(name)
        return self.tensor(name, self.shape(name), "int8", None, *self.steps[name])

    def product(self, node: Conv | Dense, source: int) -> int:
        """A convolution or fully connected layer and its ReLU."""
        if (node.low, node.high) not in ((None, None), (0, None)):
            raise UnsuitedError("a clamp other than ReLU is not written for LiteRT here")
        weights = self.channels_last(node)
        relu = getattr(schema.ActivationFunctionType, "RELU" if node.low == 0 else "NONE")
        if isinstance(node, Dense):
            options, kind = schema.FullyConnectedOptionsT(), "FULLY_CONNECTED"
        else:
            options, kind = schema.Conv2DOptionsT(), "CONV_2D"
            options.padding, (options.strideH, options.strideW) = schema.Padding.SAME, node.stride
            options.dilationHFactor, options.dilationWFactor = node.dilation
        options.fusedActivationFunction = relu
        constants = self.constants(node, weights)
        return self.operate(kind, [source, *constants], self.activation(node.output), options)

    def channels_last(self, node: Conv | Dense) -> Floats:
        """Weights (out, KH, KW, C), or (out, K) in the order of planes with channels last."""
        before = self.case.shapes[node.input]
        weights = node.float_weights(self.case.spec.graph.tensors, before).astype(np.float32)
        if isinstance(node, Conv):
            same = node.stride == (1, 1) and node.pads == tuple(d * (k - 1) // 2 for k, d in zip(
                node.kernel * 2, node.dilation * 2, strict=True))  # fmt: skip
            if not same or node.groups != 1:
                raise UnsuitedError("strides and groups are not written for LiteRT here")
            return np.ascontiguousarray(weights.transpose(0, 2, 3, 1))
        if node.input in self.planes:
            weights = weights.reshape(len(weights), *self.planes[node.input]).transpose(0, 2, 3, 1)
        return weights.reshape(len(weights), -1)

    def constants(self, node: Conv | Dense, weights: Floats) -> list[int]:
        """Weights and bias as tensors."""
        stored = self.case.spec.graph.tensors
        bias = np.zeros(len(weights)) if node.bias is None else stored[node.bias].astype(np.float64)
        names, shapes = (
            (f"{node.output}.weight", f"{node.output}.bias"),
            ([*weights.shape], [len(bias)]),
        )
        if self.ranges is None:
            return [
                self.tensor(names[0], shapes[0], "float32", weights, None, 0),
                self.tensor(names[1], shapes[1], "float32", bias.astype(np.float32), None, 0),
            ]
        steps = np.abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True) / 127
        sums = steps.reshape(-1) * self.steps[node.input][0]
        rounded = np.rint(weights / steps).astype(np.int8)
        return [
            self.tensor(names[0], shapes[0], "int8", rounded, steps.reshape(-1), 0),
            self.tensor(
                names[1], shapes[1], "int32", np.rint(bias / sums).astype(np.int32), sums, 0
            ),
        ]

    def operate(self, name: str, inputs: list[int], output: int, options: Any = None) -> int:
        """An operator."""
        found = schema.OperatorT()
        found.opcodeIndex, found.inputs, found.outputs = OPERATORS.index(name), inputs, [output]
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            found.builtinOptionsType, found.builtinOptions = (
                getattr(schema.BuiltinOptions, kind),
                options,
            )
        self.operators.append(found)
        return output

    def spec(self, first: int, last: int) -> bytes:
        """The model as a flatbuffer."""
        graph, model = schema.SubGraphT(), schema.ModelT()
        graph.tensors, graph.operators, graph.inputs, graph.outputs = (
            self.tensors,
            self.operators,
            [first],
            [last],
        )
        for name in OPERATORS:
            code = schema.OperatorCodeT()
            code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
            code.version = VERSIONS.get(name, 1)
            model.operatorCodes = [*(model.operatorCodes or []), code]
        model.version, model.subgraphs, model.buffers = 3, [graph], self.buffers
        builder = flatbuffers.Builder()
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())
