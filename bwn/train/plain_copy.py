"""A copy of a module to export: without wrappers, and with each computed weight as a parameter."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.optim.swa_utils import AveragedModel

from bwn.errors import DivergedError

WRAPPERS = (nn.DataParallel, DistributedDataParallel, AveragedModel)
"""Modules that call their `module`."""
HOOKS = (BasePruningMethod, SpectralNorm, WeightNorm)
"""Hooks that compute a weight before each pass."""


def plain_copy(module: nn.Module) -> nn.Module:
    """Copy a module in evaluation mode, as the network inside all wrappers.

    Weights that weight_norm, spectral_norm, pruning or another parametrization computes become
    parameters of their values.
    """
    copied = _unwrapped(_deep_copy(_unwrapped(module))).eval()
    for part in list(copied.modules()):
        _fix_weights(part)
        for name, child in part._modules.items():
            if child is not None and (inner := _unwrapped(child)) is not child:
                part._modules[name] = inner
    return copied


def check_finite(module: nn.Module) -> None:
    """Raise DivergedError where a weight is NaN or infinite, or a running statistic is NaN."""
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_meta or not tensor.is_floating_point():
            continue
        bad = ~tensor.isfinite() if isinstance(tensor, nn.Parameter) else tensor.isnan()
        if bool(bad.any()):
            raise DivergedError(
                f"{name} has values that are NaN or infinite: the training diverged; start again "
                "from an earlier state, with a lower learning rate"
            )


def _unwrapped(module: nn.Module) -> nn.Module:
    """The module inside the wrappers of torch.compile, DataParallel and AveragedModel."""
    inner = module.module if isinstance(module, WRAPPERS) else getattr(module, "_orig_mod", None)
    return _unwrapped(inner) if isinstance(inner, nn.Module) else module


def _deep_copy(module: nn.Module) -> nn.Module:
    """A deep copy, also where a hook has left a weight that torch refuses to copy."""
    tensors = [x for part in module.modules() for x in vars(part).values() if isinstance(x, Tensor)]
    return copy.deepcopy(module, {id(x): x.detach().clone() for x in tensors if not x.is_leaf})


def _fix_weights(module: nn.Module) -> None:
    """Make the weights that a module computes before each pass parameters."""
    for key, hook in list(module._forward_pre_hooks.items()):
        if isinstance(hook, HOOKS):
            remove: Any = hook.remove  # untyped in torch
            remove(module)
            del module._forward_pre_hooks[key]
    if parametrize.is_parametrized(module):
        # remove_parametrizations() would change the class, which the original module shares.
        names = module._modules["parametrizations"]
        assert isinstance(names, nn.ModuleDict)
        values = {name: getattr(module, name).detach().clone() for name in names}
        module.__class__ = parametrize.type_before_parametrizations(module)
        del module._modules["parametrizations"]
        for name, value in values.items():
            module.register_parameter(name, nn.Parameter(value))
