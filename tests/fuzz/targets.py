"""What is fuzzed: each reader of files that bwn has, as a function of bytes.

Contract of all: a result, or a BwnError whose message is one line. Anything else is a finding. A
target mends what would stop random bytes at the door, a digest or a checksum, so that the code
behind it is reached.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path

import bwn
from bwn._text import is_name
from bwn.errors import BwnError

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
"""A folder of small files for each target: seeds, and what fuzzing has found."""
PLANNED = 1 << 16
"""Elements of all activations up to which a model that was read is planned too."""
MEMORY_FOLDER = Path("/dev/shm")

Target = Callable[[bytes], None]


@contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder, in memory where the system has such a place."""
    with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None) as name:
        yield Path(name)


def bwn_file(data: bytes) -> None:
    """A .bwn file whose digest is made right; a small network is planned as well."""
    from bwn.format.header import DIGEST_AT
    from bwn.plan.planner import make_plan

    if len(data) > DIGEST_AT.stop:
        data = data[: DIGEST_AT.start] + b"0" * 64 + data[DIGEST_AT.stop :]
        digest = hashlib.sha256(data).hexdigest().encode()
        data = data[: DIGEST_AT.start] + digest + data[DIGEST_AT.stop :]
    graph = bwn.load(data, threads=1).spec.graph
    if sum(map(prod, graph.shapes.values())) <= PLANNED:
        make_plan(graph, 1, 1)


def onnx_file(data: bytes) -> None:
    """An ONNX file, imported, packed and written."""
    with folder() as place:
        (place / "model.onnx").write_bytes(data)
        bwn.pack(place / "model.onnx", place / "model.bwn")


def external(data: bytes) -> None:
    """An ONNX file, its size in two bytes before it, and then a file of weights next to it."""
    cut = 2 + int.from_bytes(data[:2], "little")
    with folder() as place:
        (place / "model.onnx").write_bytes(data[2:cut])
        (place / "model.data").write_bytes(data[cut:])
        bwn.pack(place / "model.onnx", place / "model.bwn", check=False)


def checkpoint(data: bytes) -> None:
    """A checkpoint, or its pickle alone, which is put into the checkpoint of the corpus."""
    from bwn.train import read_checkpoint

    if not data.startswith(b"PK"):
        data = _with_pickle(data)
    with folder() as place:
        (place / "model.pt").write_bytes(data)
        read_checkpoint(place / "model.pt")


def _with_pickle(data: bytes) -> bytes:
    changed = io.BytesIO()
    with (
        zipfile.ZipFile(CORPUS / "checkpoint" / "seed.zip") as seed,
        zipfile.ZipFile(changed, "w") as archive,
    ):
        for name in seed.namelist():
            archive.writestr(name, data if name.endswith("data.pkl") else seed.read(name))
    return changed.getvalue()


def _load(files: dict[str, bytes]) -> None:
    from bwn.data.datasets import load_dataset

    with folder() as place:
        for name, content in files.items():
            (place / name).write_bytes(content)
        load_dataset(place, "test")


def idx(data: bytes) -> None:
    """Two IDX files: the size of the labels' in two bytes, labels, images; either may be gzip."""
    cut = 2 + int.from_bytes(data[:2], "little")
    parts = {"labels-idx1": data[2:cut], "images-idx3": data[cut:]}
    _load(
        {
            f"t10k-{part}-ubyte{'.gz' * content.startswith(bytes([31, 139]))}": content
            for part, content in parts.items()
        }
    )


def cifar(data: bytes) -> None:
    """A CIFAR-10 binary file."""
    _load({"test_batch.bin": data})


def image(data: bytes) -> None:
    """An image file."""
    from bwn.data.images import read_image

    read_image(data)


TARGETS: dict[str, Target] = {
    "bwn": bwn_file,
    "onnx": onnx_file,
    "external": external,
    "checkpoint": checkpoint,
    "idx": idx,
    "cifar": cifar,
    "image": image,
}
INSTRUMENTED = {
    "bwn": ["bwn"],
    "onnx": ["bwn"],
    "external": ["bwn"],
    "checkpoint": ["bwn", "zipfile", "torch._weights_only_unpickler"],
    "idx": ["bwn", "gzip"],
    "cifar": ["bwn"],
    "image": ["bwn", "PIL"],
}
"""Packages whose branches guide the fuzzer; of packages in C it sees the comparisons of Python."""
KEPT_PLAIN = ["bwn.kernels", "bwn.train.compiled_update"]
"""Never instrumented: numba compiles its bytecode."""


def run(name: str, data: bytes) -> bool:
    """Give data to a target; whether it made a result. Raises AssertionError, or what it raised."""
    try:
        TARGETS[name](data)
    except BwnError as error:
        if not is_name(str(error)):
            raise AssertionError(f"not one line: {str(error)!r}") from error
        return False
    return True
