"""What a defence keeps above its classifier, image by image, by the states that both audits left in their folders.

    python -m benchmarks.runs.gains "CIFAR-10: `cifar10`" out/audit-cifar10 out/audit-cifar10-classifier

Adds to benchmarks/results/gains.json, which `python -m benchmarks.docs.results` shows.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from torch import Tensor

from carso.audit import Audit, read_audit
from carso.audit.keeping import left
from carso.audit.results import BudgetResult
from carso.errors import RunError
from carso.evaluation.interval import paired
from carso.storage.files import write_text
from carso.types import Budget

RESULTS = Path(__file__).parents[1] / "results" / "gains.json"


def gains(name: str, defence: Path, classifier: Path) -> list[dict[str, Any]]:
    """Of every radius: how many images either keeps, how many it alone, and the 95 % interval of the gain in points.

    Raises:
        RunError: if the audits are of other images, did not try as hard, or are not those of the states beside them.
    """
    ours, theirs = read_audit(defence), read_audit(classifier)
    if _of(ours) != _of(theirs):
        raise RunError(f"audits that are not alike: {_of(ours)} and {_of(theirs)}")
    rows = []
    for found, bare in zip(ours.budgets, theirs.budgets, strict=True):
        kept, without = _kept(defence, found), _kept(classifier, bare)
        low, high = paired(kept, without)
        rows.append({
            "name": name,
            "norm": found.norm,
            "eps": found.eps,
            "n": ours.n,
            "effort": ours.effort,
            "defence": int(kept.sum()),
            "classifier": int(without.sum()),
            "only_defence": int((kept & ~without).sum()),
            "only_classifier": int((without & ~kept).sum()),
            "gain": [round(low, 4), round(high, 4)],
        })  # fmt: skip
    return rows


def _kept(folder: Path, found: BudgetResult) -> Tensor:
    """Which images (n,) the state in a folder leaves, as many as its audit tells."""
    images = left(folder, Budget(found.norm, found.eps))
    if int(images.sum()) != found.worst_case.correct:
        raise RunError(f"{folder}: the state leaves {int(images.sum())} images, its audit {found.worst_case.correct}")
    return images


def _of(audit: Audit) -> tuple[object, ...]:
    return audit.dataset, audit.n, audit.seed, audit.effort, tuple(budget.title for budget in audit.budgets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the defence, as the table has it")
    parser.add_argument("defence", type=Path, help="folder of its audit")
    parser.add_argument("classifier", type=Path, help="folder of its classifier's, on the same images")
    given = parser.parse_args()
    before = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    found = gains(given.name, given.defence, given.classifier)
    replaced = {(row["name"], row["norm"], row["eps"]) for row in found}
    kept = [row for row in before if (row["name"], row["norm"], row["eps"]) not in replaced]
    write_text(RESULTS, json.dumps([*kept, *found], indent=1) + "\n")


if __name__ == "__main__":
    main()
