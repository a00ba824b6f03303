"""Write docs/results.md from the committed results in benchmarks/results.

python benchmarks/write_results.py
"""

from pathlib import Path

from carso.evaluation.results import read_results
from carso.report.table import markdown

ROOT = Path(__file__).parents[1]
HEAD = """# Results

Every table below is written by `python benchmarks/write_results.py` from a `results.json` that a run left; none is
typed in. In the thesis's protocol an attack is crafted on the column's classifier alone (on N for both defended
columns) and handed over. With respect to CARSO that is a transfer: **it says nothing about an attacker who knows of
the defence.** Tables named "end-to-end" are about that attacker, who follows the gradient through the whole of each
column.

The shipped `mnist-thesis` weights follow the recipe `thesis`, seed 0; from about epoch 31 of 100 on, stage 1 took its
PGD from a prototype of the bfloat16 fast path, so that training again gives close but not bit-equal weights.

"""


def main() -> None:
    runs = sorted(path.parent for path in (ROOT / "benchmarks" / "results").glob("*/results.json"))
    parts = [f"## {run.name}\n\n{markdown(read_results(run))}" for run in runs]
    (ROOT / "docs" / "results.md").write_text(HEAD + "\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
