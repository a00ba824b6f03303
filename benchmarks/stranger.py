"""A stranger's classifier gets a purifier: a robust convolutional network that others trained, used as it came.

    python benchmarks/stranger.py [--weights FILE] [--out out/stranger] [--images 2000]

The representation is what its fully connected part computes. No label is used: the attacks move away from the
network's own answers. A part of the training images is attacked once; the table is that of the test images, with PGD
directed at the bare classifier.
"""

import argparse
import json
import time
from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn

from carso import attacks, data
from carso.data.pairs import save_pairs
from carso.evaluation.evaluate import Settings, evaluate
from carso.evaluation.protocol import PGD, Row
from carso.experiment import Experiment
from carso.progress import track
from carso.reproduce import columns_of
from carso.training.recipe import parse_recipe
from carso.types import Budget

ROOT = Path(__file__).parents[1]
LAYERS = ("relu_fc1", "relu_fc2", "fc3")
ATTACKED, CHUNK = 20_000, 1000
ROWS = [
    Row("none", foreseen=True),
    *(Row("pgd", Budget("Linf", eps), foreseen=eps == 0.3, options=PGD) for eps in (0.15, 0.3)),
]


class SmallCNN(nn.Module):
    """The architecture of the weights, by its names."""

    def __init__(self) -> None:
        super().__init__()
        conv, pool = nn.Conv2d, lambda: nn.MaxPool2d(2)
        self.feature_extractor = nn.Sequential(
            OrderedDict(
                conv1=conv(1, 32, 3),
                relu1=nn.ReLU(),
                conv2=conv(32, 32, 3),
                relu2=nn.ReLU(),
                pool1=pool(),
                conv3=conv(32, 64, 3),
                relu3=nn.ReLU(),
                conv4=conv(64, 64, 3),
                relu4=nn.ReLU(),
                pool2=pool(),
            )
        )
        self.classifier = nn.Sequential(
            OrderedDict(
                fc1=nn.Linear(1024, 200),
                relu_fc1=nn.ReLU(),
                fc2=nn.Linear(200, 200),
                relu_fc2=nn.ReLU(),
                fc3=nn.Linear(200, 10),
            )
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.feature_extractor(images).flatten(1))


def stranger(path: Path) -> nn.Module:
    model = SmallCNN()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval()


def make_pairs(model: nn.Module, path: Path) -> None:
    """Clean training images and, for the first of them, an attack on the model's own answers."""
    clean = data.load("mnist", "train").images
    attacked, generator = clean.clone(), torch.Generator().manual_seed(0)
    for start in track(range(0, ATTACKED, CHUNK), "attacks on the training images"):
        some = clean[start : start + CHUNK]
        with torch.no_grad():
            answers = model(some).argmax(1)
        attacked[start : start + CHUNK] = attacks.pgd(
            model, some, answers, Budget("Linf", 0.3), steps=10, alpha=0.06, generator=generator
        )
    save_pairs(path, attacked, clean)


def main(path: Path, out: Path, images: int, epochs: int) -> None:
    started, cpu = time.monotonic(), time.process_time()
    model = stranger(path)
    if not (out / "pairs.npz").exists():
        out.mkdir(parents=True, exist_ok=True)
        make_pairs(model, out / "pairs.npz")
    layers = [f"classifier.{layer}" for layer in LAYERS]
    recipe = parse_recipe(
        json.dumps(
            {
                "name": "stranger",
                "purifier": {"layers": layers},
                "purification": {
                    "epochs": epochs,
                    "batch": 512,
                    "rate": 0.002,
                    "average": 0.999,
                    "mixing": "parts",
                    "feed": "pairs",
                    "pairs": str(out / "pairs.npz"),
                },
            }
        ),
        "benchmarks/stranger.py",
    )
    experiment = Experiment(recipe, out, torch.device("cpu"), model)
    experiment.open()
    experiment.train_purifier()
    took = {"minutes": (time.monotonic() - started) / 60, "cpu_minutes": (time.process_time() - cpu) / 60}
    (out / "time.json").write_text(json.dumps(took, indent=1) + "\n")
    settings = Settings(n=images, seed=0, curve_images=0, sweep_images=0)
    for split, n in (("validation", 1000), ("test", images)):
        evaluate(
            columns_of(experiment.defence(), None),
            data.load("mnist", split),
            ROWS,
            Settings(n=n, seed=0, curve_images=0, sweep_images=0) if split == "validation" else settings,
            recipe="stranger",
            directory=out / split,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=ROOT.parent / "shared/data/weights/trades_mnist_smallcnn.pt")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "stranger")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=30)
    given = parser.parse_args()
    main(given.weights, given.out, given.images, given.epochs)
