"""Executed instructions, exact, of every product, of whole networks, and from the start of Python to a first result.

    count.py qemu COUNTS REPORT   under qemu-aarch64 with the plugin of count.c, which writes COUNTS; REPORT is JSON
    count.py once                 one call of every product, to be run under callgrind
    count.py first MODEL IMAGE    one `bwn infer` in this process, to be counted from its start, under either
    count.py callgrind ONCE FIRST REPORT      REPORT of what callgrind wrote of the two
    count.py gate RECORD REPORT...            hold reports to the record within 2 %; --record writes it anew

Results of the products are checked as in the tests. One thread: the counters are not atomic.
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

mark = ctypes.CDLL(None).syscall
address = ctypes.c_long(MARK)


def products(count: Callable[[], int] | None) -> dict[str, int]:
    """Of one call of every product: a 3 x 3 convolution of 128 channels, or a fully connected layer at batch 1.

    count: what the counter says of the call; None: callgrind counts. It does not see a function that Python calls, so
    then compiled code calls.
    """
    import numpy as np
    import xnor_cases
    from gemm_cases import Case, check

    from bwn.kernels.registry import GEMMS, XNOR_PLANES, XNOR_SIGNS, Kernel
    from bwn.kernels.target import loader
    from bwn.kernels.threads.shared_state import RunParams, StepParams

    compiled = Kernel.entry

    def marked(self: Kernel) -> Any:
        entry = compiled(self)

        def call(*arguments: int) -> None:
            mark(address, 1)
            entry(*arguments)
            mark(address, 2)

        def called_by_run(fields: int, _begin: int, end: int, _part: int) -> None:
            table = np.array(StepParams(entry.address, fields, end, end), np.int64)
            job = np.array(RunParams(0, table.ctypes.data, 0), np.int64)
            loader.entry("threads.run_loop.run")(job.ctypes.data, 0, 1, 1)

        return call if count else called_by_run

    Kernel.entry = marked
    found = {}

    def note(name: str, depth: int, outputs: int, positions: int) -> None:
        if count:
            found[name] = count()
            each = found[name] / (depth * outputs * positions)
            print(
                f"{name:30} K {depth}, {f'{outputs} x {positions}':8} {each:6.3f} a MAC, {1 / each:5.1f} MAC each"
            )

    for row in GEMMS:
        case = Case(1152, 64, 128) if row.lanes else Case(1024, 512, 1)
        check(row, case)
        note(row.name, case.depth, case.outputs, case.positions)
    for kernel in (XNOR_SIGNS, XNOR_PLANES):
        call = xnor_cases.Call(xnor_cases.Case(128, 64, (8, 16), (3, 3), pads=(1, 1, 1, 1)))
        (call.check_signs if kernel is XNOR_SIGNS else call.check_planes)()
        note(kernel.name, 1152, 64, 128)
    Kernel.entry = compiled
    return found


def networks(count: Callable[[], int]) -> dict[str, int]:
    """Of the second inference of each network, one image, one thread."""
    from golden_networks import EVERY, inputs, network

    found = {}
    for name in EVERY:
        model = network(name)
        x = inputs(model, 1)
        model.run(x)
        mark(address, 1)
        model.run(x)
        mark(address, 2)
        found[name] = count()
        print(f"{name:30} {found[name] / 1e6:8.3f} M")
    return found


def first(model: str, image: str) -> None:
    """`bwn infer`, and the count since this process began."""
    from click.testing import CliRunner

    from bwn.cli.main import bwn

    done = CliRunner().invoke(bwn, ["infer", model, image, "--threads", "1"])
    assert done.exit_code == 0, done.output
    mark(address, 2)


def inclusive(file: str) -> tuple[int, dict[str, int]]:
    """What callgrind counted: all of the process, and each entry of the library with what it calls."""
    command = ["callgrind_annotate", "--inclusive=yes", "--threshold=100", file]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    total = re.search(r"([\d,]+) .*PROGRAM TOTALS", text)
    assert total, text[:1000]
    lines = re.findall(r"^ *([\d,]+) .*:bwn_(\w+) ", text, re.MULTILINE)
    return int(total[1].replace(",", "")), {
        name: int(number.replace(",", "")) for number, name in lines
    }


def callgrind(once: str, first: str, report: Path) -> None:
    """Write the report of callgrind's two files."""
    from bwn.kernels.registry import GEMMS, XNOR_PLANES, XNOR_SIGNS

    whole, parts = inclusive(first)
    of_each = inclusive(once)[1]
    found = {
        row.name: of_each[row.code.replace(".", "_")] for row in (*GEMMS, XNOR_PLANES, XNOR_SIGNS)
    }
    kernels = {name: number for name, number in parts.items() if not name.startswith("team_")}
    start = {"mnist-lenet": whole}
    made = {
        "products": found,
        "networks": {"mnist-lenet": sum(kernels.values())},
        "start to first result": start,
    }
    report.write_text(json.dumps(made, indent=1))
    print(json.dumps(made, indent=1))


def gate(record: Path, reports: list[Path], write: bool) -> int:
    """Exit code 1 where a number has moved by more than LIMIT, up or down, or is only in one of the two."""
    found = {report.stem: json.loads(report.read_text()) for report in reports}
    kept, moved = json.loads(record.read_text()) if record.exists() else {}, 0
    if write:
        record.write_text(json.dumps(dict(sorted((kept | found).items())), indent=1) + "\n")
        return 0
    for core, parts in found.items():
        known = kept.get(core, {})
        for part in known | parts:
            old, new = known.get(part, {}), parts.get(part, {})
            for name in old | new:
                before, number = old.get(name), new.get(name)
                if before is None or number is None or abs(number - before) > LIMIT * before:
                    print(
                        f"{core}, {part}, {name}: {shown(number)} instructions, recorded {shown(before)}"
                    )
                    moved += 1
    if moved:
        print(
            f"{moved} counts left their budget of {LIMIT:.0%}: mend the code, or record them with a reason"
        )
    return int(moved > 0)


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
