"""Two processes of one thread each against one, for training, evaluation and audit, in turns.

    python -m benchmarks.runs.processes [--repeats 3] [--images 2000] [--verbs train train-cnn evaluate audit]

Each verb runs as a user starts it, by one process and by `torchrun --nproc-per-node 2`, and is timed from when it has
claimed its folder to when it gives it up: most imports and the start of the processes are not counted. `train` is of
the thesis's network, whose batch takes a tenth of a second, `train-cnn` of the small CNN, whose batch takes a second or
more.
`ratio` is the time of one process by that of two, of the medians; `equal` whether the figures of evaluation and audit
are the same; `ceiling` what the machine gives two processes that know nothing of each other, each with half of the
images, of a training half of every batch, at the same time; `apart` by how much the weights of a training differ at
most, relative to the largest of their tensor.
Writes benchmarks/results/processes.json.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.runs.kills import end_of
from safetensors.torch import load_file

from carso.evaluation.environment import environment
from carso.storage.claim import NAME as CLAIM
from carso.storage.files import write_text

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "processes.json"
ONE = [sys.executable, "-m", "carso"]
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "carso"]
RECIPE = """name: timed
data: mnist
classifier: {classifier}
adversarial:
  epochs: 2
  batch: {batch}
  batches: {batches}
  rate: 0.005
  threads: 1
  attacks: [{{attack: pgd, eps: 0.3, steps: {steps}, alpha: 0.01}}]
"""
TRAININGS = {
    "train": {"classifier": "{hidden: [200, 80]}", "batches": 107, "steps": 40},
    "train-cnn": {"classifier": "{architecture: cnn, hidden: [200, 200]}", "batches": 20, "steps": 10},
}
"""What their recipes differ in."""
BATCH = 512


def commands(given: argparse.Namespace, place: Path) -> dict[str, list[str]]:
    """The verbs, each as what is typed; every chunk of images is an eighth of them."""
    some = ["--images", str(given.images), "--chunk", str(max(1, given.images // 8))]
    verbs = {
        **{verb: ["train", "classifier", str(place / f"{verb}.yaml")] for verb in TRAININGS},
        "evaluate": ["evaluate", "mnist-strong", *some],
        "audit": ["audit", "mnist-strong", "--effort", "quick", "--eps", "0.15", *some],
    }
    return {verb: verbs[verb] for verb in given.verbs}


def halved(arguments: list[str]) -> list[str]:
    """The command for half of the images, in chunks as large, or of every batch."""
    if arguments[0] == "train":
        return [*arguments[:-1], arguments[-1].replace(".yaml", "-half.yaml")]
    at = arguments.index("--images") + 1
    return [*arguments[:at], str(int(arguments[at]) // 2), *arguments[at + 1 :]]


def side_by_side(arguments: list[str], outs: Sequence[Path]) -> float:
    """Seconds until both of two processes have done a half."""
    with ThreadPoolExecutor(len(outs)) as pool:
        return max(pool.map(lambda out: timed([*ONE, *halved(arguments)], out), outs))


def timed(command: list[str], out: Path) -> float:
    """Seconds for which a command holds its folder."""
    shutil.rmtree(out, ignore_errors=True)
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, "--out", str(out)], env=alone, stdout=subprocess.DEVNULL)
    while process.poll() is None and not (out / CLAIM).exists():
        time.sleep(0.002)
    began = time.perf_counter()
    while process.poll() is None and (out / CLAIM).exists():
        time.sleep(0.002)
    seconds = time.perf_counter() - began
    process.wait()
    if not (out / "audit.json").exists() and process.returncode:
        raise SystemExit(f"it failed: {' '.join(command)}")
    return seconds


def apart(one: Path, two: Path) -> float:
    """The largest difference of two classifiers' weights, relative to the largest of their tensor."""
    ours, theirs = (load_file(out / "classifier.safetensors") for out in (one, two))
    return max(float((w - theirs[name]).abs().max() / w.abs().max().clamp(min=1e-9)) for name, w in ours.items())


def measured(verb: str, arguments: list[str], place: Path, repeats: int) -> dict[str, Any]:
    one, two = place / "one", place / "two"
    taken: dict[str, list[float]] = {"one": [], "two": []}
    for _ in range(repeats):
        taken["one"].append(timed([*ONE, *arguments], one))
        taken["two"].append(timed([*TWO, *arguments], two))
        print(verb, {name: [round(seconds, 1) for seconds in some] for name, some in taken.items()}, flush=True)
    typed = " ".join(arguments).replace(f"{place}/", "")
    row: dict[str, Any] = {"verb": verb, "command": typed, **taken}
    row["ratio"] = median(taken["one"]) / median(taken["two"])
    row |= {"apart": apart(one, two)} if verb in TRAININGS else {"equal": end_of(one) == end_of(two)}
    return row | {"ceiling": median(taken["one"]) / side_by_side(arguments, (one, two))}


def main(given: argparse.Namespace) -> None:
    place: Path = given.out.resolve()
    place.mkdir(parents=True, exist_ok=True)
    for verb, recipe in TRAININGS.items():
        for name, batch in ((verb, BATCH), (f"{verb}-half", BATCH // 2)):
            (place / f"{name}.yaml").write_text(RECIPE.format(batch=batch, **recipe), encoding="utf-8")
    rows = [measured(verb, arguments, place, given.repeats) for verb, arguments in commands(given, place).items()]
    table = {"environment": environment().model_dump(), "cores": os.cpu_count(), "verbs": rows}
    write_text(given.results, json.dumps(table, indent=1) + "\n")
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--verbs", nargs="+", default=[*TRAININGS, "evaluate", "audit"])
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "processes")
    parser.add_argument("--results", type=Path, default=RESULTS)
    main(parser.parse_args())
