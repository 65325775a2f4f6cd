"""Every engine of the comparison computes the same function; wrong scores are called wrong."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from engines.case import Case, Kind, installed
from engines.measure import ENGINES, judge, measure, scores

from bwn.ir.model_spec import ModelSpec
from bwn.model import Model
from bwn.tools.benchmark import example_input
from bwn.tools.random_networks import Builder


def residual() -> ModelSpec:
    """A stem with its pool, a residual block with stride, a global pool: what ResNet-18 is made of."""
    net = Builder((3, 24, 24), 0)
    net.conv(3, 16, 7, stride=2, binary=False)
    net.pool((3, 3), (2, 2), pad=1)
    before = net.last
    skip = net.conv(16, 32, 1, stride=2, relu=False)
    net.conv(16, 32, 3, stride=2, source=before)
    net.conv(32, 32, 3, relu=False)
    net.add(skip, net.last)
    net.relu()
    net.pool((3, 3), (1, 1), average=True)
    net.flatten()
    net.dense(32, 10, relu=False, binary=False)
    return net.done()


def chain() -> ModelSpec:
    """Convolutions at stride 1, pools, fully connected layers: what VGG is made of."""
    net = Builder((3, 8, 8), 0)
    net.conv(3, 16, 3)
    net.conv(16, 24, 3)
    net.pool((2, 2), (2, 2))
    net.flatten()
    net.dense(24 * 16, 32)
    net.dense(32, 10, relu=False)
    return net.done()


def signed() -> ModelSpec:
    """Float ends, sign activations between, a fully connected layer over a plane: what VGG with signs is made of."""
    net = Builder((3, 8, 8), 0)
    net.conv(3, 32, 3, relu=False, binary=False)
    net.sign()
    net.conv(32, 64, 3, relu=False, signs=True)
    net.pool((2, 2), (2, 2))
    net.sign()
    net.flatten()
    net.dense(64 * 16, 32, relu=False, signs=True)
    net.sign()
    net.dense(32, 10, relu=False, binary=False)
    return net.done()


NETWORKS = {"residual": residual, "chain": chain, "signed": signed}
CHAINS_ONLY = ("litert",)
CASES = [
    (engine, module, kind, network)
    for engine, module, kind in ENGINES
    for network in NETWORKS
    if (engine not in CHAINS_ONLY or network == "chain")
    and (
        kind == "float32"
        or (kind == "int8" and network != "signed")
        or (kind == "binary" and network == "signed")
    )
]


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize(("engine", "module", "kind", "network"), CASES)
def test_every_engine_agrees_with_bwn(
    engine: str, module: str, kind: Kind, network: str, batch: int
) -> None:
    if not installed(engine):
        pytest.skip(f"{engine} is not installed")
    case = Case(network, NETWORKS[network](), batch, 1)
    found = scores(getattr(importlib.import_module(module), kind)(case), case)
    expected = Model(case.spec, 1).run(example_input(case.spec, 16))
    verdict, error, cosine, same = judge(kind, found, expected, signs=False)
    assert verdict == "ok", (error, cosine, same)
    if kind != "int8":
        assert error < 1e-5
        assert same == 1


def test_an_engine_says_what_it_cannot_run() -> None:
    if not installed("litert"):
        pytest.skip("litert is not installed")
    results, left_out = measure(Case("residual", residual(), 1, 1), 0.0)
    assert "litert" not in {one.engine for one in results}
    assert all("strides" in one.reason for one in left_out if one.engine == "litert")


SCORES = np.random.default_rng(0).standard_normal((16, 10), np.float32)


def test_wrong_scores_are_called_wrong() -> None:
    one_off = SCORES.copy()
    one_off[3] = -one_off[3]
    assert judge("float32", SCORES, SCORES, False)[0] == "ok"
    assert judge("float32", one_off, SCORES, False)[0] == "wrong result"
    assert judge("float32", SCORES + 1e-3, SCORES, False)[0] == "wrong result"
    assert judge("float32", np.full_like(SCORES, np.nan), SCORES, False)[0] == "wrong result"
    assert judge("int8", one_off, SCORES, False)[0] == "wrong result"
    assert judge("int8", np.full_like(SCORES, np.nan), SCORES, False)[0] == "wrong result"
    assert judge("int8", SCORES + np.float32(0.01), SCORES, False)[0] == "ok"
    assert judge("bfloat16", SCORES + np.float32(0.01), SCORES, False)[0] == "information"
    assert judge("bfloat16", one_off, SCORES, False)[0] == "wrong result"


def test_a_sign_may_part_two_images_of_sixteen_and_no_more() -> None:
    apart = SCORES.copy()
    apart[:2] = -apart[:2]
    assert judge("binary", apart, SCORES, True)[0] == "ok"
    apart[2] = -apart[2]
    assert judge("binary", apart, SCORES, True)[0] == "wrong result"


def test_a_cell_holds_every_engine_or_its_reason() -> None:
    results, left_out = measure(Case("residual", residual(), 2, 1), 0.0)
    kinds = {(engine, kind) for engine, _, kind in ENGINES if kind != "binary"}
    assert {(one.engine, one.kind) for one in results} | {
        (one.engine, one.kind) for one in left_out
    } == kinds
    assert {
        ("onnxruntime", "float32"),
        ("onnxruntime", "int8"),
        ("bwn", "float32"),
        ("bwn", "int8"),
    } <= {(one.engine, one.kind) for one in results}
    assert len({len(one.turns_ms) for one in results}) == 1
    assert all(one.min_ms <= one.median_ms and one.calls >= len(one.turns_ms) for one in results)
    assert all(one.reason for one in left_out)
