"""Devices: which one is used or refused, and that nothing in a step makes the host wait for it.

No GPU is needed: what a GPU would run, torch's own operations instead of the compiled ones, runs on
the CPU.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from bwn.cli.main import bwn
from bwn.data.datasets import Dataset
from bwn.errors import BwnError
from bwn.train import Architecture, Settings, Trainer, compiled_update, measure, read_checkpoint
from bwn.train import trainer as trainer_module
from bwn.train.architectures import build_seeded
from bwn.train.checkpoint import Description, write_checkpoint
from bwn.train.device import fast_precision, find_device
from bwn.train.preprocessing import digest

WAITS = {
    "aten::_local_scalar_dense",
    "aten::lift_fresh",
    "aten::nonzero",
    "aten::equal",
    "aten::masked_select",
}
"""Operations that the host waits for, or that send data first: item(), tensor([...]), x[mask]."""


class Watch(TorchDispatchMode):
    """Notes the operations that would make the host wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.found, self.count = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        if func._schema.name in WAITS:
            self.found.append(func._schema.name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def as_on_a_device(monkeypatch):
    monkeypatch.setattr(compiled_update, "supported", lambda _tensor: False)


def trainer(name="lenet", scheme="stochastic", layout=torch.contiguous_format, **more):
    rng = np.random.default_rng(0)
    data = Dataset(
        rng.integers(0, 256, (60, 8, 8, 3), np.uint8), np.arange(60) % 3, ("a", "b", "c")
    )
    network = Architecture(name=name, input_shape=(3, 8, 8), classes=3, scheme=scheme, width=8)
    module = build_seeded(network, 0).to(memory_format=layout)
    settings = Settings(
        **{"epochs": 2, "batch_size": 8, "penalty": "margin", "augment": "flip", **more}
    )
    return Trainer(module, data, measure(data), settings), Description(
        architecture=network,
        settings=settings,
        preprocess=measure(data),
        classes=data.classes,
        source="",
        digest=digest(data),
    )


@pytest.mark.parametrize("scheme", ["stochastic", "margin", "scaled"])
@pytest.mark.parametrize(
    "more", [{}, {"precision": "bfloat16", "loss": "cross-entropy", "class_weights": "balanced"}]
)
def test_no_step_waits_for_the_device(as_on_a_device, monkeypatch, scheme, more):
    run = trainer(scheme=scheme, **more)[0]
    run.run(stop=lambda: run.step == 1)  # constants are sent before the second step
    monkeypatch.setattr(trainer_module, "REPORT_SECONDS", np.inf)
    with Watch() as watch:
        assert not run.run(stop=lambda: run.step == 5)
    assert watch.count > 500
    assert watch.found == []
    with Watch() as watch:
        run.run(stop=lambda: run.step == 6)  # the epoch ends, and is reported
    assert "aten::_local_scalar_dense" in watch.found


@pytest.mark.parametrize("scheme", ["stochastic", "margin"])
def test_a_run_on_a_device_is_resumed_bit_for_bit(as_on_a_device, scheme):
    whole, first, second = (trainer(scheme=scheme)[0] for _ in range(3))
    assert whole.run()
    assert not first.run(stop=lambda: first.step == 7)
    second.module.load_state_dict(first.module.state_dict())
    second.restore(first.state())
    assert second.run()
    expected = whole.module.state_dict()
    assert all(
        torch.equal(tensor, expected[name]) for name, tensor in second.module.state_dict().items()
    )


def test_channels_last_trains_alike_and_is_saved_with_its_axes_in_order(as_on_a_device, tmp_path):
    plain, last = (
        trainer("vgg", "deterministic", f)[0]
        for f in (torch.contiguous_format, torch.channels_last)
    )
    description = trainer("vgg", "deterministic")[1]
    kernel = last.module[3].weight
    assert not kernel.is_contiguous()
    for run in (plain, last):
        run.run(stop=lambda run=run: run.step == 1)
        write_checkpoint(tmp_path / "m.pt", description, run.module, run.state())
        checkpoint = read_checkpoint(tmp_path / "m.pt")
        saved = [
            *checkpoint.module.state_dict().values(),
            *(m for pair in checkpoint.training["moments"] for m in pair),
        ]
        assert all(tensor.is_contiguous() and tensor.device.type == "cpu" for tensor in saved)
    assert not last.optimizer.first[3].is_contiguous(), "else this shows nothing"
    for moment, other in zip(plain.optimizer.first, last.optimizer.first, strict=True):
        torch.testing.assert_close(moment, other, rtol=0, atol=1e-5 * float(moment.abs().max()))
    torch.testing.assert_close(
        read_checkpoint(tmp_path / "m.pt").module[3].weight.detach(), kernel.detach()
    )


def test_auto_is_a_cuda_device_where_there_is_one(monkeypatch):
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    assert [find_device(name) for name in ("auto", "cuda", "cuda:1", "cpu")] == [
        torch.device(name) for name in ("cuda:0", "cuda:0", "cuda:1", "cpu")
    ]
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert find_device("auto") == torch.device("cuda:0"), "one process"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert find_device("auto") == torch.device("cuda:1")
    assert taken == [0, 0, 1, 0, 1]
    with pytest.raises(
        BwnError, match="'cuda:1': each of several processes takes a device of its own"
    ):
        find_device("cuda:1")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(BwnError, match=r"'cuda:2': torch .* finds 2 CUDA devices; use cpu"):
        find_device("cuda")


def test_a_torch_without_cuda_is_named(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(BwnError, match=r"^device 'cuda': this torch is CPU-only; use cpu$"):
        find_device("cuda")


def test_bfloat16_is_for_devices_that_multiply_it(monkeypatch):
    for device, known, expected in (
        ("cpu", {"avx512_bf16": True}, "bfloat16"),
        ("cpu", {"avx512_bf16": False, "avx2": True}, "float32"),
        ("mps", {"avx512_bf16": True}, "float32"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda known=known: known)
        assert fast_precision(torch.device(device)) == expected
    for supported, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation, s=supported: s
        )
        assert fast_precision(torch.device("cuda", 0)) == expected


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("cuda", 1, "Error: device 'cuda:0': torch 2"),
        ("cuda:3", 1, "Error: device 'cuda:3': torch 2"),
        ("mps", 1, "Error: device 'mps': torch 2"),
        ("gpu", 2, "'gpu' is not auto, cpu, cuda, cuda:N (N from 0) or mps"),
        ("cuda:-1", 2, "'cuda:-1' is not auto"),
    ],
)
def test_a_device_that_is_not_there_is_refused_in_one_line(
    name, code, words, tmp_path, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    result = CliRunner().invoke(
        bwn, ["train", "--data", "mnist-sample", "-o", str(tmp_path / "m.pt"), "--device", name]
    )
    assert result.exit_code == code
    assert words in result.stderr
    assert code == 2 or result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_module_without_parameters_is_measured_on_the_processor():
    from bwn.train import accuracy

    data = Dataset(np.zeros((4, 2, 2), np.uint8), np.zeros(4, np.int64), ("a", "b"))
    rule = trainer()[1].preprocess
    flat = type(rule)(size=(2, 2), color="L", mean=(0.5,), std=(1.0,))
    assert accuracy(nn.Flatten(), data, flat) == 1.0
