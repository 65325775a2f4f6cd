"""`bwn pack`: a checkpoint and a foreign ONNX file, options, output, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from graphs import make_graph, save_onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from bwn import format
from bwn.cli.main import bwn
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.kernels import bits
from bwn.onnx.refusals import Refusals
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.ops.pool import Pool
from bwn.passes import pipeline

GOLDEN = Path(__file__).parents[1] / "golden" / "every-node.bwn"


def run(*arguments):
    return CliRunner().invoke(bwn, ["pack", *map(str, arguments)])


@pytest.fixture
def source(tmp_path):
    """A foreign ONNX file: no preprocessing, no class names."""
    rng = np.random.default_rng(0)
    nodes = (
        Conv(input="x", output="c", weight="w", kernel=(3, 3), scale="s", low=0.0),
        Pool(input="c", output="p", kind="average", kernel=(6, 6)),
        Flatten(input="p", output="f"),
        Dense(input="f", output="scores", weight="v", bias="b"),
    )
    tensors = {
        "w": bits.pack(rng.standard_normal((8, 27))),
        "s": np.full(8, 0.25, np.float32),
        "v": rng.standard_normal((3, 8)).astype(np.float32),
        "b": np.zeros(3, np.float32),
    }
    path = tmp_path / "source.onnx"
    save_onnx(ModelSpec(graph=make_graph(*nodes, shape=(3, 8, 8), **tensors)), path)
    return path


def test_the_table(source, tmp_path):
    target = tmp_path / "a.bwn"
    result = run(source, "-o", target)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split("  ")[0] == "layer"
    assert lines[2].split() == [
        "conv1",
        "conv",
        "8x3x3x3",
        "1",
        "bit",
        "float32",
        "864",
        "B",
        "96",
        "B",
        "-",
    ]
    assert lines[3].split() == [
        "dense1",
        "dense",
        "3x8",
        "float32",
        "float32",
        "108",
        "B",
        "108",
        "B",
        "-",
    ]
    assert lines[6].startswith(f"{target}: ")
    assert (
        "note: the source does not say how images are prepared; assumed: RGB, stretched to 8 x 8"
        in result.stdout
    )
    assert "note: class names are unknown" in result.stdout
    format.read(target)


def test_the_target_is_named_after_the_source(source, tmp_path):
    assert run(source).exit_code == 0
    assert (tmp_path / "source.bwn").exists()


def test_json(source, tmp_path):
    result = run(source, "-o", tmp_path / "a.bwn", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert [(row["name"], row["stored"], row["after"]) for row in found["layers"]] == [
        ("conv1", "1 bit", 96),
        ("dense1", "float32", 108),
    ]
    assert found["file"] == (tmp_path / "a.bwn").stat().st_size
    assert len(found["notes"]) == 2


def test_options_reach_the_file(source, tmp_path):
    (tmp_path / "names.txt").write_text("cat\n\n dog \nKäfer\n", encoding="utf-8")
    numbers = [
        "--mean",
        "0.1,0.2,0.3",
        "--std",
        "0.4,0.5,0.6",
        "--size",
        "8x8",
        "--color",
        "RGB",
        "--resize",
        "crop",
    ]
    options = [*numbers, "--activations", "int8"]
    result = run(source, "-o", tmp_path / "a.bwn", *options, "--classes", tmp_path / "names.txt")
    assert result.exit_code == 0, result.output
    spec = format.read(tmp_path / "a.bwn")
    rule = Preprocess(
        size=(8, 8), resize="crop", color="RGB", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)
    )
    assert spec.preprocess == rule
    assert spec.classes == ("cat", "dog", "Käfer")
    assert [node.activations for node in spec.graph.nodes if isinstance(node, (Conv, Dense))] == [
        "int8",
        "uint8",
    ]
    notes = [line for line in result.stdout.splitlines() if line.startswith("note:")]
    assert [note.split(",")[0] for note in notes] == [
        "note: the weights of 1 layer are not binary",
        "note: 8-bit activations cost some accuracy: verify on labeled images to see how much",
    ]
    last = result.stdout.splitlines()[-1]
    assert last == f"Next: bwn verify {tmp_path / 'a.bwn'} {source} --images DATA"


def test_a_preset_and_its_exceptions_reach_the_file(source, tmp_path):
    options = ["--preset", "imagenet", "--color", "BGR", "--interpolation", "bicubic"]
    result = run(source, "-o", tmp_path / "a.bwn", *options, "--background", "white")
    assert result.exit_code == 0, result.output
    assert "does not say how images are prepared" not in result.stdout
    assert format.read(tmp_path / "a.bwn").preprocess == Preprocess(
        size=(8, 8),
        resize=9,
        color="BGR",
        mean=(0.406, 0.456, 0.485),
        std=(0.225, 0.224, 0.229),
        interpolation="bicubic",
        background=(255, 255, 255),
    )
    shown = CliRunner().invoke(bwn, ["inspect", str(tmp_path / "a.bwn")])
    assert (
        "images   BGR, shorter side resized to 9, center cropped to 8 x 8 (bicubic), transparency "
        "over #ffffff, then (pixel / 255 - [0.406, 0.456, 0.485]) / [0.225, 0.224, 0.229]\n"
    ) in shown.stdout
    shown = CliRunner().invoke(bwn, ["inspect", str(tmp_path / "a.bwn"), "--json"])
    assert json.loads(shown.stdout)["preprocess"]["scale"] == 255


def test_calibration_from_a_folder_of_images(source, tmp_path):
    (tmp_path / "photos").mkdir()
    for index, level in enumerate((10, 200)):
        Image.new("RGB", (9, 9), (level, 0, 0)).save(tmp_path / "photos" / f"{index}.png")
    result = run(
        source,
        "-o",
        tmp_path / "a.bwn",
        "--activations",
        "int8",
        "--calibration",
        tmp_path / "photos",
    )
    assert result.exit_code == 0, result.output
    step = format.read(tmp_path / "a.bwn").graph.nodes[0].input_scale
    np.testing.assert_allclose(step, 200 / 255 / 127, rtol=1e-6)


@pytest.mark.parametrize("classes", [False, True])
def test_bad_calibration_images_are_named_at_once_or_left_out(source, tmp_path, caplog, classes):
    photos = tmp_path / "photos"
    for name, level in (("a", 10), ("b", 200)):
        place = photos / "train" / name if classes else photos
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (level, 0, 0)).save(place / f"{name}.png")
        (place / f"{name}1.png").write_bytes(b"no image")
    options = ["-o", tmp_path / "a.bwn", "--activations", "int8", "--calibration", photos]
    result = run(source, *options)
    assert result.exit_code == 3
    assert "2 of 4 images cannot be read" in result.stderr
    assert not (tmp_path / "a.bwn").exists()
    result = run(source, *options, "--skip-bad")
    assert result.exit_code == 0, result.output
    assert "left out: 2 of 4 images" in caplog.text
    step = format.read(tmp_path / "a.bwn").graph.nodes[0].input_scale
    np.testing.assert_allclose(step, 200 / 255 / 127, rtol=1e-6)
    result = run(source, *options[:-2], "--skip-bad")
    assert result.exit_code == 2
    assert "--skip-bad needs --calibration" in result.stderr


def test_calibration_from_the_sample(tmp_path):
    node = Dense(input="f", output="y", weight="w")
    words = bits.pack(np.random.default_rng(0).standard_normal((10, 784)))
    save_onnx(
        ModelSpec(
            graph=make_graph(Flatten(input="x", output="f"), node, shape=(1, 28, 28), w=words)
        ),
        tmp_path / "a.onnx",
    )
    result = run(tmp_path / "a.onnx", "--activations", "int8", "--calibration", "mnist-sample")
    assert result.exit_code == 0, result.output
    assert format.read(tmp_path / "a.bwn").graph.nodes[1].input_scale == pytest.approx(1 / 127)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--size", "8by8"], 2, "'8by8' is not a size such as 32 or 224x320"),
        (["--size", "0"], 2, "is not a size"),
        (["--size", "9" * 5000], 2, "is not a size"),
        (["--resize", "9" * 5000], 2, "is not stretch, crop or pixels"),
        (["--mean", "a,b"], 2, "'a,b' is not a list of numbers such as"),
        (["--activations", "int4"], 2, "'int4' is not one of"),
        (["--color", "GBR"], 2, "'GBR' is not one of"),
        (["--resize", "fit"], 2, "'fit' is not stretch, crop or pixels such as 256"),
        (["--resize", "7"], 2, "resize is 7, expected 8 to 1048576"),
        (["--interpolation", "cubic"], 2, "'cubic' is not one of"),
        (["--background", "whitish"], 2, "background 'whitish' is no color such as white"),
        (["--preset", "imagenette"], 2, "no preset 'imagenette'; presets: imagenet, half"),
        (["--mean", "0.5"], 2, "mean has 1 number, but the input has 3 channels"),
        (["--std", "0,1,1"], 2, "std is (0.0, 1.0, 1.0), expected finite numbers above 0"),
        (["--mean", "nan,0,0"], 2, "mean is (nan, 0.0, 0.0), expected finite numbers"),
        (
            ["--size", "9"],
            2,
            "Error: size 9 x 9: the network takes 8 x 8 images",
        ),
        (["--calibration", "mnist-sample"], 2, "--calibration needs --activations int8"),
        (["--float-layers"], 2, "--float-layers needs --activations int8"),
        (["--classes", "two-names"], 2, "2 names given, but the network's output has shape (3,)"),
        (["--mean", "1,2"], 2, "Error: mean has 2 numbers, but the input has 3 channels"),
        (["--color", "L", "--mean", "0,0,0"], 2, "Error: color L: the input has 3 channels"),
        (
            ["-o", "source.onnx"],
            2,
            "source.onnx: a packed model cannot be named .onnx, which is for ONNX models; "
            "use -o source.bwn",
        ),
        (["-o", "a.txt"], 2, "a packed model cannot be named .txt, which is for text"),
        (["-o", "a.pt"], 2, "a packed model cannot be named .pt, which is for checkpoints"),
        (["--activations", "int8", "--calibration", "no-such-data"], 3, "no-such-data"),
        (["--classes", "no-such-file"], 3, "no such file: no-such-file"),
    ],
)
def test_options_that_are_wrong(source, tmp_path, monkeypatch, options, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two-names").write_text("a\nb\n")
    result = run(source, "-o", tmp_path / "a.bwn", *options)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "a.bwn").exists()


def test_a_file_that_is_no_network_is_one_line(tmp_path):
    Image.new("L", (2, 2)).save(tmp_path / "a.png")
    (tmp_path / "packed.bwn").write_bytes(GOLDEN.read_bytes())
    for path, message in (
        (tmp_path / "a.png", ": not a .pt checkpoint or an ONNX file: it looks like a PNG image"),
        (
            tmp_path / "packed.bwn",
            ": packed already; bwn pack takes a .pt checkpoint or an ONNX file",
        ),
        (tmp_path / "none.pt", "\n"),
    ):
        for options in (["-o", tmp_path / "a.bwn"], []):
            result = run(path, *options)
            assert result.exit_code == 3
            assert f"{path}{message}" in result.stderr
            assert result.stderr.count("\n") == 1


def test_a_checkpoint_packs_with_its_preprocessing_classes_and_margins(tmp_path):
    torch = pytest.importorskip("torch")
    from bwn.train import Architecture, Settings, build
    from bwn.train.checkpoint import Description, write_checkpoint

    torch.manual_seed(0)
    architecture = Architecture(name="mlp", input_shape=(1, 4, 4), classes=3, width=8)
    rule = Preprocess(size=(4, 4), color="L", mean=(0.5,), std=(0.25,))
    description = Description(
        architecture=architecture,
        settings=Settings(),
        preprocess=rule,
        classes=("a", "b", "c"),
        source="test",
        digest="",
    )
    write_checkpoint(tmp_path / "a.pt", description, build(architecture), {})
    result = run(tmp_path / "a.pt", "-o", tmp_path / "a.bwn", "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["layers"]
    assert [row["stored"] for row in rows] == ["1 bit"] * 4
    assert all(0.3 < row["margin"] < 0.7 for row in rows), "fresh weights are spread over -1 to 1"
    spec = format.read(tmp_path / "a.bwn")
    assert (spec.preprocess, spec.classes) == (rule, ("a", "b", "c"))


def test_a_dry_run(source, tmp_path):
    result = run(source, "-o", tmp_path / "a.bwn", "--dry-run")
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "a.bwn").exists()
    lines = result.stdout.splitlines()
    assert lines[0].split() == [
        "layer",
        "op",
        "N",
        "K",
        "of",
        "weights",
        "stored",
        "before",
        "after",
    ]
    assert lines[2].split() == [
        "conv1",
        "conv",
        "8",
        "27",
        "90.0%",
        "1",
        "bit",
        "864",
        "B",
        "96",
        "B",
    ]
    assert lines[3].split()[:6] == ["dense1", "dense", "3", "8", "10.0%", "float32"]
    assert "one bit: 1 of 2 layers with 90.0% of the weights" in lines
    assert "checked: agrees with ONNX Runtime on 8 random inputs" in lines
    assert lines[-1] == "Dry run: nothing was written."
    result = run(source, "-o", tmp_path / "a.bwn", "--dry-run", "--json")
    assert not (tmp_path / "a.bwn").exists()
    dry = json.loads(result.stdout)
    assert dry == json.loads(run(source, "-o", tmp_path / "a.bwn", "--json").stdout)
    assert dry["compared"] == 8


def test_without_a_check(source, tmp_path):
    result = run(source, "-o", tmp_path / "a.bwn", "--no-check")
    assert result.exit_code == 0
    assert "ONNX Runtime" not in result.output


def test_a_disagreement_ends_with_code_1_and_no_file(source, tmp_path, monkeypatch):
    genuine = pipeline.run
    monkeypatch.setattr(
        pipeline,
        "run",
        lambda graph, tolerance: genuine(
            graph.replace(graph.topology.nodes, graph.tensors | {"b": graph.tensors["b"] + 1})
        ),
    )
    result = run(source, "-o", tmp_path / "a.bwn")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"Error: {source}: packed, it would not compute")
    assert "layer 'dense1' differs (" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "a.bwn").exists()
    assert run(source, "-o", tmp_path / "a.bwn", "--no-check").exit_code == 0


@pytest.mark.parametrize(("number", "stored"), [("0", "float32"), ("0.001", "1 bit")])
def test_the_binary_tolerance(tmp_path, number, stored):
    weight = np.where(np.arange(27 * 4) % 3, 1, -1).reshape(4, 27).astype(np.float32)
    weight[:, 0] *= 1.0005
    nodes = (Flatten(input="x", output="f"), Dense(input="f", output="scores", weight="w"))
    graph = make_graph(*nodes, shape=(3, 3, 3), w=weight)
    save_onnx(ModelSpec(graph=graph), tmp_path / "a.onnx")
    result = run(tmp_path / "a.onnx", "--binary-tolerance", number, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["layers"][0]["stored"] == stored
    assert report["rounded"] == (stored == "1 bit")
    result = run(tmp_path / "a.onnx", "--binary-tolerance", number)
    assert ("note: the weights of 1 one-bit layer" in result.stdout) == (stored == "1 bit")


@pytest.mark.parametrize("number", ["-1", "0.02", "nan", "x"])
def test_a_binary_tolerance_out_of_range_is_wrong_usage(source, number):
    assert run(source, "--binary-tolerance", number).exit_code == 2


@pytest.fixture
def refused(monkeypatch):
    """What an import of 12 nodes that it cannot read raises."""

    def from_bytes(*_arguments, **_options):
        refusals = Refusals()
        for number in range(7):
            refusals.add("ReduceProd", f"p{number}", "products are not supported", "use Mul")
        for number in range(5):
            refusals.add("Loop", f"l{number}", "loops are not supported")
        raise refusals.error()

    monkeypatch.setattr("bwn.tools.pack.from_bytes", from_bytes)


REFUSED = (
    "12 nodes cannot be read: 7 x ReduceProd ('p0', 'p1', 'p2', ...): products are not supported "
    "(use Mul); 5 x Loop ('l0', 'l1', 'l2', ...): loops are not supported\n"
)


def test_refused_nodes_are_one_line(source, refused):
    result = run(source)
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr == f"Error: {source}: {REFUSED}"


def test_a_dry_run_lists_refused_nodes(source, refused):
    result = run(source, "--dry-run")
    assert result.exit_code == 3
    assert result.stderr == f"Error: {source}: {REFUSED}"
    header, _, *rows = result.stdout.splitlines()
    assert header.split("  ")[0] == "nodes"
    assert rows[0].split() == (
        [
            "7",
            "ReduceProd",
            "p0,",
            "p1,",
            "p2,",
            "...",
            "products",
            "are",
            "not",
            "supported",
            "use",
            "Mul",
        ]
    )
    assert rows[1].split()[-1] == "-"
    result = run(source, "--dry-run", "--json")
    assert result.exit_code == 3
    kinds = json.loads(result.stdout)["refusals"]
    assert [(kind["op_type"], len(kind["nodes"]), kind["remedy"]) for kind in kinds] == [
        ("ReduceProd", 7, "use Mul"),
        ("Loop", 5, ""),
    ]


def foreign(folder):
    """Two outputs, open height and width, float16, nodes out of order, weights in another file."""
    half = TensorProto.FLOAT16
    nodes = [
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
        helper.make_node("Conv", ["image", "w"], ["maps"]),
    ]
    weight = numpy_helper.from_array(
        np.where(np.arange(5 * 27) % 3, 0.5, -0.5).reshape(5, 3, 3, 3).astype(np.float16), "w"
    )
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", half, ["N", 3, "height", "width"])],
        [helper.make_tensor_value_info(name, half, None) for name in ("features", "maps")],
        [weight],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    path = folder / "foreign.onnx"
    onnx.save_model(
        proto, path, save_as_external_data=True, location="foreign.onnx.data", size_threshold=0
    )
    return path


def test_output_name_and_size_choose(tmp_path):
    source, target = foreign(tmp_path), tmp_path / "a.bwn"
    result = run(source, "-o", target)
    assert result.exit_code == 3
    assert result.stderr == (
        f"Error: {source}: the model has 2 outputs, 'features', 'maps'; choose one with output_name\n"
    )
    result = run(source, "-o", target, "--output-name", "features")
    assert result.exit_code == 3
    assert "(N, 3, height, width); only the batch may be dynamic; choose" in result.stderr
    for name, shape in (("features", (5,)), ("maps", (5, 6, 8)), ("pooled", (5, 1, 1))):
        result = run(source, "-o", target, "--size", "8x10", "--output-name", name)
        assert result.exit_code == 0, result.output
        assert "note: converted from float16 to float32" in result.stdout
        spec = format.read(target)
        assert tuple(spec.graph.topology.input_shape) == (3, 8, 10)
        assert tuple(spec.graph.output_shape) == shape
        for option in ([], ["--output-name", name]):
            arguments = ["verify", str(target), str(source), "--samples", "2", *option]
            checked = CliRunner().invoke(bwn, arguments)
            assert checked.exit_code == 0, checked.output
