"""The kernels. Installed as `bwn.kernels`: they take addresses and integers and write buffers, and
know neither graphs nor files.

Names are contracts: `<activations>_<weights>_<output>_<layout>_<way>` for GEMMs,
`<input>_<output>_<what>` for the rest, where `f32` is float32, `i8` 8-bit integers within +-127,
`s1` signs (+-1 in int8, 0 in padding) and `b1` one-bit weights or packed signs.
`f32_b1_f32_planes_lookup` reads float32 planes and one-bit weights and writes float32 planes, by
table lookup.

Every kernel has one signature, `kernel(p, begin, end, part)`: p is the address of its parameter
block (`params.py`), begin..end-1 the units of work to do, and `part` which of the concurrent parts
this is: each has its own scratch. M, N and K of a GEMM are positions, output channels and inputs of
an output (`depth`).

Without a compiler:

- `registry.py`: the lists of kernels, and `select`; `costs.py`: the costs by which it selects;
  `gemm/specs.py`: a row for each GEMM.
- `params.py`: parameter blocks. `bits.py`: the bit rule. `reference.py`: every operation in plain
  numpy. `simd/widths.py`, `gemm/tiles.py`, `gemm/*_packing.py`: sizes, and packing of weights.
  `gemm/depths.py`: the largest K whose sums are exact.
- `target/`: what this CPU offers, an entry by its name, from a library or compiled, and the caches.

Compiled by numba, here or ahead of time:

- `gemm/`: matrix products, a file or two each, and the epilogue that they share.
- `tensor/`: elementwise kernels, pooling, copies, bitpacked tensors.
- `simd/`: vectors and what the kernels share. `threads/`: a plan's steps, run by several threads.
- `aot/`: compiling ahead of time, and wheels.

A folder imports those before it in this order: `target`, `simd`, `gemm` and `tensor` and `threads`,
`registry.py` and `costs.py`, `aot`.
"""

if __name__ != "bwn.kernels":
    raise ImportError("kernels/ is installed as bwn.kernels: import that name")
