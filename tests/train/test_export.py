"""Exported files: ONNX Runtime computes the deployed module; weights have one size per channel."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from bwn.errors import ArgumentError, BwnError, DivergedError
from bwn.ir.model_spec import Preprocess
from bwn.train import (
    Architecture,
    BinaryLinear,
    Settings,
    SignActivation,
    binary_layers,
    build,
    export_onnx,
    fit,
)
from bwn.train.penalties import mean_distance

TINY = {
    "mlp": (1, 6, 6),
    "lenet": (1, 12, 12),
    "convnet": (3, 10, 11),
    "vgg": (3, 9, 8),
    "resnet20": (3, 8, 8),
    "resnet18": (3, 32, 32),
}


def outputs(path, x):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]


def settle(module, shape):
    """Give batch norm statistics, scales and offsets that are not those of a fresh network."""
    generator = torch.Generator().manual_seed(1)
    for layer in module.modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            layer.weight.data.uniform_(-1, 1, generator=generator)
            layer.bias.data.uniform_(-1, 1, generator=generator)
    module.train()
    for _ in range(5):
        module(torch.randn(8, *shape, generator=generator))
    return module.eval()


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("mlp", "float"),
        ("lenet", "scaled"),
        ("convnet", "margin"),
        ("vgg", "stochastic"),
        ("resnet20", "margin"),
        ("resnet18", "margin"),
    ],
)
def test_every_network_exports_what_it_computes(name, scheme, tmp_path):
    shape = TINY[name]
    network = Architecture(name=name, input_shape=shape, classes=3, scheme=scheme, width=4)
    module = settle(build(network), shape)
    path = tmp_path / "model.onnx"
    export_onnx(module, path, torch.zeros(1, *shape))
    x = torch.randn(5, *shape)
    with torch.no_grad():
        expected = module(x).numpy()
    np.testing.assert_allclose(
        outputs(path, x), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
    )
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert len(binary_layers(module)) == 0 if scheme == "float" else len(binary_layers(module)) > 0
    for layer in binary_layers(module):
        weight = stored[f"{layer}.weight"]
        assert all(len(np.unique(np.abs(row))) == 1 for row in weight), layer


def test_a_sign_network_exports_its_signs(tmp_path):
    network = Architecture(
        name="lenet", input_shape=(1, 8, 8), classes=3, activations="sign", width=4
    )
    module = settle(build(network), (1, 8, 8))
    path = tmp_path / "model.onnx"
    export_onnx(module, path, torch.zeros(2, 1, 8, 8))
    x = torch.randn(9, 1, 8, 8)
    with torch.no_grad():
        expected = module(x).numpy()
    np.testing.assert_allclose(outputs(path, x), expected, rtol=1e-5, atol=1e-5)
    assert {"GreaterOrEqual", "Where"} <= {node.op_type for node in onnx.load(path).graph.node}


def test_a_module_of_ones_own_trains_and_exports(tmp_path, shapes_set, own_module):
    module, path = own_module(), tmp_path / "own.onnx"
    preprocess = fit(module, shapes_set(), Settings(epochs=2, batch_size=20, penalty="margin"))
    export_onnx(
        module, path, torch.zeros(2, 1, 8, 8), preprocess=preprocess, classes=("a", "b", "c")
    )
    for count in (1, 7):
        x = torch.randn(count, 1, 8, 8)
        with torch.no_grad():
            expected = module(x).numpy()
        np.testing.assert_allclose(outputs(path, x), expected, rtol=1e-4, atol=1e-4)
    notes = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
    assert (
        Preprocess(
            **{
                k: tuple(v) if isinstance(v, list) else v
                for k, v in json.loads(notes["bwn.preprocess"]).items()
            }
        )
        == preprocess
    )
    assert json.loads(notes["bwn.classes"]) == ["a", "b", "c"]
    assert json.loads(notes["bwn.margins"]) == {
        "mix.weight": mean_distance([module.mix.weight]),
        "head.2.weight": mean_distance([module.head[2].weight]),
    }


def test_the_file_says_nothing_of_this_machine_and_is_the_same_twice(tmp_path):
    module = nn.Sequential(nn.Flatten(), BinaryLinear(64, 3), SignActivation())
    paths = tmp_path / "one.onnx", tmp_path / "two.onnx"
    for path in paths:
        export_onnx(module, path, torch.zeros(2, 1, 8, 8))
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert b"site-packages" not in paths[0].read_bytes()
    assert b"test_export" not in paths[0].read_bytes()
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["one.onnx", "two.onnx"]


def test_autocast_around_the_export_leaves_float32(tmp_path):
    module, paths = nn.Sequential(nn.Linear(4, 4)), (tmp_path / "one.onnx", tmp_path / "two.onnx")
    export_onnx(module, paths[0], torch.zeros(2, 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        export_onnx(module, paths[1], torch.zeros(2, 4))
    assert paths[0].read_bytes() == paths[1].read_bytes()


class Undecided(nn.Module):
    """Control flow that depends on the numbers, which no graph can hold."""

    def forward(self, x):
        return x * 2 if x.sum() > 0 else x


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"module": 1}, "module is int, expected Module"),
        ({"example": 1}, "example is int, expected Tensor"),
        ({"preprocess": 1}, "preprocess is int, expected a mapping"),
        ({"preprocess": {"size": (8, 8)}}, "preprocess needs mean and std, or a preset"),
        (
            {"preprocess": {"mean": (0.5,), "std": 0.5}, "example": torch.zeros(2, 1, 8, 8)},
            "preprocess, std: expected a list with a number for each channel, got 0.5",
        ),
        (
            {"preprocess": {"preset": "half", "size": (9, 9)}, "example": torch.zeros(2, 3, 8, 8)},
            "size 9 x 9: the network takes 8 x 8 images",
        ),
        ({"classes": "abc"}, "classes is str, expected list"),
        ({"path": ""}, "the path is empty"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(tmp_path, arguments, message):
    right = {"module": nn.Linear(2, 2), "path": tmp_path / "a.onnx", "example": torch.zeros(2, 2)}
    with pytest.raises(ArgumentError, match=f"^{message}$"):
        export_onnx(**(right | arguments))
    assert list(tmp_path.iterdir()) == []


class Sum(nn.Module):
    """A network of two inputs."""

    def forward(self, x, y):
        return x + y


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Undecided(), "Could not guard on data-dependent expression"),
        (nn.Conv2d(3, 4, 1), "expected input.* to have 3 channels"),
        (nn.Linear(9, 2), "reduction dim"),
        (Sum(), "missing a required argument: 'y'"),
    ],
)
def test_what_torch_cannot_export_is_one_line_with_the_reason(module, reason, tmp_path, capfd):
    match = f"^torch cannot export this module to ONNX: .*{reason}"
    with pytest.raises(BwnError, match=match) as caught:
        export_onnx(module, tmp_path / "model.onnx", torch.zeros(2, 1, 8, 8))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


def test_preprocessing_may_be_a_mapping_as_for_pack(tmp_path):
    path = tmp_path / "model.onnx"
    given = {"size": (8, 8), "color": "RGB", "mean": np.full(3, 0.5), "std": (0.25,) * 3}
    export_onnx(nn.Conv2d(3, 4, 1), path, torch.zeros(2, 3, 8, 8), preprocess=given)
    notes = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
    assert msgspec.json.decode(notes["bwn.preprocess"], type=Preprocess) == Preprocess(
        size=(8, 8), color="RGB", mean=(0.5,) * 3, std=(0.25,) * 3
    )


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused(value, tmp_path):
    module = nn.Sequential(nn.Linear(4, 4), BinaryLinear(4, 2))
    module[1].weight.data[0, 0] = value
    with pytest.raises(
        DivergedError, match=r"^1\.weight has values that are NaN or infinite: the "
    ):
        export_onnx(module, tmp_path / "model.onnx", torch.zeros(2, 4))
    assert not list(tmp_path.iterdir())


def test_a_forward_that_fixes_the_batch_is_refused_and_names_the_cure(tmp_path):
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(16, 3)

        def forward(self, x):
            return self.head(x.view(2, -1))

    with pytest.raises(BwnError, match=r"fixes the batch to 2: .* x\.flatten\(1\)"):
        export_onnx(Fixed(), tmp_path / "net.onnx", torch.zeros(2, 1, 4, 4))
    assert not (tmp_path / "net.onnx").exists()
