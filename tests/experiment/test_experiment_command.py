"""`bwn experiment`: what it prints, writes and refuses, with its worker processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from bwn.cli.main import bwn
from bwn.experiment import worker_pool
from bwn.experiment.jobs import ExperimentRequest, plan
from bwn.experiment.record import add_record, read_records
from bwn.experiment.run_job import perform
from bwn.train import read_checkpoint
from bwn.train.device import fast_precision

OPTIONS = (
    "--width",
    8,
    "--batch-size",
    10,
    "--lr",
    0.01,
    "--threads",
    1,
    "--seeds",
    1,
    "--first-seed",
    3,
)


def run(*args):
    return CliRunner().invoke(bwn, [str(arg) for arg in args])


def test_ctrl_c_stops_all_jobs_and_the_same_command_ends_as_one_that_was_not_stopped(
    shapes, tmp_path
):
    out, epochs = tmp_path / "out", 60
    command = ["experiment", "paper", "--data", shapes, "--out", out, *OPTIONS, "--epochs", epochs]
    command += ["--schemes", "float,margin"]
    words = [str(part) for part in (sys.executable, "-m", "bwn.cli", *command, "--json")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        first = json.loads(process.stdout.readline())
        log = out / "runs" / "margin-seed3.jsonl"
        while not log.exists() or log.read_bytes().count(b"\n") < 5:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        last = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == 130
    assert (first["event"], first["name"], first["test_images"]) == ("run", "float-seed3", 30)
    assert last == {"event": "stopped", "done": 1, "runs": 2}
    assert not (out / "table.md").exists()
    assert 4 * 8 <= read_checkpoint(out / "runs" / "margin-seed3.pt").training["step"] < 60 * 8

    result = run(*command)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "2 runs, 1 of them done; 1 at a time, 1 thread each"
    assert lines[1].startswith("2/2  margin-seed3: test error ")
    assert "margin minus scheme" in lines[3]
    assert result.stdout.endswith(f"Wrote table.md, errors.svg, weights.svg in {out}.\n")

    (tmp_path / "whole" / "runs").mkdir(parents=True)
    chosen = {"epochs": epochs, "batch_size": 10, "learning_rate": 0.01, "augment": "none"}
    chosen["precision"] = fast_precision()
    _, jobs = plan(
        ExperimentRequest(str(shapes), ("float", "margin"), (3,), width=8, chosen=chosen),
        tmp_path / "whole",
        1,
    )
    assert by_name(read_records(out)) == by_name(perform(job, lambda _: None) for job in jobs)


def by_name(records):
    """What records say, but for the seconds."""
    return {
        record.name: msgspec.json.encode(msgspec.structs.replace(record, seconds=0))
        for record in records
    }


def test_a_run_that_fails_is_reported_and_the_others_are_done(shapes, tmp_path):
    out = tmp_path / "out"
    (out / "runs").mkdir(parents=True)
    (out / "runs" / "margin-seed3.pt").write_bytes(b"not a checkpoint")
    command = (
        "experiment",
        "paper",
        "--data",
        shapes,
        "--out",
        out,
        *OPTIONS,
        "--epochs",
        1,
        "--jobs",
        2,
    )
    result = run(*command, "--schemes", "margin,float")
    assert result.exit_code == 1
    failed, last = result.stderr.splitlines()
    assert failed.startswith("margin-seed3 failed: ")
    assert failed.endswith("margin-seed3.pt: a text file, not a checkpoint")
    assert last == "Error: 1 of 2 runs failed; run the command again to retry"
    assert [record.scheme for record in read_records(out)] == ["float"]
    assert (out / "table.md").exists()


def test_a_worker_that_is_killed_is_a_failed_run(planned, tmp_path, monkeypatch):
    _, jobs = planned(epochs=100_000)
    monkeypatch.setattr(worker_pool, "POLL_SECONDS", 0.01)
    events = []

    def on_event(job, event):
        events.append((job.name, event.failed))
        if event.progress is not None:
            (child,) = children()
            os.kill(child, signal.SIGKILL)

    worker_pool.run_jobs(jobs, 1, os.open(tmp_path, os.O_RDONLY), tmp_path / "out", on_event)
    assert events[-1] == ("stochastic-seed0", "its process ended with exit code -9")


def children():
    """Processes that this one has started and that run the worker."""
    pids = []
    for task in os.listdir("/proc/self/task"):
        pids += [
            int(number) for number in Path(f"/proc/self/task/{task}/children").read_text().split()
        ]
    return [
        pid for pid in pids if b"bwn.experiment.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def test_report_makes_the_table_again(tmp_path, made_up):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        add_record(tmp_path / folder, made_up("margin", 0, 0.25))
    result = run("experiment", "report", tmp_path / "a")
    assert result.exit_code == 0, result.output
    assert "\nmargin     1         25.00" in result.stdout
    assert "margin" in (tmp_path / "a" / "table.md").read_text()
    result = run(
        "experiment", "report", tmp_path / "a", tmp_path / "b", "--out", tmp_path, "--json"
    )
    (line,) = result.stdout.splitlines()
    event = json.loads(line)
    assert [row["name"] for row in event["rows"]] == ["a: margin", "b: margin"]
    assert event["rows"][1]["less"]["mean"] == 0
    assert event["rows"][0]["test"]["mean"] == 0.25


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("paper", "--data", "nowhere", "--out", "x"), 3, "no such folder: nowhere"),
        (("paper", "--data", "mnist-sample"), 2, "Missing option '--out'"),
        (
            ("paper", "--data", "mnist-sample", "--out", "x", "--schemes", "margin,tern"),
            2,
            "'tern' is not one of",
        ),
        (
            ("paper", "--data", "mnist-sample", "--out", "x", "--lambdas", "1e-3,no"),
            2,
            "'no' is not a valid number",
        ),
        (
            ("paper", "--data", "mnist-sample", "--out", "x", "--lr", "0"),
            2,
            "Invalid value for '--lr'",
        ),
        (
            ("paper", "--data", "mnist-sample", "--out", "x", "--width", "-1"),
            2,
            "Invalid value for '--width'",
        ),
        (("report", "nowhere"), 3, "nowhere: has no finished run: no line in results.jsonl"),
        (("report", "a", "b"), 2, "Missing option '--out'"),
        (("fly",), 2, "No such command 'fly'"),
    ],
)
def test_wrong_usage_is_one_line(args, code, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("experiment", *args)
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


def test_other_settings_are_refused_before_anything_runs(shapes, tmp_path):
    out = tmp_path / "out"
    (out / "runs").mkdir(parents=True)
    command = (
        "experiment",
        "paper",
        "--data",
        shapes,
        "--out",
        out,
        *OPTIONS,
        "--schemes",
        "float",
        "--epochs",
    )
    assert run(*command, 1).exit_code == 0
    before = (out / "results.jsonl").read_bytes()
    result = run(*command, 2)
    assert result.exit_code == 3
    words = "was made with --epochs 1, not 2: choose another folder, or the same value"
    assert result.stderr == f"Error: {out}: {words}\n"
    assert (out / "results.jsonl").read_bytes() == before
    result = run(*command, 1)
    assert result.exit_code == 0
    assert result.stdout.startswith("1 run, 1 of them done"), "and nothing is done twice"
    assert (out / "results.jsonl").read_bytes() == before
