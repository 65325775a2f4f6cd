"""What a small file may make a plan take: steps, products, memory, time."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from graphs import make_graph, words

from bwn.errors import BwnError, GraphError
from bwn.format import writer
from bwn.format.header import MAX_FILE
from bwn.format.reader import from_bytes
from bwn.ir.checker import MAX_TOTAL, check
from bwn.ir.model_spec import ModelSpec
from bwn.ir.node import Node
from bwn.model import Model
from bwn.ops.add import Add
from bwn.ops.affine import Affine
from bwn.ops.clamp import Clamp
from bwn.ops.concat import Concat
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.pool import Pool
from bwn.plan import plan_size
from bwn.plan.buffers import GUARD, LINE, Buffer, arena, place, round_up
from bwn.plan.plan_size import PlanSize
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner

ONE = words(1, 4)


@pytest.mark.parametrize(
    ("node", "shape", "tensors", "message"),
    [
        (
            Conv(
                input="x",
                output="y",
                weight="w",
                kernel=(2, 2),
                pads=(32768, 65536, 0, 0),
                dilation=(32768, 65536),
            ),
            (1, 1, 1),
            {"w": ONE},
            "its input is (1, 32769, 65537) with padding",
        ),
        (
            Conv(input="x", output="y", weight="w", kernel=(256, 256), stride=(256, 256)),
            (1, 256, 256),
            {"w": words(1, 2**16)},
            "reads 65536 phases of the image",
        ),
        (
            Pool(
                input="x",
                output="y",
                kind="max",
                kernel=(2**15, 2**15),
                pads=(0, 0, 2**15 - 1, 2**15 - 1),
            ),
            (1, 1, 1),
            {},
            "with padding, more than 268435456 elements",
        ),
        (Clamp(input="x", output="y", low=0.0), (2**25, 1, 1), {}, "16 at least for each channel"),
        (Clamp(input="x", output="y", low=0.0), (2**25,), {}, "16 at least for each channel"),
        (
            Dense(input="x", output="y", weight="w"),
            (1,),
            {"w": np.broadcast_to(np.float32(1), (2**25, 1))},
            "16 at least for each channel",
        ),
    ],
)
def test_padding_phases_and_rounding_count_against_the_limits(node, shape, tensors, message):
    with pytest.raises(GraphError) as caught:
        check(make_graph(node, shape=shape, **tensors))
    assert message in str(caught.value)


def clamps(count: int) -> list[Node]:
    names = ["x", *(f"t{number}" for number in range(count))]
    return [
        Clamp(input=source, output=output, low=0.0) for source, output in itertools.pairwise(names)
    ]


def long_lives(count: int) -> list[Node]:
    """Half of the tensors are read in the order opposite to that in which they are made."""
    half = count // 2
    nodes: list[Node] = [
        Clamp(input="x", output=f"t{number}", low=float(-number)) for number in range(half)
    ]
    names = ["t0", *(f"s{number}" for number in range(1, half))]
    nodes += [
        Add(input=names[number - 1], other=f"t{half - number}", output=names[number])
        for number in range(1, half)
    ]
    return nodes


def dense_block(count: int) -> list[Node]:
    """Each concatenation lies in the next one."""
    nodes, last = list[Node](), "x"
    for number in range(count // 2):
        nodes.append(Clamp(input="x", output=f"c{number}", low=float(-number)))
        nodes.append(Concat(input=last, others=(f"c{number}",), output=f"j{number}"))
        last = f"j{number}"
    return nodes


def affines(count: int) -> list[Node]:
    names = ["x", *(f"t{number}" for number in range(count))]
    return [
        Affine(input=source, output=output, scale="s", bias="b")
        for source, output in itertools.pairwise(names)
    ]


@pytest.mark.parametrize("nodes", [clamps, long_lives, dense_block, affines])
def test_the_most_nodes_load_and_plan_in_seconds(nodes):
    count = 4000 if nodes is dense_block else 10_000
    stored = dict.fromkeys("sb", np.ones(2, np.float32)) if nodes is affines else {}
    graph = make_graph(*nodes(count), shape=(2, 1, 1), **stored)
    data = writer.to_bytes(ModelSpec(graph=graph))
    start = time.process_time()
    model = Model(from_bytes(data), threads=1)
    model.run(np.zeros((1, 2, 1, 1), np.float32))
    assert time.process_time() - start < 20  # 1 to 2 on one core of 2 GHz


def test_steps_are_counted(monkeypatch):
    monkeypatch.setattr(plan_size, "MAX_STEPS", 40)
    graph = make_graph(*clamps(50), shape=(2, 1, 1))
    with pytest.raises(GraphError, match="takes more than 40 steps, too many to plan"):
        make_plan(graph, 1, 1)


@pytest.mark.parametrize(("limit", "value"), [("MAX_INPUTS", 500), ("MAX_WEIGHTS", 4000)])
def test_weights_that_layers_share_count_for_each(monkeypatch, limit, value):
    monkeypatch.setattr(plan_size, limit, value)
    names = ["x", *(f"t{number}" for number in range(9))]
    layers = [
        Dense(input=source, output=output, weight="w")
        for source, output in itertools.pairwise(names)
    ]
    make_plan(make_graph(layers[0], shape=(64,), w=words(1, 64)), 1, 1)
    with pytest.raises(GraphError, match=r"layers have .* inputs and .* weights together"):
        make_plan(make_graph(*layers, shape=(64,), w=words(64, 64)), 1, 1)


def test_rows_that_a_neighbor_widens_count_too():
    wide = {"kernel": (1, 2), "dilation": (1, 2**20), "pads": (0, 2**20, 0, 0)}
    nodes = [
        Conv(input="x", output="y", weight="w", **wide),
        Clamp(input="y", output="z", low=0.0),
    ]
    graph = make_graph(*nodes, shape=(1, 1, 1), w=words(2**14, 2))
    check(graph)
    with pytest.raises(GraphError, match=r"activations take .* GiB an example with their padding"):
        make_plan(graph, 1, 1)


def large_model() -> tuple[Model, np.ndarray]:
    graph = make_graph(Clamp(input="x", output="y", low=0.0), shape=(64, 256, 256))
    return Model(ModelSpec(graph=graph), threads=1), np.zeros((8, 64, 256, 256), np.float32)


@pytest.mark.parametrize("method", ["run", "trace", "profile"])
def test_memory_that_is_not_free_is_asked_for_first(monkeypatch, method):
    monkeypatch.setattr(plan_size, "available_memory", lambda: 2**20)
    monkeypatch.setattr(plan_size, "ASKED_FROM", 2**20)
    model, x = large_model()
    with pytest.raises(BwnError, match=r"takes .* MiB of memory.*1\.0 MiB that are free"):
        getattr(model, method)(x)


@pytest.mark.parametrize("method", ["run", "trace", "profile"])
def test_a_memory_error_is_one_line(monkeypatch, method):
    model, x = large_model()

    def fail(*args: object) -> None:
        raise MemoryError("Unable to allocate 8.0 GiB for an array")

    monkeypatch.setattr(Runner, "_run", fail)
    with pytest.raises(BwnError, match=r"not enough memory for this run \(Unable .* 8.0 GiB"):
        getattr(model, method)(x)


def lowest(buffers: list[Buffer]) -> list[int]:
    """Offsets as `place` gives them, found one by one."""
    placed: list[tuple[Buffer, int, int]] = []
    for buffer in sorted(buffers, key=lambda b: -round_up(b.bytes, 64)):
        size, offset = round_up(buffer.bytes, 64), 0
        for other, start, end in sorted(placed, key=lambda item: item[1]):
            if other.first > buffer.last or other.last < buffer.first:
                continue
            if start - offset >= size:
                break
            offset = max(offset, end)
        placed.append((buffer, offset, offset + size))
    offsets = {id(buffer): offset for buffer, offset, _ in placed}
    return [offsets[id(buffer)] for buffer in buffers]


def test_buffers_lie_in_the_lowest_gap():
    random = np.random.default_rng(0)
    for _ in range(100):
        buffers = []
        for _ in range(random.integers(1, 40)):
            first = int(random.integers(20))
            channels = int(random.integers(1, 9))
            buffer = Buffer("b", "f32", 1, channels, 1, 4)
            buffer.first, buffer.last = first, first + int(random.integers(8))
            buffers.append(buffer)
        expected = lowest(buffers)
        end = place(buffers, reuse=True)
        assert [buffer.offset for buffer in buffers] == expected
        assert end == max(b.offset + round_up(b.bytes, 64) for b in buffers)


def test_the_phases_of_a_stride_are_those_that_taps_read():
    random = np.random.default_rng(0)
    for _ in range(200):
        taps, step, stride = (int(number) for number in random.integers(1, 40, 3))
        node = Conv(
            input="x",
            output="y",
            weight="w",
            kernel=(1, taps),
            stride=(1, stride),
            dilation=(1, step),
        )
        window = node.window((1, 1, 1))
        expected = sorted({tap * step % stride for tap in range(taps)})
        assert window.phases == ([0], expected)
        assert window.phase_count == len(expected)


@pytest.mark.parametrize(("size", "beyond"), [(1, 0), (100, 64), (4096, 300)])
def test_an_arena_lies_between_readable_bytes(size: int, beyond: int) -> None:
    memory = arena(size, beyond)
    before = memory.ctypes.data - memory.base.ctypes.data
    assert memory.nbytes == size
    assert memory.ctypes.data % LINE == 0
    assert before >= GUARD
    assert memory.base.nbytes - before - size >= GUARD + beyond


def test_each_limit_is_reached_and_not_passed() -> None:
    size = PlanSize()
    size.check_steps(2**16)
    with pytest.raises(GraphError, match="takes more than 65,536 steps"):
        size.check_steps(2**16 + 1)
    size.add_layer(2, MAX_FILE * 8 // 2)  # one bit each: as many weights as a file holds
    with pytest.raises(GraphError, match="at most 134,217,728 and 8,589,934,592 are planned"):
        size.add_layer(1, 1)
    size = PlanSize()
    size.add_layer(2**27, 1)
    with pytest.raises(GraphError, match="layers have 134,217,729 inputs"):
        size.add_layer(1, 0)
    size.check_arena(3 * 4 * MAX_TOTAL, 3)
    with pytest.raises(GraphError, match=r"activations take 4.0 GiB an example"):
        size.check_arena(3 * 4 * MAX_TOTAL + 1, 3)
