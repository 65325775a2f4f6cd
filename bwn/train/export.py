"""From a trained module to an ONNX file whose weights are the deployed ones: the float reference of everything after.

Only the exporter's own packages are used (torch.onnx); the file is one self-contained ONNX model.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
import torch
from torch import Tensor, nn

from bwn._files import same_file, write_beside
from bwn.errors import BwnError, MissingPackageError
from bwn.ir.model_spec import Preprocess
from bwn.train.checkpoint import read_checkpoint
from bwn.train.fake_quant import RoundActivation, translations
from bwn.train.layers import BinaryConv2d, BinaryLinear, SignActivation, binary_layers
from bwn.train.penalties import mean_distance

OPSET = 18


def deploy(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode made of ordinary torch layers.

    Binarized layers hold their deployed weights, +-1 or +-alpha per output channel (also after `stochastic`, whose
    weights are rounded to their signs); sign activations become where(x >= 0, 1, -1); 8-bit ones keep their steps.
    """
    return _plain(copy.deepcopy(module).eval(), {})


def _plain(module: nn.Module, done: dict[int, nn.Module]) -> nn.Module:
    """Replace the layers below `module`; one that is used in two places stays one."""
    if id(module) not in done:
        if isinstance(module, (BinaryConv2d, BinaryLinear, SignActivation, RoundActivation)):
            done[id(module)] = module.plain().eval()
        else:
            done[id(module)] = module
            for name, child in list(module._modules.items()):
                if child is not None:
                    setattr(module, name, _plain(child, done))
    return done[id(module)]


def export_onnx(
    module: nn.Module,
    path: str | os.PathLike[str],
    example: Tensor,
    *,
    preprocess: Preprocess | None = None,
    classes: Sequence[str] | None = None,
) -> None:
    """Write the deployed module as an ONNX file; `bwn pack` reads it.

    example: (N, *input shape) float32, any values; the batch axis of the file is free.
    preprocess, classes: kept in the file's metadata, for `bwn infer`.
    Raises BwnError where torch cannot export the module, MissingPackageError without onnxscript.
    """
    program = _exported(deploy(module), example)
    for node in program.model.graph:
        node.metadata_props.clear()  # the exporter leaves stack traces with this machine's paths
    program.model.metadata_props.update(_metadata(module, preprocess, classes))
    write_beside(path, program.model_proto.SerializeToString(deterministic=True))


def export_checkpoint(
    checkpoint_path: str | os.PathLike[str], onnx_path: str | os.PathLike[str]
) -> None:
    """Write the network of a checkpoint of `bwn train` as an ONNX file.

    Raises CheckpointError where the checkpoint is refused; otherwise as `export_onnx`.
    """
    if same_file(checkpoint_path, onnx_path):
        raise BwnError(
            f"{os.fspath(onnx_path)}: would overwrite the checkpoint that it is made from"
        )
    checkpoint = read_checkpoint(checkpoint_path)
    shape = checkpoint.description.architecture.input_shape
    description = checkpoint.description
    export_onnx(
        checkpoint.module,
        onnx_path,
        torch.zeros(2, *shape),
        preprocess=description.preprocess,
        classes=description.classes,
    )


def _exported(module: nn.Module, example: Tensor) -> torch.onnx.ONNXProgram:
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise MissingPackageError("onnxscript", "train", "export to ONNX") from None
    batch = torch.export.Dim("batch")
    # An example of one image would fix the batch to one.
    example = example if len(example) > 1 else torch.cat([example, example])
    with _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["input"],
                output_names=["scores"],
                dynamic_shapes=({0: batch},),
                optimize=True,  # folds batch norm into the weights: still one magnitude per output channel
                verbose=False,
                custom_translation_table=translations(),
            )
        except (
            Exception
        ) as error:  # torch.onnx raises errors of many kinds; all mean that it cannot
            reason = " ".join(str(error).split())[:300]
            raise BwnError(f"torch cannot export this module to ONNX: {reason}") from error
    if program is None:
        raise BwnError("torch cannot export this module to ONNX")
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress and advice out of the way; its errors still come through."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _metadata(
    module: nn.Module, preprocess: Preprocess | None, classes: Sequence[str] | None
) -> dict[str, str]:
    """The metadata that bwn.onnx reads back."""
    margins = {
        f"{name}.weight".lstrip("."): mean_distance([layer.weight])
        for name, layer in binary_layers(module).items()
    }
    found = {"bwn.margins": json.dumps(margins)} if margins else {}
    if preprocess is not None:
        found["bwn.preprocess"] = msgspec.json.encode(preprocess).decode()
    if classes is not None:
        found["bwn.classes"] = json.dumps(list(classes))
    return found
