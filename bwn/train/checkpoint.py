"""Checkpoints: a network, how to rebuild it, and all that training needs to continue.

A checkpoint is a torch file (a zip) of one dict:

    format "bwn-checkpoint", version 2, description: JSON of `Description`,
    weights: the module's state_dict, training: `Trainer.state()`, or {} in a best epoch's file

The zip's comment is `DIGEST_MARK` and the SHA-256 of all bytes before the digest. Version 1 is the
same without a comment.

It is read with torch's weights_only, which builds tensors and plain values and refuses everything
else: nothing in a checkpoint is executed.
"""

from __future__ import annotations

import hashlib
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
from msgspec import Meta, Struct
from torch import Tensor, nn

from bwn._file_types import not_checkpoint
from bwn._files import check_file, write_atomically
from bwn._text import OWN_TRAINING, brief, count_noun
from bwn._types import StrPath
from bwn.errors import BwnError, CheckpointError
from bwn.ir.model_spec import Preprocess
from bwn.train.architectures import build
from bwn.train.settings import Architecture, Settings

FORMAT = "bwn-checkpoint"
VERSION = 2
VERSIONS = (1, 2)
DIGEST_MARK = b"bwn sha256 "
DIGEST_DIGITS = 64
OWN_MODULE = (
    "a module of your own is packed from its ONNX file, after bwn.train.binarize and training "
    f"({OWN_TRAINING})"
)
"""What to do with the state_dict, or the pickle, of another module."""


class BestEpoch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which epoch's weights a best epoch's file holds.

    Attributes:
        epoch: The epoch, from 1.
        accuracy: On the held-out images, in 0 to 1.
    """

    epoch: Annotated[int, Meta(ge=1)]
    accuracy: Annotated[float, Meta(ge=0, le=1)]


class Description(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The part of a checkpoint that is not tensors.

    Attributes:
        architecture: The network.
        settings: How it is trained.
        preprocess: How images are prepared.
        classes: Names of the classes.
        source: The data set, as the user named it.
        digest: Of its training images and labels, so that a resumed run uses the same ones.
        skip_bad: Whether its images that cannot be read are left out.
        begun_from: The checkpoint whose weights the run started from, as the user named it; None:
            it started from random weights.
        finished: Whether training has ended.
        test_accuracy: Once it has, if there are test images.
        best: In a best epoch's file, which has no training state; else None.
    """

    architecture: Architecture
    settings: Settings
    preprocess: Preprocess
    classes: Annotated[tuple[str, ...], Meta(min_length=2, max_length=65536)]
    source: str
    digest: str
    skip_bad: bool = False
    begun_from: str | None = None
    finished: bool = False
    test_accuracy: float | None = None
    best: BestEpoch | None = None


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        path: The file, as the user named it.
        description: All that is not tensors.
        module: The network, in evaluation mode.
        training: For `Trainer.restore`; {} in a best epoch's file.
    """

    path: str
    description: Description
    module: nn.Module
    training: Mapping[str, Any]


def write_checkpoint(
    path: StrPath, description: Description, module: nn.Module, training: Mapping[str, Any]
) -> None:
    """Write a checkpoint to a temporary file, then rename it: the target is always whole.

    Raises FileError.
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "description": msgspec.json.encode(description).decode(),
        "weights": {name: portable(tensor) for name, tensor in module.state_dict().items()},
        "training": dict(training),
    }
    buffer = BytesIO()
    torch.save(content, buffer)
    write_atomically(path, with_digest(buffer.getvalue()))


def with_digest(archive: bytes) -> bytes:
    """A zip file without a comment, with its digest as its comment."""
    size = (len(DIGEST_MARK) + DIGEST_DIGITS).to_bytes(2, "little")
    data = archive[:-2] + size + DIGEST_MARK
    return data + hashlib.sha256(data).hexdigest().encode()


def has_digest(path: Path) -> bool:
    """Whether a file ends with its digest. Raises CheckpointError where that does not match."""
    state, left = hashlib.sha256(), path.stat().st_size - DIGEST_DIGITS
    with open(path, "rb") as file:
        piece = b""
        while left > 0 and (piece := file.read(min(left, 1 << 20))):
            state.update(piece)
            left -= len(piece)
        digest = file.read()
    if not piece.endswith(DIGEST_MARK):
        return False
    if state.hexdigest().encode() != digest:
        raise CheckpointError(
            f"{path}: damaged, its contents do not match its digest; copy it again, or train again"
        )
    return True


def portable(tensor: Tensor) -> Tensor:
    """The tensor as a checkpoint holds it: on the CPU, its axes in order."""
    return tensor.detach().cpu().contiguous()


def read_checkpoint(path: StrPath) -> Checkpoint:
    """Read and check a checkpoint, and rebuild its network.

    Args:
        path: A file that `bwn train` wrote.

    Returns:
        The checkpoint; its network is on the CPU, in evaluation mode.

    Raises:
        CheckpointError: The file is missing, truncated, of another kind, holds code, or
            contradicts itself.

    Example:
        >>> from bwn.train import read_checkpoint
        >>> checkpoint = read_checkpoint("model.pt")  # doctest: +SKIP
        >>> checkpoint.description.classes  # doctest: +SKIP
        ('cat', 'dog')
    """
    check_file(path, "a checkpoint", CheckpointError)
    content, checked = _load(Path(path))
    keys = {"version", "description", "weights", "training"}
    if content.get("format") != FORMAT or not keys <= set(content):
        raise CheckpointError(
            f"{path}: a PyTorch file, but not a checkpoint of bwn train; {OWN_MODULE}"
        )
    if content["version"] not in VERSIONS:
        raise CheckpointError(
            f"{path}: has checkpoint version {content['version']!r}, expected 1 or {VERSION}"
        )
    if content["version"] != 1 and not checked:
        raise CheckpointError(f"{path}: truncated or damaged; copy it again")
    try:
        description = msgspec.json.decode(content["description"], type=Description)
    except (msgspec.MsgspecError, TypeError, UnicodeError) as error:
        raise CheckpointError(f"{path}: its description is invalid: {error}") from error
    _check_description(path, description)
    module = _module(path, description.architecture, content["weights"])
    training = content["training"] if isinstance(content["training"], dict) else {}
    return Checkpoint(str(path), description, module, training)


def _load(path: Path) -> tuple[dict[str, Any], bool]:
    """The dict that the file holds, {} where it holds something else; and if it has a digest."""
    try:
        if not zipfile.is_zipfile(path):
            raise CheckpointError(f"{path}: {not_checkpoint(path)}")
        checked = has_digest(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=False)
    except CheckpointError:
        raise
    except Exception as error:  # torch raises a dozen kinds of errors for a broken file
        reason = brief(error, 300).partition(". ")[0][:160]
        objects = reason.startswith("Weights only")  # refused; its reason names classes and opcodes
        whole = objects or "TorchScript" in reason
        if objects:
            reason = "it holds Python objects, not only tensors and plain values"
        raise CheckpointError(
            f"{path}: cannot be read safely as a checkpoint: {reason}"
            f"{f'; {OWN_MODULE}' if whole else ''}"
        ) from error
    return (content if isinstance(content, dict) else {}), checked


def _module(path: StrPath, architecture: Architecture, weights: Any) -> nn.Module:
    """The network with these weights, in evaluation mode."""
    try:
        # Shapes only: a hostile size is compared before anything of it is allocated.
        with torch.device("meta"):
            module = build(architecture)
    except BwnError as error:
        raise CheckpointError(f"{path}: {error}") from error
    _check_weights(path, module, weights)
    module.load_state_dict(weights, assign=True)
    return module.eval()


def _check_description(path: StrPath, description: Description) -> None:
    architecture, preprocess = description.architecture, description.preprocess
    channels = 1 if preprocess.color == "L" else 3
    if architecture.input_shape != (channels, *preprocess.size):
        raise CheckpointError(
            f"{path}: images are prepared as {preprocess.color} {preprocess.size}, its network "
            f"reads {architecture.input_shape}"
        )
    if preprocess.since > 1:
        raise CheckpointError(f"{path}: bwn does not train on images prepared as {preprocess}")
    lengths = len(preprocess.mean), len(preprocess.std)
    if lengths != (channels, channels) or min(preprocess.std) <= 0:
        raise CheckpointError(f"{path}: mean and std are not {channels} numbers each, std above 0")
    if len(description.classes) != architecture.classes:
        raise CheckpointError(
            f"{path}: {count_noun(len(description.classes), 'class name')}, but the network has "
            f"{count_noun(architecture.classes, 'class')}"
        )


def _check_weights(path: StrPath, module: nn.Module, weights: object) -> None:
    expected = module.state_dict()
    if not isinstance(weights, dict) or set(weights) != set(expected):
        raise CheckpointError(f"{path}: its weights are not those of its network")
    for name, want in expected.items():
        weight = weights[name]
        known = isinstance(weight, Tensor)
        if not known or weight.shape != want.shape or weight.dtype != want.dtype:
            raise CheckpointError(
                f"{path}: weight '{name}' is not {want.dtype} of shape {tuple(want.shape)}"
            )
        if weight.layout != torch.strided or not bool(torch.isfinite(weight).all()):
            raise CheckpointError(f"{path}: weight '{name}' holds NaN or infinite numbers")
    if any(bool((weights[name] < 0).any()) for name in expected if name.endswith("running_var")):
        raise CheckpointError(f"{path}: a batch norm has a negative variance")
    if any(bool(weights[name] < 0) for name in expected if name.endswith(".step")):
        raise CheckpointError(f"{path}: 8-bit activations have a negative scale")
