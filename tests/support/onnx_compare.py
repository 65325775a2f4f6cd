"""What an imported ONNX model computes, beside ONNX Runtime."""

from __future__ import annotations

import numpy as np

from bwn.ir.interpreter import evaluate
from bwn.onnx.importer import from_bytes
from bwn.onnx.session import Session
from bwn.passes import pipeline
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner


def compare(data: bytes, x: np.ndarray, note: str = "") -> None:
    """The graph of a model, its passes and its plan compute what ONNX Runtime does."""
    imported = from_bytes(data).spec.graph
    x = as_input(x, imported.topology.input_shape)
    expected = Session(data).run(x)
    graph = pipeline.run(imported)
    for actual in (
        evaluate(imported, x)[imported.topology.output],
        evaluate(graph, x)[graph.topology.output],
        Runner(make_plan(graph, len(x), 1)).run(x),
    ):
        assert actual.size == expected.size, note
        np.testing.assert_allclose(
            actual.reshape(expected.shape), expected, rtol=2e-5, atol=2e-5, err_msg=note
        )


def as_input(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(N, *shape): of channels last, channels first."""
    if x.ndim == 4 and x.shape[1:] != shape:
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return x.reshape(len(x), *shape)
