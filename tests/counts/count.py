"""Exact counts of executed instructions: GEMM kernels, whole networks, and from start to result.

    count.py qemu COUNTS REPORT   under qemu-aarch64 with the plugin count.c, which writes COUNTS;
                                  writes the JSON file REPORT
    count.py once                 call every GEMM kernel once, to be counted by callgrind
    count.py first MODEL IMAGE    run `bwn infer` in this process, to be counted from its start
    count.py callgrind ONCE FIRST REPORT    write REPORT from callgrind's output for these two
    count.py gate RECORD REPORT...          check that reports are within 2 % of the record;
                                            --record replaces the record

Kernel results are checked as in the tests. Everything runs on one thread: counters are not atomic.
"""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

MARK = 0x7777
LIMIT = 0.02
LARGE = ("vgg", "vgg int8", "resnet18", "resnet18 int8")

mark = ctypes.CDLL(None).syscall
address = ctypes.c_long(MARK)


def marked(entry: Any) -> Callable[..., None]:
    """A kernel's entry with marks for the counter around each call."""

    def call(*arguments: int) -> None:
        mark(address, 1)
        entry(*arguments)
        mark(address, 2)

    call.address = entry.address  # by which a plan calls it, without marks
    return call


def called_by_run_loop(entry: Any) -> Callable[..., None]:
    """A kernel's entry, called from the compiled run loop."""
    import numpy as np

    from bwn.kernels.target import loader
    from bwn.kernels.threads.shared_state import RunParams, StepParams

    def call(fields: int, _begin: int, end: int, _part: int) -> None:
        step = np.array(StepParams(entry.address, fields, end, end), np.int64)
        run = np.array(RunParams(0, step.ctypes.data, 0), np.int64)
        loader.entry("threads.run_loop.run")(run.ctypes.data, 0, 1, 1)

    call.address = entry.address
    return call


def products(count: Callable[[], int] | None) -> dict[str, int]:
    """Instructions of one call of each GEMM kernel.

    The call is a 3 x 3 convolution of 128 channels, or a fully connected layer at batch 1.

    Args:
        count: Reads the counter after a call; None where callgrind counts. Callgrind does not see
            functions that Python calls, so the kernels are then called from compiled code.
    """
    import xnor_cases
    from gemm_cases import Case, check

    from bwn.kernels.registry import GEMMS, XNOR_PLANES, XNOR_SIGNS, Kernel, LutWindowGemm
    from bwn.tools.gemm_trial import GemmTrial

    compiled = Kernel.entry
    wrap = marked if count else called_by_run_loop
    Kernel.entry = lambda kernel: wrap(compiled(kernel))
    counts = {}

    def note(name: str, depth: int, outputs: int, positions: int) -> None:
        if count:
            counts[name] = count()
            each = counts[name] / (depth * outputs * positions)
            size = f"K {depth}, {f'{outputs} x {positions}':8}"
            print(f"{name:30} {size} {each:6.3f} a MAC, {1 / each:5.1f} MAC each")

    for row in GEMMS:
        case = Case(1152, 64, 128) if row.lanes else Case(1024, 512, 1)
        if isinstance(row, LutWindowGemm):  # by its own window: taps share tables
            trial = GemmTrial(row, case.depth, case.outputs, case.positions)
            trial.check()
            trial()
        else:
            check(row, case)
        note(row.name, case.depth, case.outputs, case.positions)
    for kernel in (XNOR_SIGNS, XNOR_PLANES):
        call = xnor_cases.Call(xnor_cases.Case(128, 64, (8, 16), (3, 3), pads=(1, 1, 1, 1)))
        (call.check_signs if kernel is XNOR_SIGNS else call.check_planes)()
        note(kernel.name, 1152, 64, 128)
    Kernel.entry = compiled
    return counts


def networks(count: Callable[[], int]) -> dict[str, int]:
    """Instructions of the second inference of each network, with one image on one thread.

    The large ones have random weights: what is executed does not depend on them.
    """
    from golden_networks import EVERY, inputs, network

    counts = {}
    for name in (*EVERY, *LARGE):
        model = network(name)
        x = inputs(model, 1)
        model.run(x)
        mark(address, 1)
        model.run(x)
        mark(address, 2)
        counts[name] = count()
        print(f"{name:30} {counts[name] / 1e6:8.3f} M")
    return counts


def first(model: str, image: str) -> None:
    """Run `bwn infer`, and write the count since the start of this process."""
    from click.testing import CliRunner

    from bwn.cli.main import bwn

    result = CliRunner().invoke(bwn, ["infer", model, image, "--threads", "1"])
    assert result.exit_code == 0, result.output
    mark(address, 2)


def inclusive(file: str) -> tuple[int, dict[str, int]]:
    """Callgrind's counts: of the whole process, and of each library function with its callees."""
    command = ["callgrind_annotate", "--inclusive=yes", "--threshold=100", file]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    total = re.search(r"([\d,]+) .*PROGRAM TOTALS", text)
    assert total, text[:1000]
    lines = re.findall(r"^ *([\d,]+) .*:bwn_(\w+) ", text, re.MULTILINE)
    return int(total[1].replace(",", "")), {
        name: int(number.replace(",", "")) for number, name in lines
    }


def callgrind(once: str, first: str, report: Path) -> None:
    """Write the report for callgrind's two files."""
    from bwn.kernels.registry import GEMMS, KERNELS, XNOR_PLANES, XNOR_SIGNS, Kernel

    def entry_name(kernel: Kernel) -> str:
        return kernel.code.replace(".", "_")

    whole, parts = inclusive(first)
    of_each = inclusive(once)[1]
    # The loop over steps is not a kernel; its count includes the kernels that it calls.
    network = sum(parts.get(entry_name(kernel), 0) for kernel in KERNELS.values())
    gemms = (*GEMMS, XNOR_PLANES, XNOR_SIGNS)
    counts = {
        "products": {kernel.name: of_each[entry_name(kernel)] for kernel in gemms},
        "networks": {"mnist-lenet": network},
        "start to first result": {"mnist-lenet": whole},
    }
    report.write_text(json.dumps(counts, indent=1))
    print(json.dumps(counts, indent=1))


def gate(record: Path, reports: list[Path], write: bool) -> int:
    """Compare reports with the record, or replace it.

    Returns:
        Exit code: 1 where a count differs by more than LIMIT, or is missing on either side.
    """
    measured = {report.stem: json.loads(report.read_text()) for report in reports}
    recorded = json.loads(record.read_text()) if record.exists() else {}
    if write:
        record.write_text(json.dumps(dict(sorted((recorded | measured).items())), indent=1) + "\n")
        return 0
    moved = [
        line for core in measured for line in moves(core, recorded.get(core, {}), measured[core])
    ]
    for line in moved:
        print(line)
    if moved:
        print(f"{len(moved)} counts moved by more than {LIMIT:.0%}: fix the code, or record why")
    return int(bool(moved))


def moves(
    core: str, recorded: dict[str, dict[str, int]], measured: dict[str, dict[str, int]]
) -> list[str]:
    """A line for each count of a core that moved by more than LIMIT."""
    lines = []
    for part in recorded | measured:
        old, new = recorded.get(part, {}), measured.get(part, {})
        for name in old | new:
            before, after = old.get(name), new.get(name)
            if before is None or after is None or abs(after - before) > LIMIT * before:
                line = f"{core}, {part}, {name}: {shown(after)} instructions"
                lines.append(f"{line}, recorded {shown(before)}")
    return lines


def shown(number: int | None) -> str:
    return "none" if number is None else f"{number:,}"


def main() -> None:
    """The command line."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
    command, *rest = sys.argv[1:]
    if command == "qemu":
        counts, report = map(Path, rest)

        def count() -> int:
            return int(counts.read_text().split()[-1])

        report.write_text(
            json.dumps({"products": products(count), "networks": networks(count)}, indent=1)
        )
    elif command == "once":
        products(None)
    elif command == "first":
        first(*rest)
    elif command == "callgrind":
        callgrind(rest[0], rest[1], Path(rest[2]))
    elif command == "gate":
        write = "--record" in rest
        record, *reports = (Path(name) for name in rest if name != "--record")
        sys.exit(gate(record, reports, write))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
