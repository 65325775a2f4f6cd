"""Operations that move, pick, pad, resize and pool: random shapes and attributes, against ONNX
Runtime, in every opset that has the form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from graphs import floats
from onnx import defs
from onnx_models import model, op

from bwn.errors import GraphError
from bwn.ir.interpreter import evaluate
from bwn.onnx.importer import from_bytes
from bwn.onnx.session import Session
from bwn.passes import pipeline
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner

NEWEST = min(defs.onnx_opset_version(), 23)
OPSETS = (11, 13, 16, 18, 19, 21, NEWEST)
Case = tuple[list, dict]
"""ONNX nodes from x to y, and their constants."""
Make = Callable[[np.random.Generator, int, tuple[int, ...]], Case]
CASES: dict[str, Make] = {}


def case(make: Make) -> Make:
    CASES[make.__name__] = make
    return make


def integer(random: np.random.Generator, low: int, high: int) -> int:
    return int(random.integers(low, high + 1))


def bool_of(random: np.random.Generator) -> bool:
    return bool(random.integers(0, 2))


@case
def slices(random, opset, shape) -> Case:
    axes = random.permutation(len(shape))[: integer(random, 1, len(shape))] + 1
    starts, ends, steps = [], [], []
    for axis in axes:
        size = shape[axis - 1]
        step = int(random.choice([1, 1, 2, 3, -1, -2]))
        first, last = sorted(random.integers(0, size + 1, 2))
        first = min(first, size - 1)
        last = max(last, first + 1)
        if step < 0:
            first, last = min(last, size) - 1, first - 1 if first else -size - 9
        elif bool_of(random):
            first, last = first - size if first else 0, 2**62
        starts.append(first), ends.append(last), steps.append(step)
    stored = {"s": starts, "e": ends, "a": axes - (len(shape) + 1) * bool_of(random), "t": steps}
    return [op("Slice", "x s e a t")], {key: np.array(v, np.int64) for key, v in stored.items()}


@case
def splits(random, opset, shape) -> Case:
    axis = integer(random, 1, len(shape))
    size, names = shape[axis - 1], "p q r"
    first = integer(random, 1, size - 2)
    sizes = [first, integer(random, 1, size - first - 1)]
    sizes.append(size - sum(sizes))
    join = op("Concat", "r q r p", axis=axis)
    if size % 3 == 0 and bool_of(random) and (opset < 18 or bool_of(random)):
        extra = {"num_outputs": 3} if opset >= 18 else {}
        return [op("Split", "x", names, axis=axis, **extra), join], {}
    if opset >= 18 and bool_of(random) and -(-size // 3) * 2 < size:
        return [op("Split", "x", names, axis=axis, num_outputs=3), join], {}
    if opset < 13:
        return [op("Split", "x", names, axis=axis, split=sizes), join], {}
    return [op("Split", "x s", names, axis=axis), join], {"s": np.array(sizes, np.int64)}


@case
def gathers(random, opset, shape) -> Case:
    axis = integer(random, 1, len(shape))
    size = shape[axis - 1]
    indices = random.integers(-size, size, integer(random, 1, 9))
    if bool_of(random):
        indices = np.arange(size)[:: integer(random, 1, 3)]
    return [op("Gather", "x i", axis=axis)], {"i": indices.astype(random.choice(["i4", "i8"]))}


@case
def expands(random, opset, shape) -> Case:
    target = [1, *(1 if bool_of(random) else size for size in shape)]
    nodes = [op("Expand", "x s")]
    if len(shape) == 3:
        nodes = [op("GlobalMaxPool", "x", "g"), op("Expand", "g s")]
        target = [1, shape[0], integer(random, 1, 5), integer(random, 1, 9)]
    return nodes, {"s": np.array(target[bool_of(random) :], np.int64)}


@case
def tiles(random, opset, shape) -> Case:
    repeats = [1, *random.integers(1, 4, len(shape))]
    return [op("Tile", "x r")], {"r": np.array(repeats, np.int64)}


@case
def blocks(random, opset, shape) -> Case:
    down = op("SpaceToDepth", "p", "d", blocksize=2)
    mode = str(random.choice(["DCR", "CRD"]))
    pads = [0, 0, 0, 0, 0, 0, shape[1] % 2, shape[2] % 2]
    up = op("DepthToSpace", "d", blocksize=2, mode=mode)
    return [op("Pad", "x n", "p"), down, up], {"n": np.array(pads, np.int64)}


@case
def pads(random, opset, shape) -> Case:
    mode = str(random.choice(["constant", "constant", "reflect", "edge", "wrap"]))
    if mode == "wrap" and opset < 19:
        mode = "edge"
    axes = random.permutation(len(shape))[: integer(random, 1, len(shape))] + 1
    most = [shape[axis - 1] - 1 for axis in axes] * 2
    low = -1 if mode == "constant" else 0
    widths = np.array([integer(random, low, min(3, size)) for size in most], np.int64)
    inputs, stored = "x w", {}
    if mode == "constant" and bool_of(random):
        inputs, stored = "x w v", {"v": np.float32(random.normal())}
    if opset >= 18 and bool_of(random):
        if "v" not in inputs:
            inputs += " "
        stored |= {"w": widths, "a": axes}
        return [op("Pad", f"{inputs} a", mode=mode)], stored
    full = np.zeros((2, len(shape) + 1), np.int64)
    full[:, axes] = widths.reshape(2, -1)
    return [op("Pad", inputs, mode=mode)], {"w": full.ravel(), **stored}


@case
def resizes(random, opset, shape) -> Case:
    mode = str(random.choice(["nearest", "linear", "cubic"]))
    coordinates = ["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"]
    coordinates += ["half_pixel_symmetric"] if opset >= 19 else []
    roundings = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
    attributes = {
        "mode": mode,
        "coordinate_transformation_mode": str(random.choice(coordinates)),
        **({"nearest_mode": str(random.choice(roundings))} if mode == "nearest" else {}),
    }
    if mode == "cubic":
        attributes |= {"exclude_outside": integer(random, 0, 1), "cubic_coeff_a": -0.6}
    if opset >= 18 and mode != "nearest" and bool_of(random):
        attributes["antialias"] = 1
    whole = attributes["coordinate_transformation_mode"] == "align_corners"
    scales = np.array(
        [1, 1, *random.choice([1, 2, 3] if whole else [0.5, 0.6, 1, 1.05, 1.1, 1.5, 2, 3], 2)],
        np.float32,
    )
    empty = np.zeros(0, np.float32)
    if opset >= 18 and bool_of(random):
        sizes = random.integers(1, 19, 2)
        if mode == "nearest":
            policy = str(random.choice(["stretch", "not_larger", "not_smaller"]))
            attributes["keep_aspect_ratio_policy"] = policy
        return [op("Resize", "x   sizes", axes=[2, 3], **attributes)], {"sizes": sizes}
    return [op("Resize", "x roi scales", **attributes)], {"roi": empty, "scales": scales}


@case
def joins(random, opset, shape) -> Case:
    axis = integer(random, 1, len(shape))
    rest = np.zeros((2, len(shape) + 1), np.int64)
    rest[:, axis] = -1, 3
    nodes = [op("Pad", "x w", "p"), op("Relu", "x", "r"), op("Concat", "x p r x", axis=axis)]
    return nodes, {"w": rest.ravel()}


@case
def max_pools(random, opset, shape) -> Case:
    return [op("MaxPool", "x", **pool_attributes(random, shape))], {}


@case
def average_pools(random, opset, shape) -> Case:
    attributes = pool_attributes(random, shape)
    attributes["count_include_pad"] = integer(random, 0, 1)
    if opset < 19:
        del attributes["dilations"]
    elif any(attributes.get("pads", ())) or "auto_pad" in attributes:
        attributes["dilations"] = (1, 1)
    return [op("AveragePool", "x", **attributes)], {}


@case
def lp_pools(random, opset, shape) -> Case:
    attributes = pool_attributes(random, shape)
    if opset < 18:
        attributes.pop("ceil_mode", None)
        del attributes["dilations"]
    power = integer(random, 1, 3)
    if opset < 22 and bool_of(random):  # ONNX Runtime has no newer one
        return [op("GlobalLpPool", "x", p=power)], {}
    return [op("LpPool", "x", p=power, **attributes)], {}


def pool_attributes(random, shape) -> dict[str, object]:
    """Windows that fit."""
    kernel = [integer(random, 1, min(3, size)) for size in shape[1:]]
    dilations = [
        integer(random, 1, 2) if size >= 2 * (k - 1) + 1 else 1
        for k, size in zip(kernel, shape[1:], strict=True)
    ]
    strides = random.integers(1, 4, 2).tolist()
    attributes = {"kernel_shape": kernel, "dilations": dilations, "strides": strides}
    padding = integer(random, 0, 3)
    if padding == 1:
        # Of windows smaller than their strides ONNX Runtime makes negative pads.
        attributes["strides"] = [min(pair) for pair in zip(strides, kernel, strict=True)]
        kinds = ["SAME_UPPER", "SAME_LOWER", "VALID"]
        attributes["auto_pad"] = str(random.choice(kinds[2 * (max(dilations) > 1) :]))
    elif padding:
        attributes["pads"] = [integer(random, 0, k - 1) for k in (*kernel, *kernel)]
        attributes["ceil_mode"] = integer(random, 0, 1)
    return attributes


@case
def transposed_convolutions(random, opset, shape) -> Case:
    groups = int(random.choice([g for g in (1, 2, shape[0]) if shape[0] % g == 0]))
    kernel = random.integers(1, 5, 2).tolist()
    strides, dilations = random.integers(1, 4, 2).tolist(), random.integers(1, 3, 2).tolist()
    attributes = {"strides": strides, "dilations": dilations, "group": groups}
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    more = [integer(random, 0, stride - 1) for stride in strides]
    kind = integer(random, 0, 3)
    if kind == 0:
        attributes["auto_pad"] = str(random.choice(["SAME_UPPER", "SAME_LOWER", "VALID"]))
    elif kind == 1:
        size = [(n - 1) * s + k for n, s, k in zip(shape[1:], strides, reach, strict=True)]
        less = [integer(random, 1 - stride, 2) for stride in strides]
        attributes["output_shape"] = [max(1, n - k) for n, k in zip(size, less, strict=True)]
    else:
        attributes["pads"] = [integer(random, 0, min(2, k - 1)) for k in (*reach, *reach)]
        attributes["output_padding"] = more
    outputs = integer(random, 1, 3)
    stored = {"w": floats(shape[0], outputs, *kernel), "b": floats(outputs * groups, seed=1)}
    return [op("ConvTranspose", "x w b", **attributes)], stored


IMAGES_ONLY = {
    "blocks",
    "resizes",
    "max_pools",
    "average_pools",
    "lp_pools",
    "transposed_convolutions",
}


def drawn(name: str) -> Iterator[tuple[str, bytes, tuple[int, ...]]]:
    """Models of one kind, each with a line that says which."""
    random = np.random.default_rng(sorted(CASES).index(name))
    for number in range(180 if name == "resizes" else 60):
        opset = OPSETS[number % len(OPSETS)]
        if name in IMAGES_ONLY or random.random() < 0.7:
            shape = (integer(random, 3, 6), integer(random, 3, 9), integer(random, 3, 21))
        else:
            shape = (integer(random, 3, 40),)
        nodes, stored = CASES[name](random, opset, shape)
        for node in nodes:
            node.output[:] = [name.replace("y", "last") for name in node.output]
        nodes.append(op("Clip", "last low"))  # where nothing moves, the output is not the input
        stored["low"] = np.float32(-100)
        said = f"{number}: opset {opset}, {shape}, {nodes[-2].attribute}, {stored}"
        yield said, model(*nodes, shape=shape, opset=opset, **stored), shape


@pytest.mark.parametrize("name", sorted(CASES))
def test_computes_what_onnx_runtime_does(name: str) -> None:
    for said, data, shape in drawn(name):
        x = floats(3, *shape)
        expected = Session(data).run(x)
        graph = from_bytes(data).spec.graph
        for imported in (graph, pipeline.run(graph)):
            y = evaluate(imported, x)[imported.topology.output]
            np.testing.assert_allclose(y, expected, rtol=1e-5, atol=2e-5, err_msg=said)
        y = Runner(make_plan(pipeline.run(graph), 3, 2)).run(x)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=2e-5, err_msg=said)


SIGNALS = {
    "max pool": [op("MaxPool", "s", kernel_shape=[3], strides=[2], pads=[1, 0], dilations=[2])],
    "average pool": [
        op("AveragePool", "s", kernel_shape=[3], pads=[1, 2], ceil_mode=1, strides=[2])
    ],
    "transposed convolution": [
        op("ConvTranspose", "s v", strides=[2], pads=[1, 0], output_padding=[1])
    ],
    "transposed convolution of a shape": [
        op("ConvTranspose", "s v", strides=[3], output_shape=[40], auto_pad="SAME_UPPER")
    ],
    "pad": [op("Pad", "s w", mode="reflect")],
    "concat": [op("Relu", "s", "r"), op("Concat", "s r s", axis=-1)],
    "tile": [op("Tile", "s t")],
    "resize": [op("Resize", "s roi f")],
    "split": [op("Split", "s", "p q", axis=2), op("Concat", "q p", axis=1)],
}


@pytest.mark.parametrize("name", SIGNALS)
def test_signals(name: str) -> None:
    stored = {"v": floats(4, 3, 3), "w": np.array([0, 1, 2, 0, 0, 5]), "t": np.array([1, 2, 3])}
    stored |= {"roi": np.zeros(0, np.float32), "f": np.array([1, 1, 1.5], np.float32)}
    shape = (4, 1, 16)
    nodes = [op("Squeeze", "x axes", "s"), *SIGNALS[name]]
    data = model(*nodes, shape=shape, axes=np.array([2]), **stored)
    x = floats(3, *shape)
    graph = from_bytes(data).spec.graph
    expected = Session(data).run(x)
    y = Runner(make_plan(graph, 3, 2)).run(x)
    np.testing.assert_allclose(y.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5)


REFUSED = {
    "slice of the batch": (
        [op("Slice", "x s e a")],
        {"s": [1], "e": [2], "a": [0]},
        "part of the batch",
    ),
    "nothing left": ([op("Slice", "x s e a")], {"s": [3], "e": [3], "a": [1]}, "takes nothing"),
    "padded batch": ([op("Pad", "x w")], {"w": [1, 0, 0, 0] * 2}, "axis 0, the batch"),
    "joined batch": ([op("Concat", "x x", axis=0)], {}, "axis 0, the batch"),
    "tiled batch": ([op("Tile", "x r")], {"r": [2, 1, 1, 1]}, "axis 0, the batch"),
    "corners apart": (
        [op("Resize", "x  s", mode="linear", coordinate_transformation_mode="align_corners")],
        {"s": np.array([1, 1, 0.6, 1], np.float32)},
        "with align_corners",
    ),
    "dilated same": (
        [op("MaxPool", "x", kernel_shape=[2, 2], dilations=[2, 2], auto_pad="SAME_LOWER")],
        {},
        "auto_pad SAME_LOWER with dilations",
    ),
    "crop": (
        [op("Resize", "x r s", coordinate_transformation_mode="tf_crop_and_resize")],
        {"s": np.ones(4, np.float32), "r": np.zeros(8, np.float32)},
        "'nearest' with coordinates 'tf_crop_and_resize'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    nodes, stored, message = REFUSED[name]
    arrays = {key: np.asarray(value) for key, value in stored.items()}
    with pytest.raises(GraphError, match=message):
        from_bytes(model(*nodes, **arrays))


CHANNELS_LAST = {
    "concat": [op("Relu", "s", "r"), op("Concat", "s r", "e", axis=3)],
    "concat of rows": [op("Relu", "s", "r"), op("Concat", "s r", "e", axis=1)],
    "pad": [op("Pad", "s w", "e")],
    "cropped and padded": [op("Pad", "s m", "e")],
    "tile": [op("Tile", "s t", "e")],
    "nearest": [op("Resize", "s roi f", "e")],
    "linear": [op("Resize", "s roi f", "e", mode="linear")],
}


@pytest.mark.parametrize("name", CHANNELS_LAST)
def test_channels_last_is_not_copied(name: str) -> None:
    """Between a convolution and the next, both channels first."""
    stored = {
        "w": np.array([0, 1, 2, 0, 0, 0, 3, 0]),
        "m": np.array([0, 1, -2, 0, 0, 0, 3, 0]),
        "t": np.array([1, 2, 1, 3]),
        "roi": np.zeros(0, np.float32),
        "f": np.array([1, 1.5, 2, 1], np.float32),
        "k": floats(4, 4, 1, 1),
    }
    shape = (4, 5, 6)
    nodes = [
        op("Conv", "x k", "c"),
        op("Transpose", "c", "s", perm=[0, 2, 3, 1]),
        *CHANNELS_LAST[name],
        op("Transpose", "e", "last", perm=[0, 3, 1, 2]),
        op("Relu", "last"),
    ]
    data = model(*nodes, shape=shape, **stored)
    x = floats(3, *shape)
    graph = from_bytes(data).spec.graph
    copies = {"tile", "nearest", "cropped and padded"}
    kinds = [node.op for node in graph.nodes]
    assert kinds.count("rearrange") <= (name in copies), kinds
    expected = Session(data).run(x)
    y = Runner(make_plan(pipeline.run(graph), 3, 2)).run(x)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
