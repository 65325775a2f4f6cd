"""Compiling kernels ahead of time, for machines without a compiler. Used at build time only.

- `cross.py`: numba with another machine's code generator.
- `build.py`: a library for each target, checked.
- `wheels.py`: wheels with the libraries.
"""
