"""From a trained module to an ONNX file of its deployed weights: the float reference of all else.

Only torch.onnx and the packages that it needs are used; the file is one self-contained ONNX model.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from bwn._files import check_ending, same_file, write_atomically
from bwn._text import brief
from bwn._types import StrPath
from bwn.data.preprocess_rule import check_preprocess, choose_preprocess, plain_fields
from bwn.errors import ArgumentError, BwnError, MissingPackageError
from bwn.ir.model_spec import Preprocess
from bwn.train.checkpoint import read_checkpoint
from bwn.train.fake_quant import RoundActivation, translations
from bwn.train.layers import BinaryLayer, SignActivation, binary_layers
from bwn.train.penalties import mean_distance
from bwn.train.plain_copy import check_finite, plain_copy

OPSET = 18


def deploy(module: nn.Module) -> nn.Module:
    """Copy a module with ordinary torch layers in place of bwn's.

    Binary layers hold their deployed weights, +-1 or +-alpha per output channel (the signs also
    after the `stochastic` scheme). Sign activations become where(x >= 0, 1, -1). 8-bit activations
    keep their steps.

    Args:
        module: Any module; it is left as it was.

    Returns:
        The copy, in evaluation mode, without the wrappers of torch.compile, DataParallel and
        AveragedModel.

    Raises:
        ArgumentError: `module` is not a torch module.
        BwnError: 8-bit activations have seen no training batch yet.

    Example:
        >>> from bwn.train import BinaryLinear, deploy
        >>> deploy(BinaryLinear(4, 2))
        Linear(in_features=4, out_features=2, bias=False)
    """
    _check_type("module", module, nn.Module)
    return _deployed(plain_copy(module), {})


def _check_type(name: str, value: object, *expected: type) -> None:
    if not isinstance(value, expected):
        raise ArgumentError(f"{name} is {type(value).__name__}, expected {expected[0].__name__}")


def _deployed(module: nn.Module, replaced: dict[int, nn.Module]) -> nn.Module:
    """Replace bwn's layers in `module`; one that is used in two places stays shared."""
    if id(module) not in replaced:
        if isinstance(module, (BinaryLayer, SignActivation, RoundActivation)):
            replaced[id(module)] = module.deployed().eval()
        else:
            replaced[id(module)] = module
            for name, child in list(module._modules.items()):
                if child is not None:
                    setattr(module, name, _deployed(child, replaced))
    return replaced[id(module)]


def export_onnx(
    module: nn.Module,
    path: StrPath,
    example: Tensor,
    *,
    preprocess: Preprocess | Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
) -> None:
    """Write a module as an ONNX file, with its deployed weights; `bwn pack` reads it.

    Args:
        module: Any module that torch can export; it is left as it was. Of one that torch.compile,
            DataParallel or AveragedModel wraps, the module inside is exported.
        path: The file to write.
        example: (N, *input shape) float32, any values; the file takes batches of any size.
        preprocess: How images are prepared, for `bwn infer`; kept in the file's metadata. What
            `fit` returns, or a mapping as `pack` takes it, with mean and std or a preset.
        classes: Names of the classes; likewise.

    Raises:
        ArgumentError: An argument is of a wrong type, or `preprocess` does not fit the example.
        BwnError: torch cannot export the module.
        DivergedError: A weight is NaN or infinite.
        FileError: The file cannot be written.
        MissingPackageError: onnxscript is not installed.

    Example:
        >>> import torch
        >>> from bwn.train import Architecture, build, export_onnx
        >>> net = build(Architecture(name="mlp", input_shape=(1, 8, 8), classes=3, width=16))
        >>> export_onnx(net, "net.onnx", torch.zeros(2, 1, 8, 8))  # doctest: +SKIP
    """
    _check_type("example", example, Tensor)
    _check_type("classes", classes, list, tuple, type(None))
    _check_type("module", module, nn.Module)
    rule = _rule(preprocess, tuple(example.shape[1:]))
    plain = plain_copy(module)
    check_finite(plain)
    metadata = _metadata(plain, rule, classes)
    program = _exported(_deployed(plain, {}), example)
    for node in program.model.graph:
        node.metadata_props.clear()  # the exporter leaves stack traces with this machine's paths
    program.model.metadata_props.update(metadata)
    write_atomically(path, program.model_proto.SerializeToString(deterministic=True))


def export_checkpoint(checkpoint_path: StrPath, onnx_path: StrPath) -> None:
    """Write the network of a checkpoint as an ONNX file, with preprocessing and class names.

    Args:
        checkpoint_path: A file that `bwn train` wrote.
        onnx_path: The file to write.

    Raises:
        ArgumentError: The two are the same file, or `onnx_path` has the ending of another kind of
            file.
        BwnError: As `export_onnx`.
        CheckpointError: The checkpoint is refused, as by `read_checkpoint`.

    Example:
        >>> from bwn.train import export_checkpoint
        >>> export_checkpoint("model.pt", "model.onnx")  # doctest: +SKIP
    """
    if same_file(checkpoint_path, onnx_path):
        raise ArgumentError(
            f"{onnx_path}: checkpoint and output are the same file; name another output"
        )
    check_ending(onnx_path, ".onnx")
    checkpoint = read_checkpoint(checkpoint_path)
    description = checkpoint.description
    export_onnx(
        checkpoint.module,
        onnx_path,
        torch.zeros(2, *description.architecture.input_shape),
        preprocess=description.preprocess,
        classes=description.classes,
    )


def _rule(
    preprocess: Preprocess | Mapping[str, Any] | None, shape: tuple[int, ...]
) -> Preprocess | None:
    """Preprocessing as the file holds it, checked against the shape of one input."""
    if preprocess is None or isinstance(preprocess, Preprocess):
        return preprocess
    given = plain_fields(preprocess).keys()
    if "preset" not in given and not {"mean", "std"} <= given:
        raise ArgumentError("preprocess needs mean and std, or a preset")
    rule, _ = choose_preprocess(None, preprocess, shape)
    if rule is not None:
        check_preprocess(rule, shape)
    return rule


def _exported(module: nn.Module, example: Tensor) -> torch.onnx.ONNXProgram:
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise MissingPackageError("onnxscript", "train", "export to ONNX") from None
    batch = torch.export.Dim("batch")
    # An example of one image would fix the batch to one.
    example = example if len(example) > 1 else torch.cat([example, example])
    float32 = torch.autocast(example.device.type, enabled=False)  # also where training is not
    with _quiet(), torch.no_grad(), float32:
        try:
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["input"],
                output_names=["scores"],
                dynamic_shapes=({0: batch},),
                # Folds batch norm into the weights: still one magnitude per output channel.
                optimize=True,
                verbose=False,
                custom_translation_table=translations(),
            )
        except Exception as error:  # torch.onnx raises many kinds; all mean that it cannot
            raise BwnError(f"torch cannot export this module to ONNX: {_why(error)}") from error
    if program is None:
        raise BwnError("torch cannot export this module to ONNX")
    shape = program.model.graph.inputs[0].shape
    if shape is not None and isinstance(shape[0], int):
        raise BwnError(
            f"forward fixes the batch to {shape[0]}: take it from the input, as in "
            "x.view(len(x), -1) or x.flatten(1)"
        )
    return program


def _why(error: BaseException) -> str:
    """What first went wrong: the exporter raises its own errors, with general advice, from it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return brief(error, 300) or type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporter's progress, advice and dumps; its exceptions still come through."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)  # it logs tracebacks of what it raises too
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):  # and prints graphs
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _metadata(
    module: nn.Module, preprocess: Preprocess | None, classes: Sequence[str] | None
) -> dict[str, str]:
    """The metadata that bwn.onnx reads back. bwn.margins: mean distance of each layer to +-1."""
    distances = {
        f"{name}.weight".lstrip("."): mean_distance([layer.weight])
        for name, layer in binary_layers(module).items()
    }
    metadata = {"bwn.margins": json.dumps(distances)} if distances else {}
    if preprocess is not None:
        metadata["bwn.preprocess"] = msgspec.json.encode(preprocess).decode()
    if classes is not None:
        metadata["bwn.classes"] = json.dumps(list(classes))
    return metadata
