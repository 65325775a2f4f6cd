"""The files of a release agree on the version, and the Dockerfile has only what its script can run."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from bwn._text import __version__

ROOT = Path(__file__).resolve().parents[2]


def text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def test_the_version_is_the_same_everywhere() -> None:
    assert f"\nversion: {__version__}\n" in text("CITATION.cff")
    newest, *_ = re.findall(r"^## \[([\d.]+)\]", text("CHANGELOG.md"), re.MULTILINE)
    assert newest == __version__
    assert f"bwn-{__version__}.tar.gz" in text("docs/board.md")


def test_the_script_understands_the_dockerfile() -> None:
    path = ROOT / "tests" / "installed" / "run_dockerfile.py"
    spec = importlib.util.spec_from_file_location("run_dockerfile", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    steps = module.instructions(text("Dockerfile"))
    names = [name for name, _ in steps]
    assert names.count("FROM") == 2
    assert names[-2:] == ["ENTRYPOINT", "CMD"]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert ("RUN", "python -m bwn.kernels.aot.wheels dist/bwn-*-any.whl libraries wheels") in steps
    (joined,) = [rest for name, rest in steps if name == "RUN" and "TARGETS if" in rest]
    assert "\\" not in joined
