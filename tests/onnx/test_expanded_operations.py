"""ONNX operations that are read as the functions that define them, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from graphs import floats
from onnx_models import f32, i64, model, op

from bwn.onnx.importer import from_bytes
from bwn.passes import pipeline
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner

SHAPE = (6, 8)
TOKENS = [op("MatMul", "x wq", "q"), op("MatMul", "x wk", "k"), op("MatMul", "x wv", "v")]
HEADS = [
    op("Reshape", f"{name} heads", f"{name}r") for name in "qkv"
] + [op("Transpose", f"{name}r", f"{name}h", perm=[0, 2, 1, 3]) for name in "qkv"]  # fmt: skip
CASES = {
    "RMSNormalization": (23, [op("RMSNormalization", "x gamma", epsilon=0.1)]),
    "RMSNormalization of a whole example": (23, [op("RMSNormalization", "x gammas", axis=1)]),
    "Attention": (
        23, [*TOKENS, op("Attention", "q k v", q_num_heads=2, kv_num_heads=2)]
    ),
    "Attention of heads": (
        23, [*TOKENS, *HEADS, op("Attention", "qh kh vh", "a", scale=0.4),
             op("Transpose", "a", perm=[0, 2, 1, 3])]
    ),
    "Attention of groups": (
        23, [*TOKENS[:1], op("MatMul", "x narrow", "k"), op("MatMul", "x narrow", "v"),
             op("Attention", "q k v", q_num_heads=4, kv_num_heads=2)]
    ),
    "RotaryEmbedding": (
        23, [op("Expand", "positions rows", "p"), op("RotaryEmbedding", "x cos sin p",
             num_heads=2)]
    ),
    "MeanVarianceNormalization": (
        13, [op("MeanVarianceNormalization", "x", axes=[1, 2])]
    ),
    "Shrink": (18, [op("Shrink", "x", lambd=0.5, bias=0.25)]),
    "ReduceLogSum": (18, [op("Exp", "x", "e"), op("ReduceLogSum", "e one")]),
}  # fmt: skip
STORED = {
    "gamma": floats(8, seed=1), "gammas": floats(6, 8, seed=2),
    "wq": floats(8, 8, seed=3), "wk": floats(8, 8, seed=4), "wv": floats(8, 8, seed=5),
    "narrow": floats(8, 4, seed=6), "heads": i64(0, 0, 2, 4),
    "cos": np.cos(floats(6, 2, seed=7)), "sin": np.sin(floats(6, 2, seed=7)),
    "positions": np.arange(6).reshape(1, 6), "rows": i64(1, 6), "one": i64(1),
    "low": f32(-1e6),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_computes_what_onnx_runtime_does(name: str) -> None:
    opset, nodes = CASES[name]
    used = {part for node in nodes for part in node.input}
    stored = {key: array for key, array in STORED.items() if key in used}
    batch = 1 if name == "RotaryEmbedding" else "N"
    data = model(*nodes, shape=SHAPE, opset=opset, batch=batch, **stored)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    graph = from_bytes(data).spec.graph
    for imported in (graph, pipeline.run(graph)):
        for count in (1,) if batch == 1 else (1, 3):
            x = floats(count, *SHAPE, seed=8)
            (expected,) = session.run(None, {"x": x})
            y = Runner(make_plan(imported, count, 2)).run(x.reshape(count, 6, 1, 8))
            np.testing.assert_allclose(y.reshape(expected.shape), expected, rtol=1e-4, atol=2e-5)
