"""The runs of an experiment and what they share: all runs in a folder have the same basis."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from bwn._files import make_folder, write_atomically
from bwn._text import read_failure
from bwn.data.datasets import Dataset, load_dataset
from bwn.errors import FileError
from bwn.experiment.record import read_records
from bwn.train.architectures import build_seeded
from bwn.train.networks import NetworkName, default_network
from bwn.train.options import options_of
from bwn.train.preprocessing import digest, image_shape
from bwn.train.schemes import find_scheme
from bwn.train.settings import Architecture, SchemeName, Settings, settings_for

BASIS, RUNS = "experiment.json", "runs"

_ONLY_FOR = {"weight_decay": "float", "penalty": "margin", "strength": "margin", "ramp": "margin"}
"""Settings that only one scheme uses."""


class Basis(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all runs of an experiment share; kept in DIR/experiment.json.

    Attributes:
        digest: Digest of the training images and labels.
        architecture: Network of the margin run with seed 0.
        settings: Settings of the same run.
        weight_decay: Weight decay of the float scheme.
    """

    digest: str
    architecture: Architecture
    settings: Settings
    weight_decay: float = 0.0


class Job(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run, as a worker gets it.

    Attributes:
        name: Name of the run, its checkpoint and its record.
        sweep: Whether it is part of a sweep, as in the record.
        source: The data set.
        digest: Digest of its training images and labels.
        checkpoint: The run's file, to start or to resume.
        architecture: The network.
        settings: How it is trained.
        threads: Threads of the run.
    """

    name: str
    sweep: bool
    source: str
    digest: str
    checkpoint: str
    architecture: Architecture
    settings: Settings
    threads: int


@dataclass(frozen=True)
class ExperimentRequest:
    """Arguments of an experiment.

    Attributes:
        source: The data set.
        schemes: Names of the schemes to compare.
        seeds: Seeds of each scheme.
        lambdas: More values of lambda for margin, each with every seed.
        weight_decays: More values of weight decay for float, each with every seed.
        model: The network; None: that of `default_network`.
        width: Width of its first hidden layer; None: the network's own.
        chosen: Fields of `Settings`; None: not chosen. Only float uses `weight_decay`; only margin
            uses `penalty`, `strength` and `ramp`.
    """

    source: str
    schemes: Sequence[SchemeName]
    seeds: Sequence[int]
    lambdas: Sequence[float] = ()
    weight_decays: Sequence[float] = ()
    model: NetworkName | None = None
    width: int | None = None
    chosen: Mapping[str, Any] = field(default_factory=dict)


def plan(request: ExperimentRequest, folder: Path, threads: int) -> tuple[Basis, list[Job]]:
    """The basis and the runs, ordered by seed, with sweeps at the end.

    Args:
        request: Arguments of the experiment.
        folder: Folder of the experiment.
        threads: Threads of each run.

    Returns:
        What all runs share, and the runs.

    Raises:
        BwnError: The data cannot be read, or a setting is out of its range.
    """
    data = load_dataset(request.source)
    job = partial(_job, request, data, digest(data), folder, threads)
    margin, plain = job("margin", 0), job("float", 0)
    build_seeded(margin.architecture, 0)  # refuses images that are too small for the network
    jobs = [
        job(scheme, seed) for seed in request.seeds for scheme in dict.fromkeys(request.schemes)
    ]
    for base, name, values in (
        (margin, "strength", request.lambdas),
        (plain, "weight_decay", request.weight_decays),
    ):
        others = [value for value in dict.fromkeys(values) if value != getattr(base.settings, name)]
        jobs += [
            job(base.architecture.scheme, seed, **{name: value})
            for seed in request.seeds
            for value in others
        ]
    basis = Basis(
        digest=margin.digest,
        architecture=margin.architecture,
        settings=margin.settings,
        weight_decay=plain.settings.weight_decay,
    )
    return basis, jobs


def _job(
    request: ExperimentRequest,
    data: Dataset,
    data_digest: str,
    folder: Path,
    threads: int,
    scheme: SchemeName,
    seed: int,
    **swept: float,
) -> Job:
    """One run. swept: a setting whose value is in the run's name."""
    model: NetworkName = request.model or default_network(image_shape(data))
    chosen = {**request.chosen, "seed": seed, **swept}
    for setting, only in _ONLY_FOR.items():
        if scheme != only:
            chosen[setting] = None
    values = (f"{_flag(setting).removeprefix('--')}{value!r}" for setting, value in swept.items())
    name = "-".join([scheme, *values, f"seed{seed}"])
    return Job(
        name=name,
        sweep=bool(swept),
        source=request.source,
        digest=data_digest,
        checkpoint=str(folder / RUNS / f"{name}.pt"),
        architecture=Architecture(
            name=model,
            input_shape=image_shape(data),
            classes=len(data.classes),
            scheme=scheme,
            width=request.width,
        ),
        settings=settings_for(model, find_scheme(scheme), len(data.images), **chosen),
        threads=threads,
    )


def unfinished(jobs: Sequence[Job], folder: Path) -> list[Job]:
    """The jobs that have no record in the folder yet."""
    done = {record.name for record in read_records(folder)}
    return [job for job in jobs if job.name not in done]


@contextmanager
def locked(folder: Path, basis: Basis) -> Iterator[int]:
    """Lock the folder, which is created if missing.

    Yields the descriptor of the lock, which is held until all processes that inherit it have ended.
    Raises FileError if another experiment holds it, or the folder has another basis.
    """
    make_folder(folder / RUNS)
    try:
        lock = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise FileError(read_failure(folder, error)) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FileError(f"{folder}: in use by another `bwn experiment`") from None
        _check_basis(folder, basis)
        yield lock
    finally:
        os.close(lock)


def _check_basis(folder: Path, basis: Basis) -> None:
    """Write the basis of a new folder, or raise FileError if an older one has another."""
    path = folder / BASIS
    if not path.exists():
        write_atomically(path, msgspec.json.encode(basis) + b"\n")
        return
    try:
        before = msgspec.json.decode(path.read_bytes(), type=Basis)
    except (OSError, msgspec.MsgspecError) as error:
        raise FileError(f"{path}: cannot be read as an experiment's basis: {error}") from error
    if before.digest != basis.digest:
        raise FileError(f"{folder}: was made with other images; choose another folder")
    old, new = _values(before), _values(basis)
    for name, value in new.items():
        if old[name] != value:
            raise FileError(
                f"{folder}: was made with {_flag(name)} {_shown(old[name])}, not "
                f"{_shown(value)}: choose another folder, or the same value"
            )


def _values(basis: Basis) -> dict[str, Any]:
    """Value of each field of the network and the settings."""
    fields = msgspec.structs.asdict(basis.architecture) | msgspec.structs.asdict(basis.settings)
    return fields | {"weight_decay": basis.weight_decay}


def _shown(value: Any) -> Any:
    return "unset" if value is None else value


def _flag(name: str) -> str:
    """The command-line option of a field."""
    options = options_of(Architecture) | options_of(Settings)
    return options[name].flag if name in options else name
