"""Gather and GatherND by constant indices, and Where with a constant condition, against ONNX
Runtime.
"""

from __future__ import annotations

import numpy as np
import pytest
from graphs import floats
from onnx_models import f32, i64, model, op

from bwn.errors import GraphError
from bwn.onnx.importer import from_bytes
from bwn.onnx.session import Session
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner

SHAPE = (6, 3, 4)
UNEVEN = np.array([[0, 2, 2], [1, -1, 0]])
POOLED = np.array([[[[a, b] for b in (0, 1, 3)] for a in row] for row in [(0, 2), (1, 2)]])
AS_STRIDED = [
    op("GlobalAveragePool", "x", "g"),
    op("Reshape", "g flat", "f"),
    op("Shape", "x", "n", end=1),
    op("Squeeze", "n", "count"),
    op("Range", "zero count one", "range"),
    op("Mul", "range size", "first"),
    op("Unsqueeze", "first axes", "firsts"),
    op("Add", "firsts within", "indices"),
    op("Gather", "f indices"),
]
STRIDED = {
    "flat": i64(-1), "zero": np.int64(0), "one": np.int64(1), "size": np.int64(6),
    "axes": i64(1, 2),
}  # fmt: skip
CASES = {
    "a matrix of indices": (
        [op("Gather", "x i", "t", axis=1), op("Reshape", "t s")],
        {"i": UNEVEN, "s": i64(0, -1, 3, 4)},
    ),
    "indices of the last axis": (
        [op("Gather", "x i", "t", axis=3), op("Reshape", "t s")],
        {"i": UNEVEN, "s": i64(0, 6, 3, 6)},
    ),
    "evenly spaced indices": (
        [op("Gather", "x i", "t", axis=1), op("Reshape", "t s")],
        {"i": np.arange(6).reshape(2, 3), "s": i64(0, 6, 3, 4)},
    ),
    "GatherND of two axes": (
        [
            op("Transpose", "x", "t", perm=[2, 3, 0, 1]),
            op("GatherND", "t i", "g"),
            op("Transpose", "g", "p", perm=[3, 4, 0, 1, 2]),
            op("Reshape", "p s"),
        ],
        {"i": POOLED, "s": i64(0, 6, 4, 3)},
    ),
    "as_strided of every example": (
        AS_STRIDED,
        {**STRIDED, "within": np.array([[[0, 1, 2, 3, 4, 5]]])},
    ),
    "as_strided in another order": (
        AS_STRIDED,
        {**STRIDED, "within": np.array([[[0, 5, 2], [4, 4, 1]]])},
    ),
    "a number where a condition is": (
        [op("Where", "c v x")],
        {"c": np.array([True, False, True, False]), "v": f32(2.5)},
    ),
    "a number where it is not": (
        [op("Where", "c x v")],
        {"c": np.array([[[True]]] * 3 + [[[False]]] * 3), "v": f32(-1)},
    ),
    "a number everywhere": ([op("Where", "c v x")], {"c": np.array([True]), "v": f32(1.5)}),
    "a number nowhere": (
        [op("Where", "c v x", "t"), op("Relu", "t")],
        {"c": np.array([[False] * 4] * 3), "v": f32(1.5)},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_computes_what_onnx_runtime_does(name: str) -> None:
    nodes, stored = CASES[name]
    data, x = model(*nodes, shape=SHAPE, **stored), floats(3, *SHAPE)
    graph = from_bytes(data).spec.graph
    for batch in (1, 3):
        y = Runner(make_plan(graph, batch, 2)).run(x[:batch])
        expected = Session(data).run(x[:batch])
        np.testing.assert_allclose(y.reshape(expected.shape), expected, rtol=1e-6, atol=1e-6)


def test_as_strided_of_one_example() -> None:
    nodes = [*AS_STRIDED[:2], op("Gather", "f indices")]
    stored = {"flat": i64(-1), "indices": np.array([[[[0], [5]], [[2], [4]]]])}
    data, x = model(*nodes, shape=SHAPE, batch=1, **stored), floats(1, *SHAPE)
    y = Runner(make_plan(from_bytes(data).spec.graph, 1, 2)).run(x)
    np.testing.assert_allclose(y, Session(data).run(x), rtol=1e-6, atol=1e-6)


def test_one_example_is_not_repeated() -> None:
    data = model(op("Gather", "x i", axis=0), shape=SHAPE, batch=1, i=i64(0, 0))
    with pytest.raises(GraphError, match="examples must stay independent"):
        from_bytes(data)


REFUSED = {
    "of another example": (
        [op("Shape", "x", "n", end=1), op("Sub", "n one", "last"), op("Gather", "x last", axis=0)],
        {"one": i64(1)},
        "examples must stay independent",
    ),
    "from the end of the batch": (
        AS_STRIDED,
        {**STRIDED, "within": np.array([[[0, -1, 2], [4, 4, 1]]])},
        "examples are mixed",
    ),
    "on the batch": (
        [op("GatherND", "x i")],
        {"i": i64(0, 0).reshape(1, 2)},
        "examples must stay independent",
    ),
    "a condition of no rows": (
        [op("Where", "c v x")],
        {"c": np.eye(3, 4) > 0, "v": f32(0)},
        "whole rows or columns",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    nodes, stored, reason = REFUSED[name]
    with pytest.raises(GraphError, match=reason):
        from_bytes(model(*nodes, shape=SHAPE, **stored))
