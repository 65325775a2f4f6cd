"""ONNX Runtime sessions: whole networks, their inner tensors, and single layers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper

from bwn._files import read_limited
from bwn._text import brief
from bwn._types import Floats, StrPath
from bwn.errors import FileError, MissingPackageError
from bwn.onnx.inputs import is_channels_last, is_gray
from bwn.onnx.loading import MAX_BYTES, load
from bwn.onnx.qonnx_functions import with_functions

try:
    import onnxruntime
except ImportError:
    raise MissingPackageError("onnxruntime", "onnx", "comparing with ONNX Runtime") from None

LOG_FATAL = 4
ROUNDING = ("Ceil", "Floor", "Round")


class Session:
    """An ONNX model on the CPU, one operation at a time.

    Args:
        source: An ONNX file or its bytes.
        threads: Threads inside an operation.
        folder: Folder of a file whose bytes are given; see `bwn.onnx.loading.load`.
        output: See there.
        fallback: See there.

    Attributes:
        departures: How far weights are from the +-alpha of the packed network that is compared with
            it, by name; see `bwn.passes.pack_weights.departures`.
        signals: Whether it takes 1-D signals, (N, C, L), which bwn holds as (N, C, 1, L).
        channels_last: Whether it takes images (N, H, W, C).

    Raises:
        FileError: It is not an ONNX model, or ONNX Runtime cannot run it.
    """

    def __init__(
        self,
        source: StrPath | bytes,
        threads: int = 1,
        *,
        folder: StrPath | None = None,
        output: str | None = None,
        fallback: str | None = None,
    ) -> None:
        if isinstance(source, bytes):
            self.name, data = "model", source
        else:
            self.name, data = os.fspath(source), read_limited(source, MAX_BYTES, "an ONNX file")
            folder = os.path.dirname(self.name) or "."
        self.model = with_functions(load(data, folder, output=output, fallback=fallback).model)
        self.threads = threads
        self.departures: dict[str, float] = {}
        self.input = self.model.graph.input[0].name
        self.output = self.model.graph.output[0].name
        self.gray = is_gray(self.model)
        axes = len(self.model.graph.input[0].type.tensor_type.shape.dim)
        self.signals = axes == 3 and not self.gray
        self.channels_last = is_channels_last(self.model)
        self.parts: dict[tuple[object, ...], onnxruntime.InferenceSession] = {}
        self.session = self.start(self.model)

    def start(self, model: onnx.ModelProto) -> onnxruntime.InferenceSession:
        """An ONNX Runtime session of `model`. Raises FileError."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = LOG_FATAL
        # Else ONNX Runtime also quantizes float weights between two quantized activations.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        try:
            return onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors have no common class
            raise FileError(f"{self.name}: ONNX Runtime refuses it: {brief(error, 300)}") from None

    def run(self, x: Floats) -> Floats:
        """Scores of a batch, (N, ...) float32. x: (N, *input_shape) float32."""
        return np.asarray(self.session.run([self.output], {self.input: self.fed(x)})[0])

    def fed(self, x: Floats) -> Floats:
        """An input of bwn as the model takes it."""
        if self.channels_last:
            return x.transpose(0, 2, 3, 1)
        if self.gray:
            return x[:, 0] if x.ndim == 4 else x
        return x[:, :, 0] if self.signals and x.ndim == 4 and x.shape[2] == 1 else x

    def tensors(self, x: Floats, names: Iterable[str]) -> dict[str, Floats]:
        """The inner tensors among `names` that some node of the model makes, by name."""
        wanted = sorted(outputs_of(self.model.graph.node).intersection(names))
        if not wanted:
            return {}
        key: tuple[object, ...] = ("tensors", *wanted)
        if key not in self.parts:
            model = onnx.ModelProto()
            model.CopyFrom(self.model)
            del model.graph.output[:]
            model.graph.output.extend(unshaped(name) for name in wanted)
            self.parts[key] = self.start(model)
        return dict(
            zip(wanted, self.parts[key].run(wanted, {self.input: self.fed(x)}), strict=True)
        )

    def layer(self, inputs: Mapping[str, Floats], output: str) -> Floats:
        """The tensor `output`, computed from other tensors of the model alone.

        Args:
            inputs: Those tensors by name, (N, ...) float32.
            output: Name of the tensor.

        Raises:
            FileError: It depends on something else.
        """
        inputs = {
            name: self.fed(array) if self.signals or name == self.input else array
            for name, array in inputs.items()
        }
        key: tuple[object, ...] = (
            "layer",
            output,
            *((name, array.shape[1:]) for name, array in sorted(inputs.items())),
        )
        if key not in self.parts:
            self.parts[key] = self.start(self.part(inputs, output))
        result = np.asarray(self.parts[key].run([output], inputs)[0])
        return result[:, :, None] if self.signals and result.ndim == 3 else result

    def quantizes(self, inputs: Iterable[str], output: str) -> bool:
        """Whether the model rounds to at most bwn's 255 values between `inputs` and `output`."""
        nodes = self.between(inputs, output)
        if any(node.op_type in ROUNDING for node in nodes):  # QONNX's, after with_functions
            return True
        quantized = {node.output[0] for node in nodes if node.op_type == "QuantizeLinear"}
        return any(node.op_type == "Clip" and node.input[0] in quantized for node in nodes)

    def between(self, inputs: Iterable[str], output: str) -> list[onnx.NodeProto]:
        """The nodes that compute `output` from the tensors `inputs`."""
        starts, needed, nodes = set(inputs), {output}, []
        for node in reversed(self.model.graph.node):
            if needed.intersection(node.output) - starts:
                needed.update(name for name in node.input if name)
                nodes.append(node)
        return nodes[::-1]

    def part(self, inputs: Mapping[str, Floats], output: str) -> onnx.ModelProto:
        """The part of the model between `inputs` and `output`, as a model."""
        nodes = self.between(inputs, output)
        needed = {output, *(name for node in nodes for name in node.input if name)}
        stored = [tensor for tensor in self.model.graph.initializer if tensor.name in needed]
        missing = needed - outputs_of(nodes) - inputs.keys() - {tensor.name for tensor in stored}
        if missing:
            raise FileError(f"{self.name}: '{output}' also depends on '{min(missing)}'")
        starts = [shaped(name, array.shape) for name, array in inputs.items() if name in needed]
        graph = helper.make_graph(nodes, "layer", starts, [unshaped(output)], stored)
        model = helper.make_model(graph, opset_imports=self.model.opset_import)
        model.ir_version = self.model.ir_version
        return model


def outputs_of(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Names of the tensors that nodes make."""
    return {name for node in nodes for name in node.output}


def unshaped(name: str) -> onnx.ValueInfoProto:
    """A float32 tensor of any shape."""
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)


def shaped(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    """A float32 tensor of that shape, with any batch."""
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", *shape[1:]])
