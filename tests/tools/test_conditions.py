"""What a board says of its clock, temperature and supply, on files as Linux has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bwn.tools.conditions import Conditions, conditions, governors


def write(system: Path, **texts: str) -> None:
    """Files of a board; in a name `__` is a slash."""
    for name, text in texts.items():
        path = system / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def board(system: Path, mhz: int, throttled: str) -> Conditions:
    """A Raspberry Pi 4 of four cores, three of them idle."""
    for core in range(4):
        folder = f"system__cpu__cpu{core}__cpufreq__"
        clock = f"{mhz * 1000 if core == 2 else 600000}"
        write(
            system, **{f"{folder}scaling_cur_freq": clock, f"{folder}cpuinfo_max_freq": "1800000"}
        )
        write(system, **{f"{folder}scaling_governor": "ondemand"})
    write(system, virtual__thermal__thermal_zone0__temp="71234")
    write(system, **{"platform__soc__soc:firmware__get_throttled": throttled})
    return conditions(system)


def test_a_board_at_full_speed(tmp_path: Path) -> None:
    found = board(tmp_path, 1800, "0")
    assert found.line == "1,800 MHz of 1,800, governor ondemand, 71 °C"
    assert (found.slow, found.limits, found.celsius) == (False, [], 71.234)


@pytest.mark.parametrize(
    ("throttled", "limits"),
    [
        ("1", ["under-voltage"]),
        ("50006", ["frequency capped", "throttled"]),  # the upper bits are about the past
        ("8", ["soft temperature limit"]),
    ],
)
def test_a_board_that_is_held_back(tmp_path: Path, throttled: str, limits: list[str]) -> None:
    found = board(tmp_path, 1800, throttled)
    assert found.limits == limits
    assert found.slow
    assert found.line.endswith(", ".join(limits))


def test_a_low_clock_is_slow(tmp_path: Path) -> None:
    assert board(tmp_path, 1500, "0").slow


def test_every_governor_is_named_but_that_of_a_core_that_is_off(tmp_path: Path) -> None:
    board(tmp_path, 1800, "0")
    write(tmp_path, system__cpu__cpu1__cpufreq__scaling_governor="performance")
    folder = tmp_path / "system/cpu/cpu2/cpufreq"
    (folder / "scaling_governor").unlink()
    (folder / "scaling_governor").mkdir()  # reading it is an OSError
    assert governors(tmp_path) == ["ondemand", "performance", "ondemand"]


def test_a_machine_that_says_nothing(tmp_path: Path) -> None:
    assert conditions(tmp_path) == Conditions()
    assert (conditions(tmp_path).line, conditions(tmp_path).slow) == ("", False)


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    write(
        tmp_path,
        virtual__thermal__thermal_zone0__temp="",
        virtual__thermal__thermal_zone1__temp="40000",
        virtual__thermal__thermal_zone3__temp="<unknown>",
    )
    (tmp_path / "virtual/thermal/thermal_zone2/temp").mkdir(parents=True)
    assert conditions(tmp_path) == Conditions(celsius=40.0)
