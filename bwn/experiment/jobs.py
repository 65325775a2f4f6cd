"""Which runs an experiment has, and what they share. A folder keeps to what its first run was made with."""

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

from bwn._files import write_beside
from bwn.data.datasets import Dataset, load_dataset
from bwn.errors import FileError
from bwn.experiment.record import read_records
from bwn.train.architectures import Architecture, build_seeded
from bwn.train.preprocessing import digest
from bwn.train.schemes import find_scheme
from bwn.train.settings import Settings, settings_for

BASIS, RUNS = "experiment.json", "runs"


class Basis(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all runs of an experiment share; kept in DIR/experiment.json.

    digest: of the training images and labels. architecture, settings: of the margin scheme's run with seed 0.
    weight_decay: of the float scheme.
    """

    digest: str
    architecture: Architecture
    settings: Settings
    weight_decay: float = 0.0


class Job(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run, as it is handed to a worker. checkpoint: its file, made or gone on with. The rest is in the record."""

    name: str
    sweep: bool
    source: str
    digest: str
    checkpoint: str
    architecture: Architecture
    settings: Settings
    threads: int


@dataclass(frozen=True)
class Wanted:
    """What a user asks for.

    lambdas: more values of lambda for margin, weight_decays: of weight decay for float; each with every seed.
    model: None for what suits the images. chosen: settings that are not the defaults; weight_decay is for
        float alone, penalty for margin.
    """

    source: str
    schemes: Sequence[str]
    seeds: Sequence[int]
    lambdas: Sequence[float] = ()
    weight_decays: Sequence[float] = ()
    model: str | None = None
    width: int | None = None
    chosen: Mapping[str, Any] = field(default_factory=dict)


def plan(wanted: Wanted, folder: Path, threads: int) -> tuple[Basis, list[Job]]:
    """The basis and the runs, those of a seed together, the sweeps at the end. threads: of each run.

    Raises BwnError, one line, for data that cannot be read, and for settings out of their range.
    """
    data = load_dataset(wanted.source)
    job = partial(_job, wanted, data, digest(data), folder, threads)
    margin, plain = job("margin", 0), job("float", 0)
    build_seeded(
        margin.architecture, 0
    )  # images that are too small for the network are refused here
    jobs = [job(scheme, seed) for seed in wanted.seeds for scheme in dict.fromkeys(wanted.schemes)]
    for of, key, values in (
        (margin, "strength", wanted.lambdas),
        (plain, "weight_decay", wanted.weight_decays),
    ):
        others = [value for value in dict.fromkeys(values) if value != getattr(of.settings, key)]
        jobs += [
            job(of.architecture.scheme, seed, **{key: value})
            for seed in wanted.seeds
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
    wanted: Wanted,
    data: Dataset,
    found: str,
    folder: Path,
    threads: int,
    scheme: Any,
    seed: int,
    **swept: float,
) -> Job:
    """One run. found: the data's digest. swept: a setting whose value is in the run's name."""
    model: Any = wanted.model or ("mlp" if data.color == "L" else "vgg")
    shape = (1 if data.color == "L" else 3, *data.size)
    chosen = {**wanted.chosen, "seed": seed, **swept}
    for key, only in _ONLY.items():
        if scheme != only:
            chosen[key] = None
    name = "-".join(
        [
            scheme,
            *(f"{_NAMES.get(key, key)}{value!r}" for key, value in swept.items()),
            f"seed{seed}",
        ]
    )
    return Job(
        name=name,
        sweep=bool(swept),
        source=wanted.source,
        digest=found,
        checkpoint=str(folder / RUNS / f"{name}.pt"),
        architecture=Architecture(
            name=model,
            input_shape=shape,
            classes=len(data.classes),
            scheme=scheme,
            width=wanted.width,
        ),
        settings=settings_for(model, find_scheme(scheme), len(data.images), **chosen),
        threads=threads,
    )


def unfinished(jobs: Sequence[Job], folder: Path) -> list[Job]:
    """The jobs of which the folder has no record yet."""
    done = {record.name for record in read_records(folder)}
    return [job for job in jobs if job.name not in done]


@contextmanager
def held(folder: Path, basis: Basis) -> Iterator[int]:
    """Make the folder, or enter it, alone: gives a lock that lasts until all who inherit it have ended.

    Raises FileError where somebody else holds it, or it was made on another basis.
    """
    try:
        (folder / RUNS).mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise FileError(f"'{folder}' cannot be made: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FileError(f"'{folder}': another `bwn experiment` is at work there") from None
        _claim(folder, basis)
        yield lock
    finally:
        os.close(lock)


def _claim(folder: Path, basis: Basis) -> None:
    path = folder / BASIS
    if not path.exists():
        write_beside(path, msgspec.json.encode(basis) + b"\n")
        return
    try:
        before = msgspec.json.decode(path.read_bytes(), type=Basis)
    except (OSError, msgspec.MsgspecError) as error:
        raise FileError(f"'{path}' cannot be read as an experiment's basis: {error}") from error
    if before == basis:
        return
    was, now = _options(before), _options(basis)
    name = next(name for name in now if was[name] != now[name])
    if name == "--data":
        raise FileError(f"'{folder}' was made with other images: choose another --out")
    raise FileError(
        f"'{folder}' was made with {name} {was[name]}, not {now[name]}: choose another --out, or the same"
    )


_ONLY = {"weight_decay": "float", "penalty": "margin"}
"""Settings that are of one scheme alone."""
_NAMES = {
    "name": "model",
    "strength": "lambda",
    "learning_rate": "lr",
    "final_learning_rate": "final-lr",
    "weight_decay": "weight-decay",
}


def _options(basis: Basis) -> dict[str, object]:
    """Value of each option that the basis was made of."""
    values: dict[str, object] = {"data": basis.digest}
    values |= msgspec.structs.asdict(basis.architecture) | msgspec.structs.asdict(basis.settings)
    values["weight_decay"] = basis.weight_decay
    return {
        f"--{_NAMES.get(name, name.replace('_', '-'))}": value for name, value in values.items()
    }
