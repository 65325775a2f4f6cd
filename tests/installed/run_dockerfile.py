"""Runs the steps of the Dockerfile without Docker, then its two commands: infer and serve.

python run_dockerfile.py [--python PYTHON] [--targets NAME ...]

Each stage is a folder with an environment of its own in place of an image; its commands run there
as they are written. Left out are apt-get and useradd, which would change this machine: binutils
must be there. The commands run as `nobody` where this is root, if others may use the interpreter.
What COPY takes are the files that git knows, as .dockerignore leaves them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534
LEFT_OUT = ("apt-get", "useradd")


def instructions(text: str) -> list[tuple[str, str]]:
    """Name and arguments of each instruction; a line that ends in a backslash goes on."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    whole = "\n".join(lines).replace("\\\n", "")
    return [
        (name, rest)
        for name, _, rest in (line.partition(" ") for line in whole.split("\n"))
        if name
    ]


class Stage:
    """A folder, its environment, and where commands run in it."""

    def __init__(self, folder: Path, python: str, variables: dict[str, str]) -> None:
        self.folder, self.work = folder, folder
        subprocess.run([python, "-m", "venv", folder / "venv"], check=True)
        path = f"{folder / 'venv/bin'}{os.pathsep}{os.environ['PATH']}"
        self.variables = {**os.environ, **variables, "PATH": path, "HOME": str(folder)}

    def place(self, path: str) -> Path:
        """A path of the image."""
        return (self.folder if path.startswith("/") else self.work) / path.lstrip("/")

    def run(self, command: str) -> None:
        """A RUN instruction."""
        if command.startswith(LEFT_OUT):
            print(f"left out: {command}")
            return
        print(f"$ {command}", flush=True)
        subprocess.run(["sh", "-ec", command], cwd=self.work, env=self.variables, check=True)

    def copy(self, source: str, target: str, stages: dict[str, Stage]) -> None:
        """A COPY instruction: the tree, or a folder of another stage."""
        goal = self.place(target)
        if source.startswith("--from="):
            name, path = source.removeprefix("--from=").split()
            shutil.copytree(stages[name].place(path), goal, dirs_exist_ok=True)
            return
        names = subprocess.check_output(
            ["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, text=True
        )
        for name in filter(None, names.split("\0")):
            if (ROOT / name).is_file():
                (goal / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, goal / name)


def build(folder: Path, python: str, variables: dict[str, str]) -> Stage:
    """Run all instructions. Returns the last stage."""
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    for name, rest in instructions((ROOT / "Dockerfile").read_text("utf-8")):
        if name == "FROM":
            label = rest.partition(" AS ")[2] or "last"
            (folder / label).mkdir()
            stage = stages[label] = Stage(folder / label, python, variables)
            continue
        assert stage is not None, "FROM comes first"
        if name == "WORKDIR":
            stage.work = stage.place(rest)
            stage.work.mkdir(parents=True, exist_ok=True)
        elif name == "COPY":
            source, target = rest.rsplit(" ", 1)
            stage.copy(source, target, stages)
        elif name == "RUN":
            stage.run(rest)
        else:
            assert name in ("ARG", "USER", "EXPOSE", "ENTRYPOINT", "CMD"), name
    assert stage is not None
    return stage


def is_for_others(path: Path) -> bool:
    """Whether other users may run the program."""
    return all(parent.stat().st_mode & 0o001 for parent in (path, *path.parents))


def command(stage: Stage, *arguments: str) -> subprocess.Popen[str]:
    """The entry point, as an ordinary user, in the folder of the checkout."""
    user = {}
    if os.getuid() == 0 and is_for_others((stage.folder / "venv/bin/python").resolve()):
        user = {"user": NOBODY, "group": NOBODY}
    print(f"$ bwn {' '.join(arguments)}    (as {'nobody' if user else 'the user of this script'})")
    clean = {"PATH": stage.variables["PATH"], "LANG": "C.UTF-8"}
    return subprocess.Popen(
        ["bwn", *arguments], cwd=stage.folder / "data", env=clean, text=True, stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE, **user,
    )  # fmt: skip


def check(stage: Stage) -> None:
    """`infer` on the shipped digits, and an image answered by `serve`."""
    for folder in ("models", "examples"):  # what -v mounts
        shutil.copytree(ROOT / folder, stage.folder / "data" / folder, dirs_exist_ok=True)
    for path in (stage.folder.parent, stage.folder):
        path.chmod(0o755)
    infer = command(stage, "infer", "models/mnist-mlp.bwn", "examples/digits")
    output, _ = infer.communicate(timeout=60)
    print(output, end="")
    assert infer.returncode == 0, output
    assert len(re.findall(r"^(\d) .*/\1\.png$", output, re.MULTILINE)) == 10, "ten right answers"
    server = command(stage, "serve", "models/mnist-mlp.bwn", "--host", "0.0.0.0", "--port", "0")
    try:
        assert server.stdout is not None
        lines = iter(server.stdout.readline, "")
        port = next(m.group(1) for line in lines if (m := re.search(r"http://\S+:(\d+)", line)))
        body = (ROOT / "examples/digits/7.png").read_bytes()
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}/classify", body, timeout=30
        ) as answer:
            print("serve:", document := json.load(answer))
        assert document["label"] == "7"
    finally:
        server.terminate()
        server.wait(30)


def main() -> None:
    """Build, then try the commands."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", default=sys.executable, help="in place of the image's Python")
    parser.add_argument("--targets", nargs="*", default=(), help="as the build argument TARGETS")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        check(build(Path(name), arguments.python, {"TARGETS": " ".join(arguments.targets)}))
    print("the Dockerfile's steps and both commands work")


if __name__ == "__main__":
    main()
