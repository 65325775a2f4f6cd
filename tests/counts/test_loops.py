"""Finding loops, classes of instructions and counts of MACs, on assembly written here."""

from __future__ import annotations

import pytest
from assembly import Loop, class_of, functions, hot_loop, loops, reachable, rule_of
from loops import products
from peers import PEERS

NAME = "bwn_xnor_b1_b1_b1_signs_xnor"
CODE = f"""
lib.o:     file format elf64-littleaarch64

0000000000000000 <{NAME}>:
   0:	movi	v2.2d, #0x0
   4:	mov	x3, xzr
   8:	cbz	x1, 58 <{NAME}+0x58>
   c:	cnt	v0.16b, v0.16b
  10:	tbz	w3, #0, 20 <{NAME}+0x20>
  14:	cnt	v1.16b, v1.16b
  18:	cnt	v2.16b, v2.16b
  1c:	cnt	v3.16b, v3.16b
  20:	subs	x3, x3, #0x1
  24:	b.ne	c <{NAME}+0xc>  // b.any
  28:	ldp	q0, q1, [x0], #32
  2c:	eor	v0.16b, v0.16b, v7.16b
  30:	cnt	v0.16b, v0.16b
  34:	add	v2.16b, v2.16b, v0.16b
  38:	cnt	v1.16b, v1.16b
  3c:	add	v3.16b, v3.16b, v1.16b
  40:	str	q3, [sp, #16]
  44:	cbz	x9, 58 <{NAME}+0x58>
  48:	subs	x1, x1, #0x2
  4c:	b.gt	28 <{NAME}+0x28>
  50:	cmp	x8, x9
  54:	b.lt	4 <{NAME}+0x4>  // b.tstop
  58:	cbnz	x2, 2c <{NAME}+0x2c>
  5c:	bl	0 <memset>
  60:	ret

0000000000000064 <bwn_threads_run_loop_run>:
  64:	add	v0.4s, v0.4s, v1.4s
  68:	b	64 <bwn_threads_run_loop_run>
"""
"""Two nested loops: over one word, with a branch inside; over two words, entered in its middle."""


def test_the_innermost_loop_with_the_most_work_is_hot() -> None:
    lines = functions(CODE)[NAME]
    assert [loop.label for loop in loops(lines)] == [".L28"]
    hot = hot_loop([lines], rule_of(NAME))
    assert hot is not None
    assert hot.body[0] == "ldp q0, q1, [x0], #32"
    assert hot.body[-1] == "b.gt .L28"
    assert hot.macs(rule_of(NAME)) == 2 * 128
    assert hot.classes() == {"loads": 1, "vectors": 5, "stack": 1, "scalar": 3}


def test_of_two_loops_with_equal_work_the_shorter_one_is_hot() -> None:
    long = [".L1:", "cnt v0.16b, v0.16b", "nop", "b.ne .L1"]
    short = [".L2:", "cnt v0.16b, v0.16b", "b.ne .L2"]
    for lines in (long + short, short + long):
        hot = hot_loop([lines], rule_of("xnor"))
        assert hot is not None
        assert hot.label == ".L2"


def test_loops_of_called_functions_are_found() -> None:
    heads = {"entry": "bl\t20 <kernel>", "kernel": "b\t40 <inner.1>", "inner.1": "bl\t20 <kernel>"}
    code = "\n".join(f"00 <{name}>:\n   0:\t{call}" for name, call in heads.items())
    assert reachable(code, "entry") == ["entry", "kernel", "inner.1"]
    assert reachable(code, "inner.1") == ["inner.1", "kernel"]
    hot = hot_loop([["ret"], [".L1:", "cnt v0.16b, v0.16b", "b.ne .L1"]], rule_of("xnor"))
    assert hot is not None


def test_a_loop_that_always_leaves_is_no_loop() -> None:
    assert loops([".L1:", "cnt v0.16b, v0.16b", "b .L7", ".L2:", "b.ne .L1", ".L7:"]) == []


def test_only_gemm_kernels_of_a_listing_are_read() -> None:
    (kernel,) = products(CODE)
    assert (kernel.kernel, kernel.macs) == ("b1_b1_b1_signs_xnor", 256)


def test_a_kernel_without_the_loop_of_its_rule_is_refused() -> None:
    with pytest.raises(SystemExit, match="f32_b1_f32_planes_lookup"):
        products(CODE.replace(NAME, "bwn_lookup_f32_b1_f32_planes_lookup"))


@pytest.mark.parametrize(
    ("instruction", "kind"),
    [
        ("ldr q0, [sp, #432]", "stack"),
        ("stp q0, q1, [sp, #400]", "stack"),
        ("ldp q0, q1, [x9, #32]", "loads"),
        ("ld1r { v6.4s }, [x22], #4", "loads"),
        ("str h1, [x7, #2]", "stores"),
        ("mov v1.16b, v12.16b", "moves"),
        ("mov v1.s[1], w3", "crossing"),
        ("umov w3, v1.b[0]", "crossing"),
        ("fmov x3, d1", "crossing"),
        ("fmov s1, w3", "crossing"),
        ("dup v1.4s, w3", "crossing"),
        ("dup v1.4s, v2.s[0]", "vectors"),
        ("eor v1.16b, v2.16b, v3.16b", "vectors"),
        ("tbl v5.16b, { v11.16b }, v15.16b", "vectors"),
        ("addv h1, v1.8h", "vectors"),
        ("ubfx x1, x2, #4, #4", "scalar"),
        ("mov x1, x2", "scalar"),
        ("b.ne .L1", "scalar"),
    ],
)
def test_class_of_an_instruction(instruction: str, kind: str) -> None:
    assert class_of(instruction) == kind


@pytest.mark.parametrize(
    ("kernel", "body", "macs"),
    [
        (
            "b1_b1_b1_signs_xnor",
            ["eor v4.16b, v0.16b, v1.16b", "cnt v4.16b, v4.16b"],
            128,
        ),
        (
            "f32_b1_f32_planes_lookup",
            ["ldp q0, q1, [x1]", "fadd v2.4s, v2.4s, v0.4s", "fadd v3.4s, v3.4s, v1.4s"],
            32,
        ),
        # Three entries of 16 lanes: the sum starts with the first, and is then widened and merged.
        (
            "s1_b1_f32_planes_lookup",
            [
                *("add v0.16b, v0.16b, v1.16b", "add v0.16b, v0.16b, v2.16b"),
                *("sxtl v3.8h, v0.8b", "sxtl2 v4.8h, v0.16b", "add v5.8h, v5.8h, v3.8h"),
            ],
            3 * 64,
        ),
        (
            "f32_f32_f32_planes_multiply",
            ["fmla v0.4s, v1.4s, v2.s[0]", "fadd v0.4s, v0.4s, v1.4s"],
            4,
        ),
        ("i8_b1_f32_planes_new", ["sdot v0.4s, v1.16b, v2.4b[0]"], 16),
    ],
)
def test_multiply_accumulates_of_a_loop(kernel: str, body: list[str], macs: int) -> None:
    assert Loop("", body).macs(rule_of(kernel)) == macs


def test_peers_have_the_macs_that_they_state() -> None:
    for name, macs, _, body in PEERS:
        if "XNOR" in name:
            assert Loop("", body).macs(rule_of("xnor")) == macs
        elif "sdot" in name:
            assert Loop("", body).macs(rule_of("")) == macs
        else:
            step, each = ("cmtst", 16) if "mask" in name else ("tbl", 64)
            assert sum(line.startswith(step) for line in body) * each == macs
