"""What a load generator saw, as one line an interval and a table at the end."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from imbres_gym.live.load import NOT_SENT, Request
from imbres_gym.percentiles import FAILED_MS

PERCENTILES = (50.0, 95.0, 99.0)


def line(requests: Sequence[Request]) -> str:
    """Counts and percentiles in one line; a failed request counts as the slowest, as everywhere in this project."""
    latencies = [request.latency_ms if request.ok else FAILED_MS for request in requests]
    failed = sum(not request.ok for request in requests)
    values = np.percentile(latencies, PERCENTILES) if latencies else [0.0] * len(PERCENTILES)
    shown = [f"p{of:g} {value:7.1f} ms" for of, value in zip(PERCENTILES, values, strict=True)]
    lost = sum(request.code == NOT_SENT for request in requests)
    return f"{len(requests):6} requests, {failed:4} failed, {'  '.join(shown)}" + (f", {lost} not sent" if lost else "")


def summary(requests: Sequence[Request], names: Iterable[str]) -> list[str]:
    """One line for each request class, and one for all."""
    rows = {name: [request for request in requests if request.request_class == name] for name in names}
    rows["all"] = list(requests)
    width = max(map(len, rows))
    return [f"{name:{width}}  {line(row)}" for name, row in rows.items()]


def write_csv(requests: Iterable[Request], file: Path) -> None:
    """Write one row a request, in the order in which they were due."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as output:
        rows = csv.writer(output)
        rows.writerow(["due_s", "request_class", "latency_ms", "code"])
        for request in sorted(requests, key=lambda request: request.due_s):
            rows.writerow([f"{request.due_s:.6f}", request.request_class, f"{request.latency_ms:.3f}", request.code])
