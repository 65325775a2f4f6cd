"""Fuzzes the readers of files, guided by coverage (atheris): python -m tests.fuzz [NAME]...

Each target runs in a process of its own, under a limit of memory and of time for one input. What
is found is written to build/fuzz/NAME/ and repeated by `python -m tests.fuzz NAME --only FILE`; to
make it a test, copy it to tests/fuzz/corpus/NAME/ (tests/fuzz/test_corpus.py runs every file).
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz import targets

ROOT = Path(__file__).resolve().parents[2]
MEMORY_MB = 2048
INPUT_SECONDS = 20
"""Longest time for one input, instrumented: some four times what it takes otherwise."""


def libfuzzer(name: str, arguments: list[str]) -> None:
    """Run libFuzzer on one target in this process. It does not return."""
    import atheris

    with atheris.instrument_imports(targets.INSTRUMENTED[name], targets.KEPT_PLAIN):
        for data in sorted((targets.CORPUS / name).iterdir()):
            targets.run(name, data.read_bytes())  # imports all that it needs, while that is watched

    atheris.Setup([f"fuzz {name}", *arguments], lambda data: targets.run(name, data) and None)
    atheris.Fuzz()


def dictionary(place: Path) -> str:
    """Words of the formats, which random bytes would be long in finding."""
    from msgspec.structs import fields

    from bwn.ops import node_types

    words = {field.encode_name for kind in node_types() for field in fields(kind)}
    words |= {kind.__struct_config__.tag for kind in node_types()}
    words |= {kind.__name__ for kind in node_types()} | {
        "Gemm",
        "MatMul",
        "BatchNormalization",
        "Constant",
    }
    path = place / "words.dict"
    path.write_text("".join(f'"{word}"\n' for word in sorted(words)))
    return str(path)


def fuzz(name: str, seconds: int, seed: int, only: Path | None) -> bool:
    """Fuzz one target, or run one file; whether nothing was found."""
    place = ROOT / "build" / "fuzz" / name
    (place / "corpus").mkdir(parents=True, exist_ok=True)
    limits = [f"-rss_limit_mb={MEMORY_MB}", f"-timeout={INPUT_SECONDS}"]
    for path in (targets.CORPUS / name).iterdir():
        shutil.copy(path, place / "corpus")
    arguments = [
        f"-max_total_time={seconds}", f"-seed={seed}", f"-artifact_prefix={place}/", f"-dict={dictionary(place)}",
        "-max_len=16384", "-print_final_stats=1", "-verbosity=1", str(place / "corpus"),
    ]  # fmt: skip
    command = [sys.executable, "-m", "tests.fuzz", name, "--child", *limits]
    command += [str(only)] if only else arguments
    log = place / "log"
    with log.open("wb") as out:
        code = subprocess.run(command, cwd=ROOT, stdout=out, stderr=out, check=False).returncode
    lines = log.read_text(errors="replace").splitlines()
    if code:
        print("\n".join([*lines[-60:], f"{name}: FOUND, exit {code}; see {log}"]), flush=True)
        return False
    text = "\n".join(lines)
    (inputs,) = re.findall(r"number_of_executed_units:\s*(\d+)", text)[-1:] or ["?"]
    (branches,) = re.findall(r"\bcov: (\d+)", text)[-1:] or ["?"]
    print(f"{name}: nothing found in {seconds} s, {inputs} inputs, {branches} branches", flush=True)
    return True


def main() -> None:
    """The command line."""
    if "--child" in sys.argv:
        libfuzzer(sys.argv[1], sys.argv[3:])
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(targets.TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="time for each target")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs; 0: new ones each time")
    parser.add_argument("--jobs", type=int, default=2, help="targets at once")
    parser.add_argument("--only", type=Path, help="run this file, alone")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(targets.TARGETS):
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(targets.TARGETS)}")
    with ThreadPoolExecutor(chosen.jobs) as pool:
        names = chosen.names or list(targets.TARGETS)
        clean = list(
            pool.map(lambda name: fuzz(name, chosen.seconds, chosen.seed, chosen.only), names)
        )
    sys.exit(not all(clean))


if __name__ == "__main__":
    main()
