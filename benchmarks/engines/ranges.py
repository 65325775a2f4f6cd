"""Ranges of activations over the calibration images, for engines that quantize by them."""

from __future__ import annotations

from bwn.onnx.session import Session
from engines.case import Case

Ranges = dict[str, tuple[float, float]]
"""Smallest and largest value of each activation tensor."""

SLICE = 8
"""Images at a time: all activations of one of ResNet-18 take 50 MB."""


def ranges(case: Case) -> Ranges:
    """Smallest and largest value of each activation tensor over the calibration images, and 0."""
    topology, session = case.spec.graph.topology, Session(case.float_onnx)
    names = {node.output for node in topology.nodes}
    ends = {topology.input: (float(case.calibration.min()), float(case.calibration.max()))}
    seen: Ranges = dict.fromkeys(names, (0.0, 0.0)) | ends
    for start in range(0, len(case.calibration), SLICE):
        images = case.calibration[start : start + SLICE]
        for name, array in session.tensors(images, names).items():
            low, high = seen[name]
            seen[name] = min(low, float(array.min())), max(high, float(array.max()))
    return seen
