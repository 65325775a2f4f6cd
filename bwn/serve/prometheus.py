"""What a service has done, in Prometheus's text format (version 0.0.4)."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Histogram:
    """Counts of values up to each bound, their sum and their number."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self, name: str) -> Iterator[str]:
        """The samples; each bucket counts all values up to its bound."""
        total = 0
        for bound, count in zip([*self.bounds, "+Inf"], self.counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self.sum:.9g}"
        yield f"{name}_count {total}"


class Metrics:
    """What a service counts. Only the thread of its event loop changes it.

    Attributes:
        requests: Answers by HTTP status, of all paths.
        images: Images by what became of them: `classified` or `refused`.
        seconds: Time from the headers of a request to classify until its answer.
        batches: Images of each run of the network.
    """

    def __init__(self) -> None:
        self.requests: Counter[int] = Counter()
        self.images: Counter[str] = Counter(classified=0, refused=0)
        self.seconds = Histogram(SECONDS)
        self.batches = Histogram(IMAGES)

    def text(self, queue: int) -> str:
        """All samples. queue: images that are being read, decoded, waiting or run."""
        requests = (f'bwn_requests_total{{status="{s}"}} {n}' for s, n in self.requests.items())
        images = (f'bwn_images_total{{result="{r}"}} {n}' for r, n in self.images.items())
        sections = [
            ("bwn_requests_total", "counter", "Answers by HTTP status.", requests),
            ("bwn_images_total", "counter", "Images classified and refused.", images),
            ("bwn_request_seconds", "histogram", "Time to answer a request to classify.",
             self.seconds.lines("bwn_request_seconds")),
            ("bwn_batch_images", "histogram", "Images of each run of the network.",
             self.batches.lines("bwn_batch_images")),
            ("bwn_queue_images", "gauge", "Images received and not yet answered.",
             [f"bwn_queue_images {queue}"]),
        ]  # fmt: skip
        lines = []
        for name, kind, purpose, samples in sections:
            lines += [f"# HELP {name} {purpose}", f"# TYPE {name} {kind}", *samples]
        return "\n".join(lines) + "\n"
