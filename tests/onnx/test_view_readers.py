"""Operations that move elements, around operations that compute: what ONNX Runtime gives.

Random chains go through every opset, with a dynamic batch and a batch of 1. A chain may be refused
only for a reason in REFUSED, and few are.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from math import prod

import numpy as np
import onnx
import pytest
from graphs import floats
from onnx import TensorProto, helper, numpy_helper
from onnx_models import f32, i64, model, op

from bwn.errors import FileError, GraphError
from bwn.ir.interpreter import evaluate
from bwn.onnx.importer import from_bytes
from bwn.onnx.session import Session
from bwn.onnx.views import Size
from bwn.passes import pipeline
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner

SEED = int(os.environ.get("BWN_SEED", "0"))
COUNT = int(os.environ.get("BWN_COUNT", "240"))
NEWEST = min(onnx.defs.onnx_opset_version(), 23)
OPSETS = (11, 12, 13, 14, 17, 18, 20, 21, NEWEST)
REFUSED = (
    "supported: (N, C, H, W), (N, C, L), (N, K)",
    "supported: (N, ..., K), the batch outermost",
    "mixes examples of the batch",
    "examples of the batch are mixed",
    "examples must stay independent",
    "does not depend on the input",
)
BATCH = Size(1, True)


def compare(data: bytes, x: np.ndarray, note: str = "") -> None:
    """The graph of a model, its passes and its plan compute what ONNX Runtime does."""
    imported = from_bytes(data).spec.graph
    x = as_input(x, imported.topology.input_shape)
    expected = Session(data).run(x)
    graph = pipeline.run(imported)
    for actual in (
        evaluate(imported, x)[imported.topology.output],
        evaluate(graph, x)[graph.topology.output],
        Runner(make_plan(graph, len(x), 1)).run(x),
    ):
        assert actual.size == expected.size, note
        np.testing.assert_allclose(
            actual.reshape(expected.shape), expected, rtol=2e-5, atol=2e-5, err_msg=note
        )


def as_input(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(N, *shape): of channels last, channels first."""
    if x.ndim == 4 and x.shape[1:] != shape:
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return x.reshape(len(x), *shape)


class Chain:
    """Grows an ONNX graph one operation at a time, and knows the sizes of its last tensor."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.single = bool(self.random.integers(0, 4) == 0)
        self.opset = OPSETS[seed % len(OPSETS)]
        rank = self.pick([2, 3, 4, 4, 4])
        self.shape = [self.pick([1, 2, 3, 4, 6, 8]) for _ in range(rank - 1)]
        self.sizes = [Size(1, not self.single), *map(Size, self.shape)]
        self.nodes: list[onnx.NodeProto] = []
        self.stored: dict[str, np.ndarray] = {}
        self.last = "x"
        self.before: list[tuple[str, list[Size]]] = [("x", self.sizes)]

    def pick(self, choices):
        return choices[int(self.random.integers(0, len(choices)))]

    @property
    def counts(self) -> list[int]:
        return [size.count for size in self.sizes]

    @property
    def image(self) -> bool:
        """Whether the last tensor is (N, C, ...)."""
        return len(self.sizes) in (3, 4) and self.sizes[0] == Size(1, not self.single)

    def axis(self, *, batch: bool = False) -> int | None:
        axes = [axis for axis, size in enumerate(self.sizes) if batch or not size.batch]
        return self.pick(axes) if axes else None

    def store(self, array) -> str:
        name = f"c{len(self.stored)}"
        self.stored[name] = np.asarray(array)
        return name

    def add(self, kind: str, sizes, *inputs: str, **attributes) -> None:
        """A node that reads the last tensor, then `inputs`."""
        self.emit(kind, [self.last, *inputs], **attributes)
        self.last, self.sizes = self.nodes[-1].output[0], list(sizes)

    def emit(self, kind: str, inputs: list[str], **attributes) -> str:
        name = f"t{len(self.nodes)}"
        node = helper.make_node(kind, inputs, [name], name=f"{kind} of {name}", **attributes)
        self.nodes.append(node)
        return name

    def add_axes(self, kind: str, sizes, axes: list[int], since: int = 13, **attributes) -> None:
        if self.opset < since:
            self.add(kind, sizes, axes=axes, **attributes)
        else:
            self.add(kind, sizes, self.store(i64(*axes)), **attributes)

    def data(self) -> bytes:
        nodes = [*self.nodes, op("Clip", f"{self.last} low")]
        return model(
            *nodes,
            shape=self.shape,
            opset=self.opset,
            batch=1 if self.single else "N",
            low=f32(-50.0),
            **self.stored,
        )


# Movements


def transpose(c: Chain) -> None:
    order = c.random.permutation(len(c.sizes)).tolist()
    if c.pick([True, True, False]) and c.sizes[0].batch:
        order = [0, *(axis for axis in order if axis)]
    c.add("Transpose", [c.sizes[axis] for axis in order], perm=order)


def layers_last(c: Chain) -> None:
    if len(c.sizes) > 2:
        order = [0, *range(2, len(c.sizes)), 1]
        order = c.pick([order, np.argsort(order).tolist()])
        c.add("Transpose", [c.sizes[axis] for axis in order], perm=order)


def divided(c: Chain, count: int, most: int) -> list[int]:
    sizes = []
    for _ in range(int(c.random.integers(0, most))):
        sizes.append(c.pick([n for n in range(1, count + 1) if count % n == 0]))
        count //= sizes[-1]
    return [*sizes, count]


def reshape(c: Chain) -> None:
    """By sizes in the file, with 0 and -1."""
    sizes = [Size(n) for n in divided(c, prod(c.counts), 4)]
    if not c.single:
        sizes.insert(0, BATCH)
        if c.pick([True, False, False]) and len(sizes) > 1:
            first = sizes.pop(1)
            sizes[0] = Size(first.count, True)
    shown = [-1 if size.batch else size.count for size in sizes]
    if c.single and c.pick([True, False]):
        shown[int(c.random.integers(0, len(shown)))] = -1
    for axis, size in enumerate(sizes[: len(c.sizes)]):
        if size == c.sizes[axis] and c.pick([True, False]):
            shown[axis] = 0
    if c.sizes[0].batch and sizes[0] == BATCH == c.sizes[0] and c.pick([True, False]):
        shown[0] = 0
        if -1 not in shown and c.pick([True, False]):
            shown[-1] = -1
            if len(shown) == 1:
                return
    c.add("Reshape", sizes, c.store(i64(*shown)))


def reshape_by_shape(c: Chain) -> None:
    """By sizes that the graph computes: Shape, Gather, Mul, Concat."""
    axis = next((axis for axis, size in enumerate(c.sizes) if size.batch), 0)
    rest = divided(c, prod(c.counts) // c.sizes[axis].count, 3)
    shape = c.emit("Shape", [c.last])
    kind = c.pick(["int64", "int32"])
    if kind == "int32":
        shape = c.emit("Cast", [shape], to=TensorProto.INT32)
    size = c.emit("Gather", [shape, c.store(np.array([axis]))], axis=0)
    first = Size(c.sizes[axis].count, c.sizes[axis].batch)
    if c.pick([True, False]) and rest[0] > 1:
        size = c.emit("Mul", [size, c.store(np.array([rest[0]], kind))])
        first, rest = Size(first.count * rest[0], first.batch), rest[1:]
    if c.pick([True, False]) and rest:
        last = c.store(np.array([*rest[:-1], -1], kind))
    else:
        last = c.store(np.array(rest, kind))
    whole = c.emit("Concat", [size, last], axis=0)
    if kind == "int32":
        whole = c.emit("Cast", [whole], to=TensorProto.INT64)
    c.add("Reshape", [first, *map(Size, rest)], whole)


def squeeze(c: Chain) -> None:
    ones = [axis for axis, size in enumerate(c.sizes) if size == Size(1)]
    if not c.single and len(ones) < len(c.sizes) and ones and c.pick([True, False]):
        ones = [c.pick(ones)]
    if ones and len(ones) < len(c.sizes):
        sizes = [size for axis, size in enumerate(c.sizes) if axis not in ones]
        c.add_axes("Squeeze", sizes, [axis - len(c.sizes) * c.pick([0, 1]) for axis in ones])


def squeeze_all(c: Chain) -> None:
    if not all(size == Size(1) for size in c.sizes):
        c.add("Squeeze", [size for size in c.sizes if size != Size(1)])


def unsqueeze(c: Chain) -> None:
    axis = int(c.random.integers(0, len(c.sizes) + 1))
    sizes = [*c.sizes[:axis], Size(1), *c.sizes[axis:]]
    c.add_axes("Unsqueeze", sizes, [axis - len(sizes) * c.pick([0, 1])])


def flatten(c: Chain) -> None:
    axis = int(c.random.integers(0, len(c.sizes) + 1)) if c.pick([0, 1]) else 1
    halves = c.sizes[:axis], c.sizes[axis:]
    sizes = [Size(prod(s.count for s in h), any(s.batch for s in h)) for h in halves]
    c.add("Flatten", sizes, axis=axis - len(c.sizes) * (axis < len(c.sizes) and c.pick([0, 1])))


def slice_axis(c: Chain) -> None:
    axis = c.axis()
    if axis is None:
        return
    count, step = c.counts[axis], c.pick([1, 1, 2, -1, -2])
    start, end = int(c.random.integers(-count, count)), int(c.random.integers(-count - 1, count))
    chosen = range(count)[start:end:step]
    if not chosen:
        start, end = (0, 2**63 - 1) if step > 0 else (-1, -(2**63))
        chosen = range(count)[::step]
    arrays = [c.store(i64(n)) for n in (start, end, axis - len(c.sizes) * c.pick([0, 1]), step)]
    sizes = [*c.sizes[:axis], Size(len(chosen)), *c.sizes[axis + 1 :]]
    c.add("Slice", sizes, *arrays)


def split(c: Chain) -> None:
    axis = c.axis()
    if axis is None or c.counts[axis] < 2:
        return
    first = int(c.random.integers(1, c.counts[axis]))
    sizes, names = [first, c.counts[axis] - first], [f"t{len(c.nodes)}", f"u{len(c.nodes)}"]
    given = {"split": sizes} if c.opset < 13 else {}
    inputs = [c.last] if given else [c.last, c.store(i64(*sizes))]
    c.nodes.append(helper.make_node("Split", inputs, names, axis=axis, **given))
    which = c.pick([0, 1])
    c.last = names[which]
    c.sizes = [*c.sizes[:axis], Size(sizes[which]), *c.sizes[axis + 1 :]]


def gather(c: Chain) -> None:
    axis = c.axis()
    if axis is None:
        return
    count = c.counts[axis]
    if c.pick([0, 1]) and len(c.sizes) > 1:
        index = np.int64(c.random.integers(-count, count))
        c.add("Gather", c.sizes[:axis] + c.sizes[axis + 1 :], c.store(index), axis=axis)
        return
    indices = c.random.integers(-count, count, int(c.random.integers(1, 5)))
    sizes = [*c.sizes[:axis], Size(len(indices)), *c.sizes[axis + 1 :]]
    c.add("Gather", sizes, c.store(indices), axis=axis - len(c.sizes) * c.pick([0, 1]))


def expand(c: Chain) -> None:
    if prod(c.counts) > 300:
        return
    shown = [
        1 if size.batch else c.pick([1, 2, 3] if size.count == 1 else [1, size.count])
        for size in c.sizes
    ]
    sizes = [Size(max(n, s.count), s.batch) for n, s in zip(shown, c.sizes, strict=True)]
    if c.pick([0, 1]):
        while len(shown) > 1 and shown[0] == 1:
            shown.pop(0)
    c.add("Expand", sizes, c.store(i64(*shown)))


# Computations


def convolution(c: Chain) -> None:
    if c.image:
        kernel = [c.pick([1, min(3, n)]) for n in c.counts[2:]]
        outputs = c.pick([1, 2, 5])
        weights = floats(outputs, c.counts[1], *kernel, seed=outputs)
        if c.pick([0, 1]):
            weights = np.sign(weights)
        sizes = [n - k + 1 for n, k in zip(c.counts[2:], kernel, strict=True)]
        c.add("Conv", [c.sizes[0], Size(outputs), *map(Size, sizes)], c.store(weights))


def matrix(c: Chain) -> None:
    if not c.sizes[-1].batch and len(c.sizes) > 1:
        weights = floats(c.counts[-1], outputs := c.pick([1, 3, 4]), seed=2)
        c.add("MatMul", [*c.sizes[:-1], Size(outputs)], c.store(weights))


def dense(c: Chain) -> None:
    if len(c.sizes) == 2 and not c.sizes[1].batch:
        weights, bias = floats(outputs := c.pick([2, 6]), c.counts[1]), floats(outputs, seed=1)
        c.add("Gemm", [c.sizes[0], Size(outputs)], c.store(weights), c.store(bias), transB=1)


def batch_norm(c: Chain) -> None:
    if len(c.sizes) > 1 and not c.sizes[1].batch:
        numbers = [floats(c.counts[1], seed=seed) for seed in range(3)]
        numbers.append(np.abs(floats(c.counts[1], seed=4)) + f32(0.5))
        c.add("BatchNormalization", c.sizes, *map(c.store, numbers))


def function(c: Chain) -> None:
    c.add(c.pick(["Relu", "Sigmoid", "Abs", "Neg", "Elu"]), c.sizes)


def constant(c: Chain) -> None:
    """With a constant that is broadcast."""
    shape = [1 if size.batch else c.pick([1, size.count]) for size in c.sizes]
    array = floats(*shape[int(c.random.integers(0, len(shape))) :], seed=3)
    c.add(c.pick(["Add", "Mul", "Sub", "Max", "PRelu"]), c.sizes, c.store(array))


def constant_first(c: Chain) -> None:
    array = floats(*(1 if size.batch else size.count for size in c.sizes), seed=4)
    name = c.emit(c.pick(["Add", "Mul", "Sub"]), [c.store(array), c.last])
    c.last = name


def together(c: Chain) -> None:
    """With an earlier tensor of the same sizes."""
    same = [name for name, sizes in c.before if sizes == c.sizes and name != c.last]
    if same:
        c.add(c.pick(["Add", "Mul", "Sub", "Min"]), c.sizes, c.pick(same))


def concat(c: Chain) -> None:
    same = [name for name, sizes in c.before if sizes == c.sizes]
    axis = c.axis()
    if same and axis is not None and prod(c.counts) < 500:
        sizes = [*c.sizes[:axis], Size(2 * c.counts[axis]), *c.sizes[axis + 1 :]]
        c.add("Concat", sizes, c.pick(same), axis=axis)


def softmax(c: Chain) -> None:
    axis = len(c.sizes) - 1 if c.opset < 13 else c.axis()
    if axis is not None and not c.sizes[axis].batch and (axis == len(c.sizes) - 1 or c.opset > 12):
        c.add("Softmax", c.sizes, axis=axis)


def mean(c: Chain) -> None:
    axis = c.axis()
    if axis is not None and len(c.sizes) > 1:
        keep = c.pick([0, 1])
        sizes = [*c.sizes[:axis], *[Size(1)] * keep, *c.sizes[axis + 1 :]]
        kind = c.pick(["ReduceMean", "ReduceMax"])
        c.add_axes(kind, sizes, [axis], since=18, keepdims=keep)


def pool(c: Chain) -> None:
    if c.image:
        kernel = [c.pick([1, min(2, n)]) for n in c.counts[2:]]
        sizes = [n - k + 1 for n, k in zip(c.counts[2:], kernel, strict=True)]
        kind = c.pick(["MaxPool", "AveragePool"])
        c.add(kind, [*c.sizes[:2], *map(Size, sizes)], kernel_shape=kernel)


def global_pool(c: Chain) -> None:
    if c.image:
        sizes = [*c.sizes[:2], *[Size(1)] * (len(c.sizes) - 2)]
        c.add(c.pick(["GlobalAveragePool", "GlobalMaxPool"]), sizes)


def layer_norm(c: Chain) -> None:
    if c.opset >= 17 and not c.sizes[-1].batch:
        count = c.counts[-1]
        arrays = floats(count, seed=5), floats(count, seed=6)
        c.add("LayerNormalization", c.sizes, *map(c.store, arrays), epsilon=0.1)


MOVES: list[Callable[[Chain], None]] = [
    transpose, layers_last, layers_last, reshape, reshape_by_shape, squeeze, squeeze_all,
    unsqueeze, flatten, slice_axis, split, gather, expand,
]  # fmt: skip
COMPUTES: list[Callable[[Chain], None]] = [
    convolution, matrix, dense, batch_norm, function, constant, constant_first, together, concat,
    softmax, mean, pool, global_pool, layer_norm,
]  # fmt: skip


def chain(seed: int) -> Chain:
    """A random chain; its last tensor is (N, ...) where that can be."""
    c = Chain(seed)
    for _ in range(int(c.random.integers(2, 9))):
        c.pick(MOVES if c.pick([0, 1]) else COMPUTES)(c)
        c.before.append((c.last, c.sizes))
    if not c.single and (c.sizes[0] != BATCH or not 2 <= len(c.sizes) <= 4):
        c.add("Reshape", [BATCH, Size(prod(c.counts))], c.store(i64(-1, prod(c.counts))))
    elif c.single:
        c.add("Reshape", [Size(1), Size(prod(c.counts))], c.store(i64(1, -1)))
    return c


def described(c: Chain, seed: int) -> str:
    """How to repeat a chain, and its nodes."""
    lines = [f"repeat: BWN_SEED={seed} BWN_COUNT=1; opset {c.opset}, {c.sizes[0]}, {c.shape}"]
    for node in c.nodes:
        small = [
            c.stored[name].tolist() if name in c.stored and c.stored[name].size < 9 else name
            for name in node.input
        ]
        values = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        lines.append(f"{node.op_type} {small} {values} {list(node.output)}")
    return "\n".join(lines)


def runs(data: bytes) -> bool:
    """Whether ONNX Runtime reads a model: not where its own optimizer fails."""
    try:
        Session(data)
    except FileError as error:
        if "transpose_optimization" not in str(error):
            raise
        return False
    return True


@pytest.mark.parametrize("block", range(4))
def test_chains_compute_what_onnx_runtime_does(block: int) -> None:
    computed, seeds = 0, range(SEED + block, SEED + COUNT, 4)
    for seed in seeds:
        c = chain(seed)
        data, x = c.data(), floats(1 if c.single else 3, *c.shape, seed=seed)
        note = described(c, seed)
        if not runs(data):
            continue
        try:
            compare(data, x, note)
        except GraphError as error:
            refused = str(error)
            if not any(reason in refused for reason in REFUSED):
                raise AssertionError(f"{refused}\n{note}") from None
        else:
            computed += 1
    assert COUNT < 100 or computed >= 0.7 * len(seeds), f"only {computed} of {len(seeds)}"


SHAPE = [op("Shape", "x", "s"), op("Cast", "s", "t", to=TensorProto.INT32)]
BATCH_TWICE = [
    *SHAPE,
    op("Gather", "t i", "n", axis=0),
    op("Mul", "n two", "m"),
    op("Unsqueeze", "m a", "u"),
    op("Concat", "u rest", "c", axis=0),
    op("Cast", "c", "d", to=TensorProto.INT64),
]
BATCH_TWICE_STORED = {
    "i": np.int64(0), "two": np.int32(2), "a": i64(0), "rest": np.array([-1], np.int32)
}  # fmt: skip
SIGN_OF = [op("GreaterOrEqual", "x z", "b"), op("Where", "b p n")]
Z, P, M = {"z": f32(0.0)}, {"p": f32(1.0)}, {"n": f32(-1.0)}
EXACT = {
    "softmax over an axis of 1": model(
        op("Transpose", "x", "p", perm=[0, 2, 3, 1]),
        op("MatMul", "p w", "m"),
        op("Unsqueeze", "m a", "u"),
        op("Squeeze", "u b", "q"),
        op("Reshape", "q s", "r"),
        op("Softmax", "r", axis=1),
        shape=(3, 2, 2),
        w=floats(3, 4), a=i64(1), b=i64(1), s=i64(0, 1, 4, 4),
    ),
    "softmax over rows": model(op("Softmax", "x", axis=2)),
    "flattened softmax after a squeeze of the batch": model(
        op("Squeeze", "x", "q"), op("Softmax", "q", "m", axis=2), op("Unsqueeze", "m a", "u"),
        op("Flatten", "u"), batch=1, a=i64(0),
    ),
    "softmax after a squeeze of the batch": model(
        op("Squeeze", "x", "q"), op("Softmax", "q", "m", axis=2), op("Unsqueeze", "m a"),
        batch=1, a=i64(0),
    ),
    "dense layer after a squeeze of the batch": model(
        op("GlobalAveragePool", "x", "g"), op("Squeeze", "g", "q"), op("Unsqueeze", "q a", "u"),
        op("Gemm", "u w"), batch=1, a=i64(0), w=floats(4, 3),
    ),
    "batch of 1 picked and put back": model(
        op("Gather", "x i", "g", axis=0), op("Unsqueeze", "g a", "u"), op("Relu", "u"),
        batch=1, i=np.int64(0), a=i64(0),
    ),
    "matrix of (1, N, K)": model(
        op("Unsqueeze", "x a", "u"), op("MatMul", "u w", "m"), op("Squeeze", "m a"),
        shape=(6,), a=i64(0), w=floats(6, 3),
    ),
    "matrix of (N, 1, K)": model(
        op("Unsqueeze", "x a", "u"), op("MatMul", "u w", "m"), op("Squeeze", "m a"),
        shape=(6,), a=i64(1), w=floats(6, 3),
    ),
    "axes added at the front": model(
        op("Expand", "x s", "e"), op("Squeeze", "e a", "q"), op("Relu", "q"),
        s=i64(1, 1, 4, 7, 6), a=i64(0),
    ),
    "quotient of integers": model(
        op("Div", "p q", "d"), op("Cast", "d", "f", to=TensorProto.FLOAT), op("Mul", "x f"),
        p=np.int64(-7), q=np.int64(2),
    ),
    "bias of a dense layer (1, 1)": model(
        op("Gemm", "x w c"), shape=(6,), w=floats(6, 3), c=floats(1, 1)
    ),
    "signal": model(
        op("Conv", "x w", "c", pads=[1, 1]), op("BatchNormalization", "c g b m v", "n"),
        op("MaxPool", "n", "p", kernel_shape=[2], strides=[2]), op("Flatten", "p", "f"),
        op("Gemm", "f d"),
        shape=(3, 8), w=floats(4, 3, 3), d=floats(16, 5), g=floats(4), b=floats(4, seed=1),
        m=floats(4, seed=2), v=np.abs(floats(4, seed=3)) + f32(0.1),
    ),
    "channels last": model(
        op("Transpose", "x", "t", perm=[0, 3, 1, 2]), op("Conv", "t w", "c"),
        op("Transpose", "c", "l", perm=[0, 2, 3, 1]), op("Add", "l b", "a"),
        op("Relu", "a", "r"), op("Flatten", "r", "f"), op("MatMul", "f d"),
        shape=(6, 5, 3), w=floats(4, 3, 3, 3), b=floats(4), d=floats(48, 5),
    ),
}  # fmt: skip
ANSWERS_REFUSED = {
    "comparison with more columns": (
        model(*SIGN_OF, shape=(1,), z=np.zeros((1, 5), np.float32), **P, **M)
    ),
    "comparison of more axes": (
        model(*SIGN_OF, shape=(4,), z=np.zeros((1, 1, 1, 1), np.float32), **P, **M)
    ),
    "choice of more axes": (
        model(*SIGN_OF, shape=(4,), p=np.ones((1, 1, 1), np.float32), **Z, **M)
    ),
    "bias of a row each": model(op("Gemm", "x w c"), shape=(4,), w=floats(4, 3), c=floats(3, 1)),
    "twice the batch": model(
        *BATCH_TWICE, op("Reshape", "x d"), shape=(4,), **BATCH_TWICE_STORED
    ),
    "twice the batch of images": model(
        *BATCH_TWICE, op("Reshape", "x d", "r"), op("Softmax", "r"), shape=(2, 3, 3),
        **BATCH_TWICE_STORED,
    ),
    "batch compared": model(
        op("Shape", "x", "s"), op("Gather", "s i", "n", axis=0), op("Greater", "n one", "g"),
        op("Where", "g p q", "k"), op("Mul", "x k"),
        shape=(4,), i=np.int64(0), one=np.int64(1), p=f32(2.0), q=f32(5.0),
    ),
    "times the batch": model(
        op("Shape", "x", "s"), op("Gather", "s i", "n", axis=0),
        op("Cast", "n", "f", to=TensorProto.FLOAT), op("Mul", "x f"), shape=(4,), i=np.int64(0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_computes_what_onnx_runtime_does(name: str) -> None:
    proto = onnx.load_model_from_string(EXACT[name])
    dims = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    compare(EXACT[name], floats(dims[0] or 3, *dims[1:]))


@pytest.mark.parametrize("name", ANSWERS_REFUSED)
def test_is_right_or_refused_by_name(name: str) -> None:
    """Once these gave wrong answers."""
    proto = onnx.load_model_from_string(ANSWERS_REFUSED[name])
    dims = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    try:
        compare(ANSWERS_REFUSED[name], floats(3, *dims[1:]))
    except GraphError as error:
        refused = str(error)
    else:
        return
    names = [*(node.name for node in proto.graph.node), "output node 'y'"]
    assert any(name in refused for name in names), refused


def squeezed_if(opset: int, *, inner: bool) -> bytes:
    """As torch writes a Squeeze of an axis whose size it does not know: twice, of one name each."""
    end = [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)]
    one = numpy_helper.from_array(i64(2), "axis")
    squeeze = helper.make_graph([op("Squeeze", "v axis", "r")], "then", [], end, [one])
    keep = helper.make_graph([op("Identity", "v", "r")], "else", [], end)
    first = [
        op("Shape", "v", "s"), op("Gather", "s i", "n", axis=0), op("Equal", "n one", "c"),
        helper.make_node("If", ["c"], ["q"], name="inner", then_branch=squeeze, else_branch=keep),
    ]  # fmt: skip
    stored = {"i": np.int64(2), "one": np.int64(1)}
    if inner:
        body = [*first, op("Relu", "q", "r")]
        end_of_body = [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)]
        never = helper.make_graph([op("Identity", "v", "r")], "else", [], end_of_body)
        outer = helper.make_graph(body, "then", [], end_of_body)
        first = [helper.make_node("If", ["yes"], ["q"], then_branch=outer, else_branch=never)]
        stored["yes"] = np.array(True)
    nodes = [
        op("GlobalAveragePool", "x", "v"), *first, op("Flatten", "q", "f"), op("Gemm", "f w"),
    ]  # fmt: skip
    return model(*nodes, opset=opset, w=floats(4, 3), **stored)


@pytest.mark.parametrize("inner", [False, True])
def test_an_if_with_a_constant_condition_is_its_branch(inner: bool) -> None:
    compare(squeezed_if(17, inner=inner), floats(3, 4, 7, 6))


def test_an_if_of_the_input_is_refused() -> None:
    end = [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)]
    branches = [
        helper.make_graph([op(kind, "x", "r")], kind, [], end) for kind in ("Relu", "Identity")
    ]
    node = helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])
    steps = [op("ReduceMax", "x", "m", axes=[1, 2, 3], keepdims=0), op("Greater", "m z", "c")]
    with pytest.raises(GraphError, match="expected a constant"):
        from_bytes(model(*steps, node, z=f32(0.0)))
