"""Writes the seeds of tests/fuzz/corpus: the smallest good file of each kind.

    python -m tests.fuzz.make_corpus

Files called found-* are what fuzzing found; they stay.
"""

from __future__ import annotations

import gzip
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from bwn.format.writer import to_bytes
from bwn.ir.model_spec import ModelSpec, Preprocess
from tests.fuzz.targets import CORPUS, HERE

sys.path.insert(0, str(HERE.parent / "support"))

SCORES = 2


def network() -> ModelSpec:
    """Signs, packed and float weights, a pool, an addition: most fields of the format."""
    from graphs import conv3x3, floats, legal_graph, words

    from bwn.ops.add import Add
    from bwn.ops.dense import Dense
    from bwn.ops.flatten import Flatten
    from bwn.ops.pool import Pool
    from bwn.ops.sign import Sign

    nodes = (
        conv3x3("x", "a", activations="int8", low=0.0, high=1.5, scale="s"),
        Sign(input="a", output="b"),
        conv3x3("b", "c", activations="binary"),
        Add(input="c", other="a", output="d"),
        Pool(input="d", output="e", kind="max", kernel=(2, 2), stride=(2, 2)),
        Flatten(input="e", output="f"),
        Dense(input="f", output="y", weight="y.w", bias="y.b"),
    )
    tensors = {"a.w": words(2, 9), "c.w": words(2, 18), "s": floats(2), "y.b": floats(SCORES)}
    graph = legal_graph(*nodes, shape=(1, 4, 4), **tensors, **{"y.w": floats(SCORES, 8)})
    rule = Preprocess(size=(4, 4), color="L", mean=(0.5,), std=(0.25,))
    return ModelSpec(graph=graph, preprocess=rule, classes=("a", "b"), producer="seed")


def onnx_models() -> dict[str, bytes]:
    """The network's export, and a small one of each operation's examples."""
    from op_examples import EXAMPLES

    from bwn.onnx.exporter import to_onnx_bytes

    models = {"network.onnx": to_onnx_bytes(network())}
    for example in EXAMPLES:
        if not example.graph.is_quantized:
            name = f"{type(example.node).__name__.lower()}.onnx"
            models.setdefault(name, to_onnx_bytes(ModelSpec(graph=example.graph)))
    return {name: data for name, data in models.items() if len(data) < 4096}


def external_data() -> dict[str, bytes]:
    """A network whose weights are in another file, in float32 and out of order in float16."""
    import onnx
    from onnx import TensorProto
    from onnx_models import FLAT, model, op

    files = {}
    for name, kind in (("plain", np.float32), ("half", np.float16)):
        nodes = [op("Gemm", "x w", "g", transB=1), op("Relu", "g")]
        if kind == np.float16:
            nodes.reverse()
        proto_type = TensorProto.FLOAT if kind == np.float32 else TensorProto.FLOAT16
        weight = np.linspace(-1, 1, 12, dtype=kind).reshape(2, 6)
        proto = onnx.load_model_from_string(model(*nodes, shape=FLAT, kind=proto_type, w=weight))
        proto.graph.output[0].type.tensor_type.elem_type = proto_type
        tensor = proto.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "model.data"), ("offset", "4")):
            tensor.external_data.add(key=key, value=value)
        data = proto.SerializeToString(deterministic=True)
        files[name] = len(data).to_bytes(2, "little") + data + bytes(4) + weight.tobytes()
    return files


def checkpoints() -> dict[str, bytes]:
    """A tiny checkpoint, and its pickle alone."""
    import torch

    from bwn.train.architectures import build
    from bwn.train.checkpoint import Description, write_checkpoint
    from bwn.train.settings import Architecture, Settings

    torch.manual_seed(0)
    architecture = Architecture(name="mlp", input_shape=(1, 2, 2), classes=SCORES, width=2)
    description = Description(
        architecture=architecture,
        settings=Settings(),
        preprocess=Preprocess(size=(2, 2), color="L", mean=(0.5,), std=(0.25,)),
        classes=("a", "b"),
        source="seed",
        digest="0",
    )
    path = CORPUS / "checkpoint" / "seed.zip"
    write_checkpoint(path, description, build(architecture), {"epoch": 1})
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
        return {"seed.zip": path.read_bytes(), "seed.pkl": archive.read(name)}


def idx_files() -> dict[str, bytes]:
    """Two images of 3 x 2, plain and in gzip."""
    labels = bytes([0, 0, 8, 1, 0, 0, 0, 2, 0, 1])
    images = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 2, *range(12)])
    packed = gzip.compress(images, mtime=0)
    return {
        name: len(labels).to_bytes(2, "little") + labels + content
        for name, content in (("plain", images), ("gzip", packed))
    }


def image_files() -> dict[str, bytes]:
    """A small image in every format that bwn reads, and modes of their own."""
    pixels = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    color, files = Image.fromarray(pixels), {}
    gray = color.convert("L")
    for kind in ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "JPEG2000", "AVIF"):
        buffer = io.BytesIO()
        color.save(buffer, kind)
        files[kind.lower()] = buffer.getvalue()
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16) * 1000)
    exif = Image.Exif()
    exif[274] = 6
    for name, image, kind, options in (
        ("gray16.png", deep, "PNG", {}),
        ("palette.png", color.quantize(4), "PNG", {"transparency": 1}),
        ("alpha.png", color.convert("RGBA"), "PNG", {}),
        ("bilevel.tiff", gray.convert("1"), "TIFF", {"compression": "group4"}),
        ("lzw.tiff", deep, "TIFF", {"compression": "tiff_lzw"}),
        ("turned.jpeg", gray, "JPEG", {"exif": exif, "progressive": True}),
        ("cmyk.jpeg", color.convert("CMYK"), "JPEG", {}),
    ):
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        files[name] = buffer.getvalue()
    return files


def write(name: str, files: dict[str, bytes]) -> None:
    """Replace the seeds of a target."""
    place = CORPUS / name
    for path in place.iterdir():
        if not path.name.startswith("found-"):
            path.unlink()
    for file, content in files.items():
        (place / file).write_bytes(content)
    total = sum(map(len, files.values()))
    print(f"{name}: {len(files)} files, {total:,} bytes")


def main() -> None:
    """All seeds."""
    for name in ("bwn", "onnx", "external", "checkpoint", "idx", "cifar", "image"):
        (CORPUS / name).mkdir(parents=True, exist_ok=True)
    golden = Path(HERE.parent / "golden" / "every-node.bwn").read_bytes()
    write("bwn", {"network": to_bytes(network()), "every-node": golden})
    write("onnx", onnx_models())
    write("external", external_data())
    write("checkpoint", checkpoints())
    write("idx", idx_files())
    write("cifar", {"record": bytes([3]) + bytes(range(256)) * 12})
    write("image", image_files())


if __name__ == "__main__":
    main()
