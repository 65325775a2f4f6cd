"""Whether a graph is legal. Runs between passes, before a file is written and after one is read.

Every refusal is a GraphError, one line that names the node. What passes here can be planned and
run without further tests: names are known, shapes fit, numbers are finite, and nothing is large
enough to hang or exhaust a machine.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bwn._text import count_noun, is_name
from bwn.errors import GraphError
from bwn.ir.graph import Graph, input_shapes
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.ir.node import Node, Shape, Tensors, elements, is_float32

MAX_NODES = 10_000
MAX_NAME = 1024
MAX_ELEMENTS = 2**28
"""Elements that one activation tensor of one example takes: 1 GiB of float32."""
MAX_TOTAL = 2**30
"""Elements that all activation tensors of one example take together."""
VECTOR = 16
"""Elements to which a channel is rounded up."""
MAX_WORK = 2**42
"""Multiplications and pooling steps of one example; ResNet-18 at 224 has 2**31, VGG-16 2**34."""
MAX_CLASSES = 2**20
MAX_SIDE = 2**20
"""Largest side that images are resized to."""


def check(graph: Graph) -> None:
    """Raise GraphError if a graph breaks a rule.

    The message says which node, what it has and what was expected.
    """
    check_input(graph)
    shapes: dict[str, Shape] = {graph.topology.input: tuple(graph.topology.input_shape)}
    signs: set[str] = set()
    work = 0
    for node in graph.nodes:
        if node.output in shapes or node.output in graph.tensors:
            raise node.refuse(f"the name '{node.output}' is taken; each tensor needs its own")
        shape = check_node(node, graph.tensors, shapes, signs)
        shapes[node.output] = shape
        work += node.work([shapes[name] for name in node.inputs], shape)
        if work > MAX_WORK:
            raise node.refuse(f"one example takes more than {MAX_WORK:,} operations")
        if node.makes_signs(signs):
            signs.add(node.output)
    total = sum(map(stored_elements, shapes.values()))
    if total > MAX_TOTAL:
        raise GraphError(
            f"graph: activations take {total:,} elements together, at most {MAX_TOTAL:,} are "
            "allowed"
        )
    if graph.topology.output == graph.topology.input or graph.topology.output not in shapes:
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
            f"input '{topology.input}': shape is {shape}, "
            "expected (channels, height, width) or (features,)"
        )
    if stored_elements(shape) > MAX_ELEMENTS:
        raise GraphError(
            f"input '{topology.input}': shape {shape} takes more than {MAX_ELEMENTS:,} elements, "
            f"{VECTOR} at least for each channel"
        )
    if len(graph.nodes) > MAX_NODES:
        raise GraphError(f"graph: {len(graph.nodes):,} nodes, at most {MAX_NODES:,} are allowed")
    for name in graph.tensors:
        check_name(name)
        if name == topology.input:
            raise GraphError(f"input '{name}': a stored tensor has the same name")


def check_name(name: str) -> None:
    """Names are without control characters, so that a message that quotes one stays one line."""
    if not name or len(name) > MAX_NAME or not is_name(name):
        raise GraphError(
            f"name {name[:40]!r}: expected 1 to {MAX_NAME} characters, no control characters"
        )


def check_node(node: Node, tensors: Tensors, shapes: Mapping[str, Shape], signs: set[str]) -> Shape:
    """Check one node.

    Args:
        node: The node.
        tensors: The stored tensors of its graph.
        shapes: Shapes of the activations before it.
        signs: Names of those that hold only +-1.

    Returns:
        Shape of its output.
    """
    for name in (node.output, *node.inputs, *node.constants):
        check_name(name)
    inputs = input_shapes(node, shapes)
    for name in node.constants:
        if name not in tensors:
            raise node.refuse(f"reads the stored tensor '{name}', which is missing")
    node.check(inputs, tensors, signs)
    output = node.output_shape(inputs, tensors)
    if stored_elements(output) > MAX_ELEMENTS:
        raise node.refuse(
            f"makes {output}, which takes more than {MAX_ELEMENTS:,} elements, {VECTOR} at least "
            "for each channel"
        )
    return output


def stored_elements(shape: Shape) -> int:
    """Elements that a tensor takes in a run of one: each channel is a whole number of vectors."""
    channel = elements(shape[1:])
    return shape[0] * (channel + -channel % VECTOR)


def check_spec(spec: ModelSpec) -> None:
    """Check the graph, and that preprocessing and class names fit it. Raises GraphError."""
    check(spec.graph)
    output = spec.graph.output_shape
    if not is_name(spec.producer) or len(spec.producer) > MAX_NAME:
        raise GraphError(f"producer: expected at most {MAX_NAME} characters, no control characters")
    if spec.classes is not None:
        # A single score is the logit of the second of two classes.
        counts = (1, 2) if output == (1,) else output
        if len(output) != 1 or len(spec.classes) not in counts or len(spec.classes) > MAX_CLASSES:
            raise GraphError(
                f"classes: {count_noun(len(spec.classes), 'name')} given, but the network's output "
                f"has shape {output}"
            )
        for name in spec.classes:
            check_name(name)
    if spec.preprocess is not None:
        check_preprocess(spec.preprocess, tuple(spec.graph.topology.input_shape))


def check_preprocess(preprocess: Preprocess, shape: Shape) -> None:
    """Preprocessing makes what an input of `shape` takes, with finite numbers."""
    channels = 1 if preprocess.color == "L" else 3
    image = (channels, *preprocess.size)
    if shape not in (image, (elements(image),)) or min(preprocess.size) < 1:
        raise GraphError(
            f"preprocess: images become arrays of shape {image}, but the network takes {shape}"
        )
    if len(preprocess.mean) != channels or len(preprocess.std) != channels:
        raise GraphError(f"preprocess: mean and std need {count_noun(channels, 'number')} each")
    if not all(map(is_float32, preprocess.mean)):
        raise GraphError(f"preprocess: mean is {preprocess.mean}, expected finite numbers")
    if not all(is_float32(number) and np.float32(number) > 0 for number in preprocess.std):
        raise GraphError(f"preprocess: std is {preprocess.std}, expected finite numbers above 0")
    check_resizing(preprocess)
    for mean, std in zip(preprocess.mean, preprocess.std, strict=True):
        if not is_float32((255 / preprocess.scale + abs(mean)) / float(np.float32(std))):
            raise GraphError(
                f"preprocess: mean {mean} and std {std} make pixels that float32 cannot hold"
            )


def check_resizing(preprocess: Preprocess) -> None:
    """The center fits the resized image, and the background is a color."""
    side, largest = preprocess.resize, max(preprocess.size)
    if isinstance(side, int) and not largest <= side <= MAX_SIDE:
        raise GraphError(
            f"preprocess: resize is {side}, expected {largest} to {MAX_SIDE}: the center of "
            f"{preprocess.size[0]} x {preprocess.size[1]} pixels is cropped from it"
        )
    if not all(0 <= level <= 255 for level in preprocess.background):
        raise GraphError(f"preprocess: background is {preprocess.background}, expected 0 to 255")
