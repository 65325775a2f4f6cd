"""Whether a graph is legal. Runs between passes, before a file is written and after one is read.

Each rule raises GraphError, one line that names the node. What passes here can be planned and run without any further
test: names are known, shapes fit, numbers are finite, and nothing is large enough to hang or exhaust a machine.
"""

from __future__ import annotations

from math import isfinite, prod

import numpy as np

from bwn.errors import GraphError
from bwn.ir.graph import (
    AnyNode,
    Array,
    Clamp,
    Conv,
    Dense,
    Flatten,
    Graph,
    ModelSpec,
    Pool,
    Shape,
    Sign,
    Weighted,
)
from bwn.ir.shapes import depth, multiplications, output_shape, shapes, where
from bwn.kernels import bits

MAX_NODES = 10_000
MAX_NAME = 1024
MAX_ATTRIBUTE = 2**20
MAX_ELEMENTS = 2**28
"""Elements of one activation tensor of one example: 1 GiB of float32."""
MAX_TOTAL = 2**30
"""Elements of all activation tensors of one example together."""
MAX_WORK = 2**42
"""Multiplications and pooling steps of one example; ResNet-18 at 224 has 2**31, VGG-16 2**34."""
MAX_CLASSES = 2**20
UINT8_DEEPEST = 2**17
"""Products that a sum of uint8 activations may have: kernels add two numbers, each exact in float32 up to here."""


def check(graph: Graph) -> None:
    """Raise GraphError if `graph` breaks a rule; the message says which node, what was found and what was expected."""
    check_input(graph)
    known: dict[str, Shape] = {graph.topology.input: tuple(graph.topology.input_shape)}
    signs: set[str] = set()
    work = 0
    for node in graph.nodes:
        if node.output in known or node.output in graph.tensors:
            raise GraphError(
                f"{where(node)}: the name '{node.output}' is taken; each tensor needs its own"
            )
        known[node.output] = check_node(graph, node, known, signs)
        work += work_of(node, known)
        if work > MAX_WORK:
            raise GraphError(
                f"{where(node)}: one example takes more than {MAX_WORK} operations up to here"
            )
        if is_sign(node, signs):
            signs.add(node.output)
    total = sum(prod(shape) for shape in known.values())
    if total > MAX_TOTAL:
        raise GraphError(
            f"graph: activations have {total} elements together, at most {MAX_TOTAL} are allowed"
        )
    if graph.topology.output == graph.topology.input or graph.topology.output not in known:
        raise GraphError(f"graph: no node makes the output '{graph.topology.output}'")
    unused = graph.tensors.keys() - {name for node in graph.nodes for name in node.constants}
    if unused:
        raise GraphError(f"graph: no node reads the stored tensor '{min(unused)}'")


def check_input(graph: Graph) -> None:
    """The graph's input, its size, and the names of its stored tensors."""
    topology = graph.topology
    check_name(topology.input)
    check_name(topology.output)
    shape = topology.input_shape
    if len(shape) not in (1, 3) or min(shape) < 1:
        raise GraphError(
            f"input '{topology.input}': shape is {shape}, expected (channels, height, width) or (features,)"
        )
    if prod(shape) > MAX_ELEMENTS:
        raise GraphError(
            f"input '{topology.input}': shape {shape} has more than {MAX_ELEMENTS} elements"
        )
    if len(graph.nodes) > MAX_NODES:
        raise GraphError(f"graph: {len(graph.nodes)} nodes, at most {MAX_NODES} are allowed")
    for name in graph.tensors:
        check_name(name)
        if name == topology.input:
            raise GraphError(f"input '{name}': a stored tensor has the same name")


def check_name(name: str) -> None:
    """Names are printable, so that a message that quotes one stays one line."""
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise GraphError(f"name {name[:40]!r}: expected 1 to {MAX_NAME} printable characters")


def check_node(graph: Graph, node: AnyNode, known: dict[str, Shape], signs: set[str]) -> Shape:
    """Check one node given the shapes known so far and which of them hold only +-1. Returns its output's shape."""
    for name in (node.output, *node.inputs, *node.constants):
        check_name(name)
    missing = [name for name in node.inputs if name not in known]
    if missing:
        raise GraphError(f"{where(node)}: reads '{missing[0]}', which nothing before it makes")
    shape = known[node.input]
    check_attributes(node)
    check_tensors(graph, node, shape)
    made = output_shape(graph, node, tuple(known[name] for name in node.inputs))
    if prod(made) > MAX_ELEMENTS:
        raise GraphError(f"{where(node)}: makes {made}, more than {MAX_ELEMENTS} elements")
    if isinstance(node, Weighted):
        check_activations(graph, node, shape, signs)
    return made


def check_attributes(node: AnyNode) -> None:
    """Ranges of a node's own numbers."""
    if isinstance(node, (Conv, Pool)):
        dilation = node.dilation if isinstance(node, Conv) else (1, 1)
        numbers = {"kernel": node.kernel, "stride": node.stride, "dilation": dilation}
        if isinstance(node, Conv):
            numbers["groups"] = (node.groups, node.groups)
        for name, (first, second) in numbers.items():
            if not (1 <= first <= MAX_ATTRIBUTE and 1 <= second <= MAX_ATTRIBUTE):
                raise GraphError(
                    f"{where(node)}: {name} is {(first, second)}, expected 1 to {MAX_ATTRIBUTE}"
                )
        reach = [dilation[axis] * (node.kernel[axis] - 1) + 1 for axis in (0, 1)]
        if not all(0 <= pad < reach[axis % 2] for axis, pad in enumerate(node.pads)):
            raise GraphError(
                f"{where(node)}: pads are {node.pads}, expected 0 up to less than the window {tuple(reach)}"
            )
    if isinstance(node, (Clamp, Weighted)):
        check_bounds(node)


def check_bounds(node: Clamp | Conv | Dense) -> None:
    """Clamp bounds: finite as float32 and in order."""
    for name, bound in (("low", node.low), ("high", node.high)):
        if bound is not None and not is_float32(bound):
            raise GraphError(
                f"{where(node)}: {name} is {bound}, expected a finite float32 (leave it out for no bound)"
            )
    if node.low is not None and node.high is not None and node.low > node.high:
        raise GraphError(f"{where(node)}: low {node.low} is above high {node.high}")


def is_float32(number: float) -> bool:
    """Whether `number` is finite, also as float32."""
    return isfinite(number) and abs(number) <= float(np.finfo(np.float32).max)


def check_tensors(graph: Graph, node: AnyNode, shape: Shape) -> None:
    """The stored tensors that `node` reads: there, of the right type and shape, finite, pad bits zero."""
    for name in node.constants:
        if name not in graph.tensors:
            raise GraphError(f"{where(node)}: reads the stored tensor '{name}', which is missing")
    vectors = list(node.constants)
    channels = shape[0]
    if isinstance(node, (Conv, Dense)):
        channels = check_weight(graph, node, shape)
        vectors.remove(node.weight)
    for name in vectors:
        vector = graph.tensors[name]
        if vector.dtype != np.float32 or vector.shape != (channels,):
            found = f"{vector.dtype} {vector.shape}"
            raise GraphError(f"{where(node)}: '{name}' is {found}, expected float32 ({channels},)")
        check_finite(node, name, vector)


def check_weight(graph: Graph, node: Conv | Dense, shape: Shape) -> int:
    """The weights of a product. Returns its output channels."""
    weight = graph.tensors[node.weight]
    if len(shape) != (3 if isinstance(node, Conv) else 1):
        expected = "(channels, height, width)" if isinstance(node, Conv) else "(features,)"
        raise GraphError(f"{where(node)}: input has shape {shape}, expected {expected}")
    if weight.ndim < 2 or weight.shape[0] < 1:
        raise GraphError(
            f"{where(node)}: weights have shape {weight.shape}, expected (outputs, ...)"
        )
    out: int = weight.shape[0]
    if isinstance(node, Conv) and (shape[0] % node.groups or out % node.groups):
        raise GraphError(
            f"{where(node)}: {node.groups} groups do not divide {shape[0]} inputs and {out} outputs"
        )
    count = depth(node, shape)
    expected_shape: Shape = (out, count)
    if weight.dtype == np.uint64:
        expected_shape = (out, bits.words_for(count))
    elif isinstance(node, Conv):
        expected_shape = (out, shape[0] // node.groups, *node.kernel)
    if weight.dtype not in (np.uint64, np.float32) or weight.shape != expected_shape:
        found = f"{weight.dtype} {weight.shape}"
        kind = "uint64" if weight.dtype == np.uint64 else "float32"
        raise GraphError(
            f"{where(node)}: weights '{node.weight}' are {found}, expected {kind} {expected_shape}"
        )
    if weight.dtype == np.uint64 and not bits.pads_are_zero(
        weight.astype(np.uint64, copy=False), count
    ):
        raise GraphError(
            f"{where(node)}: weights '{node.weight}' have bits set after the last of {count} signs of a row"
        )
    check_finite(node, node.weight, weight)
    return out


def check_finite(node: AnyNode, name: str, array: Array) -> None:
    """No NaN and no infinity in a stored tensor."""
    if array.dtype == np.float32 and not np.isfinite(array).all():
        raise GraphError(f"{where(node)}: '{name}' holds a number that is not finite")


def check_activations(graph: Graph, node: AnyNode, shape: Shape, signs: set[str]) -> None:
    """How a product reads its input, and the step of 8-bit ones. shape: of the input."""
    assert isinstance(node, (Conv, Dense))
    if node.activations != "float32" and not graph.is_packed(node):
        raise GraphError(
            f"{where(node)}: {node.activations} activations need one-bit weights, these are float32"
        )
    if node.activations == "binary" and node.input not in signs:
        raise GraphError(
            f"{where(node)}: binary activations need an input of signs, '{node.input}' is not one"
        )
    if node.activations == "uint8" and depth(node, shape) > UINT8_DEEPEST:
        found = (
            f"sums {depth(node, shape)} products, at most {UINT8_DEEPEST} go with uint8 activations"
        )
        raise GraphError(f"{where(node)}: {found}; use int8")
    if node.step is not None and not node.is_quantized:
        raise GraphError(
            f"{where(node)}: a step goes with int8 or uint8 activations, these are {node.activations}"
        )
    if node.step is not None and not (is_float32(node.step) and np.float32(node.step) > 0):
        raise GraphError(f"{where(node)}: step is {node.step}, expected a finite number above 0")


def is_sign(node: AnyNode, signs: set[str]) -> bool:
    """Whether `node` makes only +-1: a Sign, or a maximum or reordering of signs (padding never wins a maximum)."""
    if isinstance(node, Sign):
        return True
    passes_on = isinstance(node, Flatten) or (isinstance(node, Pool) and node.kind == "max")
    return passes_on and node.input in signs


def signs_of(graph: Graph) -> set[str]:
    """Names of the tensors of a legal graph that hold only +-1."""
    signs: set[str] = set()
    for node in graph.nodes:
        if is_sign(node, signs):
            signs.add(node.output)
    return signs


def work_of(node: AnyNode, known: dict[str, Shape]) -> int:
    """Operations of `node` on one example, products and pools; the rest is bounded by its output's size."""
    if isinstance(node, Pool):
        return prod(known[node.output]) * prod(node.kernel)
    return multiplications(node, known)


def check_packed(spec: ModelSpec) -> None:
    """Check the graph, and that preprocessing and class names fit it. Raises GraphError."""
    check(spec.graph)
    output = shapes(spec.graph)[spec.graph.topology.output]
    if not (spec.producer.isprintable() and len(spec.producer) <= MAX_NAME):
        raise GraphError(f"producer: expected at most {MAX_NAME} printable characters")
    if spec.classes is not None:
        if output != (len(spec.classes),) or len(spec.classes) > MAX_CLASSES:
            raise GraphError(f"classes: {len(spec.classes)} names for an output of shape {output}")
        for name in spec.classes:
            check_name(name)
    if spec.preprocess is not None:
        check_preprocess(spec)


def check_preprocess(spec: ModelSpec) -> None:
    """Preprocessing makes what the graph's input takes, with finite numbers."""
    preprocess = spec.preprocess
    assert preprocess is not None
    shape = tuple(spec.graph.topology.input_shape)
    channels = 1 if preprocess.color == "L" else 3
    made = (channels, *preprocess.size)
    if shape not in (made, (prod(made),)) or min(preprocess.size) < 1:
        raise GraphError(f"preprocess: makes {made} of an image, the input takes {shape}")
    if len(preprocess.mean) != channels or len(preprocess.std) != channels:
        raise GraphError(f"preprocess: mean and std need {channels} numbers each")
    if not all(is_float32(number) for number in preprocess.mean):
        raise GraphError(f"preprocess: mean is {preprocess.mean}, expected finite numbers")
    if not all(is_float32(number) and np.float32(number) > 0 for number in preprocess.std):
        raise GraphError(f"preprocess: std is {preprocess.std}, expected finite numbers above 0")
