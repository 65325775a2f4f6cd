"""A small data set on disk, jobs on it, and invented records."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bwn.experiment.jobs import ExperimentRequest, plan
from bwn.experiment.record import Epoch, Record
from bwn.train.history import BINS


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def shapes(tmp_path):
    """A folder of IDX files: noisy 8 x 8 images with a bright left half, top half, or corner."""
    folder = tmp_path / "shapes"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for split, count in (("train", 90), ("t10k", 30)):
        images = rng.integers(0, 125, (count, 8, 8), np.uint8)
        labels = (np.arange(count) % 3).astype(np.uint8)
        images[labels == 0, :, :4] += 130
        images[labels == 1, :4, :] += 130
        images[labels == 2, 4:, 4:] += 130
        for name, array in (
            (f"{split}-images-idx3-ubyte", images),
            (f"{split}-labels-idx1-ubyte", labels),
        ):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (folder / name).write_bytes(head + array.tobytes())
    return folder


@pytest.fixture
def planned(shapes, tmp_path):
    """Basis and jobs of a small experiment in a folder of that name."""

    def make(
        name="out", schemes=("stochastic",), seeds=(0,), lambdas=(), weight_decays=(), **chosen
    ):
        settings = {
            "epochs": 4,
            "batch_size": 10,
            "learning_rate": 0.01,
            "augment": "none",
            **chosen,
        }
        wanted = ExperimentRequest(
            str(shapes), schemes, seeds, lambdas, weight_decays, width=8, chosen=settings
        )
        folder = tmp_path / name
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        return plan(wanted, folder, threads=1)

    return make


@pytest.fixture
def made_up():
    """A record as of a run; the weights of `margin` move outwards from epoch to epoch."""

    def make(scheme, seed, test_error, **more):
        def epoch(number):
            inside = 0 if scheme == "margin" and number == 2 else 10
            histogram = (100, *([inside] * (BINS - 2)), 100)
            return Epoch(
                epoch=number, loss=0.5, validation_error=0.3, near=0.5, histogram=histogram
            )

        strength = 1e-4 if scheme == "margin" else None
        values = {
            "name": f"{scheme}-seed{seed}",
            "scheme": scheme,
            "seed": seed,
            "sweep": False,
            "strength": strength,
            "ramp": 8.0 if strength else None,
            "test_error": test_error,
            "test_error_real_weights": None,
            "validation_error": 0.03,
            "train_error": 0.01,
            "distance": None if scheme == "float" else 0.1,
            "near": None if scheme == "float" else 0.96,
            "best_epoch": 1,
            "best_test_error": test_error,
            "source": "shapes",
            "digest": "0" * 64,
            "train_images": 900,
            "validation_images": 100,
            "test_images": 200,
            "architecture": {"name": "mlp", "width": 64},
            "settings": {
                "epochs": 2,
                "batch_size": 50,
                "learning_rate": 1e-3,
                "final_learning_rate": 3e-6,
                "augment": "none",
                "weight_decay": 0.0,
                "precision": "float32",
            },
            "versions": {"bwn": "0"},
            "threads": 1,
            "seconds": 2.5,
            "epochs": tuple(epoch(number) for number in range(3))
            if scheme != "float"
            else (Epoch(epoch=0),),
        }
        return Record(**{**values, **more})

    return make
