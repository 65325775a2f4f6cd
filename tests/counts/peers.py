"""Inner loops of other engines, written here with the fewest instructions that their papers imply.

Each comes with the loads of its tile and without. Independent instructions are next to each other
and loads come early, for in-order cores. Index and address arithmetic, branches and the code after
the loop are not counted.
"""

from __future__ import annotations

from typing import NamedTuple


class Peer(NamedTuple):
    """A loop of another engine.

    Attributes:
        name: The method and the engine.
        macs: Multiply-accumulates of an iteration.
        loads: A description of the loads in the loop.
        body: Its instructions.
    """

    name: str
    macs: int
    loads: str
    body: list[str]


def _pairs(first: int, count: int, pointer: str) -> list[str]:
    return [
        f"ldp q{i}, q{i + 1}, [{pointer}, #{16 * (i - first)}]"
        for i in range(first, first + count, 2)
    ]


def _both(
    name: str, macs: int, loads: str, load: list[str], first: list[str], rest: list[str]
) -> list[Peer]:
    # Registers that `first` has read are loaded for the next iteration while `rest` runs.
    return [
        Peer(name, macs, "no loads", first + rest),
        Peer(name, macs, loads, first + load + rest),
    ]


def _differ(count: int) -> list[str]:
    """XOR of two rows of bits with several others, then bit counts, into registers from v8 on."""
    rows = [(p, n) for p in range(2) for n in range(count // 2)]
    differ = [f"eor v{8 + i}.16b, v{p}.16b, v{2 + n}.16b" for i, (p, n) in enumerate(rows)]
    return differ + [f"cnt v{8 + i}.16b, v{8 + i}.16b" for i in range(count)]


def xnor_bytes() -> list[Peer]:
    """XOR, count, add as bytes: 2 x 4 rows of bits, with a register of counts for each pair."""
    add = [f"add v{16 + i}.16b, v{16 + i}.16b, v{8 + i}.16b" for i in range(8)]
    load = _pairs(0, 6, "x0")
    return _both("XNOR, counts added as bytes", 8 * 128, "3 ldp for 8 eor", load, _differ(8), add)


def xnor_pairwise() -> list[Peer]:
    """Larq Compute Engine: counts of 4 rows added in pairs down to one 32-bit lane for each row."""
    fold = [f"addp v{8 + i}.16b, v{8 + 2 * i}.16b, v{9 + 2 * i}.16b" for i in range(4)]
    fold += [f"addp v{8 + i}.16b, v{8 + 2 * i}.16b, v{9 + 2 * i}.16b" for i in range(2)]
    fold += [f"uaddlp v{8 + i}.8h, v{8 + i}.16b" for i in range(2)]
    fold += [f"uadalp v{16 + i}.4s, v{8 + i}.8h" for i in range(2)]
    return _both(
        "XNOR, Larq Compute Engine",
        8 * 128,
        "3 ldp for 8 eor",
        _pairs(0, 6, "x0"),
        _differ(8),
        fold,
    )


def xnor_across() -> list[Peer]:
    """daBNN's matrix product: the lanes of each register of counts are added at once."""
    add = [f"addv b{8 + i}, v{8 + i}.16b" for i in range(8)]
    add += [f"add d{16 + i}, d{16 + i}, d{8 + i}" for i in range(8)]
    return _both(
        "XNOR, daBNN's addv", 8 * 128, "3 ldp for 8 eor", _pairs(0, 6, "x0"), _differ(8), add
    )


def masked_bytes() -> list[Peer]:
    """8-bit inputs masked by bits (binarynet-tf), added in pairs. 4 outputs share 16 inputs."""
    mask = [f"cmtst v{8 + n}.16b, v{1 + n}.16b, v5.16b" for n in range(4)]
    mask += [f"and v{8 + n}.16b, v{8 + n}.16b, v0.16b" for n in range(4)]
    add = [f"uadalp v{16 + n}.8h, v{8 + n}.16b" for n in range(4)]
    load = ["ldr q0, [x0]", *(f"ld1r {{v{1 + n}.8h}}, [x{1 + n}]" for n in range(4))]
    return _both("8 bits x 1 bit, by mask", 4 * 16, "1 ldr, 4 ld1r for 4 cmtst", load, mask, add)


def byte_tables() -> list[Peer]:
    """T-MAC: tables of 16 entries rounded to 8 bits. 32 outputs, 2 tables, sums in int16."""
    find = [
        line
        for n in range(2)
        for line in (f"and v{8 + n}.16b, v{n}.16b, v7.16b", f"ushr v{10 + n}.16b, v{n}.16b, #4")
    ]
    find += [f"tbl v{8 + i}.16b, {{v{2 + i // 2}.16b}}, v{8 + i}.16b" for i in range(4)]
    add = []
    for i in range(4):
        low, high = 16 + 2 * (i % 2), 17 + 2 * (i % 2)
        add += [
            f"saddw v{low}.8h, v{low}.8h, v{8 + i}.8b",
            f"saddw2 v{high}.8h, v{high}.8h, v{8 + i}.16b",
        ]
    return _both(
        "rounded x 1 bit, T-MAC's tables", 4 * 64, "2 ldp for 4 tbl", _pairs(0, 4, "x0"), find, add
    )


def dot_products() -> list[Peer]:
    """8 bits x 8 bits with sdot: 4 positions by 16 outputs."""
    dots = [
        f"sdot v{16 + 4 * p + n}.4s, v{2 + n}.16b, v0.4b[{p}]" for n in range(4) for p in range(4)
    ]
    load = ["ldr q0, [x1]", *_pairs(2, 4, "x0")]
    return _both("8 bits x 8 bits, sdot", 16 * 16, "2 ldp, 1 ldr for 16 sdot", load, dots, [])


PEERS: tuple[Peer, ...] = (
    *xnor_bytes(),
    *xnor_pairwise(),
    *xnor_across(),
    *masked_bytes(),
    *byte_tables(),
    *dot_products(),
)
