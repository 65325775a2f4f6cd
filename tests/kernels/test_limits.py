"""A container's quotas are limits, whatever the version of its control groups."""

from __future__ import annotations

import os

import pytest

from bwn.kernels.target import limits


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 8 CPUs with 4 GB free; gives a function that adds its files."""
    monkeypatch.setattr(limits, "PROC", tmp_path / "proc")
    monkeypatch.setattr(limits, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)

    def add(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(text))

    add("proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\n")
    return add


def test_without_groups_the_machine_is_the_limit(machine):
    assert limits.available_threads() == 8
    assert limits.available_memory() == 4_096_000_000


@pytest.mark.parametrize(
    ("quota", "threads"),
    [
        ("max 100000", 8),
        ("50000 100000", 1),
        ("100000 100000", 1),
        ("150000 100000", 2),
        ("9000000 100000", 8),
    ],
)
def test_version_2_quotas(machine, quota, threads):
    machine("proc/self/cgroup", "0::/\n")
    machine("cgroup/cpu.max", quota)
    assert limits.available_threads() == threads


def test_the_tightest_group_around_the_process_counts(machine):
    machine("proc/self/cgroup", "0::/slice/job\n")
    machine("cgroup/slice/cpu.max", "300000 100000")
    machine("cgroup/slice/job/cpu.max", "max 100000")
    machine("cgroup/slice/memory.max", "1000")
    machine("cgroup/slice/memory.current", "400")
    machine("cgroup/slice/job/memory.max", "max")
    machine("cgroup/slice/job/memory.current", "100")
    assert limits.available_threads() == 3
    assert limits.available_memory() == 600


def test_cached_files_are_no_limit(machine):
    machine("proc/self/cgroup", "0::/\n")
    machine("cgroup/memory.max", "5000")
    machine("cgroup/memory.current", "4900")
    machine("cgroup/memory.stat", "anon 900\ninactive_file 4000\nactive_file 0\n")
    assert limits.available_memory() == 4100


def test_version_1_quotas(machine):
    machine("proc/self/cgroup", "4:memory:/box\n3:cpu,cpuacct:/box\n2:pids:/box\n0::/\n")
    machine("cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "250000")
    machine("cgroup/cpu,cpuacct/box/cpu.cfs_period_us", "100000")
    machine("cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1")
    machine("cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000")
    machine("cgroup/memory/box/memory.limit_in_bytes", "5000")
    machine("cgroup/memory/box/memory.usage_in_bytes", "6000")
    assert limits.available_threads() == 3
    assert limits.available_memory() == 0


def test_version_1_folders_may_have_another_name_than_the_group(machine):
    machine("proc/self/cgroup", "3:cpuacct,cpu:/box\n")  # as CentOS 7 has it, next to cpu,cpuacct
    machine("cgroup/cpu/box/cpu.cfs_quota_us", "250000")
    machine("cgroup/cpu/box/cpu.cfs_period_us", "100000")
    assert limits.available_threads() == 3


def test_odd_groups_are_no_error(machine):
    machine("proc/self/cgroup", "0::/\udcff\u00e9\n1:cpu:/box\n")
    machine("cgroup/\udcff\u00e9/cpu.max", "300000 100000")
    machine("cgroup/cpu/box/cpu.cfs_quota_us", "50000")  # its period cannot be read
    machine("cgroup/memory.max", "5000")
    machine("cgroup/memory.current", "4900")
    machine("cgroup/memory.stat", "\ninactive_file 50\n")
    assert limits.available_threads() == 3
    assert limits.available_memory() == 150
