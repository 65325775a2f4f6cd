"""The cost model of GEMMs, the tables, and the choice that follows from them."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwn.kernels import costs
from bwn.kernels.costs import DEFAULTS, Cost, Work
from bwn.kernels.gemm.specs import SPECS
from bwn.kernels.gemm.tiles import MULTIPLY
from bwn.kernels.registry import GEMMS, fitting, select
from bwn.kernels.target.targets import TARGETS, Target

ROWS = {row.name: row for row in GEMMS}
LOOKUP, SINGLE = ROWS["f32_b1_f32_planes_lookup"], ROWS["f32_b1_f32_planes_single"]
SIZES = st.integers(1, 5000)
FAMILIES = [family for family in DEFAULTS if set(ROWS) <= set(DEFAULTS[family])]
"""Those whose tables know this machine's products: a row may need a feature."""


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_every_product_has_a_default_cost_wherever_it_runs(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs.cpu, "features", lambda: target.offers)
    there = {row.name for row in SPECS if row.runs_on(target.offers)}
    for is_zen4 in (False, not target.has_assembly):  # which has no AMX
        monkeypatch.setattr(costs.cpu, "_is_zen4", lambda answer=is_zen4: answer)
        assert there <= set(DEFAULTS[costs.cpu.family()])


def test_default_costs_are_of_known_families_and_not_negative() -> None:
    assert costs.cpu.family() in FAMILIES
    assert all(row.costs and set(row.costs) <= set(costs.cpu.FAMILIES) for row in SPECS)
    assert all(
        number >= 0 for table in DEFAULTS.values() for cost in table.values() for number in cost
    )


def test_a_block_costs_as_much_part_filled_and_a_position_is_a_pass() -> None:
    work = Work(depth=65, outputs=3, positions=20, values=17, images=2, groups=5)
    assert LOOKUP.terms(work) == (
        1,
        20 * 128,
        20 * 128 * 3,
        20 * 3,
    )  # 2 blocks of 16; bits go by words of 64
    assert SINGLE.terms(work) == (
        1,
        170 * 128,
        170 * 128 * 3,
        170 * 3,
    )  # the slack of rows is skipped
    # A tile of output channels is summed whole; bits that are packed as floats do not go by words.
    sums = 20 * 65 * MULTIPLY[0]
    for name in ("f32_f32_f32_planes_multiply", "f32_b1_f32_planes_multiply"):
        assert ROWS[name].terms(work) == (1, 20 * 65, sums, 20 * 3)
    assert ROWS["f32_b1_f32_planes_depthwise"].terms(work) == (1, 20 * 65, 20 * 65 * 3, 20 * 3)
    assert LOOKUP.terms(work) == LOOKUP.terms(work._replace(positions=32, values=32))
    assert LOOKUP.microseconds(work, Cost(1000, 1, 0, 0)) == 1 + 2.56


def test_a_table_serves_the_taps_of_its_phase() -> None:
    (row,) = (row for row in SPECS if row.name == "i8_b1_f32_planes_permute")
    work = Work(9 * 64, 128, 32, 32, taps=9)  # 11 tables of 6 channels
    assert row.terms(work) == (1, 32 * 66, 32 * 66 * 9 * 128, 32 * 128)
    assert row.terms(work._replace(phases=4)) == (1, 4 * 32 * 66, 32 * 66 * 9 * 128, 32 * 128)


def test_dot_products_go_by_four_inputs_and_by_tiles_of_outputs() -> None:
    (row,) = (row for row in SPECS if row.name == "i8_b1_f32_planes_multiply")
    channels = row.tile
    work = Work(27, channels + 1, row.lanes, row.lanes, images=3, groups=2)
    assert row.terms(work) == (1, 6 * 28, 6 * 28 * 2 * channels, 6 * (channels + 1))
    few = row.terms(work._replace(outputs=channels - 1))
    assert few == (1, 6 * 28, 6 * 28 * (channels - 1), 6 * (channels - 1))
    # One more position takes one vector more, which may be half of a column.
    assert row.terms(work._replace(positions=row.lanes + 1))[1] == 6 * 28 * (1 + 16 / row.lanes)


@given(st.sampled_from(GEMMS), st.sampled_from(FAMILIES), SIZES, SIZES, SIZES, st.integers(0, 3))
def test_more_work_never_costs_less(row, family, depth, outputs, positions, axis) -> None:
    work = Work(depth, outputs, positions, positions)
    more = [
        size * 2 if number in (axis, 3 if axis == 2 else axis) else size
        for number, size in enumerate(work[:4])
    ]
    cost = DEFAULTS[family][row.name]
    assert row.microseconds(Work(*more), cost) >= row.microseconds(work, cost)


@given(st.sampled_from(["f32", "i8", "s1"]), st.sampled_from(FAMILIES), SIZES, SIZES, SIZES)
def test_the_choice_is_the_least_predicted(activations, family, depth, outputs, positions) -> None:
    work = Work(depth, outputs, positions, positions)
    choice = select(activations, "b1", work, DEFAULTS[family])
    rows = fitting(activations, "b1", depth)
    assert choice.kernel in rows
    assert choice.microseconds == min(
        row.microseconds(work, DEFAULTS[family][row.name]) for row in rows
    )
    assert choice == select(activations, "b1", work, DEFAULTS[family])


@pytest.mark.parametrize(
    ("outputs", "way"), [(1, "dots"), (10, "dots"), (50, "dots"), (100, "bytes"), (1000, "bytes")]
)
def test_on_arm_dot_products_are_for_few_channels(outputs: int, way: str) -> None:
    ways = {
        name: DEFAULTS["neon"][f"i8_b1_f32_planes_{name}"] for name in ("bytes", "dots", "single")
    }
    for depth in (
        64,
        1024,
        5000,
    ):  # positions one by one: the terms of all three are those of `single`
        times = {
            name: SINGLE.microseconds(Work(depth, outputs, 1, 1), cost)
            for name, cost in ways.items()
        }
        assert min(times, key=times.__getitem__) == way


def only(**known: Cost) -> dict[str, Cost]:
    """By these costs all other products take a second a call."""
    return dict.fromkeys(ROWS, Cost(1e9, 0, 0, 0)) | known


def test_equal_costs_take_the_first_of_the_list() -> None:
    work = Work(9, 9, 9, 9)
    assert select("f32", "b1", work, only(**dict.fromkeys(ROWS, Cost(5, 0, 0, 0)))).kernel is LOOKUP


def test_the_choice_says_why() -> None:
    table = only(**{LOOKUP.name: Cost(31_000, 0, 0, 0), SINGLE.name: Cost(1_158_400, 0, 0, 0)})
    choice = select("f32", "b1", Work(9, 9, 9, 9), table)
    assert choice.microseconds == 31
    assert choice.why.startswith("fastest: 31 us (")
    assert "single 1158" in choice.why


def test_a_faster_kernel_that_would_overflow_makes_the_choice_a_slow_one() -> None:
    # A lookup's pass costs the more, and does 64 positions.
    table = only(s1_b1_f32_planes_lookup=Cost(0, 5, 0, 0), s1_b1_f32_planes_inlane=Cost(0, 1, 0, 0))
    most = Work(32_767, 64, 640, 640)
    assert select("s1", "b1", most, table).kernel.variant == "lookup"
    choice = select("s1", "b1", most._replace(depth=32_768), table)
    assert choice.kernel.variant == "inlane"
    assert choice.why.startswith("slow: ")
    assert choice.why.endswith("; K = 32768 would overflow lookup")
    one = select("s1", "b1", Work(32_768, 64, 1, 1), table)
    assert one.why.startswith("the only one: 32.8 us")
    assert one.why.endswith("would overflow lookup")


def test_nothing_is_chosen_where_sums_would_overflow() -> None:
    assert not fitting("i8", "b1", 2**24 + 1)
    with pytest.raises(ValueError, match="empty"):
        select("i8", "b1", Work(2**24 + 1, 1, 1, 1), only())


def test_a_table_is_read_back_exactly(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    measured = {name: Cost(*rng.uniform(0, 100, 4).tolist()) for name in ROWS}
    path = tmp_path / "costs.json"
    path.write_text(costs.to_json(measured))
    table = costs.load(path)
    assert (table.costs, table.origin, table.path, table.problem) == (
        measured,
        "measured",
        path,
        "",
    )
    assert table.line == f"measured on this machine, {path}"


def test_a_table_that_the_l1_cannot_hold_costs_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    known = DEFAULTS[costs.cpu.family()]
    sizes = {row.name: row.table_bytes for row in SPECS if row.name in known}
    assert any(sizes.values())
    l1 = max(sizes.values())
    monkeypatch.setattr(costs.cpu, "l1_bytes", lambda: l1)
    assert costs.defaults() == known
    monkeypatch.setattr(costs.cpu, "l1_bytes", lambda: l1 - 1)
    for name, cost in costs.defaults().items():
        times = 2 if sizes[name] == l1 else 1
        assert cost == tuple(times * number for number in known[name])


def test_no_table_is_no_problem(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = costs.load(tmp_path / "costs.json")
    assert table.costs == costs.defaults()
    assert table.line == "defaults; run bwn tune to measure this machine"
    assert not caplog.records


def changed(**facts: object) -> bytes:
    return json.dumps(
        json.loads(costs.to_json({name: Cost(1, 2, 3, 4) for name in ROWS})) | facts
    ).encode()


def all_of(numbers: list[object]) -> dict[str, object]:
    return {name: list(numbers) for name in ROWS}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (changed(version=2), "of another version"),
        (changed(fingerprint={"cpu": "another"}), "of another machine or other kernels"),
        (changed(costs={LOOKUP.name: [1, 2, 3, 4]}), "damaged"),
        (changed(costs=all_of([1, 2, 3])), "damaged"),
        (changed(costs=all_of([1, 2, 3, -4])), "damaged"),
        (changed(costs=all_of([1, 2, 3, float("nan")])), "damaged"),
        (changed(costs=all_of([1, 2, 3, "x"])), "damaged"),
        (changed(costs=all_of([1, 2, 3, 10**400])), "damaged"),
        (changed(costs=7), "damaged"),
        (b"[]", "damaged"),
        (b"\xff", "damaged"),
        (b"", "damaged"),
        (b"[" * 100_000, "damaged"),
        (changed()[:-3], "damaged"),
    ],
    ids=range(14),
)
def test_a_table_that_cannot_be_used_is_reported(
    tmp_path: Path, caplog, content: bytes, problem: str
) -> None:
    path = tmp_path / "costs.json"
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        table = costs.load(path)
    assert table.costs == costs.defaults()
    assert table.origin == "default"
    assert (
        table.line == f"defaults, since the measured table is {problem}: {path}"
        "; run bwn tune to measure this machine"
    )
    assert [record.getMessage() for record in caplog.records] == [f"cost table: {table.line}"]


def test_an_unreadable_table_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = costs.load(tmp_path)
    assert "unreadable: Is a directory" in table.line
    assert len(caplog.records) == 1


INFO = "processor\t: 0\nvendor_id\t: {}\ncpu family\t: {}\nmodel\t\t: 17\n"
ZEN4, ZEN5, INTEL = (
    INFO.format(*names)
    for names in (("AuthenticAMD", 25), ("AuthenticAMD", 26), ("GenuineIntel", 6))
)


@pytest.mark.parametrize(
    ("compiled_for", "info", "family"),
    [
        ("+avx,+avx2,-avx512f", ZEN4, "avx2"),
        ("+avx2,+avx512f", ZEN4, "zen4"),
        ("+avx2,+avx512f", ZEN5, "avx512"),
        ("+avx2,+avx512f", INTEL, "avx512"),
        ("+avx2,+avx512f", None, "avx512"),
        ("+neon", ZEN4, "neon"),
        ("+sse2", ZEN4, "avx2"),
    ],
    ids=range(7),
)
def test_the_family_is_the_one_compiled_for(
    monkeypatch, tmp_path: Path, compiled_for: str, info: str | None, family: str
) -> None:
    monkeypatch.setattr(numba.config, "CPU_FEATURES", compiled_for)
    monkeypatch.setattr(costs.cpu, "features", costs.cpu.features.__wrapped__)
    monkeypatch.setattr(costs.cpu, "_is_zen4", costs.cpu._is_zen4.__wrapped__)
    monkeypatch.setattr(costs.cpu, "CPU_INFO", tmp_path / "cpuinfo")
    if info is not None:
        costs.cpu.CPU_INFO.write_text(info)
    assert costs.cpu.family() == family
