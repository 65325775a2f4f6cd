"""One run on several processes: each takes its part of every batch, and all make the same step.

`torchrun` starts the processes. The batch, the shuffle, the draws and the weights are those of a
run on one process. Gradients are averaged, batch norm measures the whole batch, and decisions are
taken by all processes, or by rank 0 for all. In a run on one process every function here does
nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from bwn._text import count_noun
from bwn.errors import ArgumentError, BwnError

# The others wait while rank 0 measures and saves.
_TIMEOUT = timedelta(hours=1)
_VARIABLES = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def started() -> bool:
    """Whether this process was started as one of several (by `torchrun`, which sets WORLD_SIZE)."""
    return _variable("WORLD_SIZE", 1) > 1


def local_rank() -> int:
    """Number of this process on its machine, from 0; it takes the GPU of that number."""
    return _variable("LOCAL_RANK", 0) if started() else 0


def _variable(name: str, default: int) -> int:
    """A number of the environment; `default` where it is not set or empty."""
    text = os.environ.get(name) or str(default)
    if not (text.isascii() and text.isdigit()):
        raise BwnError(
            f"{name} is '{text}', expected a number: start the processes with torchrun, or unset it"
        )
    return int(text)


@contextmanager
def process_group() -> Iterator[None]:
    """Connect to the other processes, if there are any, while the context lasts.

    Raises BwnError where the environment is incomplete or the others are lost.
    """
    if not started():
        yield
        return
    missing = [name for name in _VARIABLES if name not in os.environ]
    if missing:
        raise BwnError(
            f"WORLD_SIZE is set, but not {', '.join(missing)}: start the processes with torchrun"
        )
    # Imported after the group exists, as torch's optimizers import it, it keeps the group as a
    # default argument, and the group's threads, which may then abort the process as it ends.
    import torch.distributed.nn.functional

    # Flags stay off the GPU.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        dist.init_process_group(backend, timeout=_TIMEOUT)
        yield
    except RuntimeError as error:  # of gloo and nccl alike
        if isinstance(error, dist.DistError) or "onnection" in str(error):
            raise BwnError(
                f"rank {os.environ['RANK']} lost the other processes; their own output says why"
            ) from error
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def size() -> int:
    """Number of processes that share the run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process among them, from 0. Rank 0 saves, prints and tests."""
    return dist.get_rank() if size() > 1 else 0


def prepare(module: nn.Module, batch: int) -> None:
    """Give all processes the weights of rank 0, and batch norms that measure the whole batch.

    Raises BwnError where `batch` images cannot be divided evenly among the processes.
    """
    if size() == 1:
        return
    if batch % size():
        raise ArgumentError(
            f"a batch of {count_noun(batch, 'image')} cannot be divided evenly among {size()} "
            "processes; change the batch size"
        )
    for tensor in module.state_dict().values():
        dist.broadcast(tensor, 0)
    for norm in module.modules():
        if type(norm) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            # A new class, not a new module: names, parameters and hooks stay as they are.
            norm.__class__ = SynchronizedBatchNorm


def shard(x: Tensor) -> Tensor:
    """This process's part of a batch, along its first axis."""
    return x.chunk(size())[rank()]


def average(tensors: Sequence[Tensor]) -> None:
    """Set each tensor to its mean over the processes, in place: (1 / R) sum_r x_r."""
    if size() == 1:
        return
    joined = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(joined)
    joined /= size()
    means = torch.split(joined, [tensor.numel() for tensor in tensors])
    for tensor, mean in zip(tensors, means, strict=True):
        tensor.copy_(mean.view_as(tensor))


def maximum(x: Tensor) -> Tensor:
    """Set x to its maximum over the processes, in place. Returns it."""
    if size() > 1:
        dist.all_reduce(x, op=dist.ReduceOp.MAX)
    return x


def any_process(*flags: bool) -> tuple[bool, ...]:
    """Each flag, true on all processes where it is true on any."""
    if size() == 1:
        return flags
    raised = torch.tensor(flags, dtype=torch.uint8)
    dist.all_reduce(raised, op=dist.ReduceOp.MAX)
    return tuple(bool(flag) for flag in raised.tolist())


def from_rank_0(compute: Callable[[], float]) -> float:
    """The number that rank 0 computes, on all processes."""
    if size() == 1:
        return compute()
    number = torch.tensor(compute() if rank() == 0 else 0.0, dtype=torch.float64)
    dist.broadcast(number, 0)
    return float(number)


class _Gathered(torch.autograd.Function):
    """Forward: each process's x, stacked: (R, ...).

    Backward: dx = sum over the processes of their gradients of it.
    """

    @staticmethod
    def forward(_context: Any, x: Tensor) -> Tensor:
        rows = x.new_zeros(size(), *x.shape)
        rows[rank()] = x
        dist.all_reduce(rows)
        return rows

    @staticmethod
    def backward(_context: Any, *gradients: Tensor) -> Tensor:
        rows = gradients[0].contiguous()
        dist.all_reduce(rows)
        return rows[rank()]


class SynchronizedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm with mean and variance over the images of all processes.

    mean = mean_r mean_r(x), var = mean_r var_r(x) + mean_r (mean_r(x) - mean)^2, over parts of
    equal size. torch has its own (SyncBatchNorm) for GPUs only.
    """

    def _check_input_dim(self, _x: Tensor) -> None:
        """Any shape (N, C, ...)."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...), this process's part of the batch, to the same shape."""
        if not self.training:
            y: Tensor = super().forward(x)
            return y
        values = x.float() if x.dtype == torch.bfloat16 else x
        axes = [axis for axis in range(x.ndim) if axis != 1]
        own_var, own_mean = torch.var_mean(values, axes, correction=0)
        own = torch.stack([own_mean, own_var])
        rows: Tensor = _Gathered.apply(own)  # type: ignore[no-untyped-call]  # (R, 2, C)
        means, variances = rows.unbind(1)
        mean = means.mean(0)
        var = variances.mean(0) + (means - mean).square().mean(0)
        self._track(mean.detach(), var.detach(), size() * x.numel() // x.shape[1])
        scale = torch.rsqrt(var + self.eps)
        shape = [-1 if axis == 1 else 1 for axis in range(x.ndim)]
        values = (values - mean.view(shape)) * scale.view(shape)
        if self.affine:
            values = values * self.weight.view(shape) + self.bias.view(shape)
        return values.to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Move the running statistics. count: elements per channel that `mean` is of."""
        tracked, momentum = self.num_batches_tracked, self.momentum
        if self.running_mean is None or self.running_var is None or tracked is None:
            return
        tracked += 1
        batches = tracked.to(mean.dtype)
        part = batches.reciprocal() if momentum is None else torch.full_like(batches, momentum)
        self.running_mean.lerp_(mean, part)
        self.running_var.lerp_(var * (count / (count - 1)), part)
