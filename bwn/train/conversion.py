"""Any torch module with one-bit weights: torch's own layers become bwn's, in place, and back.

A layer changes its class and nothing else. Its parameters stay the same objects, so optimizers,
tied weights, hooks and state_dict keys need not know.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from bwn.errors import ArgumentError
from bwn.train.layers import FLOAT_CLASSES, BinaryLayer
from bwn.train.schemes import Scheme, find_scheme

Filter = str | type[nn.Module] | Callable[[str, nn.Module], bool]
_WEIGHT_READ = re.compile(r"\bself\.(\w+)\.weight\b(?!\.(?:device|dtype|shape|size))")
BINARY_CLASSES = {float_class: binary for binary, float_class in FLOAT_CLASSES.items()}


@dataclass(frozen=True)
class LayerChoice:
    """What `binarize` did with a layer.

    Attributes:
        name: Name of the layer in the module.
        kind: Its class, before.
        shape: Of its weight.
        binary: Whether it has a scheme now.
        reason: Why it was kept as it was; "" where it was replaced.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    binary: bool
    reason: str = ""


@dataclass(frozen=True)
class BinarizeReport:
    """What `binarize` did; printed, it is a table.

    Attributes:
        layers: All convolutions and fully connected layers, in the module's order.

    Example:
        >>> from torch import nn
        >>> from bwn.train import binarize
        >>> report = binarize(nn.Sequential(*(nn.Linear(4, 4) for _ in range(3))))
        >>> print(report)
        layer  class   weight  now
        0      Linear  4x4     kept: the first layer
        1      Linear  4x4     one bit (margin)
        2      Linear  4x4     kept: the last layer
        >>> report.undo()
    """

    layers: tuple[LayerChoice, ...]
    _scheme: Scheme = field(repr=False)
    _replaced: tuple[BinaryLayer, ...] = field(repr=False)

    @property
    def replaced(self) -> tuple[str, ...]:
        """Names of the layers that have the scheme now."""
        return tuple(layer.name for layer in self.layers if layer.binary)

    @property
    def kept(self) -> dict[str, str]:
        """Why each of the other layers was kept, by name."""
        return {layer.name: layer.reason for layer in self.layers if not layer.binary}

    def undo(self) -> None:
        """Turn the replaced layers into torch's own again, with the real weights of now."""
        for layer in self._replaced:
            if isinstance(layer, BinaryLayer):  # not undone before
                layer.release()

    def __str__(self) -> str:
        now = f"one bit ({self._scheme.name})" if self._scheme.binary else "scheme float"
        rows = [("layer", "class", "weight", "now")] + [
            (
                layer.name,
                layer.kind,
                "x".join(map(str, layer.shape)),
                now if layer.binary else f"kept: {layer.reason}",
            )
            for layer in self.layers
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
        return "\n".join(lines)


def binarize(
    module: nn.Module,
    scheme: str | Scheme = "margin",
    *,
    skip: Filter | Iterable[Filter] = (),
    float_ends: bool = True,
) -> BinarizeReport:
    """Give the layers of any torch module one-bit weights, in place.

    Conv1d, Conv2d and Linear layers become BinaryConv1d, BinaryConv2d and BinaryLinear. Weights,
    names, shapes, device, dtype and all settings of a layer stay, so a state_dict of the float
    network still loads and an optimizer made before goes on. Then train the module: with `fit`, or
    in a loop of your own with `margin`.

    A layer is kept where one bit would change more than its weights: a subclass, which may compute
    in its own way (so MultiheadAttention's out_proj); a weight that a hook computes (weight_norm);
    a weight that the code of the module around the layer reads (`self.proj.weight`); a weight that
    is tied to a layer that is kept.

    Args:
        module: Any module, such as a network of torchvision or timm.
        scheme: A Scheme or its name.
        skip: Which layers to keep: names of layers or of modules around them (`features.0`, also
            patterns such as `*.downsample.*`), types of either, functions of (name, layer) that
            return whether to keep it; one or several of these.
        float_ends: Whether the first and the last layer, in the order in which the module holds
            them, are kept too.

    Returns:
        What was done with each layer, and why.

    Raises:
        ArgumentError: No layer is left to replace, a name in `skip` is that of no layer, a layer is
            lazy and has no weights yet, or there is no scheme of that name.

    Example:
        >>> from torch import nn
        >>> from bwn.train import binarize
        >>> net = nn.Sequential(
        ...     nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(32, 10)
        ... )
        >>> report = binarize(net)
        >>> report.replaced, report.kept
        (('2',), {'0': 'the first layer', '4': 'the last layer'})
    """
    chosen = find_scheme(scheme)
    if not isinstance(module, nn.Module):
        raise ArgumentError(f"module is {type(module).__name__}, expected Module")
    layers: dict[str, nn.Module] = {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, (_ConvNd, nn.Linear))
    }
    for name, layer in layers.items():
        if isinstance(layer, nn.modules.lazy.LazyModuleMixin) and layer.has_uninitialized_params():
            raise ArgumentError(
                f"layer '{name}' is lazy and has no weights yet: pass one batch through the "
                "module first"
            )
    reasons = _reasons(module, layers, _filters(skip), float_ends)
    replaced = [name for name, reason in reasons.items() if not reason]
    if not any(isinstance(layers[name], BinaryLayer) for name in layers) and not replaced:
        why = "; ".join(f"{name or 'itself'}: {reason}" for name, reason in reasons.items())
        raise ArgumentError(
            f"no layer can be one bit ({why or 'it has no Conv1d, Conv2d or Linear layer'}); "
            "see skip and float_ends"
        )
    choices = tuple(
        LayerChoice(name, type(layer).__name__, _shape(layer), not reasons[name], reasons[name])
        for name, layer in layers.items()
    )
    for name in replaced:
        BINARY_CLASSES[type(layers[name])].adopt(layers[name], chosen)
    changed = tuple(layer for name in replaced if isinstance(layer := layers[name], BinaryLayer))
    return BinarizeReport(choices, chosen, changed)


def unbinarize(module: nn.Module) -> tuple[str, ...]:
    """Turn all binary layers of a module into torch's own again, in place.

    Args:
        module: Any module.

    Returns:
        Names of the layers; they compute with their real weights now. (`deploy` makes a copy that
        computes with the signs.)

    Example:
        >>> from bwn.train import BinaryLinear, unbinarize
        >>> layer = BinaryLinear(4, 2)
        >>> _ = unbinarize(layer)
        >>> layer
        Linear(in_features=4, out_features=2, bias=False)
    """
    binary = {
        name: layer for name, layer in module.named_modules() if isinstance(layer, BinaryLayer)
    }
    for layer in binary.values():
        layer.release()
    return tuple(binary)


def _shape(layer: nn.Module) -> tuple[int, ...]:
    weight = layer.weight
    return tuple(weight.shape) if isinstance(weight, Tensor) else ()


def _reasons(
    module: nn.Module, layers: dict[str, nn.Module], filters: list[Filter], float_ends: bool
) -> dict[str, str]:
    """Why each layer is kept, "" where it is not, by name."""
    read = set(_read_directly(module))
    names = list(layers)
    _check_names(names, filters)
    ends = (
        {names[-1]: "the last layer", names[0]: "the first layer"} if float_ends and names else {}
    )
    reasons = {}
    for name, layer in layers.items():
        if isinstance(layer, BinaryLayer):
            reason = f"has scheme {layer.scheme.name} already"
        elif type(layer) not in BINARY_CLASSES:
            kind = type(layer)
            reason = f"its class, {kind.__module__}.{kind.__name__}, has no one-bit form"
        elif not isinstance(layer._parameters.get("weight"), nn.Parameter):
            reason = "its weight is computed by a hook"
        elif layer in read:
            reason = "the module around it reads its weight directly"
        elif any(_matches(one, name, layer, module) for one in filters):
            reason = "skipped"
        else:
            reason = ends.get(name, "")
        reasons[name] = reason
    _keep_tied(module, layers, reasons)
    return reasons


def _keep_tied(module: nn.Module, layers: dict[str, nn.Module], reasons: dict[str, str]) -> None:
    """Add the reason of layers whose weight another module uses that will not be one bit."""
    binary = {
        layer
        for name, layer in layers.items()
        if not reasons[name] or isinstance(layer, BinaryLayer)
    }
    others = {
        id(parameter): name
        for name, owner in module.named_modules()
        for parameter in owner._parameters.values()
        if owner not in binary and parameter is not None
    }
    for name, layer in layers.items():
        if not reasons[name] and (other := others.get(id(layer._parameters["weight"]))):
            reasons[name] = f"its weight is tied to {other}"


def _filters(skip: Filter | Iterable[Filter]) -> list[Filter]:
    filters = [skip] if isinstance(skip, str) or callable(skip) else list(skip)
    for one in filters:
        if not isinstance(one, str) and not callable(one):
            raise ArgumentError(
                f"skip has {type(one).__name__}, expected names, types and functions of "
                "(name, layer)"
            )
    return filters


def _around(name: str) -> Iterator[str]:
    """A layer's name, and those of the modules around it."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        yield ".".join(parts[:count])


def _matches(one: Filter, name: str, layer: nn.Module, module: nn.Module) -> bool:
    if isinstance(one, str):
        return any(fnmatchcase(part, one) for part in _around(name))
    if isinstance(one, type):
        return any(isinstance(module.get_submodule(part), one) for part in _around(name))
    return bool(one(name, layer))


def _check_names(names: list[str], filters: list[Filter]) -> None:
    """Raise ArgumentError where a filter is a name that no layer has."""
    known = {part for name in names for part in _around(name)}
    for one in filters:
        if isinstance(one, str) and not any(fnmatchcase(name, one) for name in known):
            close = difflib.get_close_matches(one, known, 3)
            hint = f"; did you mean {', '.join(close)}?" if close else ""
            raise ArgumentError(f"skip: no layer is called '{one}'{hint}")


def _read_directly(module: nn.Module) -> Iterator[nn.Module]:
    """Layers whose weight the code of their parent reads, as in F.linear(x, self.proj.weight)."""
    names = {kind: _weights_read(kind) for kind in {type(parent) for parent in module.modules()}}
    for parent in module.modules():
        for name in names[type(parent)]:
            if (layer := parent._modules.get(name)) is not None:
                yield layer


def _weights_read(kind: type[nn.Module]) -> set[str]:
    """Names N where a method says self.N.weight, other than to initialize it."""
    names: set[str] = set()
    for method, function in inspect.getmembers(kind, inspect.isfunction):
        own = method == "forward" or not hasattr(nn.Module, method)
        if own and not re.search("init|reset|load", method):
            with suppress(OSError, TypeError):  # a class without source
                names.update(_WEIGHT_READ.findall(inspect.getsource(function)))
    return names
