"""Audits that are no attack to speak of, for tests of what is around them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from carso.audit.effort import SIZES, Effort

TINY: dict[str, Any] = {
    "n": 6,
    "tuning": 2,
    "eot": (1,),
    "steps": (2,),
    "restarts": (1, 1),
    "neighbours": (1, 1),
    "other": (1, 1),
    "long": (2, 1),
    "unbounded": 2,
    "plain": 2,
    "deepfool": 0,
    "queries": 3,
    "spsa": (1, 1),
    "spsa_images": 1,
    "votes_queries": 0,
    "rivals": 1,
    "aggregates": 1,
    "draws": 1,
}


def shorten(patch: pytest.MonkeyPatch, *efforts: Effort, **sizes: Any) -> None:
    """Make these efforts tiny, but for some sizes."""
    for effort in efforts:
        patch.setitem(SIZES, effort, replace(SIZES[effort], **TINY | sizes))
