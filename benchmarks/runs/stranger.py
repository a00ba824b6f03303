"""A stranger's classifier gets a purifier: a robust convolutional network that others trained, used as it came.

    python benchmarks/runs/stranger.py [--weights FILE] [--out out/stranger] [--only train|validation|test]

The representation is the image and what the last two layers compute. No label is used: the attacks move away from the
network's own answers, and the recalled images are held to them. The first 20,000 training images are attacked once;
the table is that of the test images, with PGD directed at the bare classifier. Choices were made on `validation`.
"""

import argparse
import json
import shutil
import time
from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn

from carso import attacks, data
from carso.data.pairs import save_pairs
from carso.evaluation.evaluate import Settings, evaluate
from carso.evaluation.models import models_of
from carso.evaluation.protocol import PGD, Row
from carso.progress import track
from carso.report.table import print_table
from carso.storage.files import write_text
from carso.training.experiment import Experiment
from carso.training.reading import parse_recipe
from carso.types import Budget

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "stranger"
WEIGHTS = ROOT.parent / "shared/data/weights/trades_mnist_smallcnn.pt"
LAYERS = ["input", "classifier.relu_fc2", "classifier.fc3"]
ATTACKED, CHUNK = 20_000, 500
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


def public() -> nn.Module:
    """The classifier, for commands: `carso harden benchmarks.runs.stranger:public --data mnist --eps 0.3`."""
    return stranger(WEIGHTS)


def make_pairs(model: nn.Module, path: Path) -> None:
    """The first training images, clean and under an attack on the model's own answers."""
    clean = data.load("mnist", "train").images[:ATTACKED]
    attacked, generator = clean.clone(), torch.Generator().manual_seed(0)
    for start in track(range(0, ATTACKED, CHUNK), "attacks on the training images"):
        some = clean[start : start + CHUNK]
        with torch.no_grad():
            answers = model(some).argmax(1)
        attacked[start : start + CHUNK] = attacks.pgd(
            model, some, answers, Budget("Linf", 0.3), steps=7, alpha=0.1, generator=generator
        )
    save_pairs(path, attacked, clean)


def experiment_of(path: Path, out: Path, epochs: int, consistency: float) -> Experiment:
    schedule = {"epochs": epochs, "rate": 0.002, "average": 0.99, "mixing": "parts", "consistency": consistency}
    schedule |= {"feed": "pairs", "pairs": str(out / "pairs.npz")}
    text = json.dumps({"name": "stranger", "purifier": {"layers": LAYERS}, "purification": schedule})
    return Experiment(parse_recipe(text, "benchmarks/runs/stranger.py"), out, torch.device("cpu"), stranger(path))


def train(experiment: Experiment) -> None:
    """Attacks and training, with the time that both took."""
    out = experiment.out
    if (out / "purifier.safetensors").exists():
        return
    started, cpu = time.monotonic(), time.process_time()
    experiment.open()
    make_pairs(experiment.classifier, out / "pairs.npz")
    experiment.train_purifier()
    took = {"minutes": (time.monotonic() - started) / 60, "cpu_minutes": (time.process_time() - cpu) / 60}
    took |= {"threads": torch.get_num_threads(), "attacked": ATTACKED, "epochs": experiment.recipe.purification.epochs}
    write_text(out / "time.json", json.dumps(took, indent=1) + "\n")


def table(experiment: Experiment, split: str, n: int) -> None:
    settings = Settings(n=n, seed=0, curve_images=0, sweep_images=0)
    columns, directory = models_of(experiment.defence(), None), experiment.out / split
    found = evaluate(columns, data.load("mnist", split), ROWS, settings, recipe="stranger", directory=directory)
    print_table(found.results())
    if split == "test":
        RESULTS.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(directory / "results.json", RESULTS / "results.json")
        shutil.copyfile(experiment.out / "time.json", RESULTS / "time.json")


def main(given: argparse.Namespace) -> None:
    experiment = experiment_of(given.weights, given.out, given.epochs, given.consistency)
    train(experiment)
    for split, n in (("validation", 1000), ("test", given.images)):
        if given.only in (None, split):
            table(experiment, split, n)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "stranger")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--consistency", type=float, default=300.0)
    parser.add_argument("--only", choices=["train", "validation", "test"])
    main(parser.parse_args())
