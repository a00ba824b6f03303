"""PGD through the whole of each column: gradients averaged over fresh candidates, 100 steps of eps / 20.

python benchmarks/end_to_end.py mnist-thesis benchmarks/results/thesis-end-to-end
"""

import sys
from pathlib import Path

from carso import data, weights
from carso.evaluation.evaluate import Settings, evaluate
from carso.evaluation.protocol import Row
from carso.reproduce import columns_of
from carso.types import Budget

ROWS = [Row("none", directed_at="defence")] + [
    Row("pgd", Budget("Linf", eps), directed_at="defence", options={"steps": 100, "alpha": eps / 20}, eot=4)
    for eps in (0.15, 0.30)
]


def main(name: str, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    columns = columns_of(weights.load(name), weights.load_undefended(name))
    settings = Settings(n=1000, seed=0, curve_images=0, sweep_images=0)
    evaluate(columns, data.load("mnist", "test"), ROWS, settings, recipe=f"{name}, end to end", directory=out)
    (out / "records.safetensors").unlink()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
