"""Vectors, single registers and scalars, as Numba intrinsics: the only place that emits LLVM instructions for lanes."""
