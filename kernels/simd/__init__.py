"""Vectors, single registers and scalars for Numba, and what kernels do with them."""
