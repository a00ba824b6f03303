"""The audit beside AutoAttack, from what `benchmarks/runs/proof.py` left of each share of the test images."""

from __future__ import annotations

import json
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

from carso.comparison.study import read_study
from carso.evaluation.results import Rate
from carso.report.wording import interval, percent

OF = 10_000
"""Images of AutoAttack's table."""


def proof(folder: Path) -> str:
    """Each share and their sum: what the audit leaves, AutoAttack of some of the same images, and their times.

    Raises:
        ValueError: if shares of different sizes overlap, which would count images twice.
    """
    found = (json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*/proof.json"))
    shares = sorted(found, key=itemgetter("first"))
    if any(share["first"] + share["n"] > after["first"] for share, after in pairwise(shares)):
        raise ValueError(f"{folder}: some images are in two shares")
    n, left, seconds = (sum(share[key] for share in shares) for key in ("n", "left", "seconds"))
    raced = [share["autoattack"] for share in shares if "autoattack" in share]
    lines = [
        "## The audit and AutoAttack",
        "",
        "The CNN trained by others (`benchmarks.own.strangers:public`) at L∞ 0.3, by `carso audit --effort standard`,",
        "share by share of the test images (`python -m benchmarks.runs.proof`). AutoAttack `standard`, by its",
        "published code, attacks the first images of a share again. One thread; seconds are the processor's.",
        "",
        "| images | n | left by the audit | s an image |",
        "| --- | ---: | ---: | ---: |",
        *(
            f"| {share['first']:,} to {share['first'] + share['n'] - 1:,} | {share['n']:,} | "
            f"{_rate(share['left'], share['n'])} | {share['seconds'] / share['n']:.2f} |"
            for share in shares
        ),
        f"| **all of these** | {n:,} | {_rate(left, n)} | {seconds / n:.2f} |",
        f"| by AutoAttack's table, all test images | {OF:,} | {_rate(published(), OF)} |  |",
        "",
    ]
    return "\n".join([*lines, *(_beside(raced) if raced else ())])


def published() -> int:
    """How many images AutoAttack's table leaves of the same network, as the study of rivals has it."""
    (claim,) = read_study("rivals").entries["trades"].published
    assert claim.left is not None
    return round(claim.left / 100 * OF)


def _beside(raced: list[dict[str, Any]]) -> list[str]:
    n, left, ours, only_ours, only_theirs, seconds = (
        sum(each[key] for each in raced)
        for key in ("n", "left", "left_by_audit", "only_audit", "only_autoattack", "seconds")
    )
    return [
        f"Of {n:,} of these images AutoAttack leaves {left:,} here, in {seconds / n:.2f} s each, the audit {ours:,}. "
        f"Broken by the audit alone: {only_ours:,}; by AutoAttack alone: {only_theirs:,}.",
        "",
    ]


def _rate(correct: int, total: int) -> str:
    rate = Rate.of(correct, total)
    return f"{percent(rate)} {interval(rate)}"
