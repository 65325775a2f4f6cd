"""Random networks between forbidden pages, in poisoned memory: no wild access, the same answers.

A wild access ends the process, so the networks run in one of their own, which names the seed first.
By hand: BWN_SEED=7 BWN_COUNT=1 python tests/robustness/guarded_networks.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SEED = int(os.environ.get("BWN_SEED", "0"))
COUNT = int(os.environ.get("BWN_COUNT", "400"))


def networks(**environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(HERE / "guarded_networks.py")]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    )


def test_random_networks_between_forbidden_pages() -> None:
    done = networks(BWN_SEED=str(SEED), BWN_COUNT=str(COUNT))
    last = done.stdout.splitlines()[-1:]
    assert done.returncode == 0, (
        f"exit {done.returncode} at {last}; repeat: BWN_SEED=<that> BWN_COUNT=1 "
        f"python tests/robustness/guarded_networks.py\n{done.stderr[-2000:]}"
    )


@pytest.mark.parametrize("fault", ["read", "write", "shift"])
def test_a_wild_access_is_found(fault: str) -> None:
    done = networks(BWN_SEED="0", BWN_COUNT="12", BWN_FAULT=fault)
    assert done.returncode != 0, done.stdout[-2000:]
    expected = {
        "read": "Segmentation fault",
        "write": "outside of an arena",
        "shift": "Arrays are not",
    }
    assert expected[fault] in done.stderr, done.stderr[-2000:]


def test_the_page_beside_an_array_is_forbidden() -> None:
    script = (
        "import ctypes, faulthandler, sys; sys.path.insert(0, sys.argv[1]); faulthandler.disable()\n"
        "from guarded import guarded\n"
        "a = guarded(100, sys.argv[2]); ctypes.string_at(a.ctypes.data, 100)\n"
        "print('ready', flush=True)\n"
        "ctypes.string_at(a.ctypes.data + (100 if sys.argv[2] == 'after' else -1), 1)"
    )
    for side in ("before", "after"):
        command = [sys.executable, "-c", script, str(HERE), side]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.stdout, done.returncode) == ("ready\n", -11)
