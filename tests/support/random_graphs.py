"""Random legal graphs with branches and every operation of NODES.

An operation without fields of its own is drawn without further code; one with fields needs a method
of `GraphMaker`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import numpy as np
from graphs import make_graph

from bwn.errors import GraphError
from bwn.ir.analysis import signs_of
from bwn.ir.checker import check, check_node
from bwn.ir.graph import Graph
from bwn.ir.node import Array, Node, Shape
from bwn.kernels import bits
from bwn.ops import node_types
from bwn.ops.add import Add
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.ops.formulas import FUNCTIONS
from bwn.ops.pool import Pool
from bwn.ops.sign import Sign

SMOOTH = (
    "abs", "celu", "elu", "erf", "gelu", "gelu_tanh", "leaky_relu", "mish", "selu", "sigmoid",
    "silu", "softplus", "softsign", "tanh",
)  # fmt: skip
OFTEN = {Conv: 16, Dense: 11, Pool: 6, Sign: 7, Add: 3}
"""How often an operation is drawn relative to those that are not listed."""


@dataclass
class GraphMaker:
    """Grows a legal graph one node at a time."""

    seed: int
    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.bytes = np.random.default_rng([self.seed, 1])  # so that other draws stay as they were
        planes = (self.integer(1, 6), self.integer(1, 12), self.integer(1, 20))
        self.shape: Shape = planes if self.random.random() < 0.8 else (self.integer(1, 90),)

    def integer(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return int(self.random.integers(low, high + 1))

    def pair(self, high: int) -> tuple[int, int]:
        return self.integer(1, high), self.integer(1, high)

    def one_of(self, choices):
        return choices[self.integer(0, len(choices) - 1)]

    def graph(self, output: str | None = None) -> Graph:
        return make_graph(*self.nodes, shape=self.shape, output=output, **self.tensors)

    def vector(self, size: int) -> str:
        name = f"v{len(self.tensors)}"
        self.tensors[name] = self.random.normal(0, 1, size).astype(np.float32)
        return name

    # A method for each operation with fields: it draws them for an input of this name and shape.

    def weighted(
        self, inputs: int, outputs: int, kernel: tuple[int, int] | None, signs: bool
    ) -> dict[str, object]:
        area = (kernel or (1, 1))[0] * (kernel or (1, 1))[1]
        packed = self.random.random() < 0.8
        weights = self.random.standard_normal((outputs, inputs * area)).astype(np.float32)
        name = f"w{len(self.tensors)}"
        shape = (outputs, inputs, *kernel) if kernel else (outputs, inputs)
        self.tensors[name] = bits.pack(weights) if packed else weights.reshape(shape)
        binary = ["binary"] * 3 if signs else []
        mode = self.one_of(["float32", "int8", "uint8", *binary] if packed else ["float32"])
        if not packed and self.bytes.random() < 0.5:
            integers = np.rint(weights * 40).clip(-127, 127).astype(np.int8)
            self.tensors[name] = integers.reshape(shape)
            mode = str(self.bytes.choice(["int8", "uint8"]))
        return {
            "weight": name,
            "scale": self.vector(outputs) if self.integer(0, 1) else None,
            "bias": self.vector(outputs) if self.integer(0, 1) else None,
            "low": self.one_of([None, 0.0, -2.5]),
            "high": self.one_of([None, 1.0, 3.5]),
            "activations": mode,
            "input_scale": 0.02 if mode in ("int8", "uint8") and self.integer(0, 1) else None,
        }

    def window(self) -> dict[str, object]:
        kernel, dilation = self.pair(4), self.pair(2)
        reach = [dilation[axis % 2] * (kernel[axis % 2] - 1) + 1 for axis in range(4)]
        pads = tuple(self.integer(0, most - 1) for most in reach)
        return {
            "kernel": kernel,
            "stride": self.pair(3) if self.integer(0, 1) else (1, 1),
            "pads": pads if self.integer(0, 3) else (0, 0, 0, 0),
            "dilation": dilation,
        }

    def conv(self, source: str, shape: Shape, signs: bool) -> dict[str, object]:
        window, channels = self.window(), shape[0]
        groups = channels if self.integer(0, 4) == 0 else 1
        outputs = groups * self.integer(1, 2) if groups > 1 else self.integer(1, 9)
        if channels % 2 == 0 and self.integer(0, 4) == 0:
            groups, outputs = 2, 2 * self.integer(1, 4)
        layer = self.weighted(channels // groups, outputs, window["kernel"], signs)
        return {"groups": groups, **layer, **window}

    def dense(self, source: str, shape: Shape, signs: bool) -> dict[str, object]:
        return self.weighted(shape[0], self.integer(1, 40), None, signs)

    def pool(self, source: str, shape: Shape, signs: bool) -> dict[str, object]:
        window = self.window()
        del window["dilation"]
        window["pads"] = tuple(
            min(pad, window["kernel"][axis % 2] - 1) for axis, pad in enumerate(window["pads"])
        )
        if self.integer(0, 4) == 0 and len(shape) == 3:
            window = {"kernel": shape[1:]}
        kind = "max" if signs or self.integer(0, 1) else "average"
        return {"kind": kind, "count_pads": bool(self.integer(0, 1)), **window}

    def affine(self, source: str, shape: Shape, signs: bool) -> dict[str, object]:
        return {"scale": self.vector(shape[0]), "bias": self.vector(shape[0])}

    def clamp(self, source: str, shape: Shape, signs: bool) -> dict[str, object]:
        return {"low": self.one_of([None, 0.0]), "high": 1.5}

    def add(self, source: str, shape: Shape, signs: bool) -> dict[str, object]:
        return {"other": self.one_of(self.shaped(shape))}

    def mul(self, source: str, shape: Shape, signs: bool) -> dict[str, object]:
        gates = self.shaped((shape[0], 1, 1)) if len(shape) == 3 else []
        return {"other": self.one_of([*self.shaped(shape), *gates, *gates])}

    def arithmetic(self, source: str, shape: Shape, signs: bool) -> dict[str, object]:
        """Of another tensor, or of a constant that neither makes it much larger nor divides by 0."""
        function = self.one_of(["add", "sub", "mul", "max", "min", "prelu", "div", "pow"])
        sizes = tuple(self.one_of([1, size, size]) for size in shape)
        if function not in ("div", "pow") and self.integer(0, 1):
            shapes = self.graph("x").shapes
            fit = [name for name, other in shapes.items() if len(other) == len(shape)]
            return {"function": function, "other": self.one_of(fit)}
        name = f"v{len(self.tensors)}"
        numbers = np.full(sizes, 2.0) if function == "pow" else 1 + self.random.random(sizes)
        self.tensors[name] = numbers.astype(np.float32)
        return {"function": function, "constant": name, "constant_first": function == "sub"}

    def concat(self, source: str, shape: Shape, signs: bool) -> dict[str, object]:
        shapes, axis = self.graph("x").shapes, self.one_of([0, 0, self.integer(0, len(shape) - 1)])
        rest = shape[:axis], shape[axis + 1 :]
        fit = [
            name
            for name, other in shapes.items()
            if len(other) == len(shape) and (other[:axis], other[axis + 1 :]) == rest
        ]
        others = tuple(self.one_of(fit) for _ in range(self.integer(1, 3)))
        return {"others": others, "axis": axis}

    def unary(self, source: str, shape: Shape, signs: bool) -> dict[str, object]:
        # Functions whose slopes are small everywhere: others make a rounding before them large.
        name = self.one_of(SMOOTH)
        names = FUNCTIONS[name].parameters
        return {"function": name, **{parameter: self.one_of([0.5, 1.5]) for parameter in names}}

    def rearrange(self, source: str, shape: Shape, signs: bool) -> dict[str, object]:
        """Axes in another order, some reversed, repeated or cut short, of either rank."""
        strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
        sizes, steps, offset = [], [], 0
        for axis in self.random.permutation(len(shape)):
            size, stride = self.integer(1, shape[axis]), strides[axis] * self.one_of([1, 1, -1, 0])
            offset += max(0, -stride) * (size - 1)
            sizes.append(size)
            steps.append(stride)
        wanted = tuple(sizes) if self.integer(0, 1) else (int(np.prod(sizes)),)
        return {"shape": wanted, "sizes": tuple(sizes), "strides": tuple(steps), "offset": offset}

    def gather(self, source: str, shape: Shape, signs: bool) -> dict[str, object]:
        lists = [
            self.random.integers(-1, size, self.integer(0, size + 3)).tolist() for size in shape
        ]
        return {"indices": tuple(map(tuple, lists)), "value": self.one_of([0.0, 1.0, -3.5])}

    def pad(self, source: str, shape: Shape, signs: bool) -> dict[str, object]:
        mode = self.one_of(["constant", "reflect", "edge", "wrap"])
        pads = tuple(self.integer(0, min(3, size - 1)) for size in (*shape, *shape))
        value = self.one_of([0.0, 0.0, -1.0, 0.5]) if mode == "constant" else 0.0
        return {"pads": pads, "mode": mode, "value": value}

    def quantize(self, source: str, shape: Shape, signs: bool) -> dict[str, object]:
        if self.integer(0, 3) == 0:
            return {}
        low, high = float(self.integer(-128, 0)), float(self.integer(0, 255))
        zero = float(self.one_of([0, 0, 3, -0.5]))
        rounding = self.one_of(["round", "round", "floor", "ceil"])
        scale = self.one_of([0.02, 0.125, 1.0])
        return {"scale": scale, "low": low, "high": high, "zero": zero, "rounding": rounding}

    def channel_softmax(self, source: str, shape: Shape, signs: bool) -> dict[str, object]:
        return {"log": bool(self.integer(0, 1))}

    def normalize(self, source: str, shape: Shape, signs: bool) -> dict[str, object]:
        # A large epsilon: where numbers hardly vary, norms make roundings before them large.
        groups = self.one_of([n for n in (1, 2, 3, shape[0]) if shape[0] % n == 0])
        over = {"over": "group", "groups": groups} if self.integer(0, 1) else {"over": "channels"}
        fields = {"epsilon": 0.5, **over}
        if self.integer(0, 1):
            fields |= {"scale": self.vector(shape[0]), "bias": self.vector(shape[0])}
        return fields

    def local_response(self, source: str, shape: Shape, signs: bool) -> dict[str, object]:
        return {"size": self.one_of([1, 3, 5]), "alpha": 0.1}

    def reduce(self, source: str, shape: Shape, signs: bool) -> dict[str, object]:
        axes = tuple(axis for axis in range(len(shape)) if self.integer(0, 1)) or (0,)
        return {"kind": self.one_of(["mean", "max", "min", "l2"]), "axes": axes}

    def matmul(self, source: str, shape: Shape, signs: bool) -> dict[str, object]:
        shapes = self.graph("x").shapes
        fit = [name for name, other in shapes.items() if other[:2] == (shape[0], shape[-1])]
        return {"other": self.one_of([*fit, source])}

    def resize(self, source: str, shape: Shape, signs: bool) -> dict[str, object]:
        scales = self.one_of([0.5, 1.0, 1.5, 2.0, 3.25]), self.one_of([0.75, 1.0, 2.0])
        return {
            "scales": scales,
            "coordinates": self.one_of(["half_pixel", "asymmetric", "align_corners"]),
        }

    def shaped(self, shape: Shape) -> list[str]:
        return [name for name, other in self.graph("x").shapes.items() if other == shape]

    def draw(self, kind: type[Node], source: str) -> Node:
        graph = self.graph("x")
        fields = {}
        if {f.name for f in msgspec.structs.fields(kind)} != {"input", "output"}:
            method = getattr(self, kind.__struct_config__.tag)
            fields = method(source, graph.shapes[source], source in signs_of(graph))
        return kind(input=source, output=f"t{len(self.nodes)}", **fields)

    def chain(self, last: Node) -> type[Node] | None:
        """What continues a chain of signs: a binary layer, perhaps a max pool, signs again."""
        if isinstance(last, Sign):
            planes = len(self.graph("x").shapes[last.output]) == 3
            return self.one_of([Conv, Conv, Pool]) if planes else Dense
        if isinstance(last, (Conv, Dense)) and last.activations == "binary":
            return self.one_of([Pool, Sign]) if isinstance(last, Conv) else Sign
        if isinstance(last, Pool) and last.kind == "max":
            return self.one_of([Sign, Conv])
        return None

    def grow(self) -> None:
        """Add a node, or none where it would not be legal."""
        names = list(self.graph("x").shapes)
        source = self.one_of(names[-4:])
        kind = self.one_of([kind for kind in node_types() for _ in range(OFTEN.get(kind, 1))])
        if self.nodes and self.integer(0, 1):
            kind, source = self.chain(self.nodes[-1]) or kind, self.nodes[-1].output
        if kind is Conv and len(self.graph("x").shapes[source]) == 1:
            kind = Dense
        elif kind is Dense and len(self.graph("x").shapes[source]) == 3:
            kind = self.one_of([Conv, Flatten])
        tensors, graph = dict(self.tensors), self.graph("x")
        try:
            node = self.draw(kind, source)
            check_node(node, self.tensors, graph.shapes, signs_of(graph))
        except GraphError:
            self.tensors = tensors
        else:
            self.nodes.append(node)


def random_graph(seed: int) -> tuple[Graph, int]:
    """A graph and a batch size; mostly the last node makes the output, others may be unused."""
    maker = GraphMaker(seed)
    count = maker.integer(1, 9)
    while len(maker.nodes) < count:
        maker.grow()
    last = -1 if maker.integer(0, 3) else maker.integer(0, count - 1)
    graph = maker.graph(maker.nodes[last].output)
    check(graph)
    return graph, maker.one_of([1, 2, 3, 17])
