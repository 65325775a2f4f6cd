"""Random chains of ONNX operations that move elements, between operations that compute."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import onnx
from graphs import floats
from onnx import TensorProto, helper
from onnx_models import f32, i64, model, op

from bwn.onnx.views import Size

NEWEST = min(onnx.defs.onnx_opset_version(), 23)
OPSETS = (11, 12, 13, 14, 17, 18, 20, 21, NEWEST)
BATCH = Size(1, True)


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
