"""Texts that accompany compiled code: its description as JSON, and the C header of a library."""

from __future__ import annotations

import textwrap
from math import prod

import msgspec

from bwn._text import __version__
from bwn.ir.model_spec import ModelSpec
from bwn.kernels.aot.c_spec import ERROR_NAMES, ERRORS
from bwn.predict import class_names, ends_in_softmax

WIDTH = 100
OPEN = '#ifdef __cplusplus\nextern "C" {\n#endif'
CLOSE = "#ifdef __cplusplus\n}\n#endif"
IMAGE = "const uint8_t *pixels, int width, int height, int channels,\n    ptrdiff_t stride, float *"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Description of the compiled code: the content of NAME.json.

    Attributes:
        name: Prefix of the names of the functions.
        target: Processor that it is compiled for.
        cpu: LLVM's name of that processor.
        machine: `x86_64`, `aarch64` or `wasm32`.
        batch: Examples per run.
        input_shape: Shape of an example.
        output_shape: Shape of the scores of an example.
        classes: Names of the classes.
        arena_bytes: Memory that each thread needs.
        constant_bytes: Weights and other constants.
        kernels: Names of the kernels that it contains.
        model_sha256: Digest of the .bwn file.
        versions: Versions of bwn and of the compiler.
    """

    name: str
    target: str
    cpu: str
    machine: str
    batch: int
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    classes: tuple[str, ...]
    arena_bytes: int
    constant_bytes: int
    kernels: tuple[str, ...]
    model_sha256: str
    versions: dict[str, str]


class LibraryReport(Report, frozen=True, kw_only=True):
    """Description of a C library.

    Attributes:
        static_bytes: Size of libNAME.a.
        shared_bytes: Size of libNAME.so.
    """

    static_bytes: int
    shared_bytes: int


class ModuleReport(Report, frozen=True, kw_only=True):
    """Description of a WebAssembly module.

    Attributes:
        module_bytes: Size of NAME.wasm.
    """

    module_bytes: int


def header(spec: ModelSpec, report: LibraryReport) -> str:
    """The text of the header, C99 and C++."""
    name, batch, macro = report.name, report.batch, report.name.upper()
    about = (
        f"{name}: a neural network as a C library, made by bwn {__version__} from the model with "
        f"SHA-256 {report.model_sha256}, for {report.target} ({report.cpu}). The arena is all "
        "memory that the library writes, besides its outputs and a few KiB of stack. Each thread "
        "needs its own. The library allocates no memory and opens no files. Link with -lm."
    )
    numbers = _numbers(spec, batch, report.arena_bytes)
    parts = [
        comment(about) + f"\n#ifndef {macro}_H\n#define {macro}_H",
        "#include <stddef.h>\n#include <stdint.h>",
        OPEN,
        "\n".join(f"#define {macro}_{key} {value}" for key, value in numbers.items()),
        _error_codes(macro),
        *(comment(text) + f"\n{code}" for text, code in _functions(name, macro, spec, batch)),
        CLOSE,
        "#endif",
    ]
    return "\n\n".join(parts) + "\n"


def comment(text: str) -> str:
    """A C comment, wrapped."""
    lines = textwrap.wrap(text, WIDTH - 6, break_on_hyphens=False)
    return "/* " + "\n * ".join(lines) + " */"


def _numbers(spec: ModelSpec, batch: int, arena: int) -> dict[str, int]:
    shape = spec.graph.topology.input_shape
    sides = ("CHANNELS", "HEIGHT", "WIDTH") if len(shape) == 3 else ()
    return {
        "BATCH": batch,
        "INPUTS": prod(shape),
        **dict(zip(sides, shape, strict=False)),
        "OUTPUTS": prod(spec.graph.output_shape),
        "CLASSES": len(class_names(spec)),
        "ARENA_SIZE": arena,
    }


def _error_codes(macro: str) -> str:
    """The codes that functions return, by name."""
    lines = [comment("Error codes; 0 is success.")]
    for code, name in enumerate(ERROR_NAMES, 1):
        lines += [f"#define {macro}_ERROR_{name} {code}", "    " + comment(ERRORS[code])]
    return "\n".join(lines)


def _functions(name: str, macro: str, spec: ModelSpec, batch: int) -> list[tuple[str, str]]:
    """Description and declaration of each function."""
    shape = " x ".join(map(str, spec.graph.topology.input_shape))
    how = "which they already are" if ends_in_softmax(spec) else "with softmax"
    functions = [
        (f"Size of the arena in bytes: {macro}_ARENA_SIZE.", f"size_t {name}_arena_size(void);"),
        (
            f"Prepare an arena of {macro}_ARENA_SIZE bytes, aligned to 64. Call it once for each "
            "arena; do not move or copy the arena afterwards. Returns 0 or an error code.",
            f"int {name}_init(void *arena);",
        ),
        (
            f"Run the network. x: {macro}_BATCH inputs of {shape} float32; scores: {macro}_BATCH "
            f"times {macro}_OUTPUTS float32. Neither may overlap the arena. It checks nothing: the "
            "arena must be initialized.",
            f"void {name}_run(void *arena, const float *x, float *scores);",
        ),
        (
            f"Turn the {macro}_OUTPUTS scores of one input into {macro}_CLASSES probabilities, "
            f"{how}. Returns 0, or an error code if a score is not finite.",
            f"int {name}_probabilities(const float *scores, float *probabilities);",
        ),
        (
            f"Name of a class, UTF-8; NULL unless 0 <= index < {macro}_CLASSES.",
            f"const char *{name}_class(int index);",
        ),
        ("Message of an error code, in English.", f"const char *{name}_error(int code);"),
    ]
    if spec.preprocess is None:
        return functions
    prepare = (
        f"Make an input from an image: {spec.preprocess}. pixels: rows of 8-bit pixels from the "
        "top; stride: bytes from one row to the next; channels: 1 for gray, 3 for red, green, "
        "blue, 4 for these and a byte that is ignored; width and height: 1 to 65535. "
        f"x: {shape} float32. Returns 0 or an error code.",
        f"int {name}_prepare(void *arena, {IMAGE}x);",
    )
    classify = (
        f"Classify an image: prepare, run and probabilities. probabilities: {macro}_CLASSES "
        "float32. Returns 0, or an error code without writing probabilities.",
        f"int {name}_classify(void *arena, {IMAGE}probabilities);",
    )
    return [*functions, prepare, *([classify] if batch == 1 else [])]
