"""Which runs an experiment has, and what they share. A folder keeps to what its first run was made with."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from bwn.datasets import load_dataset
from bwn.errors import FileError
from bwn.experiment.record import read_records
from bwn.files import write_beside
from bwn.train.inputs import digest
from bwn.train.models import Architecture, build_seeded
from bwn.train.quantizers import find_scheme
from bwn.train.settings import Settings, settings_for

BASIS, RUNS = "experiment.json", "runs"


class Basis(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all runs of an experiment share; kept in DIR/experiment.json.

    digest: of the training images and labels. architecture, settings: of the margin scheme's run with seed 0.
    """

    digest: str
    architecture: Architecture
    settings: Settings


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
    """What a user asks for. model: None for what suits the images. chosen: settings that are not the defaults.

    lambdas: more values of lambda for the margin scheme, each with every seed.
    """

    source: str
    schemes: Sequence[str]
    seeds: Sequence[int]
    lambdas: Sequence[float] = ()
    model: str | None = None
    width: int | None = None
    chosen: Mapping[str, Any] = field(default_factory=dict)


def plan(wanted: Wanted, folder: Path, threads: int) -> tuple[Basis, list[Job]]:
    """The basis and the runs, those of a seed together, the sweep of lambda at the end. threads: of each run.

    Raises BwnError, one line, for data that cannot be read, and for settings out of their range.
    """
    data = load_dataset(wanted.source)
    shape = (1 if data.color == "L" else 3, *data.size)
    model = wanted.model or ("mlp" if data.color == "L" else "vgg")
    network: dict[str, Any] = {"name": model, "input_shape": shape, "classes": len(data.classes), "width": wanted.width}
    found = digest(data)

    def job(scheme: Any, seed: int, strength: float | None = None) -> Job:
        chosen = {**wanted.chosen, "seed": seed}
        if strength is not None:
            chosen["strength"] = strength
        name = f"{scheme}-seed{seed}" if strength is None else f"{scheme}-lambda{strength!r}-seed{seed}"
        return Job(
            name=name,
            sweep=strength is not None,
            source=wanted.source,
            digest=found,
            checkpoint=str(folder / RUNS / f"{name}.pt"),
            architecture=Architecture(**network, scheme=scheme),
            settings=settings_for(model, find_scheme(scheme), len(data.images), **chosen),
            threads=threads,
        )

    first = job("margin", 0)
    build_seeded(first.architecture, 0)  # images that are too small for the network are refused here
    lambdas = [value for value in dict.fromkeys(wanted.lambdas) if value != first.settings.strength]
    jobs = [job(scheme, seed) for seed in wanted.seeds for scheme in dict.fromkeys(wanted.schemes)]
    jobs += [job("margin", seed, strength) for seed in wanted.seeds for strength in lambdas]
    return Basis(digest=found, architecture=first.architecture, settings=first.settings), jobs


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
    raise FileError(f"'{folder}' was made with {name} {was[name]}, not {now[name]}: choose another --out, or the same")


_NAMES = {"name": "model", "strength": "lambda", "learning_rate": "lr", "final_learning_rate": "final-lr"}


def _options(basis: Basis) -> dict[str, object]:
    """Value of each option that the basis was made of."""
    values = {"data": basis.digest}
    values |= msgspec.structs.asdict(basis.architecture) | msgspec.structs.asdict(basis.settings)
    return {f"--{_NAMES.get(name, name.replace('_', '-'))}": value for name, value in values.items()}
