"""Vectors, single registers and scalars for Numba, and what kernels do with them.

No file holds the AVX-512 code, or that for AVX2: `vectors.py` has vectors of 64 bytes, which LLVM
turns into the registers of any CPU. What only AVX-512 has: the kernels whose row in
`gemm/specs.py` needs `avx512bw` (inlane on 8 bits, permute), and wherever a file asks for a feature
`avx512...` in `features()`: `gemm/xnor_tile.py` (ternary logic, counting bits), `gemm/gemv.py` and
`gemm/gemv_packing.py` (larger blocks). `shuffles.py` names the instructions of both.
"""
