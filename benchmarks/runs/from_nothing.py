"""How long a recipe or a study takes from nothing, and how much memory, timed.

`carso reproduce RECIPE`, or `carso train classifier RECIPE` where the recipe has no purifier:

    python benchmarks/runs/from_nothing.py quick --out out/from-nothing/quick
    python benchmarks/runs/from_nothing.py rivals --out out/from-nothing/rivals --processes 2 --sitting 120

A sitting ends with the work, with its error, or after so many minutes, when what is under way is broken off; the next
one, of the same command, goes on in the same folder; what they took is kept beside it. All sittings count, with what
was done twice. Once the work is finished, benchmarks/results/from-nothing/RECIPE.json tells of the whole.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from carso.evaluation.environment import environment
from carso.training.reading import read_recipe, shipped

NOTHING: dict[str, Any] = {"sittings": [], "peak_mib": 0}
RESULTS = Path(__file__).parents[1] / "results" / "from-nothing"


def verb_of(recipe: str) -> list[str]:
    """The command that carries a recipe or a study out."""
    alone = recipe in shipped() and read_recipe(recipe).purification is None
    return ["train", "classifier"] if alone else ["reproduce"]


def main(given: argparse.Namespace) -> None:
    kept = given.out.with_name(f"{given.out.name}-sittings.json")
    before: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else NOTHING
    if given.out.exists() and not before["sittings"]:
        raise SystemExit(f"{given.out} exists; a run from nothing needs a new folder")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(given.processes)]
    command = [sys.executable, *(launcher if given.processes > 1 else []), "-m", "carso", *verb_of(given.recipe)]
    started = time.monotonic()
    work = subprocess.Popen([*command, given.recipe, "--out", str(given.out)], start_new_session=True)
    try:
        status = work.wait(given.sitting * 60 or None)
    except subprocess.TimeoutExpired:
        os.killpg(work.pid, signal.SIGTERM)
        status = None
        work.wait()
    sittings = [*before["sittings"], round((time.monotonic() - started) / 60, 2)]
    peak = max(before["peak_mib"], round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024))
    took = {
        "verb": " ".join(verb_of(given.recipe)),
        "recipe": given.recipe,
        "beside": given.beside,
        "processes": given.processes,
        "sittings": sittings,
        "minutes": round(sum(sittings), 2),
        "peak_mib": peak,
        "environment": environment().model_dump(),
    }
    place = RESULTS / f"{given.recipe}.json" if status == 0 else kept
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(took, indent=1) + "\n", encoding="utf-8")
    if status == 0:
        kept.unlink(missing_ok=True)
    print(took)
    sys.exit(status)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=1, help="that share the work")
    parser.add_argument("--sitting", type=float, default=0, help="minutes after which it is broken off")
    parser.add_argument("--beside", default="", help="what else the machine was doing, if anything")
    main(parser.parse_args())
