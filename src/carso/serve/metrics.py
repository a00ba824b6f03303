"""What the service has done, counted, in the text format of Prometheus.

    carso_requests_total{status}    requests to /predict by the status of their answer; 499 where who asked left before
    carso_request_seconds           time until the answer, of those with status 200
    carso_batch_images              images per batch
    carso_batch_seconds             time that a batch took to compute
    carso_images_total, carso_disagreements_total    images answered; those on which N alone says another class
    carso_queue                     requests that are in now

Source: https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from carso.serve.answering import Answer

TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
IMAGES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
LEFT = 499


class Histogram:
    """How many observations were at most as large as each bound.

    Args:
        bounds: ascending.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds, self.counts, self.sum = bounds, [0] * (len(bounds) + 1), 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self, name: str, help_: str) -> list[str]:
        """In the text format."""
        lines, below = _head(name, "histogram", help_), 0
        for bound, count in zip([*(f"{bound:g}" for bound in self.bounds), "+Inf"], self.counts, strict=True):
            below += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {below}')
        return [*lines, f"{name}_sum {self.sum}", f"{name}_count {below}"]


class Metrics:
    """All counts of a service."""

    def __init__(self) -> None:
        self.requests: Counter[int] = Counter()
        self.images = self.disagreements = 0
        self.request_seconds, self.batch_seconds = Histogram(SECONDS), Histogram(SECONDS)
        self.batch_images = Histogram(IMAGES)

    def batch(self, images: int, seconds: float) -> None:
        """Count a batch."""
        self.batch_images.observe(float(images))
        self.batch_seconds.observe(seconds)

    def request(self, status: int, seconds: float) -> None:
        """Count a request."""
        self.requests[status] += 1
        if status == 200:
            self.request_seconds.observe(seconds)

    def answered(self, answers: Sequence[Answer]) -> None:
        """Count answers."""
        self.images += len(answers)
        self.disagreements += sum(bool(answer.disagrees) for answer in answers)

    def text(self, queue: int) -> str:
        """In the text format, with the requests that are in now."""
        statuses = [f'carso_requests_total{{status="{code}"}} {n}' for code, n in sorted(self.requests.items())]
        lines = [
            *_head("carso_requests_total", "counter", "Requests to /predict by status."),
            *statuses,
            *self.request_seconds.lines("carso_request_seconds", "Seconds until an answer with status 200."),
            *self.batch_images.lines("carso_batch_images", "Images per batch."),
            *self.batch_seconds.lines("carso_batch_seconds", "Seconds that a batch took to compute."),
            *_head("carso_images_total", "counter", "Images answered."),
            f"carso_images_total {self.images}",
            *_head("carso_disagreements_total", "counter", "Images on which the classifier alone says another class."),
            f"carso_disagreements_total {self.disagreements}",
            *_head("carso_queue", "gauge", "Requests that are in now."),
            f"carso_queue {queue}",
        ]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, help_: str) -> list[str]:
    return [f"# HELP {name} {help_}", f"# TYPE {name} {kind}"]


class Measured:
    """An application whose requests to one path are counted.

    Args:
        app: what is measured.
        metrics: what counts.
        path: of the requests.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, path: str) -> None:
        self.app, self.metrics, self.path = app, metrics, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count it when it is through."""
        if scope["type"] != "http" or scope["path"] != self.path:
            return await self.app(scope, receive, send)
        status, began = LEFT, time.perf_counter()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            self.metrics.request(status, time.perf_counter() - began)
