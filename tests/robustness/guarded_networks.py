"""Runs random networks between forbidden pages: BWN_SEED=<first> BWN_COUNT=<how many>.

Every GEMM kernel gets its turn: the cost table makes one variant the cheapest for each seed.
BWN_FAULT plants a fault that must be found: `read` moves the weights a page on, `write` moves outputs
before the arena, `shift` reads inputs 4 bytes off.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from pathlib import Path

import numpy as np
import pytest

for folder in (".", "../support"):
    sys.path.insert(0, str(Path(__file__).parent / folder))

from graphs import floats
from guarded import PAGE, guarded_runs, run
from plan_checks import only
from random_graphs import random_graph

from bwn.kernels import costs
from bwn.kernels.registry import GEMMS, KERNELS
from bwn.plan import bit_steps
from bwn.plan.planner import Plan, make_plan
from bwn.runtime.executor import Runner

RARE = {"b1_s1_unpack", "f32_f32_b1_signs_multiply", "s1_b1_f32_planes_inlane"}
"""Kernels that one network in hundreds needs."""
VARIANTS = sorted({spec.variant for spec in GEMMS})


def plant(fault: str, plan: Plan) -> None:
    """Break a plan on purpose."""
    for step in plan.steps:
        fields = step.kernel.params.fields
        if fault == "read" and "words" in fields:
            step.block[fields.index("words")] += PAGE
        if fault == "write" and "out" in fields and step.external != "out":
            step.block[fields.index("out")] = plan.memory.ctypes.data - 16
        if fault == "shift" and "x" in fields and step.external != "x":
            step.block[fields.index("x")] += 4


def check(seed: int, kernels: set[str], fault: str) -> None:
    """One network, with forbidden pages on both sides, against a plan in ordinary memory."""
    graph, batch = random_graph(seed)
    table = only(VARIANTS[seed % len(VARIANTS)])
    x = floats(batch, *graph.topology.input_shape, seed=seed)
    threads = 1 + seed % 3
    with pytest.MonkeyPatch.context() as patch:
        if seed % 2:
            patch.setattr(bit_steps, "LEAST_FULL", 0.0)  # bitpacked for any number of channels
        expected = Runner(make_plan(graph, batch, 1, table=table)).run(x)
        for side in ("before", "after"):
            with patch.context() as inner:
                arenas = guarded_runs(inner, side)
                plan = make_plan(graph, batch, threads, table=table, split="always")
                kernels |= {step.kernel.name for step in plan.steps}
                if fault:
                    plant(fault, plan)
                for _ in range(2):  # the second run starts with what the first left
                    scores = run(plan, x, side)
                    arenas.check()
                    np.testing.assert_array_equal(scores, expected)


def main() -> None:
    """All seeds; what fails is the last one named."""
    faulthandler.enable()
    first, count = int(os.environ.get("BWN_SEED", "0")), int(os.environ.get("BWN_COUNT", "400"))
    costs.table_path = lambda: Path("none")  # kernels by the costs that come with bwn
    kernels: set[str] = set()
    for seed in range(first, first + count):
        print(f"BWN_SEED={seed}", flush=True)
        check(seed, kernels, os.environ.get("BWN_FAULT", ""))
    missing = set(KERNELS) - kernels - RARE
    # Fresh seeds may do without a kernel that the first ones use.
    assert first or count < 300 or not missing, (
        f"{count} networks without {', '.join(sorted(missing))}"
    )
    print(f"{count} networks, {len(kernels)} kernels: {' '.join(sorted(kernels))}", flush=True)


if __name__ == "__main__":
    main()
