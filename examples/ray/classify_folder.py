#!/usr/bin/env python3
"""Classify a folder of very many images on Ray Data: docs/batch-jobs.md.

python examples/ray/classify_folder.py model.bwn photos/ rows/ --workers 8
"""

import json
import logging
import os
from collections.abc import Iterator

import numpy as np
import ray
from ray.data import ActorPoolStrategy, DataContext

from bwn.cli.batch_job import Options, program
from bwn.model import Model
from bwn.tools.batch_job import Row, classify


class Classifier:
    """An actor, one for each worker: it gets the model once, and keeps it with its plans."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        """Rows as JSON, as their columns differ, of paths as bytes, as names need not be UTF-8."""
        rows = classify(self.model, [os.fsdecode(path) for path in batch["path"]])
        return {"row": [json.dumps(row) for row in rows]}


def classified(model: Model, parts: Iterator[list[str]], options: Options) -> Iterator[list[Row]]:
    """Yield rows as they are done, as many as a part has."""
    ray.init(
        address=options.address,
        num_cpus=None if options.address else options.workers,
        include_dashboard=False,
        logging_level=logging.WARNING,
    )
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    DataContext.get_current().enable_progress_bars = False
    paths = [{"path": os.fsencode(path)} for part in parts for path in part]
    rows = ray.data.from_items(
        paths, override_num_blocks=-(-len(paths) // options.part)
    ).map_batches(
        Classifier,
        batch_size=options.part,
        fn_constructor_args=[model],
        compute=ActorPoolStrategy(size=options.workers),
        num_cpus=1,
    )
    for batch in rows.iter_batches(batch_size=options.part, batch_format="numpy"):
        yield [json.loads(row) for row in batch["row"]]


if __name__ == "__main__":
    program("Ray", classified)
