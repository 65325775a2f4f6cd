"""Inner loops of compiled kernels for aarch64: their instructions by class, their MACs.

The code is read from `objdump -d` of the object file; LLVM's own listing differs slightly from it.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

FUNCTION = re.compile(r"[0-9a-f]+ <([\w.$]+)>:")
LINE = re.compile(r"\s+([0-9a-f]+):\s+(.+)")
TARGET = re.compile(r"((?:b(?:\.\w+)?|cbn?z|tbn?z)\s.*?)\b([0-9a-f]+) <")
BRANCH = re.compile(r"(?:b(?:\.\w+)?|cbn?z|tbn?z)\s.*?(\.L\w+)$")
CLASSES = {
    "vectors": r"\w+\s+\{?\s*v\d+\.|(?:addv|uaddlv|saddlv|fmul|fadd|add)\s+[bhsd]\d+,",
    "stack": r"(?:ld|st)\w+\s.*\[sp\b",
    "loads": r"ld",
    "stores": r"st",
    "moves": r"(?:mov|orr)\s+v\d+\.16b,\s*(v\d+\.16b)(?:,\s*\1)?$",
    "crossing": (
        r"(?:[us]mov|fmov)\s+[wx]\d|"
        r"(?:fmov\s+[sd]\d+|dup\s+v\S+|(?:mov|ins)\s+v\S+),\s*[wx]\d"
    ),
}
"""Patterns of each class of instructions; the first in ORDER that matches applies, else scalar.

stack: spills to the stack and reloads. moves: between vector registers. crossing: between vector
and general registers.
"""
ORDER = ("stack", "loads", "stores", "moves", "crossing", "vectors")


class Rule(NamedTuple):
    """How many multiply-accumulates (MACs) an instruction does, in some kernels.

    Attributes:
        kernel: Pattern of the kernel's name.
        macs: Patterns of instructions, and the MACs of each.
        why: The reason.
        other: Pattern of an instruction of loops that do none: they make tables.
    """

    kernel: str
    macs: tuple[tuple[str, int], ...]
    why: str
    other: str = "never"


TABLE = r"f?sub\s+v"
RULES = (
    # A sum that starts with its first entry needs one addition less, but ends with a widening; the
    # upper half of that is counted.
    Rule(r"f32_b1_f32_planes_lookup", ((r"fadd\s.*\.4s", 16),), "an addition: 4 inputs by 4 lanes"),
    Rule(
        r"i8_b1_f32_planes_lookup",
        ((r"add\s.*\.8h", 32), (r"(?:saddw2|sxtl2)\s+v\d+\.4s", 32)),
        "an addition: 4 inputs by 8 lanes",
    ),
    Rule(
        r"s1_b1_f32_planes_lookup",
        ((r"add\s.*\.16b", 64), (r"(?:saddw2|sxtl2)\s+v\d+\.8h", 64)),
        "an addition: 4 inputs by 16 lanes",
    ),
    Rule(
        r"f32_b1_f32_planes_(wide|tall|7x2|8x2)",
        ((r"fadd\s.*\.4s", 24),),
        "an addition: 6 inputs by 4 lanes",
        TABLE,
    ),
    Rule(
        r"i8_b1_f32_planes_(wide|tall|7x2|8x2)",
        ((r"add\s.*\.8h", 48),),
        "an addition: 6 inputs by 8 lanes",
        TABLE,
    ),
    Rule(r"planes_split", ((r"fadd\s.*\.4s", 16),), "an addition: 4 inputs by 4 channels"),
    Rule(
        r"planes_bytes",
        ((r"tbl\s+\S+ {[^,]+}", 32), (r"tbl\s+\S+ {[^,]+,[^,]+}", 40)),
        "two lookups, of high and of low: 4 inputs by 16 channels, 5 in two registers",
    ),
    Rule(
        r"planes_dots",
        ((r"sdot\s.*\.4b\[", 16),),
        "a dot product with masked weights: 4 inputs by 4 channels",
    ),
    Rule(r"f32_b1_f32_planes_single", ((r"fadd\s.*\.4s", 4),), "an addition of 4 inputs"),
    Rule(
        r"i8_b1_f32_planes_single",
        ((r"saddw2?\s+v\d+\.8h", 8), (r"sadalp\s+v\d+\.8h", 16)),
        "an addition of 8 inputs; by pairs, of 16",
    ),
    Rule(r"xnor|s1_b1_f32_planes_inlane", ((r"cnt\s.*\.16b", 128),), "a count of 128 bits"),
    Rule(
        r"",
        (
            (r"fmla\s.*\.4s", 4),
            (r"[su]dot\s", 16),
            (r"[su]mlal2?\s", 8),
            (r"[su]mull2?\s+v\d+\.8h", 8),
        ),
        "what the instruction multiplies and adds",
    ),
)
"""The first rule that matches a kernel's name applies."""


class Loop(NamedTuple):
    """A loop without branches inside.

    Attributes:
        label: Its first line.
        body: Its instructions, including the branch back.
    """

    label: str
    body: list[str]

    def classes(self) -> Counter[str]:
        """How many instructions are of each class."""
        return Counter(class_of(line) for line in self.body)

    def macs(self, rule: Rule) -> int:
        """Multiply-accumulates of an iteration."""
        if any(re.match(rule.other, line) for line in self.body):
            return 0
        return sum(
            macs for line in self.body for pattern, macs in rule.macs if re.match(pattern, line)
        )


def class_of(instruction: str) -> str:
    """The class of an instruction: one of ORDER, or `scalar`."""
    return next((name for name in ORDER if re.match(CLASSES[name], instruction)), "scalar")


def rule_of(kernel: str) -> Rule:
    """The rule for a kernel, or for a symbol that contains its name."""
    return next(rule for rule in RULES if re.search(rule.kernel, kernel))


def functions(disassembly: str) -> dict[str, list[str]]:
    """The instructions of each function, with a label (`.Lx:`) before each branch target."""
    bodies: dict[str, dict[str, str]] = {}
    for line in disassembly.splitlines():
        if head := FUNCTION.match(line):
            body = bodies.setdefault(head[1], {})
        elif parts := LINE.match(line):
            text = TARGET.sub(r"\1.L\2 <", parts[2].split("//")[0])
            body[parts[1]] = " ".join(re.sub(r"<.*>", "", text).split())
    return {name: _labeled(body) for name, body in bodies.items()}


def reachable(disassembly: str, name: str) -> list[str]:
    """The functions that a function calls, and those that these call, with itself."""
    calls: dict[str, list[str]] = {}
    current = ""
    for line in disassembly.splitlines():
        if head := FUNCTION.match(line):
            current = head[1]
        elif call := re.search(r"\tbl?\s+\w+ <([\w.$]+)>", line):
            calls.setdefault(current, []).append(call[1])
    found = [name]
    for each in found:  # grows on the way
        found += [callee for callee in dict.fromkeys(calls.get(each, ())) if callee not in found]
    return found


def _labeled(body: dict[str, str]) -> list[str]:
    targets = {branch[1] for line in body.values() if (branch := BRANCH.match(line))}
    lines = []
    for address, line in body.items():
        lines += [f".L{address}:", line] if f".L{address}" in targets else [line]
    return lines


def loops(lines: list[str]) -> list[Loop]:
    """The innermost loops of a function that execute every instruction in every iteration.

    A branch inside such a loop may only leave it, on a condition. A label inside may be an entry.
    """
    position_of = {line[:-1]: i for i, line in enumerate(lines) if line.endswith(":")}
    jumps = {
        i: position_of[branch[1]]
        for i, line in enumerate(lines)
        if (branch := BRANCH.match(line)) and branch[1] in position_of
    }
    backward = sorted((target, source) for source, target in jumps.items() if target < source)
    innermost = []
    for first, last in backward:
        inner = [target for source, target in jumps.items() if first < source < last]
        branches = any(first <= target <= last for target in inner)
        ends = any(re.match(r"b\s|ret|br\s", line) for line in lines[first:last])
        if not branches and not ends:
            body = [line for line in lines[first : last + 1] if not line.endswith(":")]
            innermost.append(Loop(lines[first][:-1], body))
    return innermost


def hot_loop(bodies: list[list[str]], rule: Rule) -> Loop | None:
    """Of functions, the loop with the most MACs an iteration, of equal ones the shortest; None
    without MACs.
    """
    every = (loop for lines in bodies for loop in loops(lines))
    best = max(every, key=lambda loop: (loop.macs(rule), -len(loop.body)), default=None)
    return best if best and best.macs(rule) else None
