"""The kind of a file by its first bytes, to name it in a message when it is the wrong one."""

from __future__ import annotations

from pathlib import Path

HEAD = 512
"""How many of the first bytes of a file are enough."""
CHECKPOINT, ONNX, PACKED = "a PyTorch checkpoint", "an ONNX model", "a .bwn model"
PACKABLE = (CHECKPOINT, ONNX)
UNKNOWN = "an unknown kind of file"
SOURCES = "a .pt checkpoint or an ONNX file"
"""What a network is packed from."""

ZIP = b"PK\x03\x04"
STARTS = (
    (ZIP, "a zip archive"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"8BPS", "a Photoshop image"),
    (b"RIFF", "a RIFF file (WebP images are)"),
    (b"\x1f\x8b", "a gzip file"),
    (b"%PDF", "a PDF"),
    (b"GGUF", "a GGUF model"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x7fELF", "a program"),
    (b"\x93NUMPY", "a numpy array"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
)


def looks_like(head: bytes) -> str:
    """Return what kind of file starts with `head`, in words for a message."""
    if not head:
        return "an empty file"
    if head.startswith(ZIP) and b"/data.pkl" in head:
        return CHECKPOINT
    for start, name in STARTS:
        if head.startswith(start):
            return name
    if head[4:8] == b"TFL3":
        return "a TFLite model"
    if head[8:9] == b"{":
        return PACKED if b'"format":"bwn"' in head else "a safetensors file"
    # An ONNX file starts with field 1 (ir_version, a small number), then field 2, 3 or 8.
    if (
        head[0] == 0x08
        and head[1:2] < b"\x20"
        and head[2:3] in (b"\x12", b"\x1a", b"\x42", b"\x3a")
    ):
        return ONNX
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return "a text file"
    return UNKNOWN


def not_checkpoint(path: Path) -> str:
    """Return why a file that is no whole zip archive, as a checkpoint is, cannot be one."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head.startswith(ZIP):
        return "truncated or damaged; copy it again"
    kind = looks_like(head)
    return f"{'unrecognized contents' if kind == UNKNOWN else kind}, not a checkpoint"


def mismatch(expected: str, head: bytes) -> str:
    """Return that a file which starts with `head` is not what was `expected`, and what it is."""
    if not head:
        return f"the file is empty, expected {expected}"
    kind = looks_like(head)
    known = "unrecognized contents" if kind == UNKNOWN else f"it looks like {kind}"
    return f"not {expected}: {known}"
