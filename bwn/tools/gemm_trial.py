"""One GEMM kernel alone: the step of a plan of one layer, for `bwn tune` and benchmarks/."""

from __future__ import annotations

from math import sqrt

import numpy as np
import numpy.typing as npt

from bwn.errors import BwnError
from bwn.ir.graph import Graph, Topology
from bwn.ir.node import Array
from bwn.ir.quantization import Activations
from bwn.ir.tolerance import in_tolerances, tolerance
from bwn.kernels import bits
from bwn.kernels.gemm.gemm_spec import Element, GemmSpec, LutPermuteGemm, LutWindowGemm, RunsGemm
from bwn.ops.conv import Conv
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner

ACTIVATIONS: dict[Element, Activations] = {"f32": "float32", "i8": "int8", "s1": "binary"}
"""How a layer reads its input, by what its kernel reads."""
TAPS = 9
"""Taps of the window where a kernel's tables serve several and it divides K."""


class GemmTrial:
    """A convolution without padding, planned with one kernel; calling it runs the kernel.

    Only the kernel runs then: the layer's input was converted when the trial was made.
    """

    def __init__(self, spec: GemmSpec, depth: int, outputs: int, positions: int) -> None:
        """Plan the layer on seeded data and run it once.

        Args:
            spec: The kernel.
            depth: K, inputs of an output.
            outputs: N, output channels.
            positions: P, pixels of the output.
        """
        self.spec = spec
        self.graph = one_layer(spec, depth, outputs, positions)
        self.x = example_input(spec, self.graph)
        self.plan = make_plan(self.graph, 1, 1, only=spec)
        self.scores = Runner(self.plan).run(self.x)
        step, self.work = next((step, step.work) for step in self.plan.steps if step.work)
        self._entry, self._params, self._units = spec.entry(), step.block.ctypes.data, step.units

    def __call__(self) -> None:
        """Run the kernel on one thread."""
        self._entry(self._params, 0, self._units, 0)

    def idle(self) -> None:
        """Call the kernel for no work: what Python adds to a call, and a plan's run does not."""
        self._entry(self._params, 0, 0, 0)

    def check(self) -> None:
        """Compare the layer's output with the reference.

        Raises:
            BwnError: They differ by more than rounding explains.
        """
        (node,) = self.graph.nodes
        expected = node.reference([self.x], self.graph.tensors)
        allowed = tolerance(self.graph, node, [self.x])
        error = in_tolerances(self.scores, expected, allowed)
        if error > 1:
            raise BwnError(
                f"kernel {self.spec.name} computes a wrong result on this machine: "
                f"{error:.3g} times the tolerance away from the reference; please report it"
            )


def output_and_window(
    spec: GemmSpec, depth: int, positions: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns of output and window that suit a kernel; taps are shared if they can be."""
    shared = depth % TAPS == 0
    if isinstance(spec, LutWindowGemm):
        divisors = [rows for rows in range(1, positions + 1) if positions % rows == 0]
        block, side = spec.tile.rows, sqrt(positions)
        rows = min(divisors, key=lambda each: (each % block != 0, abs(each - side)))
        return (rows, positions // rows), (3, 3) if shared else (1, 1)
    if isinstance(spec, RunsGemm):
        return (1, positions), (3, 3) if shared else (1, 1)
    return (1, positions), (1, TAPS if shared and isinstance(spec, LutPermuteGemm) else 1)


def one_layer(spec: GemmSpec, depth: int, outputs: int, positions: int) -> Graph:
    """A convolution with seeded weights +-1, as `spec` reads them."""
    pixels, window = output_and_window(spec, depth, positions)
    signs = np.random.default_rng(0).integers(0, 2, (outputs, depth), np.int8) * 2 - 1
    channels = depth // (window[0] * window[1])
    weight: Array = bits.pack(signs)
    if spec.weights != "b1":
        kind = np.float32 if spec.weights == "f32" else np.int8
        weight = signs.astype(kind).reshape(outputs, channels, *window)
    node = Conv(
        input="x",
        output="y",
        weight="weight",
        kernel=window,
        activations=ACTIVATIONS[spec.activations],
        input_scale=1.0 if spec.activations == "i8" else None,
    )
    shape = (channels, pixels[0] + window[0] - 1, pixels[1] + window[1] - 1)
    topology = Topology(input="x", input_shape=shape, output="y", nodes=(node,))
    return Graph(topology=topology, tensors={"weight": weight})


def example_input(spec: GemmSpec, graph: Graph) -> npt.NDArray[np.float32]:
    """Seeded input (1, C, H, W): normal numbers, integers within +-127, or signs."""
    rng, shape = np.random.default_rng(1), (1, *graph.topology.input_shape)
    if spec.activations == "i8":
        return rng.integers(-127, 128, shape).astype(np.float32)
    x = rng.standard_normal(shape, np.float32)
    return x if spec.activations == "f32" else np.where(x < 0, -1, 1).astype(np.float32)
