"""How a network is trained: the settings, their defaults, and the two schedules."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, ValidationError, convert

from bwn.errors import BwnError
from bwn.train.schemes import Scheme

Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Positive = Annotated[float, Meta(gt=0, le=1e6)]


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one training run; a checkpoint stores them as JSON.

    learning_rate, final_learning_rate: of Adam at the first and the last step; each layer's is multiplied by its own
        scale. schedule: between the two, half a period of a cosine, or `exponential`.
    loss: `hinge`: mean of max(0, 1 - t y)^2 over targets t = +-1, or `cross-entropy`.
    penalty: what draws the weights of binary layers to +-1, or None. strength: its factor lambda at the end of the run;
        alone, and that strong all along, it would shrink the distances by e^-lambda. ramp: how many powers of ten
        lambda grows by over the run.
    weight_decay: of the layers' weights, decoupled from the gradient (AdamW); for full precision.
    precision: of products and activations in training; weights, gradients' sums and evaluation stay float32.
    augment: `shift`: each image moved by up to a sixteenth of its size; `flip`: also mirrored, half of the time.
    validation: part of the training images held out (the last ones of a seeded shuffle) to measure accuracy on.
    patience: the run ends when accuracy on them has not risen for so many epochs; None: it goes on to the end.
    class_weights: of each class's images in the loss; see `bwn.train.losses.image_weights`.
    """

    epochs: Count = 20
    batch_size: Count = 100
    learning_rate: Positive = 1e-3
    final_learning_rate: Positive = 3e-6
    schedule: Literal["cosine", "exponential"] = "cosine"
    loss: Literal["hinge", "cross-entropy"] = "hinge"
    penalty: Literal["margin", "double-well"] | None = None
    strength: Annotated[float, Meta(ge=0, le=1e6)] = 300.0
    ramp: Annotated[float, Meta(ge=0, le=20)] = 6.0
    weight_decay: Annotated[float, Meta(ge=0, le=1e3)] = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    augment: Literal["none", "shift", "flip"] = "shift"
    validation: Annotated[float, Meta(ge=0, le=0.5)] = 0.1
    patience: Count | None = None
    class_weights: Literal["none", "balanced"] | tuple[Positive, ...] = "none"
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 0

    def learning_rate_at(self, part: float) -> float:
        """Learning rate when `part` (0 to 1) of the run is done.

        cosine: last + (first - last) (1 + cos(pi part)) / 2; exponential: first * (last / first)^part.
        """
        first, last = self.learning_rate, self.final_learning_rate
        if self.schedule == "cosine":
            return last + (first - last) * (1 + math.cos(math.pi * part)) / 2
        return first * float((last / first) ** part)

    def strength_at(self, part: float) -> float:
        """Lambda when `part` of the run is done: strength * 10^(-ramp * (1 - part)); 0 without a penalty.

        Late and steep, because a strong early pull keeps signs from flipping while the loss still moves them.
        """
        return self.strength * float(10 ** (-self.ramp * (1 - part))) if self.penalty else 0.0


DEFAULTS: dict[str, dict[str, Any]] = {
    "mlp": {"epochs": 30, "batch_size": 50},
    "lenet": {"epochs": 30, "batch_size": 50},
    "vgg": {"epochs": 60, "learning_rate": 3e-3},
    "resnet18": {"epochs": 60, "loss": "cross-entropy", "augment": "flip"},
    "resnet20": {"epochs": 60, "loss": "cross-entropy", "augment": "flip"},
}
"""What each network changes in the settings above, where the user says nothing."""


ENOUGH_STEPS = 1000


def settings_for(name: str, scheme: Scheme, images: int, **chosen: Any) -> Settings:
    """Settings of a network and a scheme: what was chosen (None: not chosen), else the network's defaults.

    With fewer than 2,000 images batches are smaller, and there are as many epochs as make 1,000 steps.
    images: how many there are to train on. Raises BwnError where a value is out of its range.
    """
    values = {"penalty": scheme.penalty, "batch_size": 100, **DEFAULTS[name]}
    values["batch_size"] = min(values["batch_size"], max(10, images // 20))
    steps = max(1, images // (chosen.get("batch_size") or values["batch_size"]))
    values["epochs"] = max(values["epochs"], -(-ENOUGH_STEPS // steps))
    values.update({key: value for key, value in chosen.items() if value is not None})
    if values["penalty"] == "none":
        values["penalty"] = None
    if values["penalty"] and not scheme.binary:
        raise BwnError(
            f"penalty '{values['penalty']}' draws weights to +-1, which scheme '{scheme.name}' does not use"
        )
    try:
        return convert(values, Settings)
    except ValidationError as error:
        raise BwnError(f"training settings: {error}") from error
