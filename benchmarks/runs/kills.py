"""What `kill -9` leaves: each long verb killed at random moments of its work, then run again to its end.

    python benchmarks/runs/kills.py [--kills 20] [--seed 0] [--out out/kills]

Every killed run is given to the same command once more, and must end as an unbroken one did: the same bytes of weights
and history, the same figures but for times and places, and the same files, none left over. The sizes are tiny, so that
a run takes seconds; the moments are drawn evenly from when the run has claimed its folder to when it would have ended.
Writes benchmarks/results/reliability/kills.json.
"""

import argparse
import hashlib
import json
import random
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from carso import data
from carso.evaluation.environment import environment
from carso.storage.claim import NAME as CLAIM
from carso.storage.files import write_text

RESULTS = Path(__file__).parents[1] / "results" / "reliability" / "kills.json"
RECIPE = """name: tiny
data: {data}
samples: 60
classifier: {{hidden: [20, 10]}}
adversarial: {{epochs: 30, batch: 40, rate: 0.02, threads: 1, attacks: [{{attack: pgd, eps: 0.1, steps: 5}}]}}
purification:
  {{epochs: 30, batch: 40, rate: 0.01, threads: 1, feed: fresh, attacks: [{{attack: pgd, eps: 0.1, steps: 5}}]}}
"""
PASSING = {"seconds", "environment", "command"}
"""Fields of results that tell of the run and its machine, not of what was found."""

Command = Callable[[Path], list[str]]


def small_mnist(folder: Path) -> None:
    """400 training and 40 test images of MNIST, shrunk to 7 x 7 pixels, as IDX files."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, whole, count in (("train", data.load("mnist"), 400), ("t10k", data.load("mnist", "test"), 40)):
        some = whole[:count]
        images = (F.avg_pool2d(some.images, 4) * 255).round().byte().squeeze(1)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(some.required_labels.byte()))


def idx(values: torch.Tensor) -> bytes:
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return header + bytes(values.flatten().tolist())


def commands(place: Path) -> dict[str, Command]:
    """The verbs, each as what is typed for a folder."""
    shown, defence, recipe = str(place / "data"), str(place / "defence"), str(place / "tiny.yaml")
    given = ["--data", shown, "--images"]
    return {
        "train": lambda out: ["train", "purifier", recipe, "--out", str(out)],
        "evaluate": lambda out: ["evaluate", defence, *given, "40", "--out", str(out)],
        "audit": lambda out: ["audit", defence, *given, "20", "--effort", "quick", "--eps", "0.1", "--out", str(out)],
        "reproduce --pretrained": lambda out: [
            *("reproduce", "thesis", "--pretrained", "--test-images", "10", "--out", str(out))
        ],
    }


def begin(arguments: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "carso", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def until_claimed(process: subprocess.Popen[bytes], out: Path) -> float:
    """Wait until the run holds its folder, and say when that was."""
    while process.poll() is None and not (out / CLAIM).exists():
        time.sleep(0.002)
    return time.monotonic()


def finish(process: subprocess.Popen[bytes]) -> bool:
    """Whether the run ended as it should: done, or with a check raised."""
    return process.wait() in (0, 3)


def killed(arguments: list[str], out: Path, after: float) -> bool:
    """Begin a run and kill it so many seconds into its work; False if it had ended by then."""
    process = begin(arguments)
    until_claimed(process, out)
    time.sleep(after)
    process.kill()
    return process.wait() < 0


def end_of(out: Path) -> dict[str, str]:
    """Every file of a folder with a digest of what it says."""
    return {str(path.relative_to(out)): said(path) for path in sorted(out.rglob("*")) if path.is_file()}


def said(path: Path) -> str:
    """A digest of a file's bytes, or of its figures; reports and states, which tell times, count by their names."""
    if path.name in ("results.json", "audit.json"):
        return hashlib.sha256(json.dumps(figures(json.loads(path.read_text()))).encode()).hexdigest()
    telling = path.name in ("history.json", "recipe.yaml") or path.name.startswith(("classifier", "purifier", "undef"))
    return hashlib.sha256(path.read_bytes()).hexdigest() if telling else ""


def figures(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: figures(part) for name, part in value.items() if name not in PASSING}
    return [figures(part) for part in value] if isinstance(value, list) else value


def try_verb(verb: str, command: Command, place: Path, kills: int, chance: random.Random) -> dict[str, Any]:
    whole = place / "whole"
    process = begin(command(whole))
    began = until_claimed(process, whole)
    if not finish(process):
        raise SystemExit(f"{verb} does not end as it should: carso {' '.join(command(whole))}")
    seconds, expected = time.monotonic() - began, end_of(whole)
    row: dict[str, Any] = {"verb": verb, "seconds": round(seconds, 2), "kills": 0, "resumed": 0, "equal": 0}
    left: list[str] = []
    while row["kills"] < kills:
        out = place / "killed"
        shutil.rmtree(out, ignore_errors=True)
        if not killed(command(out), out, chance.uniform(0, seconds)):
            continue
        row["kills"] += 1
        row["resumed"] += finish(begin(command(out)))
        found = end_of(out)
        left += sorted(found.keys() - expected.keys())
        row["equal"] += {name: found.get(name) for name in expected} == expected
        print(f"{verb}: {row['kills']} killed, {row['resumed']} resumed, {row['equal']} equal, left {left}", flush=True)
    shutil.rmtree(whole)
    return row | {"left_over": left}


def main(given: argparse.Namespace) -> None:
    place: Path = given.out.resolve()
    shutil.rmtree(place, ignore_errors=True)
    small_mnist(place / "data")
    (place / "tiny.yaml").write_text(RECIPE.format(data=place / "data"), encoding="utf-8")
    verbs, chance = commands(place), random.Random(given.seed)
    if not finish(begin(verbs["train"](place / "defence"))):
        raise SystemExit("the tiny defence could not be trained")
    rows = [try_verb(verb, command, place, given.kills, chance) for verb, command in verbs.items()]
    table = {"seed": given.seed, "environment": environment().model_dump(), "verbs": rows}
    write_text(RESULTS, json.dumps(table, indent=1) + "\n")
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "out" / "kills")
    main(parser.parse_args())
