"""The numbers of a report. `bwn report --json` prints them."""

from __future__ import annotations

from msgspec import Struct

from bwn.train.history import Epoch


class Scales(Struct, frozen=True, kw_only=True):
    """The scales of a packed layer, one for each output channel.

    Attributes:
        low: The smallest.
        median: The middle one.
        high: The largest.
        histogram: How many lie in each equal part of low to high.
    """

    low: float
    median: float
    high: float
    histogram: tuple[int, ...]


class LayerFacts(Struct, frozen=True, kw_only=True):
    """A layer with weights.

    Attributes:
        name: Name of the layer.
        shape: Of its weights.
        weights: How many it has.
        stored: How they are deployed: `1 bit`, `int8` or `float32`.
        distance: Mean distance of the real weights to the nearer of -1 and +1; like the next three
            None for float layers and packed models.
        near_zero: Share of the real weights within delta of 0.
        flipped_accuracy: Accuracy on the test images if exactly these change sign, in this layer
            alone; None without images.
        histogram: How many real weights lie in each equal part of [-1, 1].
        scales: Of a packed layer; None without.
    """

    name: str
    shape: tuple[int, ...]
    weights: int
    stored: str
    distance: float | None = None
    near_zero: float | None = None
    flipped_accuracy: float | None = None
    histogram: tuple[int, ...] | None = None
    scales: Scales | None = None

    @property
    def one_bit(self) -> bool:
        """Whether the weights are deployed as one bit each."""
        return self.stored == "1 bit"


class FlipRisk(Struct, frozen=True, kw_only=True):
    """What depends on real weights near 0.

    Attributes:
        delta: Weights at most this far from 0 count as near.
        share: Share of all binary layers' weights that are near 0.
        flipped_accuracy: Accuracy on the test images if exactly these change sign, in all layers
            at once; None without images.
        lost: Accuracy as it is, minus that; None without images.
    """

    delta: float
    share: float
    flipped_accuracy: float | None = None
    lost: float | None = None


class Mistake(Struct, frozen=True, kw_only=True):
    """A test image that is classified wrongly.

    Attributes:
        image: Its index in the test images.
        true: Index of its class.
        predicted: Index of the predicted class.
        probability: Of the predicted class.
    """

    image: int
    true: int
    predicted: int
    probability: float


class ImageResults(Struct, frozen=True, kw_only=True):
    """Accuracy on test images.

    Attributes:
        data: Name of the data set and its split.
        images: Images of the split.
        right: How many of them are classified correctly.
        accuracy: right / images.
        interval: Its 95% interval.
        classes: Names of the classes.
        confusion: Numbers of images: a row for each true class, a column for each predicted one.
        mistakes: Of the most frequent confusions, the images that the network is surest of.
    """

    data: str
    images: int
    right: int
    accuracy: float
    interval: tuple[float, float]
    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    mistakes: tuple[Mistake, ...]


class GroupFacts(Struct, frozen=True, kw_only=True, rename={"strength": "lambda"}):
    """Runs of an experiment that differ in their seeds alone. Errors are fractions, in 0 to 1.

    Attributes:
        name: Of the group.
        scheme: Name of the scheme.
        strength: lambda at the last step; None without a penalty.
        runs: How many there are.
        test_error: Mean over the runs; None without test images.
        validation_error: Mean over the runs; None without held-out images.
        near: Mean share of the weights that arrived at +-1; None for float.
    """

    name: str
    scheme: str
    strength: float | None
    runs: int
    test_error: float | None
    validation_error: float | None
    near: float | None


class Report(Struct, frozen=True, kw_only=True):
    """What a report says. All is empty or None that its source does not know.

    Attributes:
        source: The file or folder, as the user named it.
        kind: `checkpoint`, `model` or `experiment`.
        about: Facts of the source, a name and a text each.
        one_bit_share: Share of the weights that are deployed as one bit.
        layers: The layers with weights, in order.
        epochs: What a run kept of its epochs; the first is that before the first step.
        flip_risk: Of a checkpoint with binary layers.
        test: Accuracy on the test images of a data set.
        groups: The groups of an experiment.
        notes: What is missing and why, a sentence each.
    """

    source: str
    kind: str
    about: tuple[tuple[str, str], ...]
    one_bit_share: float | None = None
    layers: tuple[LayerFacts, ...] = ()
    epochs: tuple[Epoch, ...] = ()
    flip_risk: FlipRisk | None = None
    test: ImageResults | None = None
    groups: tuple[GroupFacts, ...] = ()
    notes: tuple[str, ...] = ()
