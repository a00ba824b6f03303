"""Write docs/experiments.md from benchmarks/results/trials/trials.json.

python -m benchmarks.docs.experiments
"""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "experiments.md"
HEAD = """# Experiments

This page lists what was tried on the way to the recipes, failures included. Every figure is an accuracy (%) on
held-out training images, never on test images, and served to choose; the audits in [results.md](results.md) are harder.
All tables are written by `python -m benchmarks.docs.experiments` from `benchmarks/results/trials/trials.json`.

## Against an attacker of the whole defence

`benchmarks/runs/trial.py` attacks the whole of the target by annealed PGD of 100 steps and judges by a vote of 15; in
Linf the figure is the worst of two losses, in L2 that of the margin. Entries marked (prototype) come from a private
script with the same attacks, whose networks were not kept. Entries that name their own steps come from private scripts
with these steps; their figures were copied into the log.

"""
MIDDLE = """
## The thesis's protocol

Transfer attacks: the effect of the purifier's schedule and of the strength of N, the classifier, on the ten rows
(columns: N / CARSO), n = 2,000.

"""
LAST = """
## Classifiers alone

Annealed PGD of 100 steps runs twice with each of two losses, then Square with 1,000 queries on what is left; n = 1,000.
The figures come from a private script; only the networks that recipes name were kept.

"""


def table(rows: list[list[str]]) -> str:
    head, *body = rows
    rule = ["---", "---", *("---:" for _ in head[2:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *body)) + "\n"


def page() -> str:
    """docs/experiments.md."""
    log = json.loads((ROOT / "benchmarks/results/trials/trials.json").read_text(encoding="utf-8"))
    attacked = [entry for entry in log if "left" in entry]

    def cells(left: dict[str, float]) -> list[str]:
        return [f"{left[name]:.1f}" if name in left else "" for name in names]

    names = list(attacked[0]["left"])
    first = table([["tried", "target", *names], *([e["tried"], e["target"], *cells(e["left"])] for e in attacked)])
    transfer = [entry for entry in log if "transfer" in entry]
    names = list(transfer[0]["transfer"])
    second = table(
        [["tried", "target", *names]]
        + [[e["tried"], e["target"], *("{} / {}".format(*e["transfer"][n]) for n in names)] for e in transfer]
    )
    alone = [entry for entry in log if "alone" in entry]
    names = list(alone[0]["alone"])
    third = table([["tried", *names], *([entry["tried"], *cells(entry["alone"])] for entry in alone)])
    return HEAD + first + MIDDLE + second + LAST + third


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
