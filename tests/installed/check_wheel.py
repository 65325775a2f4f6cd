"""Builds the sdist and the wheel, and tries the wheel as a user gets it: in a bare environment, outside the checkout.

python check_wheel.py [--python PYTHON] [--keep DIR]
python check_wheel.py [--python PYTHON] --generic WHEEL
python check_wheel.py [--python PYTHON] [--oldest] --compiled WHEEL

It proves that the wheel holds exactly the sources and data files of the tree, that the sdist makes
the same wheel, that without extras `bwn infer`, `bench` and `inspect` work and load neither torch
nor onnx, and that bwn can be imported inside the checkout too. With `--generic` the commands are
tried with a wheel that was made before, on another Python say. With `--compiled` the commands are
tried with a wheel that brings compiled kernels, and no numba; with `--oldest` too, with the oldest
versions of its dependencies that pyproject.toml allows.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
HOMES = {"bwn": "bwn", "kernels": "bwn/kernels", "cli": "bwn/cli"}


def run(*command: str | Path, cwd: Path) -> str:
    """Runs a command that must succeed, with nothing of this process's Python environment; returns what it printed."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    done = subprocess.run(
        command,
        cwd=cwd,
        env=clean,
        check=False,
        stdin=subprocess.DEVNULL,
        text=True,
        capture_output=True,
    )
    if done.returncode:
        sys.exit(
            f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done.stdout


def expected() -> set[str]:
    """Every module of the three folders where it is installed, and every data file that pyproject.toml names."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "setuptools"
    ]
    files = {
        str(PurePosixPath(home, path.relative_to(ROOT / folder).as_posix()))
        for folder, home in HOMES.items()
        for path in (ROOT / folder).rglob("*.py")
    }
    for package, patterns in settings["package-data"].items():
        folder = ROOT / package.replace(".", "/")
        files |= {
            path.relative_to(ROOT).as_posix()
            for pattern in patterns
            for path in folder.glob(pattern)
        }
    return files


def contents(wheel: Path) -> dict[str, int]:
    """Name and CRC of every file of a wheel, less its own description."""
    with zipfile.ZipFile(wheel) as archive:
        return {
            info.filename: info.CRC
            for info in archive.infolist()
            if ".dist-info/" not in info.filename
        }


def build(folder: Path) -> list[Path]:
    """Sdist, and the wheel made of it, which is compared with the tree and with one made straight from the tree."""
    shutil.rmtree(
        ROOT / "build", ignore_errors=True
    )  # setuptools would pack stale files that lie there
    run(sys.executable, "-m", "build", "--outdir", folder / "made", cwd=ROOT)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder / "direct", cwd=ROOT)
    shutil.rmtree(ROOT / "build", ignore_errors=True)
    (sdist,), (wheel,) = (folder / "made").glob("*.tar.gz"), (folder / "made").glob("*.whl")
    (direct,) = (folder / "direct").glob("*.whl")
    found, wanted = contents(wheel), expected()
    assert set(found) == wanted, f"the wheel differs from the tree: {sorted(set(found) ^ wanted)}"
    assert found == contents(direct), "the sdist makes another wheel than the tree"
    return [sdist, wheel]


def oldest(folder: Path) -> list[str]:
    """Options of pip that install the oldest allowed version of each dependency."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    path = folder / "oldest.txt"
    path.write_text("\n".join(line.replace(">=", "==") for line in project["dependencies"]))
    return ["--constraint", str(path)]


def main() -> None:
    """Builds, checks, and keeps the two files where `--keep` says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--python", default=sys.executable, help="the interpreter of the bare environment"
    )
    parser.add_argument("--keep", type=Path, help="folder that gets the sdist and the wheel")
    parser.add_argument(
        "--compiled", type=Path, help="a wheel with compiled kernels for this machine, to be tried"
    )
    parser.add_argument("--generic", type=Path, help="a wheel for any machine, to be tried")
    parser.add_argument(
        "--oldest", action="store_true", help="with the oldest allowed versions of its dependencies"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.compiled:
            made, options = [arguments.compiled.resolve()], ["--bare", "--compiled"]
        elif arguments.generic:
            made, options = [arguments.generic.resolve()], ["--bare"]
        else:
            made, options = build(folder), ["--bare"]
            print(f"{made[-1].name}: the same files as the tree, also by way of the sdist")
        run(arguments.python, "-m", "venv", folder / "bare", cwd=folder)
        python = folder / "bare/bin/python"
        run(
            python,
            "-m",
            "pip",
            "install",
            "-qq",
            "--disable-pip-version-check",
            *(oldest(folder) if arguments.oldest else ()),
            made[-1],
            cwd=folder,
        )
        if arguments.oldest:
            print("with", *run(python, "-m", "pip", "freeze", cwd=folder).split())
        away = folder / "away"
        away.mkdir()
        for script in ("smoke.py", "probe.py"):
            shutil.copy(HERE / script, away)
        print(run(python, "-I", away / "smoke.py", *options, cwd=away), end="")
        if not arguments.compiled:
            run(python, "-c", "import bwn; bwn.load", cwd=ROOT)
            run(python, "-m", "bwn.cli", "--version", cwd=ROOT)
            print("and inside the checkout, whose bwn/ comes first there")
        if arguments.keep:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            for path in made:
                shutil.copy(path, arguments.keep)


if __name__ == "__main__":
    main()
