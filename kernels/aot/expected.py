"""Instructions that kernels must hold on each target: regular expressions over the assembly of a kernel.

A kernel whose loop is no longer made of these has lost its vectors. Only what a kernel is built around is named.
"""

from __future__ import annotations

_AARCH64 = {
    "f32_b1_f32_planes_lookup": [r"fadd\s+v\d+\.4s", r"ldp\s+q\d+, q\d+, \[x\d+\]"],
    "i8_b1_f32_planes_lookup": [r"\badd\s+v\d+\.8h", r"ldp\s+q\d+, q\d+, \[x\d+\]"],
    "s1_b1_f32_planes_lookup": [r"\badd\s+v\d+\.16b"],
    "f32_f32_f32_planes_multiply": [r"fmla\s+v\d+\.4s"],
    "f32_f32_b1_signs_multiply": [r"fmla\s+v\d+\.4s"],
    "i8_b1_f32_planes_bytes": [r"tbl\s+v\d+\.16b"],
    "f32_b1_f32_planes_split": [r"ld4\s", r"tbl\s+v\d+\.16b", r"zip1\s"],
    "s1_b1_f32_planes_inlane": [r"cnt\s+v\d+\.16b"],
    "b1_b1_b1_signs_xnor": [r"cnt\s+v\d+\.16b", r"uadalp\s+v\d+\.4s"],
    "b1_b1_f32_planes_xnor": [r"cnt\s+v\d+\.16b", r"uadalp\s+v\d+\.4s"],
    "f32_f32_affine": [r"fmla\s+v\d+\.4s"],
}
_AVX2 = {
    "f32_b1_f32_planes_lookup": [r"vaddps\s.*[yz]mm"],
    "i8_b1_f32_planes_lookup": [r"vpaddw\s.*[yz]mm"],
    "s1_b1_f32_planes_lookup": [r"vpaddb\s.*[yz]mm"],
    "f32_f32_f32_planes_multiply": [r"vfmadd\d+ps\s.*[yz]mm"],
    "f32_f32_b1_signs_multiply": [r"vfmadd\d+ps\s.*[yz]mm"],
    "f32_b1_f32_planes_inlane": [r"vpermp?s|vperm[it]2ps"],
    "i8_b1_f32_planes_bytes": [r"vpshufb\s.*ymm"],
    "f32_f32_affine": [r"vfmadd\d+ps\s.*[yz]mm"],
}
_AVX512 = _AVX2 | {
    "f32_b1_f32_planes_lookup": [r"vaddps\s.*zmm"],
    "f32_f32_f32_planes_multiply": [r"vfmadd\d+ps\s.*zmm"],
    "i8_b1_f32_planes_inlane": [r"vpermw|vperm[it]2w"],
    "f32_b1_f32_planes_permute": [r"vperm[it]2ps\s.*zmm"],
    "i8_b1_f32_planes_permute": [r"vperm[it]2w\s.*zmm"],
    "s1_b1_f32_planes_inlane": [r"vpopcnt[qd]\s.*zmm"],
    "b1_b1_b1_signs_xnor": [r"vpopcntd\s.*zmm", r"vpternlogd\s.*zmm"],
}

EXPECTED: dict[str, dict[str, list[str]]] = {
    "aarch64": _AARCH64,
    "aarch64-dotprod": _AARCH64
    | {"i8_b1_f32_planes_dots": [r"sdot\s+v\d+\.4s,\s*v\d+\.16b,\s*v\d+\.4b"]},
    "x86-64": {
        "f32_b1_f32_planes_lookup": [r"addps\s.*xmm"],
        "i8_b1_f32_planes_lookup": [r"paddw\s.*xmm"],
    },
    "x86-64-avx2": _AVX2,
    "x86-64-avx512": _AVX512,
}
"""By target and part of a kernel's name."""
