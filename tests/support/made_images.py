"""Image files written byte by byte, with whatever meaning a format allows."""

from __future__ import annotations

import struct
import zlib

import numpy as np

LEVELS = np.arange(16) / 15
"""A ramp from black to white."""
GRAY = np.tile(np.rint(LEVELS * 255), (4, 1))
"""(4, 16): the ramp in 8 bits."""
COLOR = np.stack([GRAY, GRAY[:, ::-1], np.full_like(GRAY, 128)], 2)
"""(4, 16, 3): red rises, green falls."""


def packed_bits(rows, bits):
    """Rows of small numbers, each row in whole bytes, the first number in the highest bits."""
    text = ["".join(format(int(value), f"0{bits}b") for value in row) for row in rows]
    text = [row + "0" * (-len(row) % 8) for row in text]
    return [bytes(int(row[i : i + 8], 2) for i in range(0, len(row), 8)) for row in text]


def tiff(
    samples,
    *,
    bits=8,
    photometric=1,
    endian="<",
    sample_format=None,
    extra=None,
    colormap=None,
    fill=1,
    planar=1,
    orientation=None,
):
    """An uncompressed TIFF of one strip a plane; samples: (H, W) or (H, W, C)."""
    samples = np.atleast_3d(np.asarray(samples))
    height, width, channels = samples.shape
    if bits >= 8 and bits != 12:
        kind = {None: "u", 1: "u", 2: "i", 3: "f"}[sample_format]
        order = samples if planar == 1 else samples.transpose(2, 0, 1)
        data = np.ascontiguousarray(order.astype(f"{endian}{kind}{bits // 8}")).tobytes()
    else:
        data = b"".join(packed_bits(samples.reshape(height, -1), bits))
    if fill == 2:
        data = bytes(int(format(byte, "08b")[::-1], 2) for byte in data)
    planes = channels if planar == 2 else 1
    strip = len(data) // planes
    shorts = {
        256: [width],
        257: [height],
        258: [bits] * channels,
        259: [1],
        262: [photometric],
        266: [fill] if fill != 1 else None,
        274: [orientation] if orientation else None,
        277: [channels],
        278: [height],
        284: [planar],
        320: colormap,
        332: [1] if photometric == 5 else None,
        338: [extra] if extra is not None else None,
        339: [sample_format] * channels if sample_format else None,
    }
    tags = {tag: ("H", values) for tag, values in shorts.items() if values is not None}
    tags[273] = "I", [8 + index * strip for index in range(planes)]
    tags[279] = "I", [strip] * planes
    data += b"\0" * (len(data) % 2)
    start = 8 + len(data)
    more = start + 2 + 12 * len(tags) + 4
    entries, values_after = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        raw = struct.pack(f"{endian}{len(values)}{kind}", *values)
        field = raw.ljust(4, b"\0")
        if len(raw) > 4:
            field = struct.pack(f"{endian}I", more + len(values_after))
            values_after += raw + b"\0" * (len(raw) % 2)
        entries += struct.pack(f"{endian}HHI", tag, 3 if kind == "H" else 4, len(values)) + field
    head = (b"II*\0" if endian == "<" else b"MM\0*") + struct.pack(f"{endian}I", start)
    table = struct.pack(f"{endian}H", len(tags)) + entries + b"\0" * 4
    return head + data + table + values_after


def png(samples, *, bits=8, color=0, transparent=None, palette=None):
    """A PNG. color: the color type of its header; transparent: the bytes of its tRNS chunk."""
    samples = np.asarray(samples)
    height, width = samples.shape[:2]
    rows = samples.reshape(height, -1)
    if bits >= 8:
        lines = [row.astype(f">u{bits // 8}").tobytes() for row in rows]
    else:
        lines = packed_bits(rows, bits)

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header)]
    if palette is not None:
        parts.append(chunk(b"PLTE", bytes(palette)))
    if transparent is not None:
        parts.append(chunk(b"tRNS", transparent))
    pixels = zlib.compress(b"".join(b"\0" + line for line in lines))
    return b"".join([*parts, chunk(b"IDAT", pixels), chunk(b"IEND", b"")])


def pnm(kind, samples, white):
    """A PGM or PPM; kind: `P2` and `P3` are text, `P5` and `P6` bytes."""
    samples = np.asarray(samples).astype(int)
    height, width = samples.shape[:2]
    head = f"{kind} {width} {height} {white}\n".encode()
    if kind in ("P2", "P3"):
        return head + " ".join(map(str, samples.ravel())).encode()
    return head + samples.astype(">u2" if white > 255 else "u1").tobytes()
