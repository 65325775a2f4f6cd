"""Short trainings that compare ways to round activations, and orders of sign and maximum: one JSON line a run.

    python benchmarks/activation_trials.py signs --data FOLDER-OF-MNIST --epochs 4 --width 8 --seeds 0 1
    python benchmarks/activation_trials.py steps --data mnist-sample --epochs 10 --width 8 --seeds 0 1 2

`signs`: LeNet, margin scheme. `steps`: how the 8-bit step is found; `far`: mean distance of test scores to those of the
same weights without rounding, in parts of the scores' mean size. Accuracies are of the test images.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import torch
from torch import Tensor, nn

from bwn.data.datasets import load_dataset
from bwn.train import (
    Architecture,
    RoundActivation,
    Settings,
    SignActivation,
    Trainer,
    accuracy,
    measure,
)
from bwn.train.architectures import build_seeded
from bwn.train.preprocessing import as_input
from bwn.train.schemes import signs


class OpenSign(nn.Module):
    """A sign whose gradient passes everywhere."""

    def forward(self, x: Tensor) -> Tensor:
        """x: any shape."""
        return x + (signs(x) - x).detach()


def ordered(module: nn.Sequential, order: str) -> nn.Sequential:
    """LeNet with its convolutions' parts in another order; the weights stay. order: see ORDERS."""
    layers = list(module)
    for at, layer in enumerate(layers):
        if isinstance(layer, nn.MaxPool2d):
            norm, sign, pool = layers[at - 2 : at + 1]
            sorts = {"bn sign pool": [norm, sign, pool], "bn pool sign": [norm, pool, sign]}
            layers[at - 2 : at + 1] = {**sorts, "pool bn sign": [pool, norm, sign]}[
                order.removesuffix(" open")
            ]
    if order.endswith("open"):
        layers = [OpenSign() if isinstance(layer, SignActivation) else layer for layer in layers]
    return nn.Sequential(*layers)


ORDERS = ("bn sign pool", "bn pool sign", "pool bn sign", "bn pool sign open")


def _largest(layer: RoundActivation, x: Tensor, most: int) -> Tensor:
    return torch.maximum(layer.step, x.abs().amax() / most)


def _mean(
    found: Callable[[Tensor, int], Tensor],
) -> Callable[[RoundActivation, Tensor, int], Tensor]:
    def move(layer: RoundActivation, x: Tensor, most: int) -> Tensor:
        return layer.step.lerp(found(x, most), 0.1 if layer.step > 0 else 1.0)

    return move


def _percentile(x: Tensor, most: int) -> Tensor:
    flat = x.abs().flatten()
    return flat.kthvalue(max(1, int(0.999 * len(flat)))).values / most


def _least_squares(x: Tensor, most: int) -> Tensor:
    """The best of 16 parts of the largest."""
    top = x.abs().amax() / most
    steps = [top * part / 16 for part in range(4, 17)]
    low = -most if bool((x < 0).any()) else 0
    errors = [
        float(((x / step).round().clamp(low, most) * step - x).square().mean()) for step in steps
    ]
    return steps[errors.index(min(errors))]


STEPS = {
    "mean of maxima": _mean(lambda x, most: x.abs().amax() / most),
    "largest ever": _largest,
    "mean of 99.9 percentiles": _mean(_percentile),
    "mean of least squares": _mean(_least_squares),
}


def with_steps(module: nn.Sequential, rule: str) -> nn.Sequential:
    """The network with another rule for the steps of its 8-bit activations."""
    for layer in module:
        if isinstance(layer, RoundActivation):

            def move(x: Tensor, most: int, layer: RoundActivation = layer) -> None:
                with torch.no_grad():
                    layer.step.copy_(STEPS[rule](layer, x, most))

            layer._measure = move
    return module


def run(args: argparse.Namespace, variant: str, activations: str, seed: int) -> dict[str, object]:
    """Train and test one network."""
    data, test = (load_dataset(args.data, split) for split in ("train", "test"))
    rule = measure(data)
    network = Architecture(
        name="lenet",
        input_shape=(1, *data.size),
        classes=10,
        width=args.width,
        activations=activations,
    )
    module = build_seeded(network, seed)
    if variant in ORDERS:
        module = ordered(module, variant)
    elif variant in STEPS:
        module = with_steps(module, variant)
    settings = Settings(epochs=args.epochs, penalty="margin", seed=seed)
    Trainer(module, data, rule, settings).run()
    record = {"variant": variant, "activations": activations, "seed": seed, "data": args.data_name}
    record |= {"model": "lenet", "width": args.width, "epochs": args.epochs}
    record["accuracy"] = accuracy(module, test, rule)
    if activations == "int8":
        x = as_input(torch.from_numpy(test.images), rule)
        with torch.no_grad():
            rounded = module(x)
            exact = nn.Sequential(
                *(layer for layer in module if not isinstance(layer, RoundActivation))
            )
            scores = exact(x)
        record["far"] = round(float((rounded - scores).abs().mean() / scores.abs().mean()), 6)
        record["accuracy_unrounded"] = accuracy(exact, test, rule)
    return record


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("signs", "steps"))
    parser.add_argument("--data", required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    args = parser.parse_args()
    args.data_name = "mnist-sample" if args.data == "mnist-sample" else "mnist"
    torch.set_num_threads(1)
    kind, variants = ("sign", ORDERS) if args.what == "signs" else ("int8", tuple(STEPS))
    for seed in args.seeds:
        for variant, activations in [("relu", "relu"), *((variant, kind) for variant in variants)]:
            print(json.dumps(run(args, variant, activations, seed)), flush=True)


if __name__ == "__main__":
    main()
