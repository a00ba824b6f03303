"""How often the early stops answer otherwise than the full vote, row by row of the thesis's table.

disagreement = #{i : y_confident(x_i) != y_1500(x_i)} / n        the same latents; the confident vote sees fewer
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from carso.data import Dataset
from carso.defence import CARSO
from carso.evaluation.examples import AdversarialExamples
from carso.evaluation.interval import wilson
from carso.evaluation.protocol import THESIS, Row
from carso.progress import track
from carso.report import wording


@dataclass(frozen=True)
class Agreement:
    """Of one row: images, how many the confident stop answers otherwise, and the samples that it took on average."""

    attack: str
    n: int
    otherwise: int
    samples: float


def agreement(defence: CARSO, test: Dataset, seed: int = 0) -> dict[str, object]:
    """The confident stop beside the full vote on every row, as JSON; the rows in percent of all their images."""
    craft = AdversarialExamples(seed)
    rows = [_row(defence, test, row, craft) for row in track(THESIS, "confident stop and full vote")]
    n, otherwise = sum(row.n for row in rows), sum(row.otherwise for row in rows)
    low, high = wilson(otherwise, n)
    return {
        "rows": [asdict(row) for row in rows],
        "n": n,
        "otherwise": otherwise,
        "percent": 100 * otherwise / n,
        "low": low,
        "high": high,
        "error": defence.error,
        "seed": seed,
    }


def _row(defence: CARSO, test: Dataset, row: Row, craft: AdversarialExamples) -> Agreement:
    images = craft(row, defence.classifier, test.images, test.required_labels, 0)
    full = defence.poll(images, stop="never", generator=torch.Generator().manual_seed(craft.seed))
    early = defence.poll(images, stop="confident", generator=torch.Generator().manual_seed(craft.seed))
    otherwise = int((full.winners != early.winners).sum())
    return Agreement(wording.named(row), len(images), otherwise, float(early.samples.float().mean()))
