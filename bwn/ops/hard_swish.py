"""HardSwish (Howard et al., Searching for MobileNetV3, ICCV 2019, section 5.2)."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bwn.ir.node import Elementwise, Reals, Tensors, largest
from bwn.ops.onnx_reading import reads

if TYPE_CHECKING:
    from bwn.onnx.exporter import OnnxGraph
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode
    from bwn.plan.builder import PlanBuilder
    from bwn.plan.fusion import Epilogue


class HardSwish(Elementwise, frozen=True, kw_only=True, tag="hard_swish"):
    """y = x * min(max(x + 3, 0), 6) / 6."""

    since = 3

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """The formula."""
        x = inputs[0].astype(np.float64)
        return np.asarray(x * np.clip(x + 3, 0, 6) / 6)

    def magnitude(self, inputs: Sequence[Reals], tensors: Tensors) -> float:
        """The input: intermediate results are of that size."""
        return largest(inputs[0])

    def fuse(self, epilogue: Epilogue, ready: Container[str]) -> Epilogue | None:
        """Applied as the activation of a layer with weights."""
        return epilogue.activate(self.output, self.op)

    def lower(self, plan: PlanBuilder) -> None:
        """One elementwise step."""
        plan.affine(self, activation=self.op)

    def to_onnx(self, graph: OnnxGraph) -> None:
        """HardSwish."""
        graph.emit("HardSwish", [self.input], self.output)


@reads("HardSwish")
def read_hard_swish(state: ImportState, node: OnnxNode) -> None:
    """y = x * min(max(x + 3, 0), 6) / 6."""
    view = state.whole(node)
    state.emit(HardSwish(input=view.source, output=node.output), like=view)
