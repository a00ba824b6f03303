"""The control of `strong` in the thesis's protocol: what attacks made on it leave of it, on test images.

    carso train classifier control --out out/control
    python benchmarks/runs/control.py out/control [--images 2000]

Its audit is that of `benchmarks/runs/audits.py --control out/control`.
"""

import argparse
import shutil
from pathlib import Path

from carso import data
from carso.audit.loading import load_target
from carso.evaluation.evaluate import Settings, evaluate
from carso.report.table import print_table

RESULTS = Path(__file__).parents[1] / "results" / "control"


def main(folder: Path, images: int) -> None:
    settings = Settings(n=images, seed=0, curve_images=0, sweep_images=0)
    columns = {"adversarially_trained": load_target(f"{folder}/classifier")}
    test, directory = data.load("mnist", "test"), folder / "test"
    found = evaluate(columns, test, settings=settings, recipe="control", directory=directory)
    print_table(found.results())
    RESULTS.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(directory / "results.json", RESULTS / "results.json")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    given = parser.parse_args()
    main(given.folder, given.images)
