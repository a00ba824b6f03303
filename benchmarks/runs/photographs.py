"""A folder of many photographs: how soon after they are decoded training starts, and how much memory it takes.

    python -m benchmarks.runs.photographs --out out/photographs [--count 20000] [--side 224]

Makes JPEGs of noisy enlargements of CIFAR-10's, in folders by class, and runs `carso train classifier` on them with an
empty cache, for one epoch of a few batches. Memory is the sum over its processes of their proportional set size, where
a page that k processes share counts 1/k in each, read twice a second; pages of the mapped file count, which the system
takes back when it needs them. Writes benchmarks/results/photographs.json, shown by `python -m benchmarks.docs.speed`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from benchmarks.own.pictures import CLASSES, EACH, SHEET, photograph
from PIL import Image

from carso.evaluation.environment import environment
from carso.progress import track

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "benchmarks" / "results" / "photographs.json"
RECIPE = """name: photographs
data: pictures
classifier: {architecture: resnet, width: 16, blocks: [1, 1, 1, 1]}
adversarial:
  {epochs: 1, batch: 32, batches: 10, rate: 0.005, clean: false, attacks: [{attack: n-fgsm, eps: 8/255}]}
"""
COMMAND = """
import sys
from carso.commands.cli import main
from carso.training import experiment

fit = experiment.fit

def told(*given, **named):
    print("training starts", file=sys.stderr, flush=True)
    return fit(*given, **named)

experiment.fit = told
main()
"""
SAYS = {"decoded": "decoded pictures", "started": "training starts"}


def photographs(folder: Path, count: int, side: int) -> None:
    """So many JPEGs, no two alike."""
    sheet, chance = Image.open(SHEET).convert("RGB"), np.random.default_rng(0)
    for number in track(range(count), "making photographs"):
        row, column = number % len(CLASSES), number // len(CLASSES) % EACH
        enlarged = np.asarray(photograph(sheet, row, column, (side, side)), np.int16)
        noisy = enlarged + chance.integers(-12, 13, enlarged.shape, np.int16)
        path = folder / CLASSES[row] / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def family(root: int) -> list[int]:
    """A process and all that come from it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (ValueError, OSError):
            continue
    found = [root]
    for member in found:
        found += [child for child, parent in parents.items() if parent == member]
    return found


def size(process: int) -> int:
    """Its proportional set size in bytes; 0 once it has ended."""
    try:
        told = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    held = re.search(r"^Pss:\s+(\d+) kB", told, re.MULTILINE)
    return 1024 * int(held[1]) if held else 0


def peak_of(child: subprocess.Popen[str]) -> list[int]:
    """A list of one number, the largest memory of a process and all that come from it so far."""
    peak = [0]

    def watch() -> None:
        while child.poll() is None:
            peak[0] = max(peak[0], sum(map(size, family(child.pid))))
            time.sleep(0.5)

    threading.Thread(target=watch, daemon=True).start()
    return peak


def measured(folder: Path) -> dict[str, float]:
    """Seconds from the start until all is decoded, from then until training starts, and of the whole."""
    (folder / "own.yaml").write_text(RECIPE, encoding="utf-8")
    place = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "CARSO_DATA": str(folder / "cache")}
    began, times = time.monotonic(), {}
    child = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "train", "classifier", "own.yaml", "--out", "own"],
        cwd=folder,
        env=place,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    peak = peak_of(child)
    for line in child.stderr:
        sys.stderr.write(line)
        times.update({name: time.monotonic() - began for name, words in SAYS.items() if line.startswith(words)})
    if child.wait():
        raise SystemExit(f"carso train: exit status {child.returncode}")
    return {
        "decoding_seconds": round(times["decoded"], 1),
        "seconds_until_training": round(times["started"] - times["decoded"], 1),
        "seconds": round(time.monotonic() - began, 1),
        "peak_mib": round(peak[0] / 2**20),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a folder that does not exist yet")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=224, help="pixels")
    given = parser.parse_args()
    folder = given.out.resolve()
    photographs(folder / "pictures", given.count, given.side)
    found = {"count": given.count, "side": given.side, **measured(folder), "environment": environment().model_dump()}
    RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
