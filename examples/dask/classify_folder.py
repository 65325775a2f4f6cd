#!/usr/bin/env python3
"""Classify a folder of very many images on Dask: docs/batch-jobs.md.

python examples/dask/classify_folder.py model.bwn photos/ rows/ --workers 8
"""

import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice

from dask.distributed import Client, LocalCluster, as_completed

from bwn.model import Model
from bwn.tools.batch_job import Row, classify, main

WAITING = 3
"""Parts for each worker that are sent before it asks, so that it never waits for the next one."""


def classified(model: Model, parts: Iterator[list[str]], options: Namespace) -> Iterator[list[Row]]:
    """Yield the rows of each part as it is done."""
    local = {"n_workers": options.workers, "threads_per_worker": 1, "dashboard_address": None}
    with (
        nullcontext(options.address) if options.address else LocalCluster(**local) as cluster,
        Client(cluster) as client,
    ):
        # A worker gets the model once, and keeps it with its plans for all of its parts.
        everywhere = client.scatter(model, broadcast=True)
        workers = len(client.nthreads())

        def submit(count: int) -> list:
            return [
                client.submit(classify, everywhere, part, pure=False)
                for part in islice(parts, count)
            ]

        # The scheduler holds a few parts at a time: a million paths would be a large graph.
        running = as_completed(submit(WAITING * workers), with_results=True)
        for _, rows in running:
            yield rows
            running.update(submit(1))


if __name__ == "__main__":
    sys.exit(main("Classify a folder of images on Dask", classified))
