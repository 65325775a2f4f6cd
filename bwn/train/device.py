"""Where training computes: on which device, in which precision, with which threads and memory."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import cast

import torch
from torch import nn

from bwn.errors import ArgumentError, BwnError
from bwn.train import distributed
from bwn.train.settings import Precision

Device = torch.device
CPU = Device("cpu")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt(3)


def find_device(name: str) -> Device:
    """The device of that name. One of several processes takes the CUDA device of its own number.

    Args:
        name: `cpu`, `mps`, `cuda`, `cuda:N`, or `auto`, a CUDA device if there is one.

    Returns:
        The device; a CUDA device is made torch's current one.

    Raises:
        BwnError: There is no such device.
    """
    kind, _, number = name.partition(":")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "mps" and not torch.backends.mps.is_available():
        raise BwnError(f"device 'mps': torch {torch.__version__} finds none; use cpu")
    if kind != "cuda":
        return Device(kind)
    if number and distributed.started():
        raise ArgumentError(
            f"device '{name}': each of several processes takes a device of its own; use cuda"
        )
    index, count = int(number or distributed.local_rank()), torch.cuda.device_count()
    if not count and torch.version.cuda is None and torch.version.hip is None:
        raise BwnError(f"device '{name}': this torch is CPU-only; use cpu")
    if index >= count:
        raise BwnError(
            f"device 'cuda:{index}': torch {torch.__version__} finds {count} CUDA "
            f"device{'s' * (count != 1)}; use cpu"
        )
    torch.cuda.set_device(index)
    return Device("cuda", index)


def to_device(module: nn.Module, device: Device) -> nn.Module:
    """Move a module to a device, in the memory layout that is fastest there."""
    module.to(device)
    if device.type == "cuda":  # whose matrix units read convolutions channels last
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # stub lacks it
    return module


def fast_precision(device: Device = CPU) -> Precision:
    """`bfloat16` where the device has instructions that multiply it, else `float32`."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
        native = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return "bfloat16" if native else "float32"


def find_precision(name: str | None, device: Device) -> Precision:
    """`float32` or `bfloat16` as named; `auto` or None: `fast_precision`."""
    return fast_precision(device) if name in (None, "auto") else cast(Precision, name)


def seed_generators(device: Device, seed: int) -> None:
    """Seed torch's global generators, the processor's and the device's."""
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        getattr(torch, device.type).manual_seed(seed)


def prepare_process(threads: int | None) -> None:
    """Set torch's threads (None: its own choice), and keep freed memory for the next step.

    glibc returns large arrays to the system and requests them again in each step; clearing their
    pages took a fifth of a step's time.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    with suppress(OSError, AttributeError):  # another C library: nothing to set
        libc = ctypes.CDLL(None)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_MMAP_THRESHOLD, 2**30)
