"""ONNX models of one operation each, in every form that the importer reads."""

from __future__ import annotations

import numpy as np
import onnx
from graphs import floats
from onnx import TensorProto, helper, numpy_helper
from onnx_models import BN, FLAT, SIGN, f32, i64, model, op

from bwn.ops.formulas import FUNCTIONS

OF_A_NUMBER = [known.onnx_op for known in FUNCTIONS.values() if known.onnx_op]
WINDOW = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}
SUPPORTED = {
    "conv": model(op("Conv", "x w"), w=floats(5, 4, 3, 3)),
    "conv bias": model(op("Conv", "x w b", kernel_shape=[3, 2]), w=floats(5, 4, 3, 2), b=floats(5)),
    "conv stride pads": model(
        op("Conv", "x w", strides=[2, 1], pads=[1, 0, 2, 1]), w=floats(5, 4, 3, 3)
    ),
    "conv dilation": model(
        op("Conv", "x w", dilations=[2, 1], pads=[2, 1, 2, 1]), w=floats(5, 4, 3, 3)
    ),
    "conv groups": model(op("Conv", "x w", group=2), w=floats(6, 2, 3, 3)),
    "conv depthwise": model(op("Conv", "x w", group=4), w=floats(8, 1, 3, 3)),
    "conv same upper": model(
        op("Conv", "x w", auto_pad="SAME_UPPER", strides=[2, 3]), w=floats(5, 4, 3, 4)
    ),
    "conv same lower": model(
        op("Conv", "x w", auto_pad="SAME_LOWER", strides=[2, 2]), w=floats(5, 4, 3, 4)
    ),
    "conv valid": model(op("Conv", "x w", auto_pad="VALID"), w=floats(5, 4, 3, 4)),
    "gemm": model(op("Gemm", "x w b"), shape=FLAT, w=floats(6, 3), b=floats(3)),
    "gemm no bias": model(op("Gemm", "x w", transB=1), shape=FLAT, w=floats(3, 6)),
    "gemm alpha beta": model(
        op("Gemm", "x w b", transB=1, alpha=0.5, beta=3.0), shape=FLAT, w=floats(3, 6), b=floats(3)
    ),
    "gemm scalar bias": model(
        op("Gemm", "x w b", transB=1), shape=FLAT, w=floats(3, 6), b=f32(2.0)
    ),
    "gemm bias of two axes": model(
        op("Gemm", "x w b", transB=1), shape=FLAT, w=floats(3, 6), b=floats(1, 3)
    ),
    "matmul add": model(
        op("MatMul", "x w", "a"), op("Add", "a b"), shape=FLAT, w=floats(6, 3), b=floats(3)
    ),
    "weights used both ways": model(
        op("Gemm", "x w", "a", transB=1), op("Gemm", "a w"), shape=FLAT, w=floats(6, 6)
    ),
    "batch norm": model(op("BatchNormalization", "x g b m v", epsilon=0.01), **BN),
    "batch norm opset 11": model(op("BatchNormalization", "x g b m v"), opset=11, **BN),
    "batch norm of features": model(op("BatchNormalization", "x g b m v"), shape=(4,), **BN),
    "mul": model(op("Mul", "x c"), c=floats(4, 1, 1)),
    "mul scalar first": model(op("Mul", "c x"), c=f32(-3.0)),
    "mul of features": model(op("Mul", "x c"), shape=FLAT, c=floats(6)),
    "add per channel": model(op("Add", "c x"), c=floats(1, 4, 1, 1)),
    "sub": model(op("Sub", "x c"), c=floats(4, 1, 1)),
    "sub from": model(op("Sub", "c x"), c=floats(4, 1, 1)),
    "div": model(op("Div", "x c"), c=f32([[[2.0]], [[-4.0]], [[0.5]], [[3.0]]])),
    "relu": model(op("Relu", "x")),
    "clip": model(op("Clip", "x l h"), l=f32(-0.5), h=f32(0.25)),
    "clip low": model(op("Clip", "x l"), l=f32(-0.5)),
    "clip high": model(helper.make_node("Clip", ["x", "", "h"], ["y"]), h=f32(0.5)),
    "clip wide": model(op("Clip", "x l h"), l=np.finfo(np.float32).min, h=f32(0.5)),
    "clip nothing": model(op("Clip", "x")),
    "sign greater or equal": model(op("GreaterOrEqual", "x z", "c"), op("Where", "c p n"), **SIGN),
    "sign less": model(op("Less", "x z", "c"), op("Where", "c n p"), **SIGN),
    "sign mirrored": model(op("LessOrEqual", "z x", "c"), op("Where", "c p n"), **SIGN),
    "sign mirrored greater": model(op("Greater", "z x", "c"), op("Where", "c n p"), **SIGN),
    "sign opset 11": model(
        op("Less", "x z", "l"), op("Not", "l", "c"), op("Where", "c p n"), opset=11, **SIGN
    ),
    "sign of larq": model(op("Sign", "x", "s"), op("Add", "s c", "a"), op("Sign", "a"), c=f32(0.1)),
    "add": model(op("Relu", "x", "r"), op("Add", "r x")),
    "max pool": model(op("MaxPool", "x", **WINDOW)),
    "max pool ceil": model(op("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)),
    "max pool ceil pads": model(
        op("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1)
    ),
    "max pool ceil stride": model(
        op("MaxPool", "x", kernel_shape=[1, 2], strides=[3, 4], ceil_mode=1)
    ),
    "max pool same": model(
        op("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
    ),
    "average pool": model(op("AveragePool", "x", **WINDOW)),
    "average pool counted": model(op("AveragePool", "x", **WINDOW, count_include_pad=1)),
    "average pool ceil that fits": model(
        op("AveragePool", "x", kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1)
    ),
    "global average": model(op("GlobalAveragePool", "x")),
    "global max": model(op("GlobalMaxPool", "x")),
    "mean": model(op("ReduceMean", "x", axes=[2, 3])),
    "mean negative axes": model(op("ReduceMean", "x", axes=[-1, -2], keepdims=0)),
    "mean opset 18": model(op("ReduceMean", "x a", keepdims=0), opset=18, a=i64(2, 3)),
    "squeeze": model(op("GlobalAveragePool", "x", "g"), op("Squeeze", "g a"), a=i64(2, 3)),
    "squeeze opset 11": model(
        op("GlobalAveragePool", "x", "g"), op("Squeeze", "g", axes=[-1, -2]), opset=11
    ),
    "flatten": model(op("Flatten", "x")),
    "flatten flat": model(op("Flatten", "x", "f"), op("Flatten", "f", "g"), op("Relu", "g")),
    "reshape -1": model(op("Reshape", "x s"), s=i64(0, -1)),
    "reshape sizes": model(op("Reshape", "x s"), s=i64(-1, 168)),
    "reshape to the same": model(op("Reshape", "x s", "r"), op("Relu", "r"), s=i64(0, 4, 7, 6)),
    "reshape by shape": model(
        op("Shape", "x", "s"),
        op("Gather", "s i", "n"),
        op("Unsqueeze", "n a", "u"),
        op("Concat", "u m", "t", axis=0),
        op("Reshape", "x t"),
        i=np.int64(0),
        a=i64(0),
        m=i64(-1),
    ),
    "softmax": model(op("Softmax", "x"), shape=FLAT),
    "softmax opset 11": model(op("Softmax", "x"), shape=FLAT, opset=11),
    "identities": model(
        op("Identity", "x", "a"),
        op("Dropout", "a", "b"),
        op("Cast", "b", "c", to=TensorProto.FLOAT),
        op("Relu", "c"),
    ),
    "identity last": model(op("Relu", "x", "a"), op("Identity", "a")),
    "weights through nodes": model(
        op("Identity", "w", "w1"),
        op("Transpose", "w1", "w2", perm=[1, 0]),
        op("Sign", "w2", "w3"),
        op("Mul", "w3 a", "w4"),
        op("Gemm", "x w4", transB=1),
        shape=FLAT,
        w=floats(6, 3),
        a=floats(3, 1),
    ),
    "weights by comparison": model(
        op("GreaterOrEqual", "w z", "c"),
        op("Where", "c p n", "v"),
        op("Conv", "x v"),
        w=floats(5, 4, 2, 2),
        **SIGN,
    ),
    "weights of a constant node": model(
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(floats(6, 3))),
        op("MatMul", "x w"),
        shape=FLAT,
    ),
    "clip by constant nodes": model(
        helper.make_node("Constant", [], ["l"], value_float=0.25), op("Clip", "x l")
    ),
    **{
        name: model(op(name, "x"), opset={"Gelu": 20, "Mish": 18}.get(name, 17))
        for name in (*OF_A_NUMBER, "Gelu", "HardSigmoid", "Mish")
    },
    **{
        f"{name} of vectors with parameters": model(op(name, "x", **values), shape=FLAT, opset=12)
        for name, values in {
            "Celu": {"alpha": 0.3},
            "Elu": {"alpha": 2.5},
            "Selu": {"alpha": 0.5, "gamma": 2.0},
            "HardSigmoid": {"alpha": 0.3, "beta": 0.4},
            "LeakyRelu": {"alpha": 0.2},
            "ThresholdedRelu": {"alpha": 0.3},
        }.items()
    },
    "gelu tanh": model(op("Gelu", "x", approximate="tanh"), opset=20),
    "round of halves": model(
        op("Mul", "x h", "m"),
        op("Floor", "m", "f"),
        op("Mul", "f i", "d"),
        op("Round", "d"),
        h=f32(9.0),
        i=f32(0.5),
    ),
    "sigmoid then clip": model(
        op("Sigmoid", "x", "s"), op("Clip", "s l h"), l=f32(0.3), h=f32(0.6)
    ),
    **{
        f"{name} over {axes}": model(op(name, "x", axes=axes, keepdims=len(axes) % 2))
        for name in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2")
        for axes in ([1], [3], [-2], [1, 2], [2, 3], [1, 2, 3])
    },
    **{
        f"log sum exp over {axes}": model(
            op("Mul", "x c", "m"),
            op("ReduceLogSumExp", "m", axes=axes, keepdims=len(axes) % 2),
            c=f32(200.0),
        )
        for axes in ([1], [-1], [2, 3], [1, 2, 3])
    },
    "log sum exp opset 18": model(
        op("ReduceLogSumExp", "x a", "r", keepdims=0), op("Flatten", "r"), opset=18, a=i64(-1)
    ),
    "log sum exp of nothing": model(
        op("ReduceLogSumExp", "x", "r", noop_with_empty_axes=1), op("Relu", "r"), opset=18
    ),
    **{
        f"norm of p {p} over axis {axis}": model(op("LpNormalization", "x", p=p, axis=axis))
        for p in (1, 2)
        for axis in (1, 2, -1)
    },
    "norm of features": model(op("LpNormalization", "x"), shape=FLAT),
    "norm of zeros": model(op("Sub", "x x", "z"), op("LpNormalization", "z", axis=1)),
    "sum over the channels": model(
        op("ReduceSum", "x a", "r", keepdims=0), op("Flatten", "r"), a=i64(1)
    ),
    "sum of squares of features": model(op("ReduceSumSquare", "x", axes=[-1]), shape=FLAT),
    "max opset 18": model(
        op("ReduceMax", "x a", "r", keepdims=0), op("Flatten", "r"), opset=18, a=i64(-1)
    ),
    "reduction of nothing": model(
        op("ReduceSum", "x", "r", noop_with_empty_axes=1), op("Relu", "r")
    ),
    "mean of an axis of size 1": model(
        op("GlobalAveragePool", "x", "g"),
        op("ReduceL1", "g", "r", axes=[3], keepdims=0),
        op("Flatten", "r"),
    ),
    "channels last": model(
        op("Transpose", "x", "t", perm=[0, 2, 3, 1]),
        op("LayerNormalization", "t s b", "n", axis=-1),
        op("ReduceMax", "n", "m", axes=[1], keepdims=0),
        op("Softmax", "m", "p"),
        op("Flatten", "p"),
        s=floats(4),
        b=floats(4, seed=1),
    ),
    "mean of flat rows": model(
        op("Reshape", "x s", "r"), op("ReduceMean", "r", axes=[2], keepdims=0), s=i64(0, 4, -1)
    ),
    "global lp pool": model(op("GlobalLpPool", "x")),
    "global lp pool of 1": model(op("GlobalLpPool", "x", p=1)),
    "softmax of channels": model(op("Softmax", "x", axis=1)),
    "softmax of rows": model(op("Softmax", "x", axis=-1)),
    "log softmax": model(op("LogSoftmax", "x"), shape=FLAT),
    "log softmax of channels": model(op("LogSoftmax", "x", axis=-3)),
    "layer norm of features": model(
        op("LayerNormalization", "x s b"), shape=FLAT, s=floats(6), b=floats(6, seed=1)
    ),
    "layer norm of rows": model(op("LayerNormalization", "x s", epsilon=0.1), s=floats(6)),
    "layer norm of all": model(
        op("LayerNormalization", "x s b", axis=1), s=floats(4, 7, 6), b=floats(4, 7, 6, seed=1)
    ),
    "instance norm": model(op("InstanceNormalization", "x s b"), s=floats(4), b=floats(4, seed=1)),
    "group norm": model(
        op("GroupNormalization", "x s b", num_groups=2), opset=21, s=floats(4), b=floats(4, seed=1)
    ),
    "group norm as torch writes it": model(
        op("Reshape", "x g", "r"),
        op("InstanceNormalization", "r o z", "n"),
        op("Reshape", "n w", "q"),
        op("Mul", "q s"),
        g=i64(0, 2, -1),
        w=i64(-1, 4, 7, 6),
        o=f32(1.0, 1.0),
        z=f32(0.0, 0.0),
        s=floats(4, 1, 1),
    ),
    "lrn": model(op("LRN", "x", size=3, alpha=0.5, beta=0.6, bias=2.0)),
    "opset newest": model(op("Relu", "x"), opset=onnx.defs.onnx_opset_version() - 4),
}
