"""Make the wheels with compiled kernels: python -m bwn.kernels.aot.wheels WHEEL LIBRARIES FOLDER

WHEEL is the one that setuptools makes of the tree. From it a wheel is made for each machine that
LIBRARIES has targets of: with these inside, a tag of that machine, and without the requirement of
numba, which becomes the extra `jit`. Same input, same bytes.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import zipfile
from pathlib import Path

from bwn.kernels.target.cache import DIGEST_FILE, compute_digest
from bwn.kernels.target.targets import TARGETS

TAG = "py3-none-manylinux_2_17_{machine}.manylinux2014_{machine}"
"""Any CPython 3 (none of it is compiled against Python), glibc 2.17 or later."""
COMPILER = "numba"
"""The requirement that the libraries replace."""


def machine_wheel(wheel: Path, machine: str, libraries: list[Path], folder: Path) -> Path:
    """A wheel with the libraries of one machine. Returns its path."""
    tag = TAG.format(machine=machine)
    wheel_path = folder / f"{'-'.join(wheel.stem.split('-')[:2])}-{tag}.whl"
    with zipfile.ZipFile(wheel) as source:
        stamp = source.infolist()[0].date_time
        files = {
            info.filename: source.read(info) for info in source.infolist() if not info.is_dir()
        }
    (info,) = {name.partition("/")[0] for name in files if ".dist-info/" in name}
    files[f"{info}/METADATA"] = without_compiler(files[f"{info}/METADATA"].decode()).encode()
    files[f"{info}/WHEEL"] = tagged(files[f"{info}/WHEEL"].decode(), tag).encode()
    for library in libraries:
        files[f"bwn/kernels/libraries/{library.name}"] = library.read_bytes()
    files[f"bwn/kernels/libraries/{DIGEST_FILE.name}"] = compute_digest().encode()
    del files[f"{info}/RECORD"]
    files[f"{info}/RECORD"] = record(files, f"{info}/RECORD").encode()
    with zipfile.ZipFile(wheel_path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, stamp)
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, content)
    return wheel_path


def without_compiler(metadata: str) -> str:
    """METADATA that requires COMPILER only for extras."""
    head, _, body = metadata.partition("\n\n")
    lines = head.splitlines()
    needed = [
        line
        for line in lines
        if line.startswith(f"Requires-Dist: {COMPILER}") and "extra ==" not in line
    ]
    if len(needed) != 1:
        raise ValueError(f"the wheel requires {COMPILER} {len(needed)} times, expected once")
    lines.remove(needed[0])
    return "\n".join(lines) + "\n\n" + body


def tagged(text: str, tag: str) -> str:
    """WHEEL of a machine's wheel."""
    python, abi, platforms = tag.split("-")
    lines = [
        line
        for line in text.splitlines()
        if line and not line.startswith(("Tag:", "Root-Is-Purelib:"))
    ]
    tags = [f"Tag: {python}-{abi}-{platform}" for platform in platforms.split(".")]
    return "\n".join([*lines, "Root-Is-Purelib: false", *tags]) + "\n"


def record(files: dict[str, bytes], own: str) -> str:
    """RECORD: name, hash and size of every file but itself."""
    lines = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}")
    return "\n".join([*lines, f"{own},,"]) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("wheel", "libraries", "folder"):
        parser.add_argument(name, type=Path)
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    machines: dict[str, list[Path]] = {}
    for target in TARGETS:
        library = chosen.libraries / f"{target.name}.so"
        if library.exists():
            if compute_digest().encode() not in library.read_bytes():
                parser.error(f"{library} was built from other sources than these: build it again")
            machines.setdefault(target.machine, []).append(library)
    if not machines:
        parser.error(f"no library of a target in {chosen.libraries}")
    for machine, libraries in machines.items():
        path = machine_wheel(chosen.wheel, machine, libraries, chosen.folder)
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
