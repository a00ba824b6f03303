"""Turn a finished run into shipped weights: float16, with recipe, seed and the figures of `results.json` in the header.

python benchmarks/ship.py out/thesis src/carso/assets/weights/mnist-thesis
"""

import sys
from pathlib import Path

from carso import weights
from carso.evaluation.results import read_results


def main(run: Path, target: Path) -> None:
    figures = {}
    if (run / "results.json").exists():
        results = read_results(run)
        figures["n"] = results.n
        for row in results.rows:
            if row.carso is not None:
                figures[f"{row.attack} {row.norm or ''} {row.eps:g} on the {row.directed_at}"] = row.carso.accuracy
    defence = weights.load(run)
    for file, kind in ((weights.CLASSIFIER, "classifier"), (weights.UNDEFENDED, "classifier")):
        origin = {**weights.about(run / file, kind), "figures": figures}
        weights.save_classifier(weights.load_classifier(run / file), target / file, origin, half=True)
    origin = {**weights.about(run / weights.PURIFIER, "purifier"), "figures": figures}
    weights.save_purifier(defence, target / weights.PURIFIER, origin, half=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
