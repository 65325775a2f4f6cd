"""Files of opsets before the oldest that is read, brought to that one."""

from __future__ import annotations

import onnx
import onnx.version_converter

from bwn.onnx.onnx_node import STANDARD

OLDEST_OPSET = 11
OLDEST_CONVERTED = 7
"""Before it operations broadcast and normalize in other ways."""


def opset_of(model: onnx.ModelProto) -> int:
    """Version of ONNX's own operations; 0 where the file does not say."""
    versions = [item.version for item in model.opset_import if item.domain in STANDARD]
    return int(versions[0]) if versions else 0


def upgrade(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in opset OLDEST_OPSET where it is older and can be converted, else the model.

    The converter crashes on illegal nodes, so the model must have passed ONNX's checker.
    """
    if not OLDEST_CONVERTED <= opset_of(model) < OLDEST_OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, OLDEST_OPSET)
    except Exception:  # the converter's errors have no common class
        return model
