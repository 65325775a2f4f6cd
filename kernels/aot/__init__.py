"""Compiling kernels ahead of time, for machines without a compiler: at build time only, nothing here is installed.

- `cross.py`: numba with another machine's code generator; `build.py`: one library, checked; `wheels.py`: the wheels.
"""
