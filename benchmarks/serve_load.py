"""Requests a second and latencies of `bwn serve` on loopback, next to `bwn bench`.

python benchmarks/serve_load.py MODEL IMAGE [--clients 1 8 64] [--seconds 3] [--threads 1] [--json]

Each client keeps one connection and sends IMAGE as soon as it has its answer. Clients run in this
process and share the CPU with the service; they send prepared bytes and parse nothing but the
answer's length and status.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


async def client(port: int, request: bytes, end: float) -> tuple[list[float], int]:
    """Send requests until `end`. Returns their times in seconds, and how many failed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    seconds, failed = [], 0
    while (start := time.perf_counter()) < end:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(head)
        assert length is not None
        await reader.readexactly(int(length[1]))
        seconds.append(time.perf_counter() - start)
        if not head.startswith(b"HTTP/1.1 200"):
            failed += 1
            break  # a refusal ends the connection
    writer.close()
    return seconds, failed


async def load(port: int, image: bytes, clients: int, seconds: float) -> dict[str, Any]:
    """Figures of `clients` at a time."""
    head = f"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: {len(image)}\r\n\r\n"
    start = time.perf_counter()
    runs = [client(port, head.encode() + image, start + seconds) for _ in range(clients)]
    results = await asyncio.gather(*runs)
    elapsed = time.perf_counter() - start
    times = np.concatenate([times for times, _ in results]) * 1e3
    return {
        "clients": clients,
        "requests_per_s": len(times) / elapsed,
        "p50_ms": float(np.percentile(times, 50)),
        "p99_ms": float(np.percentile(times, 99)),
        "failed": sum(failed for _, failed in results),
    }


def batches(port: int) -> tuple[float, float]:
    """Images and runs so far."""
    from urllib.request import urlopen

    text = urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    return float(samples["bwn_batch_images_sum"]), float(samples["bwn_batch_images_count"])


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Start the service and load it with each number of clients."""
    command = [sys.executable, "-m", "bwn", "serve", str(options.model), "--port", "0"]
    command += ["--threads", str(options.threads)]
    service = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert service.stderr is not None
    try:
        lines = (re.search(r"listening on \S+:(\d+)", line) for line in service.stderr)
        match = next(filter(None, lines), None)
        if match is None:
            sys.exit("the service did not start")
        port, image, rows = int(match[1]), options.image.read_bytes(), []
        asyncio.run(load(port, image, 1, 0.5))  # warm
        for clients in options.clients:
            images, runs = batches(port)
            row = asyncio.run(load(port, image, clients, options.seconds))
            after = batches(port)
            row["images_per_run"] = (after[0] - images) / max(after[1] - runs, 1)
            rows.append(row)
        return rows
    finally:
        service.terminate()
        service.wait()


def bench(options: argparse.Namespace) -> dict[int, float]:
    """Images a second of the network alone, by batch size."""
    command = [sys.executable, "-m", "bwn", "bench", str(options.model), "--no-compare", "--json"]
    command += ["--threads", str(options.threads), "--seconds", str(options.seconds)]
    report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return {row["batch"]: row["images_per_s"] for row in report["results"][0]["timings"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows, speed = measure(options), bench(options)
    if options.json:
        print(json.dumps({"service": rows, "bench_images_per_s": speed}, indent=2))
        return
    print("clients  requests/s  p50 ms  p99 ms  images a run  failed")
    for row in rows:
        print(
            f"{row['clients']:7}  {row['requests_per_s']:10,.0f}  {row['p50_ms']:6.2f}  "
            f"{row['p99_ms']:6.2f}  {row['images_per_run']:12.1f}  {row['failed']:6}"
        )
    for batch, images in speed.items():
        print(f"bwn bench, batch {batch}: {images:,.0f} images/s")


if __name__ == "__main__":
    main()
