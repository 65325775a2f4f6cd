"""The engines that `bwn bench` compares with, and whether their scores agree."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import msgspec
import numpy as np

from bwn._types import Floats
from bwn.errors import BwnError
from bwn.ir.model_spec import ModelSpec
from bwn.ir.tolerance import chain_tolerance
from bwn.model import Model
from bwn.predict import class_scores
from bwn.tools.verify_scores import Flags, sign_ties

ONNXRUNTIME, NCNN = "onnxruntime", "ncnn"
TITLES = {ONNXRUNTIME: "ONNX Runtime", NCNN: "ncnn"}
"""Peers by the name that results have for them, and how texts name them."""
MAX_SIGN_TIES = 1 / 8
"""Share of the images on which a number next to 0 may have the other sign, where nothing says
which number that was."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """How far the scores of a batch are from a peer's.

    Attributes:
        error: Largest difference, relative to the largest score.
        sign_ties: Images left out of `error`, where a number within tolerance of 0 has the other
            sign.
        tolerance: Largest `error` allowed; None with 8-bit activations, whose scores differ by
            their rounding.
        same_class: Share of the images with the same best class.
    """

    error: float
    sign_ties: int
    tolerance: float | None
    same_class: float


def installed_peers() -> tuple[str, ...]:
    """The peers that can be compared with; imports nothing."""
    needs = {ONNXRUNTIME: ("onnx", "onnxruntime"), NCNN: ("ncnn",)}
    return tuple(name for name, modules in needs.items() if all(map(find_spec, modules)))


class Peers:
    """Peers that are ready to run a network with float32 weights.

    Attributes:
        runs: For each peer, a function from (N, *input shape) float32 to scores.
        left_out: Why other peers are not among them.
    """

    def __init__(self, spec: ModelSpec, threads: int, names: tuple[str, ...]) -> None:
        """Load the network in each peer.

        Args:
            spec: The network.
            threads: Threads of each peer.
            names: The peers.
        """
        self.runs: dict[str, Callable[[Floats], Floats]] = {}
        self.left_out: dict[str, str] = {}
        self._session: Any = None
        if ONNXRUNTIME in names:
            from bwn.onnx.exporter import to_onnx_bytes
            from bwn.onnx.session import Session

            self._session = Session(to_onnx_bytes(spec), threads)
            self.runs[ONNXRUNTIME] = self._session.run
        if NCNN in names:
            from bwn.tools.ncnn_network import runner

            try:
                self.runs[NCNN] = runner(spec.graph, threads)
            except BwnError as error:
                self.left_out[NCNN] = str(error)

    def compare(self, name: str, model: Model, x: Floats) -> dict[str, Comparison]:
        """Compare the scores of a batch with each peer's. A peer whose scores differ is left out.

        Args:
            name: Name of the network, for messages.
            model: bwn's.
            x: (N, *input shape) float32.

        Raises:
            BwnError: ONNX Runtime's scores differ by more than rounding explains.
        """
        ours, comparisons = model.run(x).reshape(len(x), -1), {}
        for peer in tuple(self.runs):
            theirs = self.runs[peer](x).reshape(len(x), -1)
            comparison, wrong = self._compare(peer, model, x, ours, theirs)
            if wrong is None:
                comparisons[peer] = comparison
                continue
            reason = (
                f"scores differ from {TITLES[peer]}'s by {wrong:.2g} of the largest score, "
                f"tolerance {comparison.tolerance:.2g}"
            )
            if peer == ONNXRUNTIME:
                raise BwnError(f"{name}: {reason}; wrong results are not timed")
            self.left_out[peer] = reason
            del self.runs[peer]
        return comparisons

    def _compare(
        self, peer: str, model: Model, x: Floats, ours: Floats, theirs: Floats
    ) -> tuple[Comparison, float | None]:
        """The comparison with a peer, and the error that nothing explains, if there is one."""
        graph = model.spec.graph
        largest = max(np.abs(theirs).max(), np.finfo(np.float32).tiny)
        errors = np.abs(ours - theirs).max(axis=1) / largest  # (N,)
        tolerance, tied, wrong = None, np.zeros(len(x), bool), None
        if not graph.is_quantized:
            tolerance = chain_tolerance(graph, graph.shapes)
            apart = ~(errors <= tolerance)
            if apart.any():
                tied[apart] = self._ties(peer, model, x, apart)
            if (apart & ~tied).any():
                wrong = float(errors[~tied].max())
        same = class_scores(ours).argmax(1) == class_scores(theirs).argmax(1)
        comparison = Comparison(
            error=float(errors[~tied].max(initial=0)),
            tolerance=tolerance,
            sign_ties=int(tied.sum()),
            same_class=float(same.mean()),
        )
        return comparison, wrong

    def _ties(self, peer: str, model: Model, x: Floats, apart: Flags) -> Flags:
        """Of the images whose scores are apart, those where a sign of nearly 0 explains it."""
        if peer == ONNXRUNTIME:
            return sign_ties(model, self._session, x[apart])
        few = reads_signs(model.spec) and apart.mean() <= MAX_SIGN_TIES
        return np.full(int(apart.sum()), few)


def reads_signs(spec: ModelSpec) -> bool:
    """Whether layers read signs, for which no peer here has kernels."""
    return any(getattr(node, "activations", None) == "binary" for node in spec.graph.topology.nodes)
