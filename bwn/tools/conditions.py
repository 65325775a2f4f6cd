"""What limits the speed of a processor while it is measured: clock, temperature, supply.

Linux says it in /sys; what a machine does not say is None. A virtual machine often says nothing.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

SYSTEM = Path("/sys/devices")
LIMITS = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
"""What the lowest bits of a Raspberry Pi's `get_throttled` mean, from bit 0."""
FULL_SPEED = 0.95
"""Share of the highest clock from which nothing is said about it."""


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """The processor, as it was right after it was timed.

    Attributes:
        mhz: Highest clock of a core at that moment, in MHz.
        max_mhz: Highest clock that a core can have, in MHz.
        governor: What chooses the clock, such as `ondemand`.
        celsius: Temperature of the hottest zone, in degrees Celsius.
        limits: Those of LIMITS that apply, as the firmware of a Raspberry Pi reports them; None on
            other machines.
    """

    mhz: float | None = None
    max_mhz: float | None = None
    governor: str | None = None
    celsius: float | None = None
    limits: list[str] | None = None

    @property
    def line(self) -> str:
        """All that is known, for a person; "" where nothing is."""
        clock = None if self.mhz is None else f"{self.mhz:,.0f} MHz"
        if clock is not None and self.max_mhz is not None:
            clock += f" of {self.max_mhz:,.0f}"
        parts = (
            clock,
            self.governor and f"governor {self.governor}",
            None if self.celsius is None else f"{self.celsius:.0f} °C",
            *(self.limits or ()),
        )
        return ", ".join(part for part in parts if part)

    @property
    def slow(self) -> bool:
        """Whether the processor was slower than it can be."""
        below = (
            self.mhz is not None
            and self.max_mhz is not None
            and self.mhz < FULL_SPEED * self.max_mhz
        )
        return below or bool(self.limits)


def conditions(system: Path = SYSTEM) -> Conditions:
    """The processor as it is now. system: the folder that Linux describes devices in."""
    cores = "system/cpu/cpu*/cpufreq"
    throttled = _read(system, "platform/*/*:firmware/get_throttled")
    return Conditions(
        mhz=_largest(system, f"{cores}/scaling_cur_freq"),
        max_mhz=_largest(system, f"{cores}/cpuinfo_max_freq"),
        governor=next(iter(governors(system)), None),
        celsius=_largest(system, "virtual/thermal/thermal_zone*/temp"),
        limits=_limits(int(throttled[0], 16)) if throttled else None,
    )


def governors(system: Path = SYSTEM) -> list[str]:
    """What chooses the clock of each CPU, where Linux says."""
    return _read(system, "system/cpu/cpu*/cpufreq/scaling_governor")


def _read(system: Path, pattern: str) -> list[str]:
    """What the files say that match a pattern, but for those that cannot be read."""
    texts = []
    for path in sorted(system.glob(pattern)):
        try:
            texts.append(path.read_text(encoding="ascii").strip())
        except (OSError, UnicodeError):
            continue
    return [text for text in texts if text]


def _largest(system: Path, pattern: str) -> float | None:
    """The largest number of the files that match, in the unit 1,000 times theirs."""
    numbers = [int(text) for text in _read(system, pattern) if text.lstrip("-").isdecimal()]
    return max(numbers) / 1e3 if numbers else None


def _limits(bits: int) -> list[str]:
    return [name for bit, name in enumerate(LIMITS) if bits >> bit & 1]
