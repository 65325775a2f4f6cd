"""binarize: what it replaces and keeps, that nothing else changes, and that it can be undone."""

from __future__ import annotations

import copy
import io
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

import bwn
from bwn.errors import ArgumentError
from bwn.train import (
    SCHEMES,
    BinaryConv1d,
    BinaryConv2d,
    BinaryLinear,
    Settings,
    binarize,
    binary_layers,
    deploy,
    fit,
    unbinarize,
)
from bwn.train.schemes import signs


def network():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.Conv2d(4, 8, (3, 1), 2, "valid", (1, 2), 2, False, "reflect"),
        nn.Conv2d(8, 8, 3, padding="same", padding_mode="circular", groups=8),
        nn.Flatten(2),
        nn.Conv1d(8, 6, 3, padding=2, padding_mode="replicate"),
        nn.Flatten(),
        nn.LazyLinear(5),
        nn.Linear(5, 3),
    )


@pytest.fixture
def net():
    module = network()
    module(torch.zeros(2, 1, 7, 6))
    return module


def test_a_layer_changes_its_class_and_nothing_else(net):
    before = {id(layer): dict(vars(layer)) for layer in net}
    state, parameters = copy.deepcopy(net.state_dict()), list(net.parameters())
    report = binarize(net)
    assert report.replaced == ("1", "2", "4", "6")
    assert report.kept == {"0": "the first layer", "7": "the last layer"}
    assert [type(net[i]) for i in (1, 2, 4, 6)] == [
        BinaryConv2d,
        BinaryConv2d,
        BinaryConv1d,
        BinaryLinear,
    ]
    for layer in net:
        now = {k: v for k, v in vars(layer).items() if k not in ("scheme", "_passes")}
        assert now == before[id(layer)]
    assert all(a is b for a, b in zip(net.parameters(), parameters, strict=True))
    assert list(net.state_dict()) == list(state)
    assert all(torch.equal(net.state_dict()[name], state[name]) for name in state)
    net.load_state_dict(state)


def test_each_layer_computes_with_signs_as_torch_does(net):
    x = torch.randn(2, 1, 7, 6)
    plain = copy.deepcopy(net)
    binarize(net, float_ends=False)
    for layer in plain:
        if hasattr(layer, "weight"):
            layer.weight.data = signs(layer.weight.detach())
    assert torch.equal(net.train()(x), plain(x))
    assert torch.equal(net.eval()(x), plain(x))
    assert torch.equal(deploy(net)(x), plain(x))
    assert [type(layer) for layer in deploy(net)] == [type(layer) for layer in plain]


def test_undo_gives_back_the_float_network(net):
    x, kinds = torch.randn(2, 1, 7, 6), [type(layer) for layer in net]
    expected = net(x)
    report = binarize(net, "scaled")
    assert not torch.equal(net(x), expected)
    report.undo()
    report.undo()  # a second time changes nothing
    assert torch.equal(net(x), expected)
    assert [type(layer) for layer in net] == kinds
    assert "scheme" not in vars(net[1])
    binarize(net, "stochastic")
    assert unbinarize(net) == report.replaced
    assert torch.equal(net(x), expected)


@pytest.mark.parametrize(
    ("skip", "kept"),
    [
        ("2", {"2"}),
        (("2", "[46]"), {"2", "4", "6"}),
        (nn.Conv2d, {"1", "2"}),
        (lambda name, layer: getattr(layer, "groups", 1) > 1, {"1", "2"}),
        ([nn.Linear, "4"], {"4", "6"}),
    ],
)
def test_filters_decide(net, skip, kept):
    report = binarize(net, skip=skip)
    assert set(report.kept) == kept | {"0", "7"}
    assert all(report.kept[name] == "skipped" for name in kept)
    assert set(binary_layers(net)) == set(report.replaced) == {"1", "2", "4", "6"} - kept


def test_names_and_types_of_modules_around_a_layer_count():
    def block():
        return nn.Sequential(nn.Linear(4, 4), nn.TransformerDecoderLayer(4, 1, 4))

    net = nn.Sequential(nn.Linear(4, 4), block(), block(), nn.Linear(4, 4))
    assert binarize(net, skip="2").replaced == ("1.0", "1.1.linear1", "1.1.linear2")
    unbinarize(net)
    assert binarize(net, skip=nn.TransformerDecoderLayer).replaced == ("1.0", "2.0")


def test_what_cannot_be_done_is_refused_and_changes_nothing(net):
    with pytest.raises(ArgumentError, match=r"skip: no layer is called '11'; did you mean 1"):
        binarize(net, skip="11")
    with pytest.raises(ArgumentError, match="skip has int, expected names"):
        binarize(net, skip=[3])
    with pytest.raises(ArgumentError, match="unknown scheme 'ternary'"):
        binarize(net, "ternary")
    with pytest.raises(ArgumentError, match=r"no layer can be one bit \(itself: the first layer"):
        binarize(nn.Linear(2, 2))
    with pytest.raises(ArgumentError, match="it has no Conv1d, Conv2d or Linear layer"):
        binarize(nn.ReLU())
    with pytest.raises(ArgumentError, match="layer '6' is lazy and has no weights yet"):
        binarize(network())
    with pytest.raises(ArgumentError, match="module is int"):
        binarize(3)
    assert binary_layers(net) == {}


class Reader(nn.Module):
    """Reads a layer's weight in place of calling it."""

    def __init__(self):
        super().__init__()
        self.proj, self.out = nn.Linear(4, 4), nn.Linear(4, 4)
        nn.init.ones_(self.out.weight)

    def forward(self, x):
        return self.out(F.linear(x, self.proj.weight))


def test_weights_that_other_code_reads_are_kept():
    net = nn.ModuleDict(
        {
            "reader": Reader(),
            "attention": nn.MultiheadAttention(4, 2),
            "encoder": nn.TransformerEncoderLayer(4, 2, 4),
            "normed": weight_norm(nn.Linear(4, 4)),
            "transposed": nn.ConvTranspose2d(4, 4, 3),
        }
    )
    report = binarize(net, float_ends=False)
    assert report.replaced == ("reader.out",)
    around = "the module around it reads its weight directly"
    assert {name: reason for name, reason in report.kept.items() if reason == around} == {
        "reader.proj": around,
        "encoder.linear1": around,
        "encoder.linear2": around,
    }
    assert (
        report.kept["transposed"]
        == "its class, torch.nn.modules.conv.ConvTranspose2d, has no one-bit form"
    )
    assert {"attention.out_proj", "encoder.self_attn.out_proj", "normed"} < set(report.kept)
    x = torch.randn(3, 2, 4)
    net.eval()
    with torch.no_grad():
        net["attention"](x, x, x)
        net["encoder"](x)


def test_a_weight_that_a_hook_computes_is_kept():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = nn.Sequential(nn.Linear(4, 4), torch.nn.utils.weight_norm(nn.Linear(4, 4)))
    assert binarize(net, float_ends=False).kept == {"1": "its weight is computed by a hook"}


def test_tied_weights_stay_tied_or_float():
    net = nn.Sequential(*(nn.Linear(4, 4) for _ in range(5)))
    net[2].weight = net[1].weight
    net[3].weight = net[4].weight
    report = binarize(net)
    assert report.replaced == ("1", "2")
    assert report.kept["3"] == "its weight is tied to 4"
    assert net[1].weight is net[2].weight
    net.register_module("embedding", nn.Embedding(4, 4))
    net.embedding.weight = net[1].weight
    unbinarize(net)
    with pytest.raises(ArgumentError, match="1: its weight is tied to embedding"):
        binarize(net)


def test_binarize_twice_keeps_the_first_scheme(net):
    first = binarize(net, "scaled", skip="4")
    second = binarize(net, SCHEMES["deterministic"])
    assert second.replaced == ("4",)
    assert second.kept["1"] == "has scheme scaled already"
    first.undo()
    assert list(binary_layers(net)) == ["4"]


def test_copies_pickles_and_types(net):
    net = net.bfloat16()
    binarize(net)
    again = copy.deepcopy(net)
    buffer = io.BytesIO()
    torch.save(net, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    x = torch.randn(2, 1, 7, 6, dtype=torch.bfloat16)
    for other in (again, loaded, nn.DataParallel(net)):
        assert torch.equal(other(x), net(x))
        assert other(x).dtype == torch.bfloat16
    again[1].weight.data.zero_()
    assert not torch.equal(again(x), net(x))


# torch warns of itself where it compiles any autograd function.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_a_compiled_module_trains_with_the_same_gradients(net):
    binarize(net)
    x = torch.randn(2, 1, 7, 6)
    compiled = torch.compile(copy.deepcopy(net), backend="aot_eager", fullgraph=True)
    for _ in range(3):
        for module in (net, compiled):
            module.zero_grad()
            module(x).square().sum().backward()
    for a, b in zip(net.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.parametrize("scheme", ["margin", "scaled"])
def test_torchs_own_exporters_give_files_that_pack(net, scheme, dynamo, tmp_path):
    report = binarize(net, scheme)
    path, x = tmp_path / "net.onnx", torch.zeros(2, 1, 7, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            shapes = ({0: torch.export.Dim("batch")},)
            torch.onnx.export(
                net.eval(), (x,), path, dynamo=True, dynamic_shapes=shapes, verbose=False
            )
        else:
            names = {"input_names": ["x"], "dynamic_axes": {"x": {0: "batch"}}}
            torch.onnx.export(net.eval(), (x,), path, dynamo=False, **names)
    packed = bwn.pack(path, tmp_path / "net.bwn")
    assert packed.compared
    stored = [layer.stored for layer in packed.layers]
    assert stored.count("1 bit") == len(report.replaced) == 4


def test_a_binarized_network_trains_with_fit(shapes_set):
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(),
        nn.BatchNorm1d(64), nn.Linear(64, 3),
    )  # fmt: skip
    binarize(net)
    seen = []
    settings = Settings(epochs=3, batch_size=20, penalty="margin", ramp=2.0, strength=100.0)
    fit(net, shapes_set(), settings, report=seen.append)
    assert seen[-1].distance < 0.01
    assert list(binary_layers(net)) == ["3"]
