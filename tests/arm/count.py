"""Executed instructions a multiply-accumulate, of every product of the registry: count.py FILE_OF_COUNTS.

Runs under qemu-aarch64 with the plugin of count.c, which writes the counts; results are checked as in the tests.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from products import Case, check

from bwn.kernels.cpu import name
from bwn.kernels.registry import PRODUCTS, Kernel

MARK = 0x7777
PLANES = Case(1152, 64, 128)  # a 3 x 3 convolution of 128 channels
SINGLE = Case(1024, 512, 1)  # a fully connected layer at batch 1

mark = ctypes.CDLL(None).syscall
compiled = Kernel.entry


def marked(self: Kernel) -> Any:
    entry = compiled(self)
    address = ctypes.c_long(MARK)

    def call(*arguments: int) -> None:
        mark(address, 1)
        entry(*arguments)
        mark(address, 2)

    return call


def main() -> None:
    Kernel.entry = marked  # type: ignore[method-assign]
    print(f"{name()}: instructions, a multiply-accumulate")
    for row in PRODUCTS:
        case = PLANES if row.lanes else SINGLE
        check(row, case)
        count = int(Path(sys.argv[1]).read_text().split()[-1])
        macs = case.depth * case.outputs * case.positions
        print(f"{row.name:30} K {case.depth}, {case.outputs} x {case.positions:<4} {count:9} {count / macs:6.3f}")


if __name__ == "__main__":
    main()
