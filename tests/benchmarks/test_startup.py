"""What `compare_networks.py --startup` starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from comparison import startup
from engines.case import Case

from bwn.tools.random_networks import NETWORKS


@pytest.mark.parametrize(
    ("network", "kinds"),
    [("mlp", ["float32", "int8"]), ("vgg-sign", ["float32"])],
)
def test_ncnn_gets_files_of_each_kind_that_it_computes(
    tmp_path: Path, network: str, kinds: list[str]
) -> None:
    files = startup.ncnn_files(Case(network, NETWORKS[network](0), 1, 1), tmp_path)
    assert [(engine, kind) for engine, kind, _ in files] == [("ncnn", kind) for kind in kinds]
    paths = [path for _, _, some in files for path in some]
    assert len(set(paths)) == 2 * len(kinds)
    assert all(path.stat().st_size for path in paths)


def test_a_fresh_process_runs_each_file_of_bwn(tmp_path: Path) -> None:
    case = Case("mlp", NETWORKS["mlp"](0), 1, 1)
    files = [each for each in startup.write_files(case, tmp_path) if each[0] == "bwn"]
    assert [kind for _, kind, _ in files] == ["float32", "int8"]
    began = startup.start_up("mlp", *files[1])
    assert began.seconds > 0
    assert began.peak_mb > 10
