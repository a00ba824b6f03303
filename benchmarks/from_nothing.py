"""How long a recipe takes from nothing, and how much memory: `carso reproduce RECIPE` in a process of its own.

    python benchmarks/from_nothing.py quick --out out/from-nothing/quick [--seed 0]

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

RESULTS = Path(__file__).parent / "results" / "from-nothing"


def main(recipe: str, out: Path, seed: int | None, beside: str) -> None:
    if out.exists():
        raise SystemExit(f"{out} exists; a run from nothing needs a new folder")
    started = time.monotonic()
    command = [sys.executable, "-m", "carso.cli", "reproduce", recipe, "--out", str(out)]
    command += [] if seed is None else ["--seed", str(seed)]
    subprocess.run(command, check=True)
    took = {
        "recipe": recipe,
        "seed": seed,
        "beside": beside,
        "minutes": round((time.monotonic() - started) / 60, 2),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
        "environment": environment().model_dump(),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    suffix = "" if seed is None else f"-{seed}"
    (RESULTS / f"{recipe}{suffix}.json").write_text(json.dumps(took, indent=1) + "\n", encoding="utf-8")
    print(took)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, help="in place of the recipe's; then RECIPE-SEED.json")
    parser.add_argument("--beside", default="", help="what else the machine was doing, if anything")
    given = parser.parse_args()
    main(given.recipe, given.out, given.seed, given.beside)
