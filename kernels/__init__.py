"""The kernels. Installed as `bwn.kernels`: addresses and integers in, buffers written; knows no graph and no file.

Names are contracts: `<activations>_<weights>_<output>_<layout>_<way>` for products, `<input>_<output>_<what>` for the
rest, where `f32` is float32, `i8` 8-bit integers within +-127, `s1` signs (+-1 in int8, 0 in padding) and `b1` one-bit
weights or packed signs. `f32_b1_f32_planes_lookup` reads float32 planes and one-bit weights, writes float32 planes, by
table lookup.

What a kernel is given knows no compiler; what it does is compiled by numba, here or ahead of time:

- `registry.py`: the one list, and `select`; `costs.py`: what each product costs, by which it selects; `reference.py`:
  the plain truth of every operation; `bits.py`: the bit rule.
- `fields.py`, `board.py`: parameter blocks; `tiles.py`, `lanes.py`, `permute_layout.py`, `xnor_tables.py`: sizes, and
  layouts of weights; `cpu.py`: what this CPU offers.
- `code.py`: an entry by its name, from a library or compiled; `targets.py`: the libraries; `cache.py`: what is kept.

Compiled:

- `lookup.py`, `permute.py`, `multiply.py`: products of many positions; `inlane.py`, `inlane_bytes.py`,
  `inlane_split.py`, `inlane_dots.py`, `inlane_signs.py`, `single.py`: of few; `finish.py`: how each ends. `maps.py`,
  `pooling.py`, `layout.py`: everything else.
- `xnor.py`, `xnor_tile.py`, `multiply_signs.py`: products with packed signs; `pairs.py`: what else moves those.
- `team.py`: a plan's steps, run by several threads; `atomics.py`: the words that those share.
- `vectors.py`, `shuffles.py`, `registers.py`, `signs.py`, `memory.py`: vectors, moving their lanes, single registers,
  packed signs, scalars and parameter blocks for Numba; `compiler.py`: compiling and its cache; `ahead/`: compiling
  ahead of time, and wheels.
"""

if __name__ != "bwn.kernels":
    raise ImportError("kernels/ is installed as bwn.kernels: import that name")
