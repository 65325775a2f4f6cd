"""Networks answer on every machine, by every kernel, as golden/networks.json says: made once, on x86-64.

    PYTHONPATH=tests/support python tests/tools/test_golden_networks.py     makes it anew, where an
    answer is meant to change

Where activations are 8 bits or signs, sums are exact and scores the same bits; sums of float32
activations are taken in the order of whichever kernel is fastest on a machine, so those scores
agree within the tolerance that `bwn verify` has.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from golden_networks import EVERY, inputs, network

from bwn.ir.tolerance import chain_tolerance

FILE = Path(__file__).parents[1] / "golden" / "networks.json"


@pytest.mark.parametrize("name", EVERY)
def test_scores_are_those_of_every_other_machine(name: str) -> None:
    model = network(name)
    graph = model.spec.graph
    expected = np.array(json.loads(FILE.read_text())[name], np.float32)
    found = model.run(inputs(model, len(expected)))
    if name.endswith(("int8", "sign")):
        assert np.array_equal(found, expected)
    else:
        allowed = chain_tolerance(graph, graph.shapes) * np.abs(expected).max()
        assert np.abs(found - expected).max() <= allowed


if __name__ == "__main__":
    made = {}
    for name in EVERY:
        model = network(name)
        made[name] = model.run(inputs(model, 2)).astype(float).tolist()
    FILE.write_text(
        "{\n"
        + ",\n".join(f' "{name}": {json.dumps(rows)}' for name, rows in made.items())
        + "\n}\n"
    )
