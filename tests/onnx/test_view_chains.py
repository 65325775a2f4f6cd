"""Operations that move elements, around operations that compute: what ONNX Runtime gives.

Random chains go through every opset, with a dynamic batch and a batch of 1. A chain may be refused
only for a reason in REFUSED, and few are.
"""

from __future__ import annotations

import os

import pytest
from graphs import floats
from onnx import helper
from onnx_compare import compare
from view_chains import Chain, chain

from bwn.errors import FileError, GraphError
from bwn.onnx.session import Session

SEED = int(os.environ.get("BWN_SEED", "0"))
COUNT = int(os.environ.get("BWN_COUNT", "240"))
REFUSED = (
    "supported: (N, C, H, W), (N, C, L), (N, K)",
    "supported: (N, ..., K), the batch outermost",
    "mixes examples of the batch",
    "examples of the batch are mixed",
    "examples must stay independent",
    "does not depend on the input",
)


def described(c: Chain, seed: int) -> str:
    """How to repeat a chain, and its nodes."""
    lines = [f"repeat: BWN_SEED={seed} BWN_COUNT=1; opset {c.opset}, {c.sizes[0]}, {c.shape}"]
    for node in c.nodes:
        small = [
            c.stored[name].tolist() if name in c.stored and c.stored[name].size < 9 else name
            for name in node.input
        ]
        values = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        lines.append(f"{node.op_type} {small} {values} {list(node.output)}")
    return "\n".join(lines)


def runs(data: bytes) -> bool:
    """Whether ONNX Runtime reads a model: not where its own optimizer fails."""
    try:
        Session(data)
    except FileError as error:
        if "transpose_optimization" not in str(error):
            raise
        return False
    return True


@pytest.mark.parametrize("block", range(4))
def test_chains_compute_what_onnx_runtime_does(block: int) -> None:
    computed, seeds = 0, range(SEED + block, SEED + COUNT, 4)
    for seed in seeds:
        c = chain(seed)
        data, x = c.data(), floats(1 if c.single else 3, *c.shape, seed=seed)
        note = described(c, seed)
        if not runs(data):
            continue
        try:
            compare(data, x, note)
        except GraphError as error:
            refused = str(error)
            if not any(reason in refused for reason in REFUSED):
                raise AssertionError(f"{refused}\n{note}") from None
        else:
            computed += 1
    assert COUNT < 100 or computed >= 0.7 * len(seeds), f"only {computed} of {len(seeds)}"
