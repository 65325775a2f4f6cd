"""`bwn experiment paper` without its command line: plan the runs and do those that are missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bwn.experiment.jobs import ExperimentRequest, Job, locked, plan, unfinished
from bwn.experiment.worker import Event
from bwn.experiment.worker_pool import run_jobs
from bwn.kernels.target.limits import available_threads
from bwn.train.device import CPU, find_precision


def run_paper(
    request: ExperimentRequest,
    folder: Path,
    *,
    at_once: int,
    threads: int | None,
    begin: Callable[[int, int, int], None],
    on_event: Callable[[Job, Event], None],
) -> None:
    """Do the runs of an experiment that its folder has no record of.

    Args:
        request: What is asked for; `precision` may be `auto`.
        folder: Where checkpoints and records go.
        at_once: Runs at the same time.
        threads: Threads that they share; None: every core available.
        begin: Called once with the number of runs, of those already done, and of threads per run.
        on_event: Called with every event of every run.

    Raises:
        BwnError: The request is refused, or the folder is in use or has other settings.
    """
    share = max(1, (threads or available_threads()) // at_once)
    precision = find_precision(request.chosen.get("precision"), CPU)
    request = replace(request, chosen={**request.chosen, "precision": precision})
    basis, jobs = plan(request, folder, share)
    with locked(folder, basis) as lock:
        missing = unfinished(jobs, folder)
        begin(len(jobs), len(jobs) - len(missing), share)
        run_jobs(missing, at_once, lock, folder, on_event)
