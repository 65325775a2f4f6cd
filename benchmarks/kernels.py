"""Every product of the registry on the shapes of a network: GMAC/s on one thread, beside numpy's sgemm in turns.

python benchmarks/kernels.py [SHAPES ...] [--seconds 0.3] [--kernel NAME] [--json]

SHAPES are names of files in benchmarks/shapes/. Results are compared with numpy's before they are timed. Planes stay in
the caches between runs, weights too: the warm figure.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy starts its own threads

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from bwn.bench import machine, take_turns
from bwn.kernels import bits
from bwn.kernels.registry import PRODUCTS, Product

FOLDER = Path(__file__).parent / "shapes"
Shape = tuple[int, int, int]


def read_shapes(name: str) -> list[Shape]:
    """(K, N, P) of every line of a shapes file."""
    lines = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [tuple(map(int, line.split())) for line in lines if line and not line.startswith("#")]


class Call:
    """A product on random planes and weights; keeps everything that its parameter block points to."""

    def __init__(self, row: Product, depth: int, outputs: int, positions: int) -> None:
        rng = np.random.default_rng(0)
        plane = -(-positions // 16) * 16
        top = {"f32": 0, "i8": 127, "s1": 1}[row.activations]
        x = rng.integers(-top, top + 1, (depth, plane)).astype(np.int8) if top else rng.normal(0, 1, (depth, plane))
        if row.activations == "s1":
            x = np.where(x < 0, -1, 1).astype(np.int8)
        x = x if top else x.astype(np.float32)
        signs = rng.integers(0, 2, (outputs, depth)) * 2 - 1
        weights = bits.pack(signs) if row.weights == "b1" else signs.astype(np.float32)
        self.out = np.zeros((outputs, plane), np.float32)
        self.expected = signs.astype(np.float64) @ x[:, :positions].astype(np.float64)
        self.positions = positions
        share = -(-row.scratch(outputs, depth) // 64) * 64
        room = np.zeros(share + 64, np.uint8)
        self.kept = [
            np.concatenate([x.ravel(), np.zeros(4096, x.dtype)]),
            row.prepare(weights),
            np.arange(depth, dtype=np.int64) * plane,
            np.where(np.arange(plane) < positions, -1, 0).astype(np.int32),
            np.ones(max(outputs, plane), np.float32),
            np.zeros(outputs, np.float32),
            np.array([-np.inf, np.inf], np.float32),
            room,
        ]
        planes, words, offsets, mask, ones, zeros, bounds, _ = (array.ctypes.data for array in self.kept)
        self.block = row.block(
            x=planes, x_image=0, x_group=0, words=words, row_words=weights.shape[1], depth=depth, offsets=offsets,
            images=1, groups=1, outputs=outputs, positions=positions, out=self.out.ctypes.data, out_image=0,
            out_plane=plane, out_lead=0, mask=mask, scale=ones, bias=zeros, bounds=bounds, steps=ones,
            steps_per_lane=0, scratch=room.ctypes.data + (-room.ctypes.data % 64), scratch_part=share,
        )  # fmt: skip
        self.units = -(-positions // row.lanes) if row.lanes else outputs
        self.entry = row.entry()

    def __call__(self) -> None:
        self.entry(self.block.ctypes.data, 0, self.units, 0)

    def check(self) -> None:
        """The result is numpy's."""
        self()
        apart = np.abs(self.out[:, : self.positions] - self.expected).max()
        assert apart <= 1e-3 * max(1, np.abs(self.expected).max()), apart


def sgemm(depth: int, outputs: int, positions: int) -> Callable[[], object]:
    """numpy's float32 product of the same shape."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((outputs, depth), np.float32), rng.standard_normal((depth, positions), np.float32)
    out = np.empty((outputs, positions), np.float32)
    return lambda: np.matmul(a, b, out=out)


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", default=["vgg"], help="files of benchmarks/shapes  [default: vgg]")
    parser.add_argument("--seconds", type=float, default=0.3, help="for each figure")
    parser.add_argument("--kernel", help="only kernels with this in their name")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = []
    for name in options.shapes:
        for depth, outputs, positions in read_shapes(name):
            for row in PRODUCTS:
                if depth > row.deepest or (options.kernel and options.kernel not in row.name):
                    continue
                call = Call(row, depth, outputs, positions)
                call.check()
                times = take_turns({"ours": call, "sgemm": sgemm(depth, outputs, positions)}, options.seconds)
                ratio = median(b / a for a, b in zip(times["ours"], times["sgemm"], strict=True))
                rate = depth * outputs * positions / median(times["ours"]) / 1e9
                found = {"kernel": row.name, "K": depth, "N": outputs, "P": positions, "gmacs": rate, "sgemm": ratio}
                results.append(found)
                if not options.json:
                    shape = f"K={depth} N={outputs} P={positions}"
                    print(f"{row.name:30} {shape:24} {rate:7.1f} GMAC/s  {ratio:5.2f} x sgemm", flush=True)
    if options.json:
        print(json.dumps({"machine": machine(1), "results": results}, indent=2))


if __name__ == "__main__":
    main()
