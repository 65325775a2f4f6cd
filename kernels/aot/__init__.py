"""Compiling kernels ahead of time, for machines without a compiler. Used at build time only.

- `cross.py`: numba with another machine's code generator. `linker.py`: from object files to shared
  libraries. `archive.py`: to static ones.
- `build.py`: a library of all kernels for each target, checked. `wheels.py`: wheels with them.
- `c_api.py`: a library of one network, with its functions in C (`bwn compile`); `c_spec.py` says
  what it is made of. Its entries besides kernels: `c_install.py` fills the arena; `c_prepare.py`
  prepares images, with `c_image.py`, `c_geometry.py`, `c_resample.py`, `c_filters.py`;
  `c_scores.py` makes probabilities.
"""
