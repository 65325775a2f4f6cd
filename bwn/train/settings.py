"""What defines a training run: its network (`Architecture`) and its recipe (`Settings`).

Both carry range, help text and default in their fields, of which the command line makes its
options; a checkpoint stores both as JSON. Needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from bwn.errors import ArgumentError
from bwn.train.networks import NETWORKS, NetworkName

if TYPE_CHECKING:
    from bwn.train.schemes import Scheme

SchemeName = Literal["float", "deterministic", "stochastic", "scaled", "margin"]
Precision = Literal["float32", "bfloat16"]
SCHEME_NAMES: tuple[SchemeName, ...] = get_args(SchemeName)

Extent = Annotated[int, Meta(ge=1, le=4096)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Positive = Annotated[float, Meta(gt=0, le=1e6)]


def _about(description: str, **extra: Any) -> Meta:
    """What the command line says of a field; extra: see bwn/train/options.py."""
    return Meta(description=description, extra=extra)


class Architecture(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which network, and of which size; `build` makes it.

    Attributes:
        name: `mlp`, `lenet`, `convnet`, `vgg`, `resnet18` or `resnet20`.
        input_shape: (C, H, W) of an image, in pixels.
        classes: Number of classes.
        scheme: Name of the scheme that all layers use.
        activations: `relu`: layers read real values. `int8`: layers with one-bit weights read them
            rounded to 8 bits. `sign`: layers read one bit per activation.
        width: Channels or units of the first hidden layer, which the others follow; None: the
            network's own.
        float_ends: Whether the first and the last layer keep float weights; None: as `NETWORKS`
            says.

    Example:
        >>> from bwn.train import Architecture, build
        >>> network = Architecture(name="lenet", input_shape=(1, 28, 28), classes=10)
        >>> module = build(network)
    """

    name: Annotated[
        NetworkName,
        _about(
            "Network.",
            flag="--model",
            default="convnet; mlp for gray images up to 32 pixels, resnet18 for images above 64",
        ),
    ]
    input_shape: tuple[Extent, Extent, Extent]
    classes: Annotated[int, Meta(ge=2, le=65536)]
    scheme: Annotated[
        SchemeName,
        _about(
            "How weights become one bit. `margin` also pulls them toward -1 and +1; `float` keeps "
            "them real."
        ),
    ] = "margin"
    activations: Annotated[
        Literal["relu", "int8", "sign"],
        _about("Layer inputs: relu = float, int8 = quantization-aware training, sign = binary."),
    ] = "relu"
    width: Annotated[
        Annotated[int, Meta(ge=1, le=8192)] | None,
        _about("Width of the first hidden layer.", default="depends on the network"),
    ] = None
    float_ends: Annotated[
        bool | None,
        _about(
            "Keep float weights in the first and the last layer.",
            flag="--float-ends/--binary-ends",
            default="float ends in convnet and the residual networks",
        ),
    ] = None


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a network is trained.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images per step.
        learning_rate: Of Adam at the first step; each layer's is multiplied by its own scale
            (`BinaryLinear.learning_rate_scale`).
        final_learning_rate: The same at the last step.
        schedule: Between the two: `cosine`, half a period of it, or `exponential`.
        loss: `hinge`: mean of max(0, 1 - t y)^2 over targets t = +-1; or `cross-entropy`.
        penalty: Pulls the weights of binary layers to +-1; None: nothing does.
        strength: lambda, the factor of the penalty, at the end of the run. At this value for the
            whole run the penalty alone would shrink the distances to +-1 by e^-lambda.
        ramp: Powers of ten by which lambda grows over the run.
        weight_decay: Of the layers' weights, decoupled from the gradient (AdamW).
        precision: Of products and activations in training. Weights, sums of gradients and every
            evaluation stay float32.
        augment: `shift`: each image is moved by up to a sixteenth of its size; `flip`: also
            mirrored, with probability 1/2; `alternating`: also mirrored, in every second epoch,
            beginning with the first or the second one by a draw for each image.
        cutout: Side of a square, in pixels, that is cut out of each image at a random place; 0:
            none. Its pixels get the mean color.
        label_smoothing: Share of the target that is spread evenly over all classes; see
            `bwn.train.losses`.
        validation: Fraction of the training images held out to measure accuracy, in 0 to 0.5.
        patience: Epochs without a better held-out accuracy after which the run ends; None: never.
        class_weights: Weight of each class's images in the loss; see
            `bwn.train.losses.image_weights`.
        seed: Of the fresh weights, the held-out images, the shuffles and all draws.

    Example:
        >>> from bwn.train import Settings
        >>> settings = Settings(epochs=5, penalty="margin")
        >>> settings.learning_rate_at(0.0), settings.lambda_at(1.0)
        (0.001, 300.0)
    """

    epochs: Annotated[
        Count, _about("Passes over the training images.", note="more if there are few images")
    ] = 20
    batch_size: Annotated[
        Count, _about("Images per step.", note="smaller if there are few images")
    ] = 100
    learning_rate: Annotated[Positive, _about("Learning rate at the start.", flag="--lr")] = 1e-3
    final_learning_rate: Annotated[
        Positive, _about("Learning rate at the end, at most --lr.", flag="--final-lr")
    ] = 3e-6
    schedule: Annotated[
        Literal["cosine", "exponential"],
        _about("How the learning rate falls from --lr to --final-lr."),
    ] = "cosine"
    loss: Annotated[
        Literal["hinge", "cross-entropy"], _about("Squared hinge or cross entropy.")
    ] = "hinge"
    penalty: Annotated[
        Literal["margin", "double-well"] | None,
        _about(
            "Penalty that pulls weights to +-1.", default="margin with scheme `margin`, else none"
        ),
    ] = None
    strength: Annotated[
        float,
        Meta(ge=0, le=1e6),
        _about("Final strength of the penalty.", flag="--lambda"),
    ] = 300.0
    ramp: Annotated[
        float, Meta(ge=0, le=20), _about("Powers of ten by which lambda grows over the run.")
    ] = 6.0
    weight_decay: Annotated[
        float, Meta(ge=0, le=1e3), _about("Decoupled weight decay (AdamW), for scheme `float`.")
    ] = 0.0
    precision: Annotated[
        Precision,
        _about(
            "Precision of products in training; auto = bfloat16 where the device has instructions "
            "for it.",
            choices=["auto"],
            default="auto",
        ),
    ] = "float32"
    augment: Annotated[
        Literal["none", "shift", "flip", "alternating"],
        _about(
            "Shift each image by a few pixels; `flip` also mirrors it at random, `alternating` in "
            "every second epoch."
        ),
    ] = "shift"
    cutout: Annotated[
        int,
        Meta(ge=0, le=4095),
        _about(
            "Cut a square of this side out of each image at a random place; helps in long runs.",
            metavar="PIXELS",
        ),
    ] = 0
    label_smoothing: Annotated[
        float,
        Meta(ge=0, le=0.9),
        _about("Share of each label that is spread evenly over all classes, such as 0.1."),
    ] = 0.0
    validation: Annotated[
        float,
        Meta(ge=0, le=0.5),
        _about("Fraction of the training images held out to measure accuracy."),
    ] = 0.1
    patience: Annotated[
        Count | None,
        _about(
            "Stop after this many epochs without a better held-out accuracy. Learning rate and "
            "lambda follow schedules over all --epochs, so a run that stops early leaves weights "
            "far from +-1.",
            default="never",
            metavar="EPOCHS",
        ),
    ] = None
    class_weights: Annotated[
        Literal["none", "balanced"] | tuple[Positive, ...],
        _about(
            "Weight of each class's images in the loss. `balanced` gives classes with few images "
            "more weight; or give one number per class, in the order of the classes (1,2.5,1), or "
            "a file of them.",
            metavar="balanced|none|LIST|FILE",
        ),
    ] = "none"
    seed: Annotated[
        int, Meta(ge=0, le=2**32 - 1), _about("Random seed: same seed, same network.")
    ] = 0

    def learning_rate_at(self, progress: float) -> float:
        """Learning rate at a point of the run.

        cosine: last + (first - last) (1 + cos(pi progress)) / 2.
        exponential: first (last / first)^progress.

        Args:
            progress: Completed fraction of the run, in 0 to 1.

        Returns:
            The rate, before the layers' own scales.
        """
        first, last = self.learning_rate, self.final_learning_rate
        if self.schedule == "cosine":
            return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2
        return first * float((last / first) ** progress)

    def lambda_at(self, progress: float) -> float:
        """Lambda, the factor of the penalty, at a point of the run; 0 without a penalty.

        lambda = strength 10^(-ramp (1 - progress)). Late and steep: a strong early pull keeps signs
        from flipping while the loss still moves them.

        Args:
            progress: Completed fraction of the run, in 0 to 1.

        Returns:
            Lambda; see `bwn.train.optimizer.Adam` for what a step makes of it.
        """
        return self.strength * float(10 ** (-self.ramp * (1 - progress))) if self.penalty else 0.0


ENOUGH_STEPS = 1000


def settings_for(network: NetworkName, scheme: Scheme, images: int, **chosen: Any) -> Settings:
    """Settings of a network and a scheme: the chosen values, else the network's defaults.

    With fewer than 2,000 images batches are smaller, and there are enough epochs for 1,000 steps.

    Args:
        network: Name of the network.
        scheme: Scheme of its layers, which decides about the penalty.
        images: Number of images to train on.
        chosen: Fields of `Settings`; None: not chosen. `penalty` may be `none`.

    Returns:
        The settings.

    Raises:
        BwnError: A value is out of its range, has no effect with this scheme, or the learning rate
            would rise.
    """
    chosen = {name: value for name, value in chosen.items() if value is not None}
    values = msgspec.structs.asdict(Settings()) | {"penalty": scheme.penalty}
    values |= NETWORKS[network].settings
    values["batch_size"] = min(values["batch_size"], max(10, images // 20))
    steps = max(1, images // (chosen.get("batch_size") or values["batch_size"]))
    values["epochs"] = max(values["epochs"], -(-ENOUGH_STEPS // steps))
    values.update(chosen)
    if values["penalty"] == "none":
        values["penalty"] = None
    if "final_learning_rate" not in chosen:
        values["final_learning_rate"] = min(values["final_learning_rate"], values["learning_rate"])
    try:
        settings = msgspec.convert(values, Settings)
    except msgspec.ValidationError as error:
        raise ArgumentError(f"training settings: {error}") from error
    _check_effects(settings, scheme, chosen)
    return settings


def _check_effects(settings: Settings, scheme: Scheme, chosen: Collection[str]) -> None:
    """Raise ArgumentError where a chosen setting would change nothing, or the rate would rise."""
    if settings.penalty and not scheme.binary:
        raise ArgumentError(
            f"penalty '{settings.penalty}' pulls weights to +-1, which scheme '{scheme.name}' "
            "does not use"
        )
    advice = "leave it out, or choose one" if scheme.binary else f"scheme '{scheme.name}' has none"
    for name, word in (("strength", "lambda"), ("ramp", "ramp")):
        if name in chosen and not settings.penalty:
            raise ArgumentError(f"{word} has no effect without a penalty: {advice}")
    if "weight_decay" in chosen and scheme.binary:
        raise ArgumentError(
            f"weight decay is for scheme 'float': scheme '{scheme.name}' clips its weights instead"
        )
    if settings.final_learning_rate > settings.learning_rate:
        raise ArgumentError(
            f"the final learning rate, {settings.final_learning_rate:g}, is above the first, "
            f"{settings.learning_rate:g}: choose one at most as high"
        )
