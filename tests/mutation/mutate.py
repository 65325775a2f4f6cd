"""Mutation testing of one module: python tests/mutation/mutate.py MODULE [TEST]...

cosmic-ray changes the module in hundreds of ways, one at a time, in a copy of the checkout, and runs
the tests that are meant to hold it. A change that no test sees is printed: write the test, or argue
in CONTRIBUTING.md why the change is none.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = {
    "bwn/ir": "tests/ir tests/format tests/passes",
    "bwn/passes": "tests/passes",
    "bwn/plan": "tests/plan",
    "bwn/format": "tests/format",
    "bwn/onnx": "tests/onnx",
    "bwn/data": "tests/data",
}
"""What holds the modules of a folder."""
SECONDS = 120
ANNOTATION = re.compile(r"^-.*\w\]? \| None\b", re.MULTILINE)
"""Types are not evaluated: a change of one is none."""


def configuration(module: str, tests: str) -> str:
    """cosmic-ray's settings."""
    command = f"{sys.executable} -m pytest -x -q -p no:cacheprovider {tests}"
    return (
        f'[cosmic-ray]\nmodule-path = "{module}"\ntimeout = {SECONDS}.0\nexcluded-modules = []\n'
        f'test-command = "{command}"\n[cosmic-ray.distributor]\nname = "local"\n'
    )


def main() -> None:
    """The command line."""
    module, *tests = sys.argv[1:]
    chosen = " ".join(tests) or TESTS[str(Path(module).parent)]
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "copy"
        shutil.copytree(
            ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv*", "build", "demo")
        )
        (copy / "cosmic.toml").write_text(configuration(module, chosen))
        environment = os.environ | {"PYTHONPATH": f"{copy}:{os.environ.get('PYTHONPATH', '')}"}

        def cosmic(*arguments: str) -> str:
            command = [sys.executable, "-m", "cosmic_ray.cli", *arguments]
            done = subprocess.run(
                command, cwd=copy, env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                sys.exit(
                    f"cosmic-ray {arguments[0]}: exit {done.returncode}\n{done.stdout}{done.stderr}"
                )
            return done.stdout

        cosmic("init", "cosmic.toml", "session.sqlite")
        cosmic("baseline", "cosmic.toml")
        cosmic("exec", "cosmic.toml", "session.sqlite")
        rows = cosmic("dump", "session.sqlite").splitlines()
    report(module, rows)


def report(module: str, rows: list[str]) -> None:
    """The survivors' differences, then the score."""
    survivors = total = 0
    for row in rows:
        _, result = json.loads(row)
        diff = result["diff"]
        if ANNOTATION.search(diff):
            continue
        total += 1
        if result["test_outcome"] == "survived":
            survivors += 1
            print(diff)
    print(f"{module}: {total - survivors} of {total} mutants killed ({1 - survivors / total:.0%})")


if __name__ == "__main__":
    main()
