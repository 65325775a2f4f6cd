#!/usr/bin/env python3
"""Classify a folder of very many images on Dask: docs/batch-jobs.md.

python examples/dask/classify_folder.py model.bwn photos/ rows/ --workers 8
"""

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice

from dask.distributed import Client, LocalCluster, as_completed

from bwn.cli.batch_job import Options, program
from bwn.model import Model
from bwn.tools.batch_job import Row, classify

WAITING = 3
"""Parts that each worker has at a time, so that it never waits for the next one."""


def classified(model: Model, parts: Iterator[list[str]], options: Options) -> Iterator[list[Row]]:
    """Yield the rows of each part as it is done."""
    local = {"n_workers": options.workers, "threads_per_worker": 1, "dashboard_address": None}
    with (
        nullcontext(options.address) if options.address else LocalCluster(**local) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(1)
        # A worker gets the model once, and keeps it with its plans for all of its parts.
        everywhere = client.scatter(model, broadcast=True)
        running = as_completed(with_results=True)

        def send() -> None:  # a few parts at a time: a million paths would be a large graph
            room = WAITING * max(len(client.nthreads()), 1) - running.count()
            for part in islice(parts, room):
                running.add(client.submit(classify, everywhere, part, pure=False))

        send()
        for _, rows in running:
            yield rows
            send()


if __name__ == "__main__":
    program("Dask", classified)
