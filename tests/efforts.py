"""Audits of the size of a test, down to those that are no attack to speak of; and their findings without seconds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from carso.audit import Audit
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


def resize(patch: pytest.MonkeyPatch, effort: Effort, **sizes: Any) -> None:
    """Give an effort these sizes."""
    patch.setitem(SIZES, effort, replace(SIZES[effort], **sizes))


def shorten(patch: pytest.MonkeyPatch, *efforts: Effort, **sizes: Any) -> None:
    """Make these efforts tiny, but for some sizes."""
    for effort in efforts:
        resize(patch, effort, **TINY | sizes)


def timeless(result: Audit) -> dict[str, Any]:
    """The audit without its seconds."""
    tree = result.model_dump()
    for budget in tree["budgets"]:
        for attack in budget["attacks"]:
            attack.pop("seconds")
    return tree
