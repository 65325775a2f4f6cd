"""Stored tensors of other shapes or types: read as ONNX Runtime does, or refused in one line."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
import pytest
from graphs import floats
from onnx import TensorProto, numpy_helper
from onnx_examples import SUPPORTED
from onnx_models import FLAT, f32, model, op

from bwn.errors import FileError
from bwn.ir.graph import Graph
from bwn.ir.interpreter import evaluate
from bwn.onnx.importer import from_bytes
from bwn.onnx.session import Session
from bwn.passes import pipeline
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner

QUANTIZED = {
    "quantized": model(
        op("QuantizeLinear", "x s z", "q"),
        op("DequantizeLinear", "q s z", "d"),
        op("Gemm", "d w", transB=1),
        shape=FLAT,
        s=f32(0.1),
        z=np.int8(0),
        w=floats(3, 6),
    ),
    "quantized weights": model(
        op("DequantizeLinear", "q s z", "w", axis=0),
        op("Conv", "x w"),
        q=np.arange(48, dtype=np.int8).reshape(3, 4, 2, 2),
        s=floats(3),
        z=np.int8([1, 2, 3]),
    ),
}
MODELS = {**SUPPORTED, **QUANTIZED}


def other_shapes(shape: tuple[int, ...]) -> set[tuple[int, ...]]:
    """Shapes that an exporter, or a mistake, could give a tensor instead of this one."""
    fixed = {(), (0,), (1,), (2,), (4,), (5,), (1, 1), (4, 1), (1, 4), (2, 2, 2, 2, 2), (1,) * 5}
    longer = {(*shape, 1), (1, *shape), (*shape, 2), (2, *shape), (1, *shape, 1, 1)}
    changed = {
        (*shape[:axis], size + change, *shape[axis + 1 :])
        for axis, size in enumerate(shape)
        for change in (-size, -1, 1)
        if size + change >= 0
    }
    return (fixed | longer | changed | {shape[1:], shape[::-1], shape[:-1]}) - {shape}


def variants(data: bytes):
    """The model with one stored tensor of another shape or type, and what was changed."""
    names = [tensor.name for tensor in onnx.load_model_from_string(data).graph.initializer]
    for index, name in enumerate(names):
        original = numpy_helper.to_array(onnx.load_model_from_string(data).graph.initializer[index])
        arrays = [np.resize(original, shape) for shape in sorted(other_shapes(original.shape))]
        with np.errstate(all="ignore"):
            kinds = (np.float64, np.float16, np.int8, np.bool_)
            arrays += [original.astype(kind) for kind in kinds]
        for array in arrays:
            proto = onnx.load_model_from_string(data)
            proto.graph.initializer[index].CopyFrom(numpy_helper.from_array(array, name))
            yield f"{name}: {array.dtype} {array.shape}", proto.SerializeToString()


def read(data: bytes) -> Graph | None:
    """The graph; None where it is refused in one line."""
    try:
        return pipeline.run(from_bytes(data).spec.graph)
    except FileError as error:
        message = str(error)
    assert "\n" not in message
    return None


def expected(data: bytes, x):
    """What ONNX Runtime computes; None where it refuses the model or the input."""
    try:
        return Session(data).run(x)
    except Exception:  # its errors have no common class
        return None


@pytest.mark.parametrize("name", MODELS)
def test_stored_tensors_of_any_shape_are_read_rightly_or_refused(name):
    for change, data in variants(MODELS[name]):
        graph = read(data)
        if graph is None:
            continue
        x = floats(3, *graph.topology.input_shape)
        scores = expected(data, x)
        if scores is not None and not graph.is_quantized and "quantized" not in name:
            actual = evaluate(graph, x)[graph.topology.output]
            if scores.ndim == 3:  # (N, C, L) is (N, C, 1, L) here
                scores = scores[:, :, None]
            np.testing.assert_allclose(actual, scores, rtol=1e-4, atol=1e-4, err_msg=change)


@pytest.mark.parametrize("parameter", ["g", "b", "m", "v"])
@pytest.mark.parametrize("shape", [(3,), (1,), (), (4, 1), (1, 4), (2, 4), (0,)])
def test_batch_norm_parameters_are_one_number_a_channel(parameter, shape):
    stored = dict.fromkeys("gbmv", np.ones(4, np.float32))
    stored[parameter] = np.ones(shape, np.float32)
    data = model(op("BatchNormalization", "x g b m v"), **stored)
    with pytest.raises(FileError, match=rf"'{parameter}' has shape .*, expected \(4,\)"):
        from_bytes(data)


def test_the_type_of_a_batch_norm_is_named():
    stored = dict.fromkeys("gbmv", np.ones(4, np.int32))
    data = model(op("BatchNormalization", "x g b m v"), kind=TensorProto.FLOAT, **stored)
    with pytest.raises(FileError, match="int32, expected float32"):
        from_bytes(data)


EXTREMES = (3e38, -3e38, 1e-38, 1e-45, 0.0, np.inf, -np.inf, np.nan)


@pytest.mark.parametrize("name", MODELS)
def test_numbers_at_the_ends_of_float32_are_computed_or_refused(name):
    protos = onnx.load_model_from_string(MODELS[name]).graph.initializer
    for index, extreme in product(range(len(protos)), EXTREMES):
        array = numpy_helper.to_array(protos[index]).copy()
        if array.dtype != np.float32:
            continue
        array.reshape(-1)[:1] = extreme
        proto = onnx.load_model_from_string(MODELS[name])
        proto.graph.initializer[index].CopyFrom(numpy_helper.from_array(array, protos[index].name))
        graph = read(data := proto.SerializeToString())
        if graph is None:
            continue
        x = floats(3, *graph.topology.input_shape)
        scores = expected(data, x)
        assert scores is not None, (name, extreme)
        # Near the end of the range a sum may leave it in one order and not in another.
        if np.abs(scores).max() < 1e37:
            actual = Runner(make_plan(graph, len(x), 1)).run(x)
            assert np.isfinite(actual).all(), (protos[index].name, extreme)
