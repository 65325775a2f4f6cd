"""Short trainings that compare ways to round activations, and orders of sign and pooling.

    python benchmarks/activation_trials.py signs --data MNIST --epochs 4 --width 8 --seeds 0 1
    python benchmarks/activation_trials.py steps --data mnist-sample --epochs 10 --width 8 --seeds 0

Prints one JSON line per run. `signs`: LeNet, margin scheme. `steps`: how the 8-bit step is
measured; `far`: mean distance of test scores to those of the same weights without rounding,
relative to the scores' mean size. Accuracies are of the test images.
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
        """Any shape, float, to the same shape."""
        return x + (signs(x) - x).detach()


def ordered(module: nn.Sequential, order: str) -> nn.Sequential:
    """LeNet with its layers after a convolution in another order of ORDERS; the weights stay."""
    layers = list(module)
    for index, layer in enumerate(layers):
        if isinstance(layer, nn.MaxPool2d):
            parts = dict(zip(("bn", "sign", "pool"), layers[index - 2 : index + 1], strict=True))
            names = order.removesuffix(" open").split()
            layers[index - 2 : index + 1] = [parts[name] for name in names]
    if order.endswith("open"):
        layers = [OpenSign() if isinstance(layer, SignActivation) else layer for layer in layers]
    return nn.Sequential(*layers)


ORDERS = ("bn sign pool", "bn pool sign", "pool bn sign", "bn pool sign open")


def _largest(layer: RoundActivation, x: Tensor, qmax: int) -> Tensor:
    return torch.maximum(layer.step, x.abs().amax() / qmax)


def _mean(
    step_of: Callable[[Tensor, int], Tensor],
) -> Callable[[RoundActivation, Tensor, int], Tensor]:
    def running_mean(layer: RoundActivation, x: Tensor, qmax: int) -> Tensor:
        return layer.step.lerp(step_of(x, qmax), 0.1 if layer.step > 0 else 1.0)

    return running_mean


def _percentile(x: Tensor, qmax: int) -> Tensor:
    flat = x.abs().flatten()
    return flat.kthvalue(max(1, int(0.999 * len(flat)))).values / qmax


def _least_squares(x: Tensor, qmax: int) -> Tensor:
    """The best of 4/16 to 16/16 of the largest."""
    largest = x.abs().amax() / qmax
    steps = [largest * part / 16 for part in range(4, 17)]
    qmin = -qmax if bool((x < 0).any()) else 0
    errors = [
        float(((x / step).round().clamp(qmin, qmax) * step - x).square().mean()) for step in steps
    ]
    return steps[errors.index(min(errors))]


STEPS = {
    "mean of maxima": _mean(lambda x, qmax: x.abs().amax() / qmax),
    "largest ever": _largest,
    "mean of 99.9 percentiles": _mean(_percentile),
    "mean of least squares": _mean(_least_squares),
}


def with_steps(module: nn.Sequential, rule: str) -> nn.Sequential:
    """The network with another rule for the steps of its 8-bit activations."""
    for layer in module:
        if isinstance(layer, RoundActivation):

            def measure_step(x: Tensor, qmax: int, layer: RoundActivation = layer) -> None:
                with torch.no_grad():
                    layer.step.copy_(STEPS[rule](layer, x, qmax))

            layer._measure = measure_step
    return module


def run(args: argparse.Namespace, variant: str, activations: str, seed: int) -> dict[str, object]:
    """Train and test one network."""
    data, test = (load_dataset(args.data, split) for split in ("train", "test"))
    preprocess = measure(data)
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
    Trainer(module, data, preprocess, settings).run()
    record = {"variant": variant, "activations": activations, "seed": seed, "data": args.data_name}
    record |= {"model": "lenet", "width": args.width, "epochs": args.epochs}
    record["accuracy"] = accuracy(module, test, preprocess)
    if activations == "int8":
        x = as_input(torch.from_numpy(test.images), preprocess)
        with torch.no_grad():
            rounded = module(x)
            exact = nn.Sequential(
                *(layer for layer in module if not isinstance(layer, RoundActivation))
            )
            scores = exact(x)
        record["far"] = round(float((rounded - scores).abs().mean() / scores.abs().mean()), 6)
        record["accuracy_unrounded"] = accuracy(exact, test, preprocess)
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
