"""Turn a finished run into shipped weights: float16, with recipe, seed and the figures of `results.json` in the header.

    python benchmarks/runs/ship.py out/thesis src/carso/assets/weights/mnist-thesis [RECIPE]

RECIPE names the recipe where the stages were trained under trial names; it must agree with each stage's own.
"""

import sys
from pathlib import Path
from typing import Any

from carso.evaluation.results import read_results
from carso.storage import weights
from carso.training.reading import read_recipe
from carso.training.recipe import Recipe

STAGES = {
    weights.CLASSIFIER: ("classifier", "adversarial"),
    weights.UNDEFENDED: ("classifier", "undefended"),
    weights.PURIFIER: ("purifier", "purification"),
}


def figures_of(run: Path) -> dict[str, float]:
    if not (run / "results.json").exists():
        return {}
    results = read_results(run)
    figures: dict[str, float] = {"n": results.n}
    for row in results.rows:
        if row.carso is not None:
            figures[f"{row.attack} {row.norm or ''} {row.eps:g} on the {row.directed_at}"] = row.carso.accuracy
    return figures


def origin_of(path: Path, recipe: str | None) -> dict[str, Any]:
    kind, stage = STAGES[path.name]
    origin = weights.about(path, kind)
    if recipe is not None:
        named = read_recipe(recipe).model_dump(mode="json")
        trained = Recipe.model_validate(origin["recipe"], strict=False).model_dump(mode="json")
        if named[stage] != trained[stage]:
            raise SystemExit(f"{path} was not trained by `{stage}` of the recipe {recipe}")
        origin["recipe"] = named
    return origin


def main(run: Path, target: Path, recipe: str | None = None) -> None:
    figures = {"figures": figures_of(run)}
    for file in (file for file in (weights.CLASSIFIER, weights.UNDEFENDED) if (run / file).exists()):
        origin = origin_of(run / file, recipe) | figures
        weights.save_classifier(weights.load_classifier(run / file), target / file, origin, half=True)
    origin = origin_of(run / weights.PURIFIER, recipe) | figures
    weights.save_purifier(weights.load(run), target / weights.PURIFIER, origin, half=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
