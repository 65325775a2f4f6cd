"""Which nodes an epilogue takes, in which order."""

from __future__ import annotations

from itertools import permutations

import pytest

from bwn.plan.fusion import Epilogue

STEPS = {
    "activate": lambda epilogue: epilogue.activate("a", "hard_swish"),
    "add": lambda epilogue: epilogue.add("s", "other"),
    "clamp": lambda epilogue: epilogue.clamp("c", 0.0, None),
}
ORDERS = [order for count in (1, 2, 3) for order in permutations(STEPS, count)]


@pytest.mark.parametrize("gemm", [True, False])
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_nodes_join_in_the_order_of_the_kernels(order: tuple[str, ...], gemm: bool) -> None:
    """A GEMM: an activation, then an addition and its bounds. Two tensors: bounds alone."""
    fitting = ("activate", "add", "clamp") if gemm else ("clamp",)
    legal = order == tuple(step for step in fitting if step in order)
    legal = legal and (not gemm or "add" in order or "clamp" not in order)
    epilogue: Epilogue | None = Epilogue("y", gemm=gemm)
    for step in order:
        epilogue = epilogue and STEPS[step](epilogue)
    assert (epilogue is not None) == legal
    if epilogue is not None:
        assert len(epilogue.nodes) == len(order)


@pytest.mark.parametrize("step", STEPS)
def test_no_node_joins_twice(step: str) -> None:
    epilogue = Epilogue("y").add("s", "other") if step == "clamp" else Epilogue("y")
    assert epilogue is not None
    once = STEPS[step](epilogue)
    assert once is not None
    assert STEPS[step](once) is None
