"""The counts, in the text format of Prometheus."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("starlette")

from carso.serve.answering import Answer
from carso.serve.metrics import Histogram, Metrics


def test_a_histogram_counts_up_to_each_bound() -> None:
    histogram = Histogram((1.0, 2.5))
    for value in (0.5, 1.0, 2.0, 2.5, 7.0):
        histogram.observe(value)
    assert histogram.lines("h", "Help.") == [
        "# HELP h Help.",
        "# TYPE h histogram",
        'h_bucket{le="1"} 2',
        'h_bucket{le="2.5"} 4',
        'h_bucket{le="+Inf"} 5',
        "h_sum 13.0",
        "h_count 5",
    ]


def test_a_large_sum_still_grows() -> None:
    histogram = Histogram((1.0,))
    histogram.sum = 123_456_789.0
    histogram.observe(0.25)
    assert "h_sum 123456789.25" in histogram.lines("h", "Help.")


def test_every_line_is_of_the_format_and_every_metric_has_its_type() -> None:
    metrics = Metrics()
    metrics.request(200, 0.02)
    metrics.request(200, 0.2)
    metrics.request(503, 0.001)
    metrics.batch(3, 0.05)
    metrics.answered([Answer(0, (1.0,), 5, alone=0), Answer(0, (1.0,), 5, alone=1), Answer(0, (1.0,), 5)])
    text = metrics.text(queue=4)
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r'[a-z_]+(\{[a-z]+="[^"]+"\})? [-+.e\d]+', line) for line in samples)
    typed = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    assert {re.sub(r"_(bucket|sum|count)$", "", line.split("{")[0].split()[0]) for line in samples} == typed
    for line in (
        'carso_requests_total{status="200"} 2',
        'carso_requests_total{status="503"} 1',
        "carso_request_seconds_count 2",
        "carso_images_total 3",
        "carso_disagreements_total 1",
        "carso_batch_images_sum 3.0",
        "carso_queue 4",
    ):
        assert line in samples
    assert text.endswith("\n")
