"""Reads ONNX's Einsum of one or two operands as sums, transposes and a matrix product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from string import ascii_letters
from typing import TYPE_CHECKING

from bwn.onnx.matrix_readers import Matrix, constant_view, multiply, read_product
from bwn.onnx.reduction_readers import emit_reduce
from bwn.onnx.views import View, merged
from bwn.ops.onnx_reading import reads

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode


@reads("Einsum")
def read_einsum(state: ImportState, node: OnnxNode) -> None:
    """One or two operands, at most one of them constant; no repeated letter within a term."""
    equation = str(node.attrs["equation"]).replace(" ", "")
    ranks = [
        state.weights(node, index).ndim
        if state.is_constant(node, index)
        else state.view(node, index).rank
        for index in range(len(node.inputs))
    ]
    terms, output = parsed(node, equation, ranks)
    every = [*terms, output]
    if len(terms) > 2 or any(len(set(term)) < len(term) for term in every):
        raise node.refuse(
            f"{equation!r}: expected one or two operands, without repeated letters in a term"
        )
    if not set(output) <= set("".join(terms)):
        raise node.refuse(f"{equation!r}: a letter of the result is in no term")
    if len(terms) == 1:
        result, term = _summed(state, node, 0, terms[0], output)
    elif state.is_constant(node, 0) and state.is_constant(node, 1):
        raise node.refuse("multiplies two constants; export the model with constant folding")
    else:
        result, term = _product(state, node, terms, output)
    state.views[node.output] = result.transpose([term.index(letter) for letter in output])


def parsed(node: OnnxNode, equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """The terms and the result of an equation, with a letter for each axis of an ellipsis."""
    left, arrow, output = equation.partition("->")
    terms, unused = left.split(","), [a for a in ascii_letters if a not in equation]
    if len(terms) != len(ranks):
        raise node.refuse(f"{equation!r} has {len(terms)} terms for {len(ranks)} inputs")
    hidden = [max(rank - len(t.replace(".", "")), 0) for t, rank in zip(terms, ranks, strict=True)]
    spare = "".join(unused[: max(hidden)])
    terms = [
        term.replace("...", spare[len(spare) - count :])
        for term, count in zip(terms, hidden, strict=True)
    ]
    if any(len(term) != rank for term, rank in zip(terms, ranks, strict=True)):
        raise node.refuse(f"{equation!r} does not fit inputs of {', '.join(map(str, ranks))} axes")
    letters = "".join(terms)
    once = sorted(a for a in set(letters) if letters.count(a) == 1 and a not in spare)
    return terms, output.replace("...", spare) if arrow else spare + "".join(once)


def _summed(
    state: ImportState, node: OnnxNode, index: int, term: str, kept: str
) -> tuple[View, list[str]]:
    """An operand summed over the axes that only it has, and the letters of its other axes."""
    view = state.view(node, index)
    logical = {axis for axis, letter in enumerate(term) if letter not in kept}
    if not logical:
        return view, list(term)
    if any(view.sizes[axis].batch for axis in logical):
        raise node.refuse("sums over the batch; examples must stay independent")
    output = f"{node.output}.sum{index}"
    step = replace(node, inputs=(node.inputs[index],), outputs=(output,))
    emit_reduce(state, step, "sum", logical, keeps=False)
    return state.views[output], [letter for letter in term if letter in kept]


def _product(
    state: ImportState, node: OnnxNode, terms: Sequence[str], output: str
) -> tuple[View, list[str]]:
    """The product of two operands, and the letters of its axes."""
    views: dict[int, View] = {}
    arrays: dict[int, Matrix] = {}
    sizes: dict[str, int] = {}
    batches: set[str] = set()
    letters = []
    for index, (term, other) in enumerate(zip(terms, reversed(terms), strict=True)):
        if state.is_constant(node, index):
            array, kept = state.weights(node, index), [a for a in term if a in output + other]
            arrays[index] = array.sum(tuple(a for a, b in enumerate(term) if b not in kept))
            sizes |= dict(zip(kept, arrays[index].shape, strict=True))
        else:
            views[index], kept = _summed(state, node, index, term, output + other)
            for letter, size in zip(kept, views[index].sizes, strict=True):
                sizes[letter] = size.count
                batches |= {letter} if size.batch else set()
        letters.append(kept)
    both = [letter for letter in letters[0] if letter in letters[1]]
    outer = [letter for letter in output if letter in both or letter in batches]
    summed = [letter for letter in both if letter not in output]
    rows, columns = ([a for a in output if a in term and a not in outer] for term in letters)
    product = replace(node, outputs=(f"{node.output}.product",))
    at = next(iter(arrays), None)
    if at is not None and not set(letters[at]) & set(outer):
        if at == 0:
            rows, columns = columns, rows
        order = [letters[at].index(letter) for letter in (*columns, *summed)]
        count = prod(sizes[letter] for letter in columns)
        weight = arrays[at].transpose(order).reshape(count, -1)
        x = gathered(views[1 - at], letters[1 - at], [*outer, rows, summed])
        names = (f"{product.output}.x", node.inputs[at])
        state.views[names[0]] = x
        multiply(state, replace(product, inputs=names), weight)
    else:
        for index, array in arrays.items():
            views[index] = constant_view(state, f"{node.output}.{index}", array)
        first = gathered(views[0], letters[0], [*outer, rows, summed])
        second = gathered(views[1], letters[1], [*outer, summed, columns])
        read_product(state, product, first, second)
    result = state.views[product.output]
    for axis, group in ((len(outer) + 1, columns), (len(outer), rows)):
        parts = result.split_axis(axis, [sizes[letter] for letter in group])
        if parts is None:
            raise node.refuse(f"cannot split axis {axis} of {result}")
        result = parts
    return result, [*outer, *rows, *columns]


def gathered(view: View, term: Sequence[str], groups: Sequence[str | Sequence[str]]) -> View:
    """A view whose axes are groups of letters; the size is 1 if it has no letter of the group."""
    axes = (
        merged([f for letter in group if letter in term for f in view.axes[term.index(letter)]])
        for group in groups
    )
    return view._replace(axes=tuple(axes))
