"""Checkpoints: a network, how to rebuild it, and all that training needs to go on. Nothing in one is executed.

A checkpoint is a torch file (a zip) of one dict:

    format "bwn-checkpoint", version 1, description: JSON of `Description`,
    weights: the module's state_dict, training: `Trainer.state()`, or {} in the file of a best epoch

It is read with torch's weights_only, which builds tensors and plain values and refuses everything else.
"""

from __future__ import annotations

import os
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

from bwn._files import write_beside
from bwn.errors import BwnError, CheckpointError
from bwn.ir.model_spec import Preprocess
from bwn.train.architectures import Architecture, build
from bwn.train.settings import Settings

FORMAT = "bwn-checkpoint"
VERSION = 1


class BestEpoch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which epoch's weights the file of a best epoch holds. accuracy: on the held-out images."""

    epoch: Annotated[int, Meta(ge=1)]
    accuracy: Annotated[float, Meta(ge=0, le=1)]


class Description(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The part of a checkpoint that is not tensors.

    source: the data set as it was named. digest: of its training images and labels, so that a resumed run goes on
    with the same ones. begun_from: the checkpoint whose weights it started from, as it was named; None: random ones.
    test_accuracy: once training has ended, and if there are test images. best: in the file of a best epoch, which has
    no training state.
    """

    architecture: Architecture
    settings: Settings
    preprocess: Preprocess
    classes: Annotated[tuple[str, ...], Meta(min_length=2, max_length=65536)]
    source: str
    digest: str
    begun_from: str | None = None
    finished: bool = False
    test_accuracy: float | None = None
    best: BestEpoch | None = None


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds. module: in evaluation mode. training: for `Trainer.restore`."""

    path: str
    description: Description
    module: nn.Module
    training: Mapping[str, Any]


def write_checkpoint(
    path: str | os.PathLike[str],
    description: Description,
    module: nn.Module,
    training: Mapping[str, Any],
) -> None:
    """Write a checkpoint beside its target, then rename it: the target is always whole. Raises FileError."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "description": msgspec.json.encode(description).decode(),
        "weights": {name: portable(tensor) for name, tensor in module.state_dict().items()},
        "training": dict(training),
    }
    buffer = BytesIO()
    torch.save(content, buffer)
    write_beside(path, buffer.getbuffer())


def portable(tensor: Tensor) -> Tensor:
    """The tensor as a checkpoint holds it: in the processor's memory, its axes in order."""
    return tensor.detach().cpu().contiguous()


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read and check a checkpoint, and rebuild its network.

    Raises CheckpointError, one line, where the file is missing, truncated, foreign, holds code, or does not fit.
    """
    content = _load(Path(path))
    missing = [
        key for key in ("version", "description", "weights", "training") if key not in content
    ]
    if content.get("format") != FORMAT or missing:
        raise CheckpointError(
            f"'{path}' is a torch file, but not a checkpoint written by bwn train"
        )
    if content["version"] != VERSION:
        raise CheckpointError(
            f"'{path}' has checkpoint version {content['version']!r}, expected {VERSION}"
        )
    try:
        description = msgspec.json.decode(content["description"], type=Description)
    except (msgspec.MsgspecError, TypeError, UnicodeError) as error:
        raise CheckpointError(f"'{path}': its description is not as expected: {error}") from error
    _check_description(path, description)
    try:
        with torch.device(
            "meta"
        ):  # shapes only: a hostile size is compared before anything of it is allocated
            module = build(description.architecture)
    except BwnError as error:
        raise CheckpointError(f"'{path}': {error}") from error
    _check_weights(path, module, content["weights"])
    module.load_state_dict(content["weights"], assign=True)
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    training = content["training"] if isinstance(content["training"], dict) else {}
    return Checkpoint(str(path), description, module.eval(), training)


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(
            f"'{path}' not found" if not path.exists() else f"'{path}' is not a file"
        )
    try:
        if not zipfile.is_zipfile(path):
            raise CheckpointError(
                f"'{path}' is not a checkpoint, or is truncated; expected a file by bwn train"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=False)
    except CheckpointError:
        raise
    except Exception as error:  # torch raises errors of a dozen kinds for a broken file; none may pass as a traceback
        reason = " ".join(str(error).split()).partition(". ")[0][:160]
        raise CheckpointError(
            f"'{path}' cannot be read safely as a checkpoint: {reason}"
        ) from error
    return content if isinstance(content, dict) else {}


def _check_description(path: str | os.PathLike[str], description: Description) -> None:
    architecture, preprocess = description.architecture, description.preprocess
    channels = 1 if preprocess.color == "L" else 3
    if architecture.input_shape != (channels, *preprocess.size):
        found = f"{preprocess.color} {preprocess.size}"
        raise CheckpointError(
            f"'{path}': images are prepared as {found}, its network reads {architecture.input_shape}"
        )
    if (
        len(preprocess.mean) != channels
        or len(preprocess.std) != channels
        or min(preprocess.std) <= 0
    ):
        raise CheckpointError(
            f"'{path}': mean and std are not {channels} numbers each, std above 0"
        )
    if len(description.classes) != architecture.classes:
        raise CheckpointError(
            f"'{path}': {len(description.classes)} class names for {architecture.classes} classes"
        )


def _check_weights(path: str | os.PathLike[str], module: nn.Module, weights: object) -> None:
    expected = module.state_dict()
    if not isinstance(weights, dict) or set(weights) != set(expected):
        raise CheckpointError(f"'{path}': its weights are not those of its network")
    for name, want in expected.items():
        found = weights[name]
        if not isinstance(found, Tensor) or found.shape != want.shape or found.dtype != want.dtype:
            raise CheckpointError(
                f"'{path}': weight '{name}' is not {want.dtype} of shape {tuple(want.shape)}"
            )
        if found.layout != torch.strided or not bool(torch.isfinite(found).all()):
            raise CheckpointError(f"'{path}': weight '{name}' holds numbers that are not finite")
    if any(bool((weights[name] < 0).any()) for name in expected if name.endswith("running_var")):
        raise CheckpointError(f"'{path}': a batch norm has a negative variance")
    if any(bool(weights[name] < 0) for name in expected if name.endswith(".step")):
        raise CheckpointError(f"'{path}': 8-bit activations have a negative step")
