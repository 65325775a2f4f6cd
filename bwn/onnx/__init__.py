"""ONNX in and out: the only package that imports onnx and onnxruntime."""

from bwn.errors import MissingPackageError

try:
    import onnx as onnx
except ImportError:
    raise MissingPackageError("onnx", "onnx", "reading and writing ONNX files") from None
