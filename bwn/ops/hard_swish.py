"""HardSwish (Howard et al., Searching for MobileNetV3, ICCV 2019, section 5.2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bwn.ir.node import Reals, Tensors
from bwn.ops.activation import Activation, reads_onnx


@reads_onnx
class HardSwish(Activation, frozen=True, kw_only=True, tag="hard_swish"):
    """y = x * min(max(x + 3, 0), 6) / 6."""

    since = 3
    formula = "hard_swish"
    onnx_op = "HardSwish"

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """The formula."""
        x = inputs[0].astype(np.float64)
        return np.asarray(x * np.clip(x + 3, 0, 6) / 6)
