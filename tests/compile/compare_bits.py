"""Scores of C libraries against bwn's, bit by bit: python tests/compile/compare_bits.py FOLDER [COUNT]

FOLDER has a library for each model of models/, named as `bwn compile` names them. Kernels of bwn
are those of the environment: BWN_KERNELS and BWN_LIBRARIES.
"""

from __future__ import annotations

import sys
from pathlib import Path

for folder in ("support", "robustness"):
    sys.path.insert(0, str(Path(__file__).parents[1] / folder))

import numpy as np
from c_library import CLibrary

from bwn.format import read
from bwn.kernels import costs
from bwn.kernels.target import cpu
from bwn.kernels.target.loader import origin
from bwn.plan.planner import make_plan
from bwn.predict import probabilities, to_input
from bwn.runtime.executor import Runner

MODELS = Path(__file__).parents[2] / "models"


def compare(folder: Path, model: Path, count: int) -> None:
    """One model: random inputs, and a few images."""
    spec, random = read(model), np.random.default_rng(1)
    library = CLibrary(folder, model.stem.replace("-", "_"))
    runner = Runner(make_plan(spec.graph, 1, 1))
    for number in range(count):
        x = random.normal(0, 10.0 ** (number % 3), (1, *spec.graph.topology.input_shape))
        x = x.astype(np.float32)
        assert library.run(x, spec.graph.output_shape).tobytes() == runner.run(x).tobytes(), number
    for height, width in ((28, 28), (32, 32), (40, 90), (2, 3)):
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        expected = probabilities(spec, runner.run(to_input(spec, pixels)[None]))[0]
        np.testing.assert_allclose(library.classify(pixels, len(expected)), expected, rtol=2**-22)


def main(folder: str, count: str = "1000") -> None:
    """All models."""
    # Kernels as `bwn compile` chooses them for another CPU.
    costs.table_path = lambda: Path("none")
    cpu.l1_bytes = lambda: cpu.USUAL_L1
    models = sorted(MODELS.glob("*.bwn"))
    assert models
    for model in models:
        compare(Path(folder), model, int(count))
        print(f"{model.stem}: the same bits for {count} inputs", flush=True)
    print(f"{origin()}: {len(models)} models, {count} inputs each, the same bits")


if __name__ == "__main__":
    main(*sys.argv[1:])
