"""ONNX Runtime, wrapped thin: whole networks, their inner tensors, and one layer alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper

from bwn._files import read_limited
from bwn._text import one_line
from bwn._types import Floats, StrPath
from bwn.errors import FileError, MissingPackageError
from bwn.onnx.importer import MAX_BYTES, parse

try:
    import onnxruntime
except ImportError:
    raise MissingPackageError("onnxruntime", "onnx", "comparing with ONNX Runtime") from None

ONLY_FATAL = 4


class Session:
    """An ONNX model on the CPU, with `threads` threads inside an op and one op at a time."""

    def __init__(self, source: StrPath | bytes, threads: int = 1) -> None:
        self.model = parse(source if isinstance(source, bytes) else read_limited(source, MAX_BYTES))
        self.threads = threads
        self.name = "model" if isinstance(source, bytes) else os.fspath(source)
        stored = {tensor.name for tensor in self.model.graph.initializer}
        self.input = next(
            (value.name for value in self.model.graph.input if value.name not in stored), ""
        )
        self.output = self.model.graph.output[0].name
        self.cuts: dict[tuple[object, ...], onnxruntime.InferenceSession] = {}
        self.session = self.start(self.model)

    def start(self, model: onnx.ModelProto) -> onnxruntime.InferenceSession:
        """An ONNX Runtime session of `model`. Raises FileError."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = ONLY_FATAL
        # Or it would also round the float weights that stand between two roundings of activations.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        try:
            return onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors have no common class
            reason = one_line(" ".join(str(error).split()), 300)
            raise FileError(f"{self.name}: ONNX Runtime refuses it: {reason}") from None

    def run(self, x: Floats) -> Floats:
        """Scores of a batch. x: (N, *input_shape) float32. Returns (N, ...) float32."""
        return np.asarray(self.session.run([self.output], {self.input: x})[0])

    def tensors(self, x: Floats, names: Iterable[str]) -> dict[str, Floats]:
        """Inner tensors by name, of those in `names` that some node of the model makes."""
        made = {name for node in self.model.graph.node for name in node.output}
        wanted = sorted(made.intersection(names))
        if not wanted:
            return {}
        key: tuple[object, ...] = ("tensors", *wanted)
        if key not in self.cuts:
            model = onnx.ModelProto()
            model.CopyFrom(self.model)
            del model.graph.output[:]
            model.graph.output.extend(unshaped(name) for name in wanted)
            self.cuts[key] = self.start(model)
        return dict(zip(wanted, self.cuts[key].run(wanted, {self.input: x}), strict=True))

    def layer(self, inputs: Mapping[str, Floats], output: str) -> Floats:
        """The tensor `output` computed from the given tensors alone.

        inputs: arrays (N, ...) float32 by tensor name. Raises FileError where `output` depends on something else.
        """
        key: tuple[object, ...] = (
            "layer",
            output,
            *((name, array.shape[1:]) for name, array in sorted(inputs.items())),
        )
        if key not in self.cuts:
            self.cuts[key] = self.start(self.cut(inputs, output))
        return np.asarray(self.cuts[key].run([output], dict(inputs))[0])

    def rounds(self, inputs: Iterable[str], output: str) -> bool:
        """Whether a rounding to bwn's 255 values lies between `inputs` and `output`."""
        nodes = self.between(inputs, output)
        quantized = {node.output[0] for node in nodes if node.op_type == "QuantizeLinear"}
        return any(node.op_type == "Clip" and node.input[0] in quantized for node in nodes)

    def between(self, inputs: Iterable[str], output: str) -> list[onnx.NodeProto]:
        """The nodes that `output` is computed by, up to the tensors `inputs`."""
        starts, needed, nodes = set(inputs), {output}, []
        for node in reversed(self.model.graph.node):
            if needed.intersection(node.output) - starts:
                needed.update(name for name in node.input if name)
                nodes.append(node)
        return nodes[::-1]

    def cut(self, inputs: Mapping[str, Floats], output: str) -> onnx.ModelProto:
        """The part of the model between `inputs` and `output`, as a model."""
        nodes = self.between(inputs, output)
        needed = {output, *(name for node in nodes for name in node.input if name)}
        stored = [tensor for tensor in self.model.graph.initializer if tensor.name in needed]
        made = {name for node in nodes for name in node.output}
        missing = needed - made - inputs.keys() - {tensor.name for tensor in stored}
        if missing:
            raise FileError(f"{self.name}: '{output}' also depends on '{min(missing)}'")
        starts = [shaped(name, array.shape) for name, array in inputs.items() if name in needed]
        graph = helper.make_graph(nodes, "layer", starts, [unshaped(output)], stored)
        model = helper.make_model(graph, opset_imports=self.model.opset_import)
        model.ir_version = self.model.ir_version
        return model


def unshaped(name: str) -> onnx.ValueInfoProto:
    """A float32 tensor of any shape."""
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)


def shaped(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    """A float32 tensor of that shape, but for the batch."""
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", *shape[1:]])
