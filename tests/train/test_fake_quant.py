"""8-bit activations: training computes what the packed network does, with the same steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from bwn import format
from bwn.cli.main import bwn
from bwn.errors import BwnError, CheckpointError
from bwn.ir.interpreter import evaluate
from bwn.ir.quantization import QUANT_RANGES
from bwn.kernels.reference import quantize
from bwn.onnx.session import Session
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.tools.pack import pack
from bwn.tools.verify import verify
from bwn.train import (
    Architecture,
    BinaryLinear,
    RoundActivation,
    Settings,
    Trainer,
    accuracy,
    build,
    deploy,
    export_onnx,
    measure,
)
from bwn.train.architectures import build_seeded
from bwn.train.checkpoint import read_checkpoint
from bwn.train.fake_quant import rounded

KINDS = sorted(QUANT_RANGES)


def layer_of(kind, step):
    layer = RoundActivation(signed=kind == "int8").eval()
    layer.step.fill_(step)
    return layer


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(0, 2**32 - 1), st.floats(2**-20, 2**10, width=32))
@example(0, 1.0)
def test_training_rounds_as_the_packed_network_bit_for_bit(kind, seed, step):
    rng = np.random.default_rng(seed)
    step = np.float32(step)
    halves = (np.arange(-300, 300) + 0.5).astype(
        np.float32
    ) * step  # and the numbers next to each half
    x = np.concatenate(
        [halves, np.nextafter(halves, np.float32(9e9)), np.nextafter(halves, np.float32(-9e9)),
         (rng.standard_normal(500) * 100 * step).astype(np.float32)]
    )  # fmt: skip
    q, steps = quantize(x[None], float(step), *QUANT_RANGES[kind])
    rounding = layer_of(kind, float(step))(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(rounding, q[0].astype(np.float32) * steps[0])


def test_the_gradient_passes_inside_the_range():
    x = torch.tensor([-64.0, -63.5, -63.25, 0.1, 63.5, 64.0], requires_grad=True)
    rounded(x, torch.tensor(0.5), -127, 127).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 1, 0]


def test_bfloat16_is_rounded_in_float32():
    layer = layer_of("uint8", 0.013)
    x = torch.rand(1000) * 3
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x), layer_of("uint8", 0.013)(x))
        y = layer(x.bfloat16())
    assert y.dtype == torch.float32
    assert torch.equal(y, layer(x.bfloat16().float()))


def test_the_step_is_the_running_mean_of_the_largest_and_stands_still_in_evaluation():
    layer = RoundActivation(signed=True)
    layer(torch.zeros(3))
    assert float(layer.step) == 1, "nothing to measure"
    layer = RoundActivation(signed=True)
    layer(torch.tensor([0.5, -2.54]))
    torch.testing.assert_close(layer.step, torch.tensor(0.02))
    layer(torch.tensor([5.08, -2.54]))
    torch.testing.assert_close(layer.step, torch.tensor(0.022))
    layer(torch.zeros(3))
    torch.testing.assert_close(layer.step, torch.tensor(0.022))
    before = layer.step.clone()
    layer.eval()(torch.tensor([99.0]))
    assert torch.equal(layer.step, before)


def test_without_a_step_nothing_is_evaluated_or_exported(tmp_path):
    net = nn.Sequential(nn.ReLU(), RoundActivation(signed=False), BinaryLinear(4, 3)).eval()
    with pytest.raises(
        BwnError, match="8-bit activations have no scale yet: pass a batch in training mode first"
    ):
        net(torch.zeros(2, 4))
    with pytest.raises(BwnError, match="no scale yet"):
        export_onnx(net, tmp_path / "model.onnx", torch.zeros(2, 4))


SHAPES = {"mlp": (1, 6, 6), "lenet": (1, 12, 12), "resnet18": (3, 32, 32)}


def trained_a_little(**architecture):
    """A network with steps and batch norm statistics that are not those of a fresh one."""
    network = Architecture(classes=3, width=4, activations="int8", **architecture)
    module = build_seeded(network, 0).train()
    for norm in module.modules():
        if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
            norm.weight.data.uniform_(-1, 1)
            norm.bias.data.uniform_(-1, 1)
    for _ in range(5):
        module(torch.randn(8, *network.input_shape))
    return module.eval()


@pytest.mark.parametrize("name", SHAPES)
def test_steps_and_function_are_those_of_the_packed_network(name, tmp_path):
    module = trained_a_little(name=name, input_shape=SHAPES[name])
    export_onnx(module, tmp_path / "m.onnx", torch.zeros(2, *SHAPES[name]))
    pack(tmp_path / "m.onnx", tmp_path / "m.bwn")
    graph = format.read(tmp_path / "m.bwn").graph
    products = [node for node in graph.nodes if isinstance(node, (Conv, Dense))]
    expected = {
        (layer.kind, float(layer.step))
        for layer in module.modules()
        if isinstance(layer, RoundActivation)
    }
    assert {
        (node.activations, node.input_scale) for node in products if node.is_quantized
    } == expected
    assert all(node.is_quantized == node.is_packed(graph.tensors) for node in products)
    x = torch.randn(6, *SHAPES[name])
    with torch.no_grad():
        wanted = module(x).numpy()
        assert torch.equal(deploy(module)(x), module(x))
    top = np.abs(wanted).max()
    np.testing.assert_allclose(
        Session(str(tmp_path / "m.onnx")).run(x.numpy()), wanted, rtol=0, atol=1e-5 * top
    )
    np.testing.assert_allclose(
        evaluate(graph, x.numpy())[graph.topology.output], wanted, rtol=0, atol=1e-5 * top
    )
    report = verify(tmp_path / "m.bwn", tmp_path / "m.onnx", threads=1, samples=8)
    assert report.agrees, report.verdict
    assert all(layer.judged for layer in report.layers), "the reference rounds the same way"


def test_only_images_and_very_deep_sums_are_rounded_with_a_sign():
    def kinds(**architecture):
        with torch.device("meta"):
            module = build(Architecture(classes=3, activations="int8", **architecture))
        return [layer.kind for layer in module.modules() if isinstance(layer, RoundActivation)]

    assert kinds(name="mlp", input_shape=(1, 6, 6)) == ["int8", "uint8", "uint8", "uint8"]
    assert kinds(name="mlp", input_shape=(1, 6, 6), float_ends=True) == ["uint8", "uint8"]
    assert kinds(name="lenet", input_shape=(1, 200, 200), width=32) == [
        "int8",
        "uint8",
        "int8",
        "uint8",
    ]
    assert set(kinds(name="resnet20", input_shape=(3, 32, 32))) == {"uint8"}
    with pytest.raises(BwnError, match="scheme 'float' has none"):
        kinds(name="mlp", input_shape=(1, 6, 6), scheme="float")


@pytest.mark.parametrize("name", ["lenet", "resnet20"])
def test_rounding_changes_no_names_of_weights(name):
    with torch.device("meta"):
        plain, rounds = (
            build(
                Architecture(name=name, input_shape=(1, 8, 8), classes=3, activations=activations)
            ).state_dict()
            for activations in ("relu", "int8")
        )
    shapes = {name: tensor.shape for name, tensor in rounds.items() if not name.endswith(".step")}
    assert shapes == {name: tensor.shape for name, tensor in plain.items()}
    assert len(rounds) > len(plain)


def test_a_resumed_run_has_the_same_steps(shapes_set):
    data = shapes_set()

    def trainer():
        network = Architecture(
            name="lenet", input_shape=(1, 8, 8), classes=3, width=4, activations="int8"
        )
        settings = Settings(epochs=2, batch_size=20, penalty="margin")
        return Trainer(build_seeded(network, 0), data, measure(data), settings)

    whole, first, second = trainer(), trainer(), trainer()
    whole.run()
    first.run(stop=lambda: first.step == 3)
    second.module.load_state_dict(first.module.state_dict())
    second.restore(first.state())
    second.run()
    expected, state = whole.module.state_dict(), second.module.state_dict()
    steps = [name for name in state if name.endswith(".step")]
    assert steps == ["rounding0.step", "rounding4.step", "rounding9.step", "rounding12.step"]
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def run(*arguments):
    return CliRunner().invoke(bwn, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A network trained on the shipped sample from the command line."""
    path = tmp_path_factory.mktemp("sample") / "m.pt"
    size = ("--width", 64, "--epochs", 2, "--lr", 0.01, "--threads", 1, "--seed", 3)
    result = run("train", "--data", "mnist-sample", "--activations", "int8", *size, "-o", path)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("mlp, scheme margin, int8 activations; ")
    return path


def test_from_training_to_a_checked_file(sample, tmp_path):
    target = tmp_path / "m.bwn"
    result = run("pack", sample, "-o", target)
    assert result.exit_code == 0, result.output
    assert "note:" not in result.stdout, "the steps are known, nothing is left to measure"
    module = read_checkpoint(sample).module
    steps = [float(layer.step) for layer in module.modules() if isinstance(layer, RoundActivation)]
    products = [node for node in format.read(target).graph.nodes if isinstance(node, Dense)]
    assert [node.input_scale for node in products] == steps
    assert [node.activations for node in products] == ["int8", "uint8", "uint8", "uint8"]
    # Two of the 1,000 test images are 0.2 points.
    result = run(
        "verify", target, sample, "--images", "mnist-sample", "--threads", 1, "--max-loss", 0.2
    )
    assert result.exit_code == 0, result.output
    accuracy = read_checkpoint(sample).description.test_accuracy
    assert accuracy > 0.8
    assert f"reference {accuracy:.2%}: " in result.stdout


def test_a_negative_step_is_refused(sample, tmp_path):
    content = torch.load(sample, weights_only=True)
    content["version"] = 1  # without a digest
    content["weights"]["rounding1.step"].neg_()
    torch.save(content, tmp_path / "wrong.pt")
    with pytest.raises(CheckpointError, match="8-bit activations have a negative scale"):
        read_checkpoint(tmp_path / "wrong.pt")


def test_float_weights_are_refused_before_training(tmp_path):
    result = run(
        "train",
        "--data",
        "mnist-sample",
        "--scheme",
        "float",
        "--activations",
        "int8",
        "-o",
        tmp_path / "m",
    )
    assert result.exit_code == 2
    assert (
        result.stderr
        == "Error: activations 'int8' need layers with one-bit weights; scheme 'float' has none\n"
    )


@pytest.mark.parametrize("name", ["mlp", "lenet", "vgg"])
def test_a_sign_network_closes_its_margin_and_is_packed_as_signs(name, shapes_set, tmp_path):
    data = shapes_set()
    network = Architecture(
        name=name, input_shape=(1, 8, 8), classes=3, width=16, activations="sign"
    )
    rates = {"learning_rate": 0.01, "final_learning_rate": 1e-3}
    settings = Settings(
        epochs=20, batch_size=20, **rates, penalty="margin", strength=100, ramp=6, augment="none"
    )
    trainer, seen = Trainer(build_seeded(network, 0), data, measure(data), settings), []
    trainer.run(seen.append)
    assert seen[-1].distance < 0.4, "0.5 in a fresh network"
    assert accuracy(trainer.module, shapes_set(60, seed=9), trainer.preprocess) >= 0.9
    export_onnx(trainer.module, tmp_path / "m.onnx", torch.zeros(2, 1, 8, 8))
    pack(tmp_path / "m.onnx", tmp_path / "m.bwn")
    products = [
        node
        for node in format.read(tmp_path / "m.bwn").graph.nodes
        if isinstance(node, (Conv, Dense))
    ]
    assert [node.activations for node in products] == ["float32", *["binary"] * (len(products) - 1)]
    report = verify(tmp_path / "m.bwn", tmp_path / "m.onnx", threads=1, samples=20)
    assert report.agrees, report.verdict
