"""Audit a defence and its bare classifier on the same images: the two end-to-end worst cases side by side.

python benchmarks/audits.py mnist-thesis quick benchmarks/results/thesis-audit [carso | adversarially_trained]
"""

import sys
from pathlib import Path
from typing import get_args

from carso import data, weights
from carso.audit import audit
from carso.audit.effort import Effort
from carso.audit.subject import load_transfers


def main(name: str, effort: Effort, out: Path, only: list[str]) -> None:
    defence, test = weights.load(name), data.load("mnist", "test")
    transfer = load_transfers(name, "mnist", ())
    for label, subject in (("adversarially_trained", defence.classifier), ("carso", defence)):
        if only and label not in only:
            continue
        found = audit(
            subject, test, effort=effort, eps=(0.15, 0.3), norm="Linf", transfer=transfer, name=label, out=out / label
        )
        for budget in found.budgets:
            print(
                label, budget.title, budget.clean.accuracy, budget.worst_case.accuracy, [c.name for c in found.raised]
            )


if __name__ == "__main__":
    if sys.argv[2] not in get_args(Effort):
        sys.exit(f"the effort must be one of {', '.join(get_args(Effort))}, not {sys.argv[2]!r}")
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
