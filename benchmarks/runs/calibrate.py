"""Give weights the thresholds of `detect`: the agreements of held-out images, into the header; the tensors stay.

    python benchmarks/runs/calibrate.py src/carso/assets/weights/mnist-strong [...]

Held out are the first images of the validation split of the data that the recipe names; the latents' seed is 0.
"""

import sys
from dataclasses import asdict
from pathlib import Path

import torch

from carso import data
from carso.detection import HELD_OUT
from carso.storage import weights
from carso.storage.tensors import read_tensors, write_tensors


def main(folder: Path) -> None:
    defence, path = weights.load(folder), folder / weights.PURIFIER
    name = weights.origin(folder).data or "mnist"
    held_out = data.load(name, "validation")[:HELD_OUT]
    calibration = defence.calibrate(held_out.images, torch.Generator().manual_seed(0))
    tensors, description = read_tensors(path, "purifier")
    write_tensors(path, tensors, description | {"calibration": asdict(calibration)})
    print(folder, {rate: round(calibration.threshold(rate), 3) for rate in (0.005, 0.01, 0.02, 0.05)})


if __name__ == "__main__":
    for given in sys.argv[1:]:
        main(Path(given))
