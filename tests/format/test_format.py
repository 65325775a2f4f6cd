"""The .bwn file: exact bytes, round trips, and every damage refused."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import safetensors.numpy
from graphs import make_graph
from hypothesis import given
from hypothesis import strategies as st

from bwn import format
from bwn.errors import FileError, FormatError, GraphError
from bwn.format.header import DIGEST_AT, NO_DIGEST, digest
from bwn.format.reader import from_bytes
from bwn.format.writer import to_bytes
from bwn.ir.graph import Graph, Topology
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.kernels import bits
from bwn.ops.add import Add
from bwn.ops.affine import Affine
from bwn.ops.clamp import Clamp
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.ops.mul import Mul
from bwn.ops.pool import Pool
from bwn.ops.sign import Sign
from bwn.ops.softmax import Softmax

GOLDEN = Path(__file__).parents[1] / "golden" / "every-node.bwn"
UNSIGNED = GOLDEN.with_name("unsigned.bwn")


def signs(rows, count, seed=0):
    return bits.pack(np.where(np.random.default_rng(seed).random((rows, count)) < 0.5, -1, 1))


def ramp(*shape):
    return (np.arange(np.prod(shape), dtype=np.float32).reshape(shape) - 2) / 4


def every_node() -> ModelSpec:
    """A model with every node, every attribute and every kind of tensor."""
    nodes = (
        Conv(
            input="x",
            output="a",
            weight="float",
            kernel=(3, 3),
            pads=(1, 1, 1, 1),
            bias="four",
            low=0.0,
            high=6.0,
        ),
        Affine(input="a", output="b", scale="four", bias="quad"),
        Sign(input="b", output="c"),
        Pool(input="c", output="d", kind="max", kernel=(2, 2), stride=(2, 2), pads=(1, 0, 1, 0)),
        Conv(
            input="d",
            output="e",
            weight="words",
            scale="four",
            kernel=(2, 1),
            stride=(1, 1),
            pads=(1, 0, 1, 0),
            dilation=(2, 1),
            groups=2,
            activations="binary",
        ),
        Add(input="e", other="d", output="f"),
        Clamp(input="f", output="g", low=-1.5),
        Pool(
            input="g", output="h", kind="average", kernel=(2, 2), pads=(1, 1, 0, 0), count_pads=True
        ),
        Flatten(input="h", output="i"),
        Dense(input="i", output="j", weight="dense é", activations="int8", input_scale=0.1),
        Softmax(input="j", output="scores"),
    )
    tensors = {
        "float": ramp(4, 3, 3, 3),
        "four": ramp(4),
        "quad": ramp(4) * 2,
        "words": signs(4, 4),
        "dense é": signs(3, 24),
    }
    return ModelSpec(
        graph=make_graph(*nodes, shape=(3, 4, 4), **tensors),
        preprocess=Preprocess(
            size=(4, 4), resize="crop", color="RGB", mean=(0.5, 0.25, 0.1), std=(1.0, 2.0, 0.3)
        ),
        classes=("cat", 'a "dog"', "Käfer"),
        producer="golden 1",
    )


def equal(one: ModelSpec, other: ModelSpec) -> None:
    assert one.graph.topology == other.graph.topology
    assert (one.preprocess, one.classes, one.producer) == (
        other.preprocess,
        other.classes,
        other.producer,
    )
    assert one.graph.tensors.keys() == other.graph.tensors.keys()
    for name, array in one.graph.tensors.items():
        assert array.dtype == other.graph.tensors[name].dtype
        np.testing.assert_array_equal(array, other.graph.tensors[name])


def test_golden_bytes():
    """The file of 2026-11-23 is written and read as it was then; a change here is a new format version."""
    assert to_bytes(every_node()) == GOLDEN.read_bytes()
    equal(format.read(GOLDEN), every_node())


def unsigned() -> ModelSpec:
    """A model that needs version 2."""
    nodes = (
        Clamp(input="x", output="r", low=0.0),
        Dense(input="r", output="a", weight="w", activations="uint8", low=0.0),
        Dense(input="a", output="b", weight="v", activations="uint8", input_scale=0.25),
        Dense(input="b", output="y", weight="v", activations="int8"),
    )
    return ModelSpec(
        graph=make_graph(*nodes, shape=(70,), w=signs(3, 70), v=signs(3, 3)),
        producer="golden 2",
    )


def test_golden_bytes_of_version_2():
    assert to_bytes(unsigned()) == UNSIGNED.read_bytes()
    equal(format.read(UNSIGNED), unsigned())


def test_the_version_is_the_first_that_can_say_the_model():
    start = b'{"__metadata__":{"format":"bwn","version":"%s","digest":"'
    assert to_bytes(unsigned())[8:].startswith(start % b"2")
    nodes = tuple(
        msgspec.structs.replace(node, activations="int8") if isinstance(node, Dense) else node
        for node in unsigned().graph.nodes
    )
    graph = unsigned().graph.replace(nodes=nodes)
    assert to_bytes(ModelSpec(graph=graph))[8:].startswith(start % b"1")
    graph = unsigned().graph
    graph = graph.replace(nodes=(*graph.nodes, Mul(input="a", other="y", output="z")))
    assert to_bytes(ModelSpec(graph=graph))[8:].startswith(start % b"3")


INT8 = GOLDEN.with_name("int8-weights.bwn")


def int8_weights() -> ModelSpec:
    """A model that needs version 5."""
    nodes = (
        Conv(
            input="x", output="a", weight="q", scale="s", kernel=(2, 3), low=0.0,
            activations="int8", input_scale=0.5,
        ),
        Flatten(input="a", output="f"),
        Dense(input="f", output="y", weight="w", activations="uint8"),
    )  # fmt: skip
    weight = np.arange(-127, 128, 14, dtype=np.int8)[:18].reshape(3, 1, 2, 3)
    tensors = {"q": weight, "s": ramp(3), "w": signs(5, 3 * 6)}
    return ModelSpec(graph=make_graph(*nodes, shape=(1, 3, 5), **tensors), producer="golden 5")


def test_golden_bytes_of_version_5():
    assert to_bytes(int8_weights()) == INT8.read_bytes()
    equal(format.read(INT8), int8_weights())
    assert INT8.read_bytes().endswith(int8_weights().graph.tensors["q"].tobytes())


@pytest.mark.parametrize(
    ("fields", "stored"),
    [
        ({"resize": 5}, '"resize":5,"color":"RGB","mean":[0.5,0.25,0.1],"std":[1.0,2.0,0.3]}'),
        ({"color": "BGR"}, '"resize":"crop","color":"BGR",'),
        ({"interpolation": "bicubic"}, '"std":[1.0,2.0,0.3],"interpolation":"bicubic"}'),
        ({"background": (255, 255, 0)}, '"std":[1.0,2.0,0.3],"background":[255,255,0]}'),
        ({"scale": 1}, '"std":[1.0,2.0,0.3],"scale":1}'),
    ],
)
def test_new_preprocessing_needs_version_4(fields, stored):
    spec = every_node()
    spec = msgspec.structs.replace(
        spec, preprocess=msgspec.structs.replace(spec.preprocess, **fields)
    )
    data = to_bytes(spec)
    assert data[8:].startswith(b'{"__metadata__":{"format":"bwn","version":"4","digest":"')
    assert stored.replace('"', '\\"').encode() in data
    equal(from_bytes(data), spec)
    defaults = {"interpolation": "bilinear", "background": (0, 0, 0), "scale": 255}
    same = msgspec.structs.replace(every_node().preprocess, **defaults)
    assert to_bytes(msgspec.structs.replace(spec, preprocess=same)) == GOLDEN.read_bytes()


@pytest.mark.parametrize("golden", [GOLDEN, UNSIGNED], ids=["1", "2"])
def test_the_other_version_is_refused(golden):
    data = golden.read_bytes()
    old, new = (b'"version":"1"', b'"version":"2"')[:: 1 if golden == GOLDEN else -1]
    data = data.replace(old, new)
    data = data.replace(data[DIGEST_AT], NO_DIGEST)
    data = data.replace(NO_DIGEST, digest(data), 1)
    with pytest.raises(FormatError, match="not in canonical form"):
        from_bytes(data)


def test_the_layout_is_that_of_the_page():
    data = GOLDEN.read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    start = b'{"__metadata__":{"format":"bwn","version":"1","digest":"'
    assert data[8:].startswith(start)
    digest = data[8 + len(start) :][:64]
    assert hashlib.sha256(data.replace(digest, b"0" * 64)).hexdigest().encode() == digest
    words = bits.pack(np.where(np.random.default_rng(0).random((3, 24)) < 0.5, -1, 1))
    assert data[8 + length :].startswith(words.astype("<u8").tobytes())


def test_any_safetensors_reader_opens_it():
    tensors = safetensors.numpy.load_file(GOLDEN)
    np.testing.assert_array_equal(tensors["words"], signs(4, 4))
    np.testing.assert_array_equal(tensors["quad"], ramp(4) * 2)


def test_same_model_same_bytes_whatever_the_order_and_the_process():
    spec = every_node()
    tensors = dict(reversed(spec.graph.tensors.items()))
    assert to_bytes(
        ModelSpec(
            graph=Graph(topology=spec.graph.topology, tensors=tensors),
            preprocess=spec.preprocess,
            classes=spec.classes,
            producer=spec.producer,
        )
    ) == to_bytes(spec)
    code = (
        f"from bwn.format import read; from bwn.format.writer import to_bytes; import sys; "
        f"sys.stdout.buffer.write(to_bytes(read({str(GOLDEN)!r})))"
    )
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        out = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, env=environment
        ).stdout
        assert out == GOLDEN.read_bytes()


def test_a_default_written_out_gives_the_same_bytes():
    def data(**changes):
        node = Conv(input="x", output="y", weight="w", kernel=(2, 2), **changes)
        return to_bytes(ModelSpec(graph=make_graph(node, shape=(1, 2, 2), w=ramp(1, 1, 2, 2))))

    same = {
        "stride": tuple([1] * 2),
        "pads": tuple([0] * 4),
        "activations": "".join(["float", "32"]),
        "groups": 1,
    }
    assert data(**same, dilation=tuple([1] * 2)) == data()


def test_words_come_out_as_the_kernels_want_them():
    for array in format.read(GOLDEN).graph.tensors.values():
        assert array.flags.c_contiguous
        assert array.flags.aligned
        assert array.ctypes.data % array.itemsize == 0
        assert array.dtype.isnative


def test_numbers_of_another_python_type_are_written_as_the_schema_says():
    spec = ModelSpec(graph=make_graph(Clamp(input="x", output="y", low=0, high=6), shape=(3,)))
    assert from_bytes(to_bytes(spec)).graph.nodes[0].low == 0.0


def test_what_does_not_fit_the_schema_is_not_written(tmp_path):
    with pytest.raises(GraphError, match="schema"):
        format.write(
            tmp_path / "a.bwn",
            ModelSpec(graph=make_graph(Clamp(input="x", output="y", low=True), shape=(3,))),
        )
    assert not list(tmp_path.iterdir())


def test_an_illegal_model_is_not_written_and_the_old_file_stays(tmp_path):
    path = tmp_path / "a.bwn"
    format.write(path, every_node())
    topology = Topology(input="x", input_shape=(3,), output="z", nodes=())
    with pytest.raises(GraphError):
        format.write(path, ModelSpec(graph=Graph(topology=topology, tensors={})))
    assert path.read_bytes() == GOLDEN.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(FileError, match=r"none/a.bwn: cannot be written: no such folder"):
        format.write(tmp_path / "none" / "a.bwn", every_node())
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileError, match="folder: cannot be written"):
        format.write(tmp_path / "folder", every_node())
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


names = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=5)
small = st.floats(-4, 4, width=32)


@st.composite
def models(draw) -> ModelSpec:
    """Chains of dense layers, clamps and signs of any width, with any names and numbers."""
    free = draw(st.lists(names, min_size=16, max_size=16, unique=True))
    width = draw(st.integers(1, 70))
    source = free.pop()
    topology_input, shape, nodes, tensors = source, (width,), [], {}
    for _ in range(draw(st.integers(1, 3))):
        output, kind = free.pop(), draw(st.sampled_from(["words", "float", "clamp", "sign"]))
        seed = draw(st.integers(0, 99))
        if kind == "clamp":
            low, high = sorted((draw(small), draw(small)))
            node = Clamp(
                input=source, output=output, low=draw(st.sampled_from([None, low])), high=high
            )
        elif kind == "sign":
            node = Sign(input=source, output=output)
        else:
            rows = draw(st.integers(1, 9))
            weight, bias = free.pop(), draw(st.sampled_from([None, free.pop()]))
            tensors[weight] = (
                signs(rows, width, seed) if kind == "words" else ramp(rows, width) + seed
            )
            if bias is not None:
                tensors[bias] = ramp(rows)
            step = draw(st.sampled_from([None, 0.1, 3e-7]))
            node = Dense(
                input=source,
                output=output,
                weight=weight,
                bias=bias,
                activations=draw(st.sampled_from(["int8", "uint8"]))
                if kind == "words"
                else "float32",
                input_scale=step if kind == "words" else None,
            )
            width = rows
        nodes.append(node)
        source = output
    topology = Topology(input=topology_input, input_shape=shape, output=source, nodes=tuple(nodes))
    classes = draw(st.sampled_from([None, tuple(f"class {index}" for index in range(width))]))
    return ModelSpec(
        graph=Graph(topology=topology, tensors=tensors), classes=classes, producer=draw(names)
    )


@given(models())
def test_round_trip(spec):
    data = to_bytes(spec)
    again = from_bytes(data)
    equal(again, spec)
    assert to_bytes(again) == data


def tiny() -> bytes:
    node = Dense(input="x", output="y", weight="w", bias="b")
    graph = make_graph(node, shape=(60,), w=signs(2, 60), b=ramp(2))
    return to_bytes(ModelSpec(graph=graph, classes=("a", "b"), producer="p"))


def test_every_single_bit_flip_is_refused():
    data = bytearray(tiny())
    for place in range(len(data) * 8):
        data[place // 8] ^= 1 << place % 8
        with pytest.raises(FormatError) as caught:
            from_bytes(bytes(data))
        assert str(caught.value).isprintable(), place
        data[place // 8] ^= 1 << place % 8


def test_every_truncation_and_extension_is_refused():
    data = tiny()
    for length in range(len(data)):
        with pytest.raises(FormatError) as caught:
            from_bytes(data[:length])
        assert str(caught.value).isprintable(), length
    for more in (b"\0", b" ", b"\0" * 8, data):
        with pytest.raises(FormatError, match=r"^(truncated|damaged): "):
            from_bytes(data + more)
