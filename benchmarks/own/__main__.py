"""Seconds and memory of the commands of docs/your-own-classifier.md, for every kind of classifier and picture.

    python -m benchmarks.own --out out/own [--only vit]

Every command runs in a process of its own, in a folder of its own. The slice is small, 60 photographs; the networks are
real. Writes benchmarks/results/own/KIND.json, which `python -m benchmarks.docs.speed` shows.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.own.pictures import pictures

from carso.evaluation.environment import environment
from carso.progress import track

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "own"
COMMAND = (
    "import sys; from benchmarks.own import absent; from carso.commands.cli import main; "
    "absent.needed(sys.argv) and absent.stand_in(); main()"
)
RECIPE = """name: {model}
data: labelled
classifier: {{factory: "own_models:{model}"}}
adversarial: {{epochs: 30, batch: 16, rate: 0.005, clean: false, attacks: [{{attack: n-fgsm, eps: 8/255}}]}}
"""
MINUTES = re.compile(r"the least that would do is --minutes ([\d.]+)")


@dataclass(frozen=True)
class Case:
    """A kind of classifier, and how the pictures lie.

    Args:
        what: in words.
        model: of `examples/own_models.py`.
        size: width and height.
        suffix: of the files.
        labels: whether they lie class by class when they are hardened on.
    """

    what: str
    model: str
    size: tuple[int, int] = (32, 32)
    suffix: str = ".png"
    labels: bool = True


CASES = {
    "resnet": Case("a ResNet with in-place ReLU", "resnet"),
    "timm": Case("timm's ResNet-10-T", "timm_resnet"),
    "vit": Case("a ViT of transformers'", "transformers_vit"),
    "normalised": Case("a ResNet behind normalisation", "normalised"),
    "jpeg": Case("a ResNet, JPEGs of 64 x 48", "resnet", (64, 48), ".jpg"),
    "unlabelled": Case("a ResNet, pictures without labels", "resnet", labels=False),
}


def ran(folder: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], dict[str, float]]:
    """A command of carso's in a folder, and what it took."""
    began, path = time.monotonic(), os.pathsep.join(map(str, (ROOT / "src", ROOT, folder)))
    child = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert child.stdout is not None
    said = child.stdout.read()
    _, status, used = os.wait4(child.pid, 0)
    took = {"seconds": round(time.monotonic() - began, 1), "peak_mib": round(used.ru_maxrss / 1024)}
    return subprocess.CompletedProcess(arguments, os.waitstatus_to_exitcode(status), said), took


def worked(folder: Path, *arguments: str) -> dict[str, float]:
    """What a command took that must not fail.

    Raises:
        SystemExit: if it does.
    """
    done, took = ran(folder, *arguments)
    if done.returncode not in (0, 3):
        raise SystemExit(f"carso {' '.join(arguments)} in {folder}: exit status {done.returncode}\n{done.stdout}")
    return took


def measured(case: Case, folder: Path) -> dict[str, dict[str, float]]:
    """Every command's seconds and memory."""
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "examples" / "own_models.py", folder)
    (folder / "own.yaml").write_text(RECIPE.format(model=case.model))
    for split in ("train", "test"):
        pictures(folder / "labelled" / split, case.size, case.suffix)
    pictures(folder / "pictures", case.size, case.suffix, classes=case.labels)
    found = {"train": worked(folder, "train", "classifier", "own.yaml", "--out", f"own/{case.model}")}
    own, images = ("--factory", f"own_models:{case.model}"), ("--data", "pictures", "--eps", "8/255")
    harden = ("harden", own[1], *images, "--out", "out", "--minutes")
    refusal, _ = ran(folder, *harden, "0.1")
    least = MINUTES.search(refusal.stdout)
    assert least is not None, refusal.stdout
    found["harden"] = worked(folder, *harden, str(round(3 * float(least[1]), 1)))
    found["audit"] = worked(folder, "audit", "out", *own, *images, "--effort", "quick", "--out", "audit")
    found["export"] = worked(folder, "export", "out", *own, "--data", "pictures", "--out", "own.onnx")
    picture = str(next((folder / "pictures").rglob(f"*{case.suffix}")))
    found["predict"] = worked(folder, "predict", picture, "--defence", "out", *own)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a folder that does not exist yet")
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--beside", default="", help="what else the machine was doing, if anything")
    given = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in track(given.only, "kinds of classifier"):
        commands = measured(CASES[name], given.out.resolve() / name)
        found = {"what": CASES[name].what, "beside": given.beside, "commands": commands}
        found["environment"] = environment().model_dump()
        (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
