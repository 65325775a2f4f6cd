"""Hostile .bwn files: forged with a matching digest, so that only the rule itself can refuse them.

The cases follow the refusals of bwn/format/SPEC.md. Each is also given to `bwn inspect`, which
must answer in one line.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from bwn import format
from bwn._file_types import looks_like
from bwn._text import is_name
from bwn.cli.main import bwn
from bwn.errors import FileError, FormatError
from bwn.format import header
from bwn.format.header import in_order
from bwn.format.reader import from_bytes

GOLDEN = Path(__file__).parents[1] / "golden" / "every-node.bwn"

WORDS = np.array([[5], [6]], "<u8")
BIAS = np.array([0.5, -1], "<f4")

DENSE = {"op": "dense", "input": "x", "output": "y", "weight": "w", "bias": "b"}
GRAPH = {"input": "x", "input_shape": [60], "output": "y", "nodes": [DENSE]}
TENSORS = [("w", "U64", WORDS), ("b", "F32", BIAS)]


def compact(value) -> str:
    return (
        value
        if isinstance(value, str)
        else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    )


def forge(
    tensors=TENSORS, *, drop=(), extra=None, offsets=None, pad=" ", order=(), **metadata
) -> bytes:
    """A file in the layout of the page with any contents, its digest right."""
    fields = {"format": "bwn", "version": "1", "digest": "0" * 64, "producer": "p"}
    fields |= {"graph": GRAPH, "preprocess": "null", "classes": "null"} | metadata | (extra or {})
    fields = {
        key: fields[key]
        for key in (*(key for key in fields if key not in order), *order)
        if key not in drop
    }
    head = {"__metadata__": {key: compact(value) for key, value in fields.items()}}
    start = 0
    for name, dtype, array in tensors:
        head[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [start, start + array.nbytes],
        }
        start += array.nbytes
    if offsets:
        head["b"]["data_offsets"] = offsets
    text = compact(head).encode()
    text += pad.encode() * (-len(text) % 8)
    return sealed(
        len(text).to_bytes(8, "little")
        + text
        + b"".join(array.tobytes() for _, _, array in tensors)
    )


def sealed(data: bytes) -> bytes:
    """`data` with the digest that matches it."""
    at = header.DIGEST_AT
    data = data[: at.start] + b"0" * 64 + data[at.stop :]
    return data[: at.start] + hashlib.sha256(data).hexdigest().encode() + data[at.stop :]


def graph(**changes) -> dict:
    return {**GRAPH, **changes}


def node(**changes) -> dict:
    return graph(nodes=[{**DENSE, **changes}])


def swapped(old: bytes, new: bytes) -> bytes:
    """The good file with other text of the same length."""
    assert len(old) == len(new)
    good = forge()
    assert good.count(old) == 1
    return sealed(good.replace(old, new))


def test_the_forged_file_is_good_when_nothing_is_wrong_with_it():
    spec = from_bytes(forge())
    np.testing.assert_array_equal(spec.graph.tensors["w"], WORDS)


PREPROCESS = {"size": [6, 10], "resize": "crop", "color": "L", "mean": [0.0], "std": [1.0]}

HOSTILE = {
    "version 6": (
        forge(version="6"),
        'format version "6"; this bwn reads versions "1", "2", "3", "4", "5": install a newer bwn',
    ),
    "version 2 for 1": (forge(version="2"), "not in canonical form"),
    "version of another length": (forge(version="1.5"), 'format version "1.5"'),
    "metadata key missing": (forge(drop=("classes",)), "missing required field `classes`"),
    "metadata key unknown": (forge(extra={"note": "hello"}), "unknown field `note`"),
    "metadata in another order": (
        forge(order=("graph", "producer", "preprocess", "classes")),
        "not in canonical form",
    ),
    "graph not JSON": (forge(graph="{"), "graph: Input data was truncated"),
    "graph deep": (forge(graph="[" * 100_000), "graph: "),
    "graph of another type": (forge(graph="[]"), "graph: Expected `object`, got `array`"),
    "graph with an unknown key": (forge(graph=graph(weights=3)), "unknown field `weights`"),
    "node with an unknown key": (forge(graph=node(alpha=0.5)), "unknown field `alpha`"),
    "node with a key missing": (
        forge(graph=graph(nodes=[{"op": "dense", "input": "x"}])),
        "missing required field",
    ),
    "node of an unknown op": (forge(graph=node(op="exec")), "Invalid value 'exec'"),
    "node without an op": (
        forge(graph=graph(nodes=[{"input": "x", "output": "y"}])),
        "missing required field `op`",
    ),
    "attribute of a wrong type": (forge(graph=node(low="0")), "Expected `float | null`, got `str`"),
    "activations unknown": (forge(graph=node(activations="fp4")), "Invalid enum value 'fp4'"),
    "number too large": (forge(graph=graph(input_shape=[10**30])), "illegal model"),
    "NaN": (
        forge(graph=compact(node(low=0)).replace('"low":0', '"low":NaN')),
        "graph: JSON is malformed",
    ),
    "a bound that overflows": (
        forge(graph=compact(node(low=0)).replace('"low":0', '"low":1e999')),
        "graph: ",
    ),
    "graph with spaces": (forge(graph=json.dumps(GRAPH)), "not in canonical form"),
    "graph with a default written out": (
        forge(graph=node(activations="float32")),
        "not in canonical form",
    ),
    "graph with a null written out": (forge(graph=node(scale=None)), "not in canonical form"),
    "graph with an escape": (
        forge(graph=compact(GRAPH).replace('"x"', '"\\u0078"')),
        "not in canonical form",
    ),
    "graph with a key twice": (
        forge(
            graph=compact(GRAPH).replace(
                '"output":"y","nodes"', '"output":"z","output":"y","nodes"'
            )
        ),
        "not in canonical form",
    ),
    "integer for a float": (forge(graph=node(low=0)), "not in canonical form"),
    "keys in another order": (forge(graph=dict(reversed(GRAPH.items()))), "not in canonical form"),
    "tensors in another order": (forge(TENSORS[::-1]), "not in canonical form"),
    "header padded otherwise": (forge(pad="\n", producer="pp"), "not in canonical form"),
    "lone surrogate": (forge(graph=compact(GRAPH).replace('"y"', '"\\ud800"')), "graph: "),
    "cycle": (
        forge(
            [],
            graph=graph(
                nodes=[
                    {"op": "sign", "input": "y", "output": "z"},
                    {"op": "sign", "input": "z", "output": "y"},
                ]
            ),
        ),
        "illegal model: sign 'z': reads 'y', which nothing before it makes",
    ),
    "tensor missing": (forge(TENSORS[:1]), "reads the stored tensor 'b', which is missing"),
    "tensor unused": (forge([*TENSORS, ("z", "F32", BIAS)]), "no node reads the stored tensor 'z'"),
    "tensor of another type": (
        forge([("w", "I64", WORDS), TENSORS[1]]),
        "tensor 'w' is I64, expected U64, F32 or I8",
    ),
    "tensor of 16 bits": (
        forge([TENSORS[0], ("b", "F16", BIAS.astype("<f2"))]),
        "tensor 'b' is F16",
    ),
    "shape disagrees with offsets": (forge(offsets=[16, 20]), "damaged: 480 bytes, expected 476"),
    "tensors overlap": (forge(offsets=[8, 16]), "damaged: 480 bytes, expected 472"),
    "a gap between tensors": (forge(offsets=[20, 28]), "truncated: 480 of 484 bytes"),
    "offsets that overflow": (forge(offsets=[2**64 - 8, 2**64 - 1]), "truncated: "),
    "words of a wrong shape": (
        forge([("w", "U64", WORDS.reshape(1, 2)), TENSORS[1]]),
        "expected uint64 (1, 1)",
    ),
    "words of three axes": (
        forge([("w", "U64", WORDS.reshape(2, 1, 1)), TENSORS[1]]),
        "expected uint64 (2, 1)",
    ),
    "words of no axes": (
        forge([("w", "U64", WORDS[0, 0].reshape(())), TENSORS[1]]),
        "weights have shape ()",
    ),
    "no outputs": (
        forge([("w", "U64", WORDS[:0]), ("b", "F32", BIAS[:0])]),
        "weights have shape (0, 1)",
    ),
    "pad bits set": (forge([("w", "U64", WORDS | 2**60), TENSORS[1]]), "have bits set after"),
    "bias NaN": (forge([TENSORS[0], ("b", "F32", BIAS * np.float32("nan"))]), "not finite"),
    "an input that would fill the machine": (
        forge(graph=graph(input_shape=[2**40])),
        "more than 268,435,456 elements",
    ),
    "negative input": (forge(graph=graph(input_shape=[-60])), "shape is (-60,)"),
    "a convolution that would not end": (
        forge(
            [("w", "F32", np.ones((1, 1, 64, 64), "<f4"))],
            graph=graph(
                input_shape=[1, 16000, 16000],
                nodes=[
                    {"op": "conv", "input": "x", "output": "c", "weight": "w", "kernel": [64, 64]}
                ]
                + [{"op": "conv", "input": "c", "output": "y", "weight": "w", "kernel": [64, 64]}]
                * 8,
            ),
        ),
        "illegal model: ",
    ),
    "classes that do not fit": (
        forge(classes=["a"]),
        "1 name given, but the network's output has shape (2,)",
    ),
    "classes of a wrong type": (forge(classes=[1, 2]), "classes: Expected `str`, got `int`"),
    "a class name that moves the cursor": (
        forge(classes=["a", "\x1b[2J"]),
        "expected 1 to 1024 characters, no control characters",
    ),
    "preprocessing that does not fit": (
        forge(
            preprocess={"size": [9, 9], "resize": "crop", "color": "L", "mean": [0.0], "std": [1.0]}
        ),
        "images become arrays of shape (1, 9, 9), but the network takes (60,)",
    ),
    "preprocessing with a default left out": (
        forge(preprocess={"size": [6, 10], "color": "L", "mean": [0.0], "std": [1.0]}),
        "not in canonical form",
    ),
    "preprocessing that divides by 0": (
        forge(
            preprocess={
                "size": [6, 10],
                "resize": "crop",
                "color": "L",
                "mean": [0.0],
                "std": [0.0],
            }
        ),
        "std is (0.0,)",
    ),
    "preprocessing with a default of version 4": (
        forge(version="4", preprocess=PREPROCESS | {"scale": 255}),
        "not in canonical form",
    ),
    "preprocessing of version 4 in version 1": (
        forge(preprocess=PREPROCESS | {"scale": 1}),
        "not in canonical form",
    ),
    "preprocessing on another scale": (
        forge(version="4", preprocess=PREPROCESS | {"scale": 2}),
        "preprocess: Invalid enum value 2",
    ),
    "a center larger than the image": (
        forge(version="4", preprocess=PREPROCESS | {"resize": 9}),
        "resize is 9, expected 10 to 1048576",
    ),
    "an image resized beyond memory": (
        forge(version="4", preprocess=PREPROCESS | {"resize": 2**60}),
        f"resize is {2**60}, expected 10 to 1048576",
    ),
    "a background that is no color": (
        forge(version="4", preprocess=PREPROCESS | {"background": [0, 0, 256]}),
        "background is (0, 0, 256), expected 0 to 255",
    ),
    "an unknown interpolation": (
        forge(version="4", preprocess=PREPROCESS | {"interpolation": "cubic"}),
        "preprocess: Invalid enum value 'cubic'",
    ),
    "a producer of two lines": (forge(producer="a\nb"), "producer: expected"),
    "tensor keys in another order": (
        swapped(b'"dtype":"U64","shape":[2,1]', b'"shape":[2,1],"dtype":"U64"'),
        "canonical",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_refused_in_one_line(name, tmp_path):
    data, message = HOSTILE[name]
    path = tmp_path / "model.bwn"
    path.write_bytes(data)
    with pytest.raises(FormatError) as caught:
        format.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    result = CliRunner().invoke(bwn, ["inspect", str(path)])
    assert result.exit_code == 3
    assert result.stderr == f"Error: {caught.value}\n"
    assert result.stdout == ""


FOREIGN = {
    "PK\x03\x04rest": "a zip archive",
    "PK\x03\x04archive/data.pkl": "a PyTorch checkpoint",
    "\x89PNG\r\n\x1a\n": "a PNG image",
    "\xff\xd8\xff\xe0": "a JPEG image",
    "hello there, this is text": "a text file",
    "\x1f\x8b\x08": "a gzip file",
    '\x10\0\0\0\0\0\0\0{"a":{}}        ': "a safetensors file",
    "\x08\x08\x12\x07pytorch": "an ONNX model",
}


@pytest.mark.parametrize("text", FOREIGN, ids=FOREIGN.values())
def test_a_foreign_file_is_named(text, tmp_path):
    data = text.encode("latin-1")
    assert looks_like(data) == FOREIGN[text]
    path = tmp_path / "model.bwn"
    path.write_bytes(data)
    with pytest.raises(FormatError) as caught:
        format.read(path)
    hint = "pack it" if FOREIGN[text] in ("a PyTorch checkpoint", "an ONNX model") else "make one"
    message = f"{path}: not a .bwn file: it looks like {FOREIGN[text]}; {hint} with bwn pack"
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty, expected a .bwn file; make one with bwn pack"),
        (b"\0\0\x08\x03\0\0\xea\x60", "not a .bwn file: unrecognized contents; make one"),
        (forge()[:300], "truncated: 300 of more than "),
        (forge()[:-5], f"truncated: {len(forge()) - 5} of {len(forge())} bytes; copy it again"),
    ],
)
def test_an_empty_an_unknown_and_a_cut_file_are_named_in_plain_words(data, message):
    with pytest.raises(FormatError) as caught:
        from_bytes(data)
    assert str(caught.value).startswith(message)


def test_a_flip_in_the_first_bytes_is_not_called_this_very_format():
    whole = forge()
    for at in range(9, 8 + len(header.PREFIXES[0])):
        flipped = bytearray(whole)
        flipped[at] ^= 1
        with pytest.raises(FormatError) as caught:
            from_bytes(bytes(flipped))
        assert "looks like a .bwn" not in str(caught.value)
        assert 'format version "1"' not in str(caught.value)


def test_paths_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "not a regular file"),
        (Path("/dev/zero"), "not a regular file"),
        (tmp_path / "none.bwn", "^no such file: "),
        (tmp_path / "a\0b", "null byte"),
    ):
        with pytest.raises(FileError, match=message):
            format.read(path)


def test_a_file_larger_than_the_cap_is_not_read(tmp_path):
    path = tmp_path / "huge.bwn"
    with path.open("wb") as file:
        file.truncate(2**30 + 1)
    with pytest.raises(FileError, match="1,073,741,825 bytes; at most 1,073,741,824 are read"):
        format.read(path)


@pytest.mark.parametrize("length", [2**24 + 1, 2**56, 2**64 - 1])
def test_a_header_larger_than_the_cap_is_not_parsed(length):
    data = forge()
    with pytest.raises(FormatError, match=f"header of {length:,} bytes; at most 16,777,216"):
        from_bytes(length.to_bytes(8, "little") + data[8:])


JUNK = [0, 1, -1, 2, 3, 65, 2**31, 2**63, 2**64, 10**30, 0.5, -0.0, 1e308, True, None, [], {}]
JUNK += ["", "x", "y", "w", "b", "conv", "int8", "binary", "\u202e"]
JUNK += [[1, 1], [0, 0], [60], [3, 4, 5], [2**40, 2**40, 2**40], [1, 1, 1, 1], [-1, 9, 0, 0]]


def paths_in(value, path=()):
    """Every place in a JSON value."""
    yield path
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, item in items:
        yield from paths_in(item, (*path, key))


def mutated(value, random):
    """A copy with one place replaced by junk, a junk key added, or an item dropped or repeated."""
    value = json.loads(json.dumps(value))
    places = list(paths_in(value))
    *way, last = places[random.integers(1, len(places))]
    holder = value
    for key in way:
        holder = holder[key]
    kind = random.integers(4)
    junk = JUNK[random.integers(len(JUNK))]
    if kind == 0 and isinstance(holder, list):
        holder.insert(last, holder[last])
    elif kind == 1:
        del holder[last]
    elif kind == 2 and isinstance(holder, dict):
        names = [
            "stride",
            "pads",
            "dilation",
            "groups",
            "kernel",
            "low",
            "high",
            "step",
            "activations",
            "scale",
        ]
        holder[names[random.integers(len(names))]] = junk
    else:
        holder[last] = junk
    return value


def test_any_graph_is_read_or_refused_in_one_line():
    random = np.random.default_rng(0)
    spec = format.read(GOLDEN)
    tensors = [
        (name, "U64" if a.dtype == np.uint64 else "F32", a)
        for name, a in in_order(dict(spec.graph.tensors))
    ]
    topology = json.loads(msgspec.json.encode(spec.graph.topology))
    read = 0
    for _ in range(3000):
        changed = topology
        for _ in range(random.integers(1, 4)):
            changed = mutated(changed, random)
        try:
            from_bytes(forge(tensors, graph=changed))
            read += 1
        except FormatError as error:
            assert is_name(str(error)), changed  # noqa: PT017
    assert read < 300, "some mutations are legal, such as another bound; most are not"
