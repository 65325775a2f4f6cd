"""Alternating mirror images and cutout, alone and in a run."""

from __future__ import annotations

import msgspec
import pytest
import torch

from bwn.errors import ArgumentError, BwnError
from bwn.train import Architecture, Settings, Trainer, measure
from bwn.train.architectures import build_seeded
from bwn.train.augment import Augmentation, augmented

CPU = torch.device("cpu")
NETWORK = Architecture(name="mlp", input_shape=(1, 8, 8), classes=3, width=8)
ALL = Settings(
    epochs=3, batch_size=7, augment="alternating", cutout=3, label_smoothing=0.2, penalty="margin"
)


def test_alternating_mirrors_each_image_in_every_second_epoch():
    augmentation = Augmentation(Settings(augment="alternating"), 400, (4, 48), 5, CPU)
    images = torch.zeros(400, 4, 48, dtype=torch.uint8)
    images[:, :, :5] = 255
    index = torch.randperm(400)
    sides = [augmentation.images(images[index], index, epoch)[:, 2, 0].bool() for epoch in range(4)]
    assert torch.equal(sides[0], ~sides[1])
    assert torch.equal(sides[0], sides[2])
    assert torch.equal(sides[1], sides[3])
    assert 150 < int(sides[0].sum()) < 250, "half of the images begin mirrored"
    again = Augmentation(Settings(augment="alternating"), 400, (4, 48), 5, CPU)
    order = torch.arange(400)
    assert torch.equal(again.images(images, order, 0)[:, 2, 0].bool()[index], sides[0])


def test_alternating_without_a_choice_only_shifts():
    image = torch.zeros(50, 32, 48, dtype=torch.uint8)
    image[:, 16, 10] = 255
    assert int((augmented(image, "alternating") == 255).nonzero()[:, 2].max()) < 14


def test_cutout_is_a_square_anywhere():
    holes = Augmentation(Settings(cutout=3), 2000, (8, 6), 0, CPU).holes(torch.arange(2000))
    assert holes.shape == (2000, 1, 8, 6)
    rows, columns = holes.any(3).squeeze(1), holes.any(2).squeeze(1)
    assert torch.equal(holes.squeeze(1), rows.unsqueeze(2) & columns.unsqueeze(1))
    for axis, extent in ((rows, 8), (columns, 6)):
        sides = axis.sum(1)
        assert set(sides.tolist()) == {2, 3}, "one pixel may lie outside"
        assert set(axis.int().argmax(1).tolist()) == set(range(extent - 1))
    assert Augmentation(Settings(), 5, (8, 6), 0, CPU).holes(torch.arange(5)) is None


def test_a_cutout_gets_the_mean_color(shapes_set):
    seen = []

    class Spy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.dense = torch.nn.Linear(64, 3)

        def forward(self, x):
            seen.append(x)
            return self.dense(x.flatten(1))

    data = shapes_set(30)
    settings = Settings(epochs=1, batch_size=30, augment="none", cutout=4, validation=0)
    Trainer(Spy(), data, measure(data), settings).run()
    zeros = (seen[0] == 0).flatten(1).sum(1)
    assert set(zeros.tolist()) <= {rows * columns for rows in (2, 3, 4) for columns in (2, 3, 4)}


def test_a_cutout_as_large_as_the_images_is_refused(shapes_set):
    data = shapes_set(30)
    with pytest.raises(ArgumentError, match="a cutout of 8 pixels covers images of 8 x 8: choose"):
        Trainer(build_seeded(NETWORK, 0), data, measure(data), Settings(cutout=8))
    assert issubclass(ArgumentError, BwnError)


def test_a_resumed_run_with_all_options_keeps_its_bits(shapes_set):
    data = shapes_set(60)

    def trainer():
        return Trainer(build_seeded(NETWORK, 0), data, measure(data), ALL)

    whole, cut, rest = trainer(), trainer(), trainer()
    whole.run()
    cut.run(stop=lambda: cut.step == 11)
    rest.module.load_state_dict(cut.module.state_dict())
    rest.restore(cut.state())
    rest.run()
    expected = whole.module.state_dict()
    for name, tensor in rest.module.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("field", [{"augment": "flip"}, {"cutout": 0}, {"label_smoothing": 0.0}])
def test_every_option_changes_the_run(field, shapes_set):
    data, weights = shapes_set(60), []
    for settings in (ALL, msgspec.structs.replace(ALL, **field)):
        trainer = Trainer(build_seeded(NETWORK, 0), data, measure(data), settings)
        trainer.run()
        weights.append(trainer.module[1].weight.detach().clone())
    assert not torch.equal(*weights)


def test_settings_of_an_older_checkpoint_are_read():
    values = msgspec.to_builtins(Settings(epochs=7))
    for name in ("cutout", "label_smoothing"):
        del values[name]
    assert msgspec.convert(values, Settings) == Settings(epochs=7)
