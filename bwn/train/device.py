"""Where training computes: on which device, in which precision, with which threads and memory."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Literal

import torch
from torch import nn

from bwn.errors import BwnError
from bwn.train import distributed

CPU = torch.device("cpu")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt(3)


def find_device(name: str) -> torch.device:
    """The device of that name: `cpu`, `mps`, `cuda`, `cuda:N`, or `auto`, a CUDA device where there is one.

    One of several processes takes the CUDA device of its own number. Raises BwnError where there is no such device.
    """
    kind, _, number = name.partition(":")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "mps" and not torch.backends.mps.is_available():
        raise BwnError(
            f"device 'mps': torch {torch.__version__} finds none here; --device cpu is always there"
        )
    if kind != "cuda":
        return torch.device(kind)
    if number and distributed.started():
        raise BwnError(
            f"device '{name}': each of several processes takes a device of its own; use --device cuda"
        )
    index, count = int(number or distributed.local_rank()), torch.cuda.device_count()
    if index >= count:
        found = f"finds {count} CUDA device{'s' * (count != 1)} here"
        raise BwnError(
            f"device 'cuda:{index}': torch {torch.__version__} {found}; --device cpu is always there"
        )
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def placed(module: nn.Module, device: torch.device) -> nn.Module:
    """Move a module to a device, in the layout that it computes with fastest there."""
    module.to(device)
    if device.type == "cuda":  # whose matrix units read convolutions' channels last
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    return module


def fast_precision(device: torch.device = CPU) -> Literal["float32", "bfloat16"]:
    """`bfloat16` where the device has instructions that multiply it, else `float32`."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    known = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return (
        "bfloat16"
        if any(known.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
        else "float32"
    )


def seed_draws(device: torch.device, seed: int) -> None:
    """Begin torch's global generators anew, that of the processor and that of the device."""
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        getattr(torch, device.type).manual_seed(seed)


def prepare_process(threads: int | None) -> None:
    """Let torch use so many threads (None: its own choice), and keep freed memory for the next step.

    glibc gives large arrays back to the system and takes them anew in each step; clearing their pages cost a fifth
    of a step's time.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    with suppress(OSError, AttributeError):  # another C library: nothing to set
        libc = ctypes.CDLL(None)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_MMAP_THRESHOLD, 2**30)
