"""Every GEMM kernel, a row each: what it reads, needs, packs, costs, and must be compiled to.

A new kernel is its file and its row here; the planner then has one more to choose from, and tests,
benchmarks, `bwn tune` and the libraries take it up. `GemmSpec` describes the columns. Rows are
here for every machine; `registry.GEMMS` are those that this one can run.

Costs: avx512, avx2: `bwn tune` on a Zen 5 server core, 2026-11-23, the second with code compiled
for Zen 3. zen4: `bwn tune` on a Zen 4 server core, 2026-11-30, the fastest of five rounds. neon:
not measured; instructions at a nominal one a nanosecond, of single, bytes, split, dots and inlane
fitted to counts of 17 to 19 sizes each within 2 % (bytes to those of two cores, 2026-11-30: within
8 %), of lookup to those of 22 convolutions within 8 % (one tap: 23 %), of wide, tall, 7x2 and 8x2
to those of 12 each within 8 %, with 8 bits up to 15 % more, as outputs of 8 bits take (2026-11-30);
of the others those of docs/arm.md, split into coefficients by what the loops do. The sums of dots
(0.13 instructions) are those of bytes (0.092) times 1.6, as llvm-mca's cycles on a Neoverse N1 are.
Those of depthwise were measured on a Zen 4 server core, 2026-11-28, and are guesses for neon, from
the loads of its loop; those of 8 bits there too, 2026-11-29, and counted for neon. So were those of
the 8-bit multiply: avx512 (110, 1, 0.144, 2.97), avx2 (181, 0.552, 0.0797, 1.77). They are scaled
to the Zen 5: sums of avx512 by the rate of `vpdpbusd` there, twice that of Zen 4, the rest by 0.7,
avx2 by 0.81; the other 8-bit kernels cost 0.6 and 0.8 of what they do on the Zen 4. For neon they
are fitted to counts of 12 sizes within 5 %. Those of int8 weights were measured on a busy Zen 3
server core, 2026-11-29, scaled to the Zen 5 by 0.85; avx512 and neon are guesses from their
instructions. Those of wide, tall and square were measured on that Zen 3, and scaled by 0.73,
lookup's ratio; avx512 is 1.5 times that, a guess with which what was measured there stays chosen
until `bwn tune` is run. Those of tiles are guesses: docs/decisions/2026-11-30-amx.md.
"""

from __future__ import annotations

from bwn.kernels.gemm.depths import (
    ANY,
    DOTS_DEPTH,
    I8_DEPTH,
    I16_DEPTH,
    INT8_MAX_DEPTH,
    S1_DEPTH,
)
from bwn.kernels.gemm.gemm_spec import (
    BYTE_ROWS,
    BYTES,
    FLOATS,
    Cost,
    DotGemm,
    GemmSpec,
    IndirectGemm,
    LutPermuteGemm,
    LutWindowGemm,
    Packing,
    RunsGemm,
)
from bwn.kernels.gemm.gemv_packing import (
    BYTES_LAYOUT,
    DOTS_LAYOUT,
    FLOAT_LAYOUT,
    SHORT_LAYOUT,
    SIGNS_LAYOUT,
    SPLIT_LAYOUT,
    pack_bytes,
    pack_dots,
    signs_scratch,
)
from bwn.kernels.gemm.lut_permute_packing import F32_LAYOUT, I8_LAYOUT, TILE
from bwn.kernels.gemm.lut_window_packing import (
    F32_7X2,
    F32_8X2,
    F32_SQUARE,
    F32_TALL,
    F32_WIDE,
    I8_7X2,
    I8_8X2,
    I8_SQUARE,
    I8_TALL,
    I8_WIDE,
)
from bwn.kernels.gemm.tiles import (
    AMX_COLUMN,
    AMX_ROWS,
    AMX_STEP,
    DOTS,
    DOTS_COLUMN,
    MULTIPLY,
    RUNS_STEP,
    amx_scratch,
    depthwise_scratch,
    dots_scratch,
    lookup_scratch,
    multiply_scratch,
    runs_scratch,
    single_scratch,
)

_FOUR = r"ld1\s+\{ v\d+\.KIND, v\d+\.KIND, v\d+\.KIND, v\d+\.KIND \}, \[x\d+\], "
FOUR_F32, FOUR_I16 = (_FOUR.replace("KIND", kind) for kind in ("4s", "8h"))
"""A load of four registers that moves the address on."""

# fmt: off
SPECS: tuple[GemmSpec, ...] = (
    IndirectGemm(
        "gemm.lut.f32_b1_f32_planes_lookup", activations="f32", weights="b1", max_depth=ANY,
        lanes=16, scratch=lookup_scratch,
        costs={"avx512": Cost(189, 1.58, 0.0507, 3.57), "zen4": Cost(258, 1.05, 0.101, 4.55),
               "avx2": Cost(201, 2.56, 0.0795, 3.73),
               "neon": Cost(12000, 43.6, 2.28, 101)},
        expected={"x86-64": [r"addps\s.*xmm"], "x86-64-avx2": [r"vaddps\s.*[yz]mm"],
                  "x86-64-avx512": [r"vaddps\s.*zmm"],
                  "aarch64": [r"fadd\s+v\d+\.4s", r"ldp\s+q\d+, q\d+, \[x\d+\]"]},
    ),
    IndirectGemm(
        "gemm.lut.i8_b1_f32_planes_lookup", activations="i8", weights="b1", max_depth=I8_DEPTH,
        lanes=32, scratch=lookup_scratch,
        costs={"avx512": Cost(203, 1.35, 0.0547, 5.64), "zen4": Cost(269, 0.942, 0.106, 7.25),
               "avx2": Cost(181, 2.34, 0.0831, 6.62),
               "neon": Cost(7000, 35, 2.39, 197)},
        expected={"x86-64": [r"paddw\s.*xmm"], "x86-64-avx2": [r"vpaddw\s.*[yz]mm"],
                  "aarch64": [r"\badd\s+v\d+\.8h", r"ldp\s+q\d+, q\d+, \[x\d+\]"]},
    ),
    IndirectGemm(
        "gemm.lut.s1_b1_f32_planes_lookup", activations="s1", weights="b1", max_depth=S1_DEPTH,
        lanes=64, scratch=lookup_scratch,
        costs={"avx512": Cost(207, 1.34, 0.0578, 10.3), "zen4": Cost(248, 1.05, 0.113, 11),
               "avx2": Cost(220, 2.23, 0.0871, 10.2),
               "neon": Cost(300, 35, 3.4, 100)},
        expected={"x86-64-avx2": [r"vpaddb\s.*[yz]mm"], "aarch64": [r"\badd\s+v\d+\.16b"]},
    ),
    IndirectGemm(
        "gemm.f32.f32_f32_f32_planes_multiply", activations="f32", weights="f32", max_depth=ANY,
        lanes=16, scratch=multiply_scratch, tile=MULTIPLY[0],
        costs={"avx512": Cost(152, 0, 0.164, 1.45), "zen4": Cost(0, 0, 0.252, 1.92),
               "avx2": Cost(160, 0.129, 0.287, 1.8),
               "neon": Cost(300, 2, 5.35, 60)},
        expected={"x86-64-avx2": [r"vfmadd\d+ps\s.*[yz]mm"],
                  "x86-64-avx512": [r"vfmadd\d+ps\s.*zmm"], "aarch64": [r"fmla\s+v\d+\.4s"]},
    ),
    IndirectGemm(
        "gemm.f32.f32_b1_f32_planes_multiply", activations="f32", weights="b1", max_depth=ANY,
        lanes=16, scratch=multiply_scratch, packing=FLOATS, tile=MULTIPLY[0],
        costs={"avx512": Cost(152, 0, 0.164, 1.45), "zen4": Cost(0, 0, 0.25, 1.91),
               "avx2": Cost(160, 0.129, 0.287, 1.8),
               "neon": Cost(300, 2, 5.35, 60)},
        expected={"x86-64-avx2": [r"vfmadd\d+ps\s.*[yz]mm"],
                  "x86-64-avx512": [r"vfmadd\d+ps\s.*zmm"], "aarch64": [r"fmla\s+v\d+\.4s"]},
    ),
    IndirectGemm(
        "gemm.depthwise.f32_f32_f32_planes_depthwise", activations="f32", weights="f32",
        max_depth=ANY, lanes=16, scratch=depthwise_scratch,
        costs={"avx512": Cost(70, 0.13, 0.55, 1.2), "zen4": Cost(90.1, 0.293, 0.573, 0),
               "avx2": Cost(90, 0.115, 0.575, 1),
               "neon": Cost(300, 0, 10, 60)},
        expected={"x86-64-avx2": [r"vfmadd\d+ps\s.*[yz]mm"],
                  "x86-64-avx512": [r"vfmadd\d+ps\s.*zmm"], "aarch64": [r"fmla\s+v\d+\.4s"]},
    ),
    IndirectGemm(
        "gemm.depthwise.f32_b1_f32_planes_depthwise", activations="f32", weights="b1",
        max_depth=ANY, lanes=16, scratch=depthwise_scratch, packing=FLOATS,
        costs={"avx512": Cost(70, 0.13, 0.55, 1.2), "zen4": Cost(83.7, 0.312, 0.573, 0),
               "avx2": Cost(90, 0.115, 0.575, 1),
               "neon": Cost(300, 0, 10, 60)},
        expected={"x86-64-avx2": [r"vfmadd\d+ps\s.*[yz]mm"],
                  "x86-64-avx512": [r"vfmadd\d+ps\s.*zmm"], "aarch64": [r"fmla\s+v\d+\.4s"]},
    ),
    IndirectGemm(
        "gemm.depthwise_bytes.i8_b1_f32_planes_depthwise", activations="i8", weights="b1",
        max_depth=I16_DEPTH, lanes=16, scratch=depthwise_scratch, packing=BYTES,
        costs={"avx512": Cost(70, 0, 0.39, 1.7), "zen4": Cost(100, 0.0165, 0.319, 1.6),
               "avx2": Cost(90, 0, 0.39, 1.7),
               "neon": Cost(300, 0, 4.8, 61)},
        expected={"x86-64-avx2": [r"vpmullw\s.*ymm"], "aarch64": [r"smlal\s+v\d+\.8h"]},
    ),
    IndirectGemm(
        "gemm.depthwise_bytes.i8_i8_f32_planes_depthwise", activations="i8", weights="i8",
        max_depth=INT8_MAX_DEPTH, lanes=16, scratch=depthwise_scratch, packing=BYTE_ROWS,
        costs={"avx512": Cost(260, 0, 0.66, 1.7), "zen4": Cost(108, 0.00641, 0.563, 0.999),
               "avx2": Cost(260, 0, 0.66, 1.7),
               "neon": Cost(300, 0, 7.5, 61)},
        expected={"x86-64-avx2": [r"vpmullw\s.*ymm"], "aarch64": [r"saddw\s+v\d+\.4s"]},
    ),
    RunsGemm(
        "gemm.depthwise_dots.i8_b1_f32_planes_runs", activations="i8", weights="b1",
        needs=("avx512vnni", "avxvnni", "dotprod"), max_depth=I8_DEPTH, lanes=16, step=RUNS_STEP,
        scratch=runs_scratch, packing=BYTES,
        costs={"avx512": Cost(60, 0.85, 1.3, 3.5), "zen4": Cost(84.3, 1.21, 2.98, 6.24),
               "avx2": Cost(75, 1, 2.9, 6.5), "neon": Cost(300, 25, 36, 200)},
        expected={"x86-64-avx512": [r"vpdpbusd\s.*zmm"], "x86-64-avxvnni": [r"vpdpbusd\s.*ymm"],
                  "aarch64-dotprod": [r"sdot\s+v\d+\.4s"]},
    ),
    RunsGemm(
        "gemm.depthwise_dots.i8_i8_f32_planes_runs", activations="i8", weights="i8",
        needs=("avx512vnni", "avxvnni", "dotprod"), max_depth=INT8_MAX_DEPTH, lanes=16,
        step=RUNS_STEP, scratch=runs_scratch, packing=BYTE_ROWS,
        costs={"avx512": Cost(60, 0.85, 1.3, 3.5), "zen4": Cost(76, 1.24, 2.98, 6.09),
               "avx2": Cost(75, 1, 2.9, 6.5), "neon": Cost(300, 25, 36, 200)},
        expected={"x86-64-avx512": [r"vpdpbusd\s.*zmm"], "x86-64-avxvnni": [r"vpdpbusd\s.*ymm"],
                  "aarch64-dotprod": [r"sdot\s+v\d+\.4s"]},
    ),
    IndirectGemm(
        "gemm.gemv.f32_b1_f32_planes_inlane", activations="f32", weights="b1", needs=("avx2",),
        max_depth=ANY, lanes=0, scratch=FLOAT_LAYOUT.scratch, packing=Packing(FLOAT_LAYOUT.pack),
        costs={"avx512": Cost(139, 0.706, 0.00426, 1.48), "zen4": Cost(119, 1.23, 0.00706, 1.01),
               "avx2": Cost(126, 0.767, 0.0142, 1.68)},
        expected={"x86-64-avx2": [r"vpermp?s|vperm[it]2ps"]},
    ),
    IndirectGemm(
        "gemm.gemv.i8_b1_f32_planes_inlane", activations="i8", weights="b1", needs=("avx512bw",),
        max_depth=I8_DEPTH, lanes=0, scratch=SHORT_LAYOUT.scratch,
        packing=Packing(SHORT_LAYOUT.pack),
        costs={"avx512": Cost(173, 0.549, 0.00151, 1.43), "zen4": Cost(138, 1.03, 0.00235, 0.95)},
        expected={"x86-64-avx512": [r"vpermw|vperm[it]2w"]},
    ),
    IndirectGemm(
        "gemm.gemv_split.f32_b1_f32_planes_split", activations="f32", weights="b1", needs=("neon",),
        max_depth=ANY, lanes=0, scratch=SPLIT_LAYOUT.scratch, packing=Packing(SPLIT_LAYOUT.pack),
        costs={"neon": Cost(300, 11.4, 0.29, 15)},
        expected={"aarch64": [r"ld4\s", r"tbl\s+v\d+\.16b", r"zip1\s"]},
    ),
    IndirectGemm(
        "gemm.gemv_bytes.i8_b1_f32_planes_bytes", activations="i8", weights="b1",
        needs=("avx2", "neon"), max_depth=I8_DEPTH, lanes=0, scratch=BYTES_LAYOUT.scratch,
        packing=Packing(pack_bytes),
        costs={"avx512": Cost(159, 0.551, 0.00445, 1.15), "zen4": Cost(121, 0.868, 0.00443, 0.572),
               "avx2": Cost(130, 0.549, 0.00381, 1.46),
               "neon": Cost(300, 8.5, 0.096, 15)},
        expected={"x86-64-avx2": [r"vpshufb\s.*ymm", r"vpmaddubsw"],
                  "aarch64": [r"tbl\s+v\d+\.16b", r"smlal"],
                  "aarch64-dotprod": [r"tbl\s+v\d+\.16b, \{ v\d+\.16b, v\d+\.16b \}"]},
    ),
    IndirectGemm(
        "gemm.gemv_sdot.i8_b1_f32_planes_dots", activations="i8", weights="b1", needs=("dotprod",),
        max_depth=DOTS_DEPTH, lanes=0, scratch=DOTS_LAYOUT.scratch, packing=Packing(pack_dots),
        costs={"neon": Cost(300, 4.7, 0.147, 16)},
        expected={"aarch64-dotprod": [r"sdot\s+v\d+\.4s,\s*v\d+\.16b,\s*v\d+\.4b"]},
    ),
    IndirectGemm(
        "gemm.gemv_xnor.s1_b1_f32_planes_inlane", activations="s1", weights="b1", max_depth=ANY,
        lanes=0, scratch=signs_scratch, packing=Packing(SIGNS_LAYOUT.pack),
        costs={"avx512": Cost(134, 0.27, 0.00123, 1.22), "zen4": Cost(123, 0.504, 0.00106, 0.808),
               "avx2": Cost(132, 0.268, 0.0027, 1.56),
               "neon": Cost(300, 5.6, 0.041, 24)},
        expected={"x86-64-avx512": [r"vpopcnt[qd]\s.*zmm"], "aarch64": [r"cnt\s+v\d+\.16b"]},
    ),
    IndirectGemm(
        "gemm.dot.f32_b1_f32_planes_single", activations="f32", weights="b1", max_depth=ANY,
        lanes=0, scratch=single_scratch,
        costs={"avx512": Cost(81, 0.479, 0.0226, 1.75), "zen4": Cost(51.2, 0.471, 0.0378, 2.41),
               "avx2": Cost(61, 0.423, 0.0477, 1.64),
               "neon": Cost(300, 6, 1.56, 53)},
    ),
    IndirectGemm(
        "gemm.dot.i8_b1_f32_planes_single", activations="i8", weights="b1", max_depth=I8_DEPTH,
        lanes=0, scratch=single_scratch,
        costs={"avx512": Cost(101, 0.225, 0.0105, 4.29), "zen4": Cost(73.6, 0.387, 0.0197, 5.29),
               "avx2": Cost(99, 0.211, 0.0233, 4.35),
               "neon": Cost(300, 4.8, 0.53, 82)},
    ),
    IndirectGemm(
        "gemm.dot.f32_f32_f32_planes_single", activations="f32", weights="f32", max_depth=ANY,
        lanes=0, scratch=single_scratch,
        costs={"avx512": Cost(92, 0.339, 0.0456, 3.02), "zen4": Cost(37, 1.01, 0.0397, 4.85),
               "avx2": Cost(84, 0.383, 0.045, 2.2),
               "neon": Cost(300, 6, 0.63, 52)},
    ),
    IndirectGemm(
        "gemm.dot.i8_i8_f32_planes_single", activations="i8", weights="i8",
        max_depth=INT8_MAX_DEPTH, lanes=0, scratch=single_scratch, packing=BYTE_ROWS,
        costs={"avx512": Cost(60, 0.6, 0.02, 4.5), "zen4": Cost(48.2, 0.616, 0.028, 4.53),
               "avx2": Cost(60, 0.6, 0.036, 4.5),
               "neon": Cost(300, 4.8, 0.53, 82)},
    ),
    LutPermuteGemm(
        "gemm.lut_permute.f32_b1_f32_planes_permute", activations="f32", weights="b1",
        needs=("avx512bw",), max_depth=ANY, lanes=TILE, layout=F32_LAYOUT,
        costs={"avx512": Cost(317, 0.468, 0.00278, 0.408),
               "zen4": Cost(72.7, 0.779, 0.00548, 0.628)},
        expected={"x86-64-avx512": [r"vperm[it]2ps\s.*zmm"]},
    ),
    LutPermuteGemm(
        "gemm.lut_permute.i8_b1_f32_planes_permute", activations="i8", weights="b1",
        needs=("avx512bw",), max_depth=I8_DEPTH, lanes=TILE, layout=I8_LAYOUT,
        costs={"avx512": Cost(40, 0.538, 0.00109, 0.404), "zen4": Cost(0, 0.882, 0.00182, 0.656)},
        expected={"x86-64-avx512": [r"vperm[it]2w\s.*zmm"]},
    ),
    DotGemm(
        "gemm.i8.i8_b1_f32_planes_multiply", activations="i8", weights="b1",
        needs=("avx512vnni", "avxvnni", "dotprod"), max_depth=I8_DEPTH, lanes=DOTS_COLUMN,
        scratch=dots_scratch, tile=DOTS[0],
        costs={"avx512": Cost(125, 0.7, 0.0717, 2), "zen4": Cost(144, 0.92, 0.145, 2.55),
               "avx2": Cost(147, 0.447, 0.0646, 1.43),
               "neon": Cost(300, 3, 1.35, 67)},
        expected={"x86-64-avx512": [r"vpdpbusd\s.*zmm"], "x86-64-avxvnni": [r"vpdpbusd\s.*ymm"],
                  "aarch64-dotprod": [r"sdot\s+v\d+\.4s,\s*v\d+\.16b,\s*v\d+\.4b"]},
    ),
    DotGemm(
        "gemm.i8.i8_i8_f32_planes_multiply", activations="i8", weights="i8",
        max_depth=INT8_MAX_DEPTH, lanes=DOTS_COLUMN, scratch=dots_scratch, packing=BYTE_ROWS,
        tile=DOTS[0],
        costs={"avx512": Cost(125, 0.7, 0.0717, 2), "zen4": Cost(123, 0.974, 0.138, 2.47),
               "avx2": Cost(150, 0.47, 0.205, 2),
               "neon": Cost(300, 3, 1.35, 67)},
        expected={"x86-64-avx512": [r"vpdpbusd\s.*zmm"], "x86-64-avxvnni": [r"vpdpbusd\s.*ymm"],
                  "x86-64-avx2": [r"vpmaddubsw\s.*ymm"], "aarch64": [r"sadalp\s+v\d+\.4s"],
                  "aarch64-dotprod": [r"sdot\s+v\d+\.4s,\s*v\d+\.16b,\s*v\d+\.4b"]},
    ),
    DotGemm(
        "gemm.amx.i8_b1_f32_planes_tiles", activations="i8", weights="b1", needs=("amx-int8",),
        max_depth=I8_DEPTH, lanes=AMX_COLUMN, scratch=amx_scratch, tile=AMX_ROWS, step=AMX_STEP,
        costs={"avx512": Cost(250, 0.7, 0.015, 2.6)},
        expected={"x86-64-amx": [r"tdpbsud\s.*tmm"]},
    ),
    DotGemm(
        "gemm.amx.i8_i8_f32_planes_tiles", activations="i8", weights="i8", needs=("amx-int8",),
        max_depth=INT8_MAX_DEPTH, lanes=AMX_COLUMN, scratch=amx_scratch, packing=BYTE_ROWS,
        tile=AMX_ROWS, step=AMX_STEP, costs={"avx512": Cost(250, 0.7, 0.013, 2.6)},
        expected={"x86-64-amx": [r"tdpbsud\s.*tmm"]},
    ),
    LutWindowGemm(
        "gemm.lut_window.f32_b1_f32_planes_wide", activations="f32", weights="b1",
        needs=("avx2", "neon"), max_depth=ANY, lanes=F32_WIDE.lanes, tile=F32_WIDE,
        costs={"avx512": Cost(588, 17.7, 1.81, 24.9), "zen4": Cost(627, 13.2, 1.35, 16),
               "avx2": Cost(392, 11.8, 1.21, 16.6),
               "neon": Cost(13700, 172, 12, 238)},
        expected={"x86-64-avx2": [r"vaddps\s.*\(%r.*ymm"],
                  "aarch64": [r"fadd\s+v\d+\.4s", FOUR_F32]},
    ),
    LutWindowGemm(
        "gemm.lut_window.f32_b1_f32_planes_tall", activations="f32", weights="b1",
        needs=("avx2", "neon"), max_depth=ANY, lanes=F32_TALL.lanes, tile=F32_TALL,
        costs={"avx512": Cost(135, 17.2, 1.71, 27), "zen4": Cost(419, 13.7, 1.22, 16.4),
               "avx2": Cost(90.3, 11.5, 1.14, 18),
               "neon": Cost(15000, 180, 11, 282)},
        expected={"x86-64-avx2": [r"vaddps\s.*\(%r.*ymm"],
                  "aarch64": [r"fadd\s+v\d+\.4s", FOUR_F32]},
    ),
    LutWindowGemm(
        "gemm.lut_window.f32_b1_f32_planes_square", activations="f32", weights="b1",
        needs=("avx2",), max_depth=ANY, lanes=F32_SQUARE.lanes, tile=F32_SQUARE,
        costs={"avx512": Cost(672, 17.4, 0.885, 16.8), "zen4": Cost(547, 13.8, 0.656, 12.2),
               "avx2": Cost(448, 11.6, 0.59, 11.2)},
        expected={"x86-64-avx2": [r"vaddps\s.*\(%r.*ymm"]},
    ),
    LutWindowGemm(
        "gemm.lut_window.i8_b1_f32_planes_wide", activations="i8", weights="b1",
        needs=("avx2", "neon"), max_depth=I8_DEPTH, lanes=I8_WIDE.lanes, tile=I8_WIDE,
        costs={"avx512": Cost(632, 17.7, 1.88, 48.2), "zen4": Cost(472, 13.9, 1.37, 33),
               "avx2": Cost(421, 11.8, 1.25, 32.1),
               "neon": Cost(17000, 191, 14.2, 520)},
        expected={"x86-64-avx2": [r"vpaddw\s.*\(%r.*ymm"],
                  "aarch64": [r"\badd\s+v\d+\.8h", FOUR_I16]},
    ),
    LutWindowGemm(
        "gemm.lut_window.i8_b1_f32_planes_tall", activations="i8", weights="b1",
        needs=("avx2", "neon"), max_depth=I8_DEPTH, lanes=I8_TALL.lanes, tile=I8_TALL,
        costs={"avx512": Cost(592, 17.5, 1.81, 44.4), "zen4": Cost(667, 14.3, 1.24, 28.3),
               "avx2": Cost(395, 11.7, 1.21, 29.6),
               "neon": Cost(14000, 205, 12.9, 500)},
        expected={"x86-64-avx2": [r"vpaddw\s.*\(%r.*ymm"],
                  "aarch64": [r"\badd\s+v\d+\.8h", FOUR_I16]},
    ),
    LutWindowGemm(
        "gemm.lut_window.i8_b1_f32_planes_square", activations="i8", weights="b1",
        needs=("avx2",), max_depth=I8_DEPTH, lanes=I8_SQUARE.lanes, tile=I8_SQUARE,
        costs={"avx512": Cost(1100, 18.6, 0.959, 27.3), "zen4": Cost(817, 14.5, 0.677, 20.6),
               "avx2": Cost(735, 12.4, 0.639, 18.2)},
        expected={"x86-64-avx2": [r"vpaddw\s.*\(%r.*ymm"]},
    ),
    LutWindowGemm(
        "gemm.lut_window.f32_b1_f32_planes_7x2", activations="f32", weights="b1",
        needs=("neon",), max_depth=ANY, lanes=F32_7X2.lanes, tile=F32_7X2,
        costs={"neon": Cost(13600, 179, 20.5, 328)},
        expected={"aarch64": [r"fadd\s+v\d+\.4s", FOUR_F32]},
    ),
    LutWindowGemm(
        "gemm.lut_window.f32_b1_f32_planes_8x2", activations="f32", weights="b1",
        needs=("neon",), max_depth=ANY, lanes=F32_8X2.lanes, tile=F32_8X2,
        costs={"neon": Cost(13000, 163, 22, 318)},
        expected={"aarch64": [r"fadd\s+v\d+\.4s", FOUR_F32]},
    ),
    LutWindowGemm(
        "gemm.lut_window.i8_b1_f32_planes_7x2", activations="i8", weights="b1",
        needs=("neon",), max_depth=I8_DEPTH, lanes=I8_7X2.lanes, tile=I8_7X2,
        costs={"neon": Cost(17000, 205, 25.5, 1000)},
        expected={"aarch64": [r"\badd\s+v\d+\.8h", FOUR_I16]},
    ),
    LutWindowGemm(
        "gemm.lut_window.i8_b1_f32_planes_8x2", activations="i8", weights="b1",
        needs=("neon",), max_depth=I8_DEPTH, lanes=I8_8X2.lanes, tile=I8_8X2,
        costs={"neon": Cost(17000, 191, 27.3, 1100)},
        expected={"aarch64": [r"\badd\s+v\d+\.8h", FOUR_I16]},
    ),
)
"""Of those that fit, the one of least predicted cost is chosen; the first of equals."""
# fmt: on
