"""A packed network as a C library: planned for a target, laid out, compiled without a C compiler.

- `library.py`: the command's work: names, files, the process that compiles.
- `compile_worker.py`: that process.
- `layout.py`: from a plan to an arena and constants.
- `c_header.py`: the C header, and what the JSON file says.
- `web.py`, `module.mjs`, `module.d.mts`: what comes with a WebAssembly module.

The code of kernels and of the C functions is made in `kernels/aot/`.
"""
