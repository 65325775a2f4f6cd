"""The int8 form of a network for the peers: statically quantized ONNX with QDQ nodes."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from bwn._types import Floats

QUANTIZED = ("Conv", "Gemm", "MaxPool", "AveragePool", "Add", "Flatten", "Relu")
"""ONNX operations that run in 8 bits."""


class CalibrationImages(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Calibration inputs, one image at a time."""

    def __init__(self, name: str, images: Floats) -> None:
        self.inputs: Iterator[dict[str, Floats]] = iter({name: image[None]} for image in images)

    def get_next(self) -> dict[str, Floats] | None:
        """The next input, or None at the end."""
        return next(self.inputs, None)


def quantize(model: bytes, images: Floats, *, reduce_range: bool, signed: bool = False) -> bytes:
    """Quantize to 8-bit activations and signed 8-bit weights with a scale per channel.

    Ranges are by minimum and maximum.

    Args:
        model: float32 ONNX.
        images: For calibration, (N, ...) float32.
        reduce_range: Whether weights have 7 bits, which a CPU without VNNI needs: binary weights
            quantize to +-127 everywhere, and its sums of two products saturate at 16 bits.
        signed: Whether activations are signed.
    """
    proto = onnx.load_from_string(model)
    # The quantizer advises preparing steps, which change nothing in these graphs.
    logging.disable(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "int8.onnx"
            quantize_static(
                proto,
                path,
                CalibrationImages(proto.graph.input[0].name, images),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTIZED),
                activation_type=QuantType.QInt8 if signed else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                reduce_range=reduce_range,
                extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
            )
            return path.read_bytes()
    finally:
        logging.disable(logging.NOTSET)
