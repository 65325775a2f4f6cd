"""Executed instructions, exact, of every product, of whole networks, and from the start of Python to a first result.

    count.py COUNTS REPORT        under qemu-aarch64 with the plugin of count.c, which writes COUNTS; REPORT is JSON
    count.py first MODEL IMAGE    one `bwn infer` in this process, counted from its start
    count.py gate RECORD REPORT.. hold reports to the record, each number within 2 %; --record writes it anew

Results of the products are checked as in the tests. One thread: the counters are not atomic.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

MARK = 0x7777
LIMIT = 0.02
NETWORKS = ("mnist-mlp", "mnist-lenet", "cifar10-vgg-quarter")

mark = ctypes.CDLL(None).syscall
address = ctypes.c_long(MARK)


def counted(counts: Path) -> int:
    """The last region's instructions."""
    return int(counts.read_text().split()[-1])


def products(counts: Path) -> dict[str, int]:
    """Of one call of every product: a 3 x 3 convolution of 128 channels, or a fully connected layer at batch 1."""
    from products import Case, check

    from bwn.kernels.registry import PRODUCTS, Kernel

    compiled = Kernel.entry

    def marked(self: Kernel) -> Any:
        entry = compiled(self)

        def call(*arguments: int) -> None:
            mark(address, 1)
            entry(*arguments)
            mark(address, 2)

        return call

    Kernel.entry = marked  # type: ignore[method-assign]
    found = {}
    for row in PRODUCTS:
        case = Case(1152, 64, 128) if row.lanes else Case(1024, 512, 1)
        check(row, case)
        found[row.name] = counted(counts)
        macs = case.depth * case.outputs * case.positions
        print(f"{row.name:30} K {case.depth}, {case.outputs} x {case.positions:<4} {found[row.name] / macs:6.3f} a MAC")
    Kernel.entry = compiled  # type: ignore[method-assign]
    return found


def networks(counts: Path) -> dict[str, int]:
    """Of the second inference of each shipped network, one image, one thread."""
    import numpy as np

    import bwn

    found = {}
    for name in NETWORKS:
        model = bwn.load(f"models/{name}.bwn", threads=1)
        x = np.random.default_rng(0).standard_normal((1, *model.input_shape), np.float32)
        model.run(x)
        mark(address, 1)
        model.run(x)
        mark(address, 2)
        found[name] = counted(counts)
        print(f"{name:30} {found[name] / 1e6:8.3f} M")
    return found


def first(model: str, image: str) -> None:
    """`bwn infer`, and the count since this process began."""
    from click.testing import CliRunner

    from bwn.cli.main import bwn

    done = CliRunner().invoke(bwn, ["infer", model, image, "--threads", "1"])
    assert done.exit_code == 0, done.output
    mark(address, 2)


def gate(record: Path, reports: list[Path], write: bool) -> int:
    """Exit code 1 where a number has moved by more than LIMIT, up or down, or is new."""
    found = {report.stem: json.loads(report.read_text()) for report in reports}
    if write:
        record.write_text(json.dumps(found, indent=1) + "\n")
        return 0
    kept, moved = json.loads(record.read_text()), 0
    for core, parts in found.items():
        for part, numbers in parts.items():
            for name, number in numbers.items():
                before = kept.get(core, {}).get(part, {}).get(name)
                if before is None or abs(number / before - 1) > LIMIT:
                    print(f"{core}, {part}, {name}: {number:,} instructions, recorded {before and f'{before:,}'}")
                    moved += 1
    if moved:
        print(f"{moved} counts left their budget of {LIMIT:.0%}: mend the code, or record them with a reason")
    return int(moved > 0)


def main() -> None:
    """The command line."""
    command, *rest = sys.argv[1:]
    if command == "first":
        first(*rest)
    elif command == "gate":
        write = "--record" in rest
        record, *reports = (Path(name) for name in rest if name != "--record")
        sys.exit(gate(record, reports, write))
    else:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
        counts, report = Path(command), Path(rest[0])
        report.write_text(json.dumps({"products": products(counts), "networks": networks(counts)}, indent=1))


if __name__ == "__main__":
    main()
