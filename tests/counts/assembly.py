"""Inner loops of compiled kernels for aarch64: found by rule, instructions by class, multiply-accumulates.

Read from `objdump -d` of the object file: LLVM's listing, made after it, is of slightly other code.
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
    "crossing": r"(?:[us]mov|fmov)\s+[wx]\d|(?:fmov\s+[sd]\d+|dup\s+v\S+|(?:mov|ins)\s+v\S+),\s*[wx]\d",
}
"""What an instruction is, the first that fits of ORDER, else scalar. stack: to or from it, what did not fit registers.
moves: from vector register to vector register. crossing: between the two files of registers."""
ORDER = ("stack", "loads", "stores", "moves", "crossing", "vectors")


class Rule(NamedTuple):
    """How many multiply-accumulates an instruction is worth, for kernels whose name fits; why."""

    kernel: str
    worth: tuple[tuple[str, int], ...]
    why: str


RULES = (
    # A sum that starts with its first entry has one addition less; it ends in a widening, whose upper half is counted.
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
    Rule(r"planes_split", ((r"fadd\s.*\.4s", 16),), "an addition: 4 inputs by 4 channels"),
    Rule(
        r"planes_bytes",
        ((r"tbl\s", 32),),
        "two lookups, high and low byte: 4 inputs by 16 channels",
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
"""The first that fits a kernel's name counts."""


class Loop(NamedTuple):
    """A loop of straight code. label: its first line. body: instructions, the branch back included."""

    label: str
    body: list[str]

    def classes(self) -> Counter[str]:
        """How many instructions are of each class."""
        return Counter(class_of(line) for line in self.body)

    def macs(self, rule: Rule) -> int:
        """Multiply-accumulates of an iteration."""
        return sum(
            value for line in self.body for pattern, value in rule.worth if re.match(pattern, line)
        )


def class_of(instruction: str) -> str:
    """One of ORDER, or `scalar`."""
    return next((name for name in ORDER if re.match(CLASSES[name], instruction)), "scalar")


def rule_of(kernel: str) -> Rule:
    """The rule for a kernel, or a symbol that holds its name."""
    return next(rule for rule in RULES if re.search(rule.kernel, kernel))


def functions(disassembly: str) -> dict[str, list[str]]:
    """The instructions of each function, with a label (`.Lx:`) before those that a branch leads to."""
    found: dict[str, dict[str, str]] = {}
    for line in disassembly.splitlines():
        if head := FUNCTION.match(line):
            body = found.setdefault(head[1], {})
        elif parts := LINE.match(line):
            text = TARGET.sub(r"\1.L\2 <", parts[2].split("//")[0])
            body[parts[1]] = " ".join(re.sub(r"<.*>", "", text).split())
    return {name: _labelled(body) for name, body in found.items()}


def _labelled(body: dict[str, str]) -> list[str]:
    targets = {branch[1] for line in body.values() if (branch := BRANCH.match(line))}
    lines = []
    for address, line in body.items():
        lines += [f".L{address}:", line] if f".L{address}" in targets else [line]
    return lines


def loops(lines: list[str]) -> list[Loop]:
    """The loops of a function that hold no other and whose every iteration executes every instruction.

    So a branch within may only leave the loop, on a condition. A label within may be one where the loop is entered.
    """
    where = {line[:-1]: i for i, line in enumerate(lines) if line.endswith(":")}
    jumps = {
        i: where[found[1]]
        for i, line in enumerate(lines)
        if (found := BRANCH.match(line)) and found[1] in where
    }
    backward = sorted((to, at) for at, to in jumps.items() if to < at)
    made = []
    for first, last in backward:
        inner = [to for at, to in jumps.items() if first < at < last]
        stays = any(first <= to <= last for to in inner)
        ends = any(re.match(r"b\s|ret|br\s", line) for line in lines[first:last])
        if not stays and not ends:
            body = [line for line in lines[first : last + 1] if not line.endswith(":")]
            made.append(Loop(lines[first][:-1], body))
    return made


def hot_loop(lines: list[str], rule: Rule) -> Loop | None:
    """The loop that does the most multiply-accumulates an iteration, of equals the one of fewest instructions.

    None where no loop does any.
    """
    best = max(loops(lines), key=lambda loop: (loop.macs(rule), -len(loop.body)), default=None)
    return best if best and best.macs(rule) else None
