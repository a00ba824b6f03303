"""An audit of the size of a test, and what it raises."""

from __future__ import annotations

from typing import Any

from carso.audit import Audit, audit
from carso.data import Dataset

EPS = 0.15


def run(subject: Any, dataset: Dataset, **options: Any) -> Audit:
    return audit(subject, dataset, **({"effort": "quick", "eps": (EPS,)} | options))


def raised(result: Audit) -> set[str]:
    return {check.name for check in result.checks if check.raised}
