"""Every engine of the comparison computes the same function, or says why it cannot."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from comparison.measure import ENGINES, contender, judge, measure, scores
from engines.case import Case, Contender, Floats, Kind, UnsupportedError, installed
from engines.litert_engine import LiteRTWriter
from engines.openvino_binary import SignNetwork

from bwn.errors import BwnError
from bwn.ir.graph import Graph, Topology
from bwn.ir.model_spec import ModelSpec
from bwn.model import Model
from bwn.ops.hard_swish import HardSwish
from bwn.tools.benchmark import example_input
from bwn.tools.ncnn_network import NcnnWriter
from bwn.tools.random_networks import NetworkBuilder


def residual() -> ModelSpec:
    """A stem with its pool, a residual block with stride, a global pool, as in ResNet-18."""
    net = NetworkBuilder((3, 24, 24), 0)
    net.conv(3, 16, 7, stride=2, binary=False)
    source = net.max_pool(3, 2, pad=1)
    skip = net.conv(16, 32, 1, stride=2, relu=False)
    net.conv(16, 32, 3, stride=2, source=source)
    net.conv(32, 32, 3, relu=False)
    net.add(skip, net.last)
    net.relu()
    net.average_pool((3, 3))
    net.flatten()
    net.dense(32, 10, relu=False, binary=False)
    return net.spec()


def mobile() -> ModelSpec:
    """Depthwise layers with ReLU6, one with a stride, and a sum without ReLU, as in MobileNetV2."""
    net = NetworkBuilder((3, 16, 16), 0)
    source = net.conv(3, 16, 3, stride=2, high=6.0, binary=False)
    net.conv(16, 32, 1, high=6.0)
    net.conv(32, 32, 3, groups=32, high=6.0)
    net.conv(32, 16, 1, relu=False)
    net.add(source, net.last)
    net.conv(16, 16, 3, stride=2, groups=16, high=6.0)
    net.average_pool((4, 4))
    net.flatten()
    net.dense(16, 10, relu=False, binary=False)
    return net.spec()


def chain() -> ModelSpec:
    """Convolutions at stride 1, pools, fully connected layers, as in VGG."""
    net = NetworkBuilder((3, 8, 8), 0)
    net.conv(3, 16, 3)
    net.conv(16, 24, 3)
    net.max_pool(2, 2)
    net.flatten()
    net.dense(24 * 16, 32)
    net.dense(32, 10, relu=False)
    return net.spec()


def signed(*, extra_sign: bool = False, relu: bool = False, ends_float: bool = True) -> ModelSpec:
    """Float ends, sign activations between, a fully connected layer over a plane, as in VGG.

    Args:
        extra_sign: Whether a Sign reads another.
        relu: Whether the first layer has a ReLU.
        ends_float: Whether the last layer has float weights; else it is binary.
    """
    net = NetworkBuilder((3, 8, 8), 0)
    net.conv(3, 32, 3, relu=relu, binary=False)
    net.sign()
    net.conv(32, 64, 3, relu=False, reads_signs=True)
    net.max_pool(2, 2)
    net.sign()
    if extra_sign:
        net.sign()
    net.flatten()
    net.dense(64 * 16, 32, relu=False, reads_signs=True)
    net.sign()
    net.dense(32, 10, relu=False, binary=not ends_float, reads_signs=not ends_float)
    return net.spec()


def hard_swish() -> ModelSpec:
    """A convolution and an operation that only some engines have."""
    net = NetworkBuilder((3, 8, 8), 0)
    net.conv(3, 16, 3)
    graph = net.spec().graph
    nodes = (*graph.nodes, HardSwish(input=net.last, output="y"))
    topology = Topology(input="input", input_shape=(3, 8, 8), output="y", nodes=nodes)
    return ModelSpec(graph=Graph(topology=topology, tensors=graph.tensors))


NETWORKS = {"residual": residual, "mobile": mobile, "chain": chain, "signed": signed}
CASES = [
    (engine, kind, network)
    for engine, kind in ENGINES
    for network in NETWORKS
    if kind == "float32"
    or (kind == "int8" and network != "signed")
    or (kind == "binary" and network == "signed")
]


def agrees(engine: str, kind: Kind, spec: ModelSpec, batch: int) -> None:
    """The engine gives bwn's scores."""
    case = Case("network", spec, batch, 1)
    ready = contender(case, engine, kind)
    assert isinstance(ready, Contender), ready
    expected = Model(spec, 1).run(example_input(spec, 16)).reshape(16, -1)
    judgement = judge(kind, scores(ready, case), expected, has_signs=False)
    assert judgement.verdict == "ok", judgement
    if kind != "int8":
        assert judgement.error < 1e-5
        assert judgement.same_class == 1


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize(("engine", "kind", "network"), CASES)
def test_every_engine_agrees_with_bwn(engine: str, kind: Kind, network: str, batch: int) -> None:
    if not installed(engine):
        pytest.skip(f"{engine} is not installed")
    agrees(engine, kind, NETWORKS[network](), batch)


def test_a_sign_of_signs_is_binary_convolution_too() -> None:
    if not installed("openvino"):
        pytest.skip("openvino is not installed")
    agrees("openvino", "binary", signed(extra_sign=True), 1)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (signed(relu=True), "clamps what it makes"),
        (signed(ends_float=False), "without their scale"),
    ],
)
def test_binary_convolution_says_what_it_cannot_run(spec: ModelSpec, reason: str) -> None:
    if not installed("openvino"):
        pytest.skip("openvino is not installed")
    refusal = contender(Case("signed", spec, 1, 1), "openvino", "binary")
    assert not isinstance(refusal, Contender)
    assert reason in refusal.reason


def test_an_operation_that_ncnn_lacks_is_refused_by_name() -> None:
    with pytest.raises(BwnError, match=r"^hard_swish is not implemented for ncnn"):
        NcnnWriter(hard_swish().graph)


@pytest.mark.parametrize("writer", [LiteRTWriter, SignNetwork])
def test_an_operation_without_a_form_is_refused_by_name(writer: Callable[[Case], object]) -> None:
    with pytest.raises(UnsupportedError, match=r"^hard_swish is not implemented for \w"):
        writer(Case("swish", hard_swish(), 1, 1))


def test_an_engine_that_writes_chains_refuses_a_branch() -> None:
    net = NetworkBuilder((3, 8, 8), 0)
    source = net.conv(3, 16, 3)
    net.conv(16, 16, 3)
    net.conv(16, 16, 3, source=source)
    with pytest.raises(UnsupportedError, match="only chains of layers are implemented for"):
        SignNetwork(Case("branch", net.spec(), 1, 1))


def test_an_engine_that_is_left_out_has_a_reason() -> None:
    if not installed("litert"):
        pytest.skip("litert is not installed")
    results, left_out = measure(Case("swish", hard_swish(), 1, 1), 0.0)
    assert "litert" not in {result.engine for result in results}
    reasons = {item.reason for item in left_out if item.engine == "litert"}
    assert reasons == {"hard_swish is not implemented for LiteRT"}


SCORES = np.random.default_rng(0).standard_normal((16, 10), np.float32)
ALL_NAN = np.full_like(SCORES, np.nan)


def verdict(kind: Kind, actual: Floats, *, has_signs: bool = False) -> str:
    return judge(kind, actual, SCORES, has_signs=has_signs).verdict


def test_wrong_scores_are_called_wrong() -> None:
    one_wrong = SCORES.copy()
    one_wrong[3] = -one_wrong[3]
    assert verdict("float32", SCORES) == "ok"
    assert verdict("float32", one_wrong) == "wrong result"
    assert verdict("float32", SCORES + np.float32(1e-3)) == "wrong result"
    assert verdict("float32", ALL_NAN) == "wrong result"
    assert verdict("int8", one_wrong) == "wrong result"
    assert verdict("int8", ALL_NAN) == "wrong result"
    assert verdict("int8", SCORES + np.float32(0.01)) == "ok"
    assert verdict("bfloat16", SCORES + np.float32(0.01)) == "information"
    assert verdict("bfloat16", one_wrong) == "wrong result"


def test_signs_excuse_two_images_of_sixteen_and_no_more() -> None:
    different = SCORES.copy()
    different[:2] = -different[:2]
    assert verdict("binary", different, has_signs=True) == "ok"
    different[2] = -different[2]
    assert verdict("binary", different, has_signs=True) == "wrong result"


def test_a_cell_holds_every_engine_or_its_reason() -> None:
    results, left_out = measure(Case("residual", residual(), 2, 1), 0.0)
    kinds = {(engine, kind) for engine, kind in ENGINES if kind != "binary"}
    measured = {(result.engine, result.kind) for result in results}
    assert measured | {(item.engine, item.kind) for item in left_out} == kinds
    assert measured >= {
        (engine, kind) for engine in ("onnxruntime", "bwn") for kind in ("float32", "int8")
    }
    assert len({len(result.turns_ms) for result in results}) == 1
    assert all(r.min_ms <= r.median_ms and r.calls >= len(r.turns_ms) for r in results)
    assert all(item.reason for item in left_out)
