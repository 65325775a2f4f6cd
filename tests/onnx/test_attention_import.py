"""What vision transformers are made of, against ONNX Runtime: products of activations, softmax of
the last axis, constants repeated for every example, layers whose input holds the batch anywhere.
"""

from __future__ import annotations

import numpy as np
import pytest
from graphs import floats
from onnx_models import f32, i64, model, op

from bwn.errors import GraphError
from bwn.onnx.importer import from_bytes
from bwn.onnx.session import Session
from bwn.passes import pipeline
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner

TOKENS, WIDTH, HEADS = 9, 24, 3
SHAPE = (WIDTH, 3, 3)
TOKENS_FIRST = [
    op("Reshape", "x tokens", "v"),
    op("Transpose", "v", "t", perm=[0, 2, 1]),
]
REPEATED = [
    *TOKENS_FIRST,
    op("Shape", "x", "n", end=1),
    op("Concat", "n one one", "sizes", axis=0),
    op("Expand", "token sizes", "repeated"),
]
HEAD = [
    *TOKENS_FIRST,
    op("MatMul", "t w", "qkv"),
    op("Reshape", "qkv parts", "p"),
    op("Transpose", "p", "heads", perm=[2, 0, 3, 1, 4]),
    op("Gather", "heads zero", "q", axis=0),
    op("Gather", "heads first", "k", axis=0),
    op("Gather", "heads second", "u", axis=0),
    op("Transpose", "k", "kt", perm=[0, 1, 3, 2]),
    op("MatMul", "q kt", "s"),
    op("Mul", "s scale", "scaled"),
    op("Softmax", "scaled", "a", axis=-1),
    op("MatMul", "a u", "o"),
]
STORED = {
    "tokens": i64(0, WIDTH, -1), "w": floats(WIDTH, 3 * WIDTH) / np.float32(5),
    "parts": i64(0, TOKENS, 3, HEADS, WIDTH // HEADS), "zero": np.int64(0), "first": np.int64(1),
    "second": np.int64(2), "scale": f32(0.35), "one": i64(1), "flat": i64(-1, WIDTH),
    "token": floats(1, 1, WIDTH, seed=4), "m": floats(WIDTH, 7, seed=5), "b": floats(7, seed=6),
    "back": i64(TOKENS, -1, 7), "merged": i64(-1, TOKENS, WIDTH // HEADS),
    "end": floats(1, 2, WIDTH, seed=7),
}  # fmt: skip
WINDOWS = {
    "starts": i64(0), "ends": i64(1), "far": i64(2**31 - 1), "axes": i64(1),
    "split": i64(-1, 2, 2, 2, 2, WIDTH), "windows": i64(-1, 4, WIDTH),
    "fields": i64(-1, 4, 3, HEADS, WIDTH // HEADS), "bias": floats(1, HEADS, 4, 4, seed=8),
    "masked": i64(-1, 4, HEADS, 4, 4), "mask": floats(1, 4, 1, 4, 4, seed=3),
    "unmasked": i64(-1, HEADS, 4, 4), "image": i64(-1, 4, 4, WIDTH),
}  # fmt: skip
CASES = {
    "attention": [*HEAD[:-1], op("MatMul", "a u")],
    "attention of heads merged with the batch": [
        *HEAD[:8],
        op("Reshape", "q merged", "qm"),
        op("Reshape", "k merged", "km"),
        op("Transpose", "km", "kt", perm=[0, 2, 1]),
        op("MatMul", "qm kt", "s"),
        op("Transpose", "s", "st", perm=[0, 2, 1]),
        op("MatMul", "st qm", "o"),
        op("Reshape", "o all"),
    ],
    "windows": [
        op("Transpose", "x", "t", perm=[0, 2, 3, 1]),
        op("Slice", "t starts ends axes", "head"),
        op("Slice", "t ends far axes", "tail"),
        op("Concat", "tail head", "rolled", axis=1),
        op("Reshape", "rolled split", "s"),
        op("Transpose", "s", "w6", perm=[0, 1, 3, 2, 4, 5]),
        op("Reshape", "w6 windows", "win"),
        op("MatMul", "win w", "qkv"),
        op("Reshape", "qkv fields", "p"),
        op("Transpose", "p", "heads", perm=[2, 0, 3, 1, 4]),
        op("Gather", "heads zero", "q", axis=0),
        op("Gather", "heads first", "k", axis=0),
        op("Mul", "q scale", "qs"),
        op("Transpose", "k", "kt", perm=[0, 1, 3, 2]),
        op("MatMul", "qs kt", "m0"),
        op("Add", "m0 bias", "m1"),
        op("Reshape", "m1 masked", "m2"),
        op("Add", "m2 mask", "m3"),
        op("Reshape", "m3 unmasked", "m4"),
        op("Softmax", "m4", "a", axis=-1),
        op("MatMul", "a q", "o"),
        op("Transpose", "o", "ot", perm=[0, 2, 1, 3]),
        op("Reshape", "ot split", "b5"),
        op("Transpose", "b5", "b6", perm=[0, 1, 3, 2, 4, 5]),
        op("Reshape", "b6 image"),
    ],
    "product of the input with its transpose": [
        op("Transpose", "x", "t", perm=[0, 1, 3, 2]),
        op("MatMul", "x t"),
    ],
    "product of signals": [*TOKENS_FIRST, op("MatMul", "t v")],
    "a layer of tokens before the batch": [
        *TOKENS_FIRST,
        op("Transpose", "t", "seq", perm=[1, 0, 2]),
        op("Reshape", "seq flat", "rows"),
        op("Gemm", "rows m b", "g"),
        op("Reshape", "g back", "r"),
        op("Transpose", "r", perm=[1, 0, 2]),
    ],
    "a token before others": [*REPEATED, op("Concat", "repeated t", axis=1)],
    "tokens around others": [
        *REPEATED,
        op("Relu", "t", "r"),
        op("Concat", "repeated t r repeated", axis=1),
    ],
    "tokens between and around others": [
        *REPEATED,
        op("Relu", "t", "r"),
        op("Concat", "t repeated r repeated repeated t", axis=1),
    ],
    "a sum with a repeated constant": [*REPEATED, op("Add", "t repeated")],
    "a repeated constant less": [*REPEATED, op("Sub", "repeated t")],
}


@pytest.mark.parametrize("name", CASES)
def test_computes_what_onnx_runtime_does(name: str) -> None:
    stored = {**STORED, **WINDOWS, "all": i64(-1, HEADS, TOKENS, WIDTH // HEADS)}
    shape = (WIDTH, 4, 4) if name == "windows" else SHAPE
    data, x = model(*CASES[name], shape=shape, **stored), floats(3, *shape, seed=9)
    graph = from_bytes(data).spec.graph
    for imported in (graph, pipeline.run(graph)):
        for batch in (1, 3):
            y = Runner(make_plan(imported, batch, 2)).run(x[:batch])
            expected = Session(data).run(x[:batch])
            np.testing.assert_allclose(y.reshape(expected.shape), expected, rtol=1e-4, atol=2e-5)


REFUSED = {
    "a product of examples": (
        [op("Transpose", "x", "t", perm=[1, 2, 0, 3]), op("MatMul", "t x")],
        "multiplies",
    ),
    "a repeated constant that meets no batch": (
        [*REPEATED, op("Transpose", "x", "p", perm=[2, 0, 1, 3]), op("Mul", "p repeated")],
        "depends on the size of the batch",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    nodes, reason = REFUSED[name]
    with pytest.raises(GraphError, match=reason):
        from_bytes(model(*nodes, shape=SHAPE, **STORED))
