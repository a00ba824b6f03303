"""How long a recipe takes from nothing, and how much memory: `carso reproduce RECIPE` in a process of its own.

    python benchmarks/runs/from_nothing.py quick --out out/from-nothing/quick

The folder must not hold a run yet. Writes benchmarks/results/from-nothing/RECIPE.json.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from carso.evaluation.environment import environment

RESULTS = Path(__file__).parents[1] / "results" / "from-nothing"


def main(recipe: str, out: Path, beside: str) -> None:
    if out.exists():
        raise SystemExit(f"{out} exists; a run from nothing needs a new folder")
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "carso", "reproduce", recipe, "--out", str(out)], check=True)
    took = {
        "recipe": recipe,
        "beside": beside,
        "minutes": round((time.monotonic() - started) / 60, 2),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
        "environment": environment().model_dump(),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{recipe}.json").write_text(json.dumps(took, indent=1) + "\n", encoding="utf-8")
    print(took)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--beside", default="", help="what else the machine was doing, if anything")
    given = parser.parse_args()
    main(given.recipe, given.out, given.beside)
