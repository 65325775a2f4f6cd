"""Weights in files next to the ONNX file: read from its folder alone, within limits."""

from __future__ import annotations

import os

import numpy as np
import onnx
import pytest
from graphs import floats
from onnx import TensorProto, helper
from onnx_models import f32, model, op

import bwn
from bwn.errors import FileError, GraphError
from bwn.onnx import loading
from bwn.onnx.loading import load
from bwn.onnx.session import Session

WEIGHT = floats(5, 4, 3, 3)
BYTES = WEIGHT.nbytes
PLAIN = model(op("Conv", "x w"), w=WEIGHT)


def external(**fields):
    """The network with `w` in another file."""
    proto = onnx.load_model_from_string(PLAIN)
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "model.data", **fields}.items():
        tensor.external_data.add(key=key, value=str(value))
    return proto.SerializeToString()


def stored(model_proto):
    return onnx.numpy_helper.to_array(model_proto.graph.initializer[0])


@pytest.fixture
def folder(tmp_path):
    """A folder with the data, and with others outside and beside it."""
    home = tmp_path / "home"
    (home / "sub").mkdir(parents=True)
    for path in (home / "model.data", home / "sub" / "w", tmp_path / "secret"):
        path.write_bytes(WEIGHT.tobytes())
    (tmp_path / "home2").mkdir()
    (tmp_path / "home2" / "w").write_bytes(WEIGHT.tobytes())
    (home / "link").symlink_to("sub/w")
    (home / "out").symlink_to(tmp_path / "secret")
    (home / "outside").symlink_to(tmp_path / "home2")
    (home / "padded").write_bytes(bytes(16) + WEIGHT.tobytes() + bytes(5))
    os.mkfifo(home / "pipe")
    return home


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"offset": 0, "length": BYTES},
        {"location": "padded", "offset": 16},
        {"location": "sub/w", "checksum": "0" * 40},
        {"location": "./sub//w"},
        {"location": "link"},
    ],
)
def test_data_in_the_folder_are_read(folder, fields):
    clean = load(external(**fields), folder).model
    np.testing.assert_array_equal(stored(clean), WEIGHT)
    assert not clean.graph.initializer[0].external_data


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"location": "../secret"}, "outside the model's folder"),
        ({"location": "sub/../../secret"}, "outside the model's folder"),
        ({"location": "sub/../model.data"}, "outside the model's folder"),
        ({"location": "/etc/passwd"}, "'/etc/passwd', which is outside the model's folder"),
        ({"location": "out"}, "outside the model's folder"),
        ({"location": "outside/w"}, "outside the model's folder"),
        ({"location": ""}, "outside the model's folder"),
        ({"location": "."}, "outside the model's folder"),
        ({"location": "sub"}, "not a regular file"),
        ({"location": "pipe"}, "not a regular file"),
        ({"location": "none"}, "'none', which is not next to the model; copy it there"),
        ({"location": "a\0b"}, "cannot be read"),
        ({"location": "n" * 5000}, "cannot be read"),
        ({"location": "a\nb\x1b[31m"}, r"'a b\\x1b\[31m', which is not next"),
        ({"offset": 1}, "bytes 1 to 721, but that file has 720 bytes"),
        ({"offset": 2**63}, "but that file has 720 bytes"),
        ({"offset": -1}, "offset is '-1', expected a count of bytes"),
        ({"offset": "1e3"}, "offset is '1e3'"),
        ({"offset": "9" * 99}, "offset is '9{40}'"),
        ({"length": BYTES - 4}, "716 bytes, but shape .* takes 720 bytes"),
        ({"length": "²"}, "length is '²'"),
    ],
)
def test_other_data_are_one_error(folder, fields, message):
    with pytest.raises(GraphError, match=message) as caught:
        load(external(**fields), folder)
    assert str(caught.value).startswith("tensor 'w': its data are in '")
    assert str(caught.value).isprintable()


def test_a_location_that_is_not_utf8_is_one_error(folder):
    data = external().replace(b"model.data", b"\xff\xfedel.data")
    with pytest.raises(GraphError, match="tensor 'w': the name of its file is not UTF-8"):
        load(data, folder)


def test_a_folder_through_a_link_is_the_folder(folder, tmp_path):
    (tmp_path / "alias").symlink_to(folder)
    np.testing.assert_array_equal(stored(load(external(), tmp_path / "alias").model), WEIGHT)


def test_bytes_without_a_folder_have_no_other_files(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(GraphError, match=r"'model.data': give the model's path, not its bytes"):
        load(external())


def test_a_huge_shape_is_not_read(folder):
    proto = onnx.load_model_from_string(external())
    proto.graph.initializer[0].dims[:] = [2**20, 2**20]
    with pytest.raises(GraphError, match="too large; at most 1 GiB"):
        load(proto.SerializeToString(), folder)


def test_all_tensors_together_have_a_limit(folder, monkeypatch):
    """A small file could name the same large data again and again."""
    proto = onnx.load_model_from_string(external())
    proto.graph.node[0].output[0] = "y0"
    for index in range(4):
        tensor = proto.graph.initializer.add()
        tensor.CopyFrom(proto.graph.initializer[0])
        tensor.name = f"w{index}"
        node = op("Conv", f"y{index} w{index}", f"y{index + 1}")
        proto.graph.node.append(node)
    proto.graph.output[0].name = "y4"
    data = proto.SerializeToString()
    monkeypatch.setattr(loading, "MAX_BYTES", len(data) + 5 * BYTES)
    assert load(data, folder)
    monkeypatch.setattr(loading, "MAX_BYTES", len(data) + 5 * BYTES - 1)
    with pytest.raises(GraphError, match=r"tensor 'w3': .* too large"):
        load(data, folder)


def test_data_that_no_output_needs_are_not_read(folder):
    proto = onnx.load_model_from_string(external(location="none"))
    proto.graph.node.append(op("Relu", "x", "z"))
    proto.graph.output[0].name = "z"
    assert not load(proto.SerializeToString(), folder).model.graph.initializer


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.int8])
@pytest.mark.parametrize("one_file", [True, False])
def test_files_that_onnx_writes(tmp_path, kind, one_file):
    stored_data = {"w": (10 * WEIGHT).astype(kind), "b": floats(5)}
    proto = onnx.load_model_from_string(
        model(op("Cast", "w", "f", to=1), op("Conv", "x f b"), **stored_data)
    )
    expected = Session(proto.SerializeToString()).run(x := floats(2, 4, 7, 6))
    path = tmp_path / "model.onnx"
    location = "model.onnx.data" if one_file else None
    onnx.save_model(
        proto,
        path,
        save_as_external_data=True,
        all_tensors_to_one_file=one_file,
        location=location,
        size_threshold=0,
    )
    assert len(list(tmp_path.iterdir())) == (2 if one_file else 3)
    np.testing.assert_array_equal(Session(path).run(x), expected)


def test_four_bits_are_two_to_a_byte(folder):
    numbers = np.arange(-8, 7)
    tensor = helper.make_tensor("w", TensorProto.INT4, [15], numbers)
    raw = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), "w")
    (folder / "four").write_bytes(raw.raw_data)
    raw.ClearField("raw_data")
    raw.data_location = TensorProto.EXTERNAL
    raw.external_data.add(key="location", value="four")
    proto = onnx.load_model_from_string(
        model(op("Cast", "w", "f", to=1), op("Add", "x f"), shape=(15,), opset=21)
    )
    proto.graph.initializer.append(raw)
    clean = load(proto.SerializeToString(), folder).model
    np.testing.assert_array_equal(stored(clean).astype(int), numbers)


def test_pack_and_verify(folder, monkeypatch):
    """Also by a name without a folder."""
    nodes = op("Conv", "x w", "c"), op("GlobalAveragePool", "c", "g"), op("Flatten", "g")
    proto = onnx.load_model_from_string(
        model(*nodes, shape=(3, 7, 6), w=np.sign(floats(5, 3, 3, 3)))
    )
    onnx.save_model(
        proto,
        folder / "net.onnx",
        save_as_external_data=True,
        location="net.onnx.data",
        size_threshold=0,
    )
    monkeypatch.chdir(folder)
    report = bwn.pack("net.onnx", "net.bwn")
    assert [layer.stored for layer in report.layers] == ["1 bit"]
    assert bwn.verify("net.bwn", folder / "net.onnx", samples=2).agrees
    assert bwn.verify("net.bwn", "net.onnx", samples=2).agrees
    (folder / "net.onnx.data").unlink()
    for function in (bwn.pack, bwn.verify):
        arguments = ("net.onnx", "b.bwn") if function is bwn.pack else ("net.bwn", "net.onnx")
        with pytest.raises(FileError, match=r"^net.onnx: tensor 'w': .* copy it there$"):
            function(*arguments)


def test_a_scalar_has_one_number(folder):
    proto = onnx.load_model_from_string(model(op("Mul", "x s"), s=f32(0.5)))
    assert list(proto.graph.initializer[0].dims) == []
    assert stored(load(proto.SerializeToString(), folder).model) == np.float32(0.5)
