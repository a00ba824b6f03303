"""What a GPU does with convolutional networks: attacks, training steps, votes, memory; one JSON.

    benchmarks/gpu.sh OUT.json        sets the paths, and runs this
    python benchmarks/runs/gpu.py --out OUT.json [--minutes 8.5] [--device cuda] [--small]

Images are noise, for only time and memory count. A work that fails, by memory say, leaves its error in its place, and
what the time does not allow is named as left out. `--small` are sizes for a trial on any processor.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from benchmarks.speed import peers
from benchmarks.speed.race import Spread, ratio
from torch import nn

from carso import CARSO, Budget, attacks
from carso.data import Dataset
from carso.evaluation.environment import environment
from carso.nn import ResNet
from carso.purifier import ConvolutionalPurifier
from carso.representation import Representation
from carso.training.classifier import ClassifierStage
from carso.training.loop import Stage, steps_of
from carso.training.optimise import Optimisation
from carso.training.purifier import PurifierStage
from carso.training.recipe import AttackSpec, ClassifierTraining, PurifierTraining, Schedule
from carso.training.replay import Replay
from carso.types import Images, Labels

Work: TypeAlias = Callable[[], dict[str, Any]]

EPS, TRAINING_IMAGES = 8 / 255, 50_000
SIZES: dict[str, dict[str, Any]] = {
    "ResNet-18 of width 32": {"width": 32},
    "ResNet-18": {"width": 64},
    "WRN-28-10": {"width": 160, "blocks": (4, 4, 4), "stem": 16},
}
SMALL: dict[str, dict[str, Any]] = {"ResNet of width 4": {"width": 4, "blocks": (1, 1)}}
KINDS: dict[str, dict[str, Any]] = {
    "clean": {"attacks": ()},
    "n-fgsm": {"attacks": (AttackSpec(attack="n-fgsm", eps=EPS),), "clean": False},
    "pgd-10": {"attacks": (AttackSpec(attack="pgd", eps=EPS, steps=10, alpha=2 / 255),), "clean": False},
    "trades": {"attacks": (AttackSpec(attack="pgd", eps=EPS, steps=10, alpha=2 / 255),), "trades": 6.0},
}


class Bench:
    """Works on one device.

    Args:
        device: where.
        sizes: networks, by name.
        images: how many are attacked, and of how many a batch of training is made.
        rounds: how often each work is timed.
    """

    def __init__(self, device: torch.device, sizes: dict[str, dict[str, Any]], images: int, rounds: int) -> None:
        self.device, self.sizes, self.rounds = device, sizes, rounds
        generator = torch.Generator().manual_seed(0)
        pixels = torch.rand(images, 3, 32, 32, generator=generator)
        self.noise = Dataset("noise", pixels, torch.arange(images) % 10, tuple("abcdefghij"))

    def works(self) -> Iterator[tuple[str, Work]]:
        """All works by name, the quickest first."""
        for name in self.sizes:
            yield f"vote of 8, {name}", partial(self.vote, name)
        for name in self.sizes:
            yield f"PGD-10, {name}", partial(self.pgd, name)
        for name in self.sizes:
            for kind in KINDS:
                yield f"training step, {kind}, {name}", partial(self.training, name, kind)
            yield f"hardening step, {name}", partial(self.hardening, name)

    def network(self, name: str) -> nn.Module:
        """A fresh one."""
        torch.manual_seed(0)
        return ResNet(**self.sizes[name]).to(self.device).eval()

    def defence(self, name: str) -> CARSO:
        """A network behind a fresh convolutional purifier of its last maps and logits."""
        network = self.network(name)
        layers = ("groups", "logits")
        shapes = [s for each in Representation(network, layers).shapes(self.images[:1]).values() for s in each]
        purifier = ConvolutionalPurifier((3, 32, 32), shapes, 128, 512, "bounded").to(self.device).eval()
        return CARSO(network, purifier, layers, 8)

    @property
    def images(self) -> Images:
        """On the device."""
        return self.noise.images.to(self.device)

    @property
    def labels(self) -> Labels:
        """On the device."""
        return self.noise.required_labels.to(self.device)

    def vote(self, name: str) -> dict[str, Any]:
        """Predictions by all 8 candidates."""
        defence, images = self.defence(name), self.images
        seconds = self.timed(lambda: defence.poll(images, stop="never"))
        return {"seconds": spread(seconds), "images_per_second": len(images) / Spread.of(seconds).median}

    def pgd(self, name: str) -> dict[str, Any]:
        """Ours as it chooses, ours in its cheaper form, and the peers."""
        network, images, labels = self.network(name), self.images, self.labels
        ours = partial(attacks.pgd, network, images, labels, Budget("Linf", EPS), steps=10, alpha=2 / 255)
        rivals: dict[str, Callable[[], object]] = {"carso": ours, "carso, fast": partial(ours, fast=True)}
        only = peers.PEERS if self.device.type == "cpu" else ("torchattacks",)
        rivals |= dict(peers.pgd(network, images, labels, EPS, 2 / 255, 10, only))
        seconds = {rival: self.timed(work) for rival, work in rivals.items()}
        found = {rival: vars(ratio(seconds, rival, "carso")) for rival in seconds}
        return {"seconds": {rival: spread(each) for rival, each in seconds.items()}, "times_carso": found}

    def training(self, name: str, kind: str) -> dict[str, Any]:
        """A step of stage 1."""
        schedule = ClassifierTraining(
            epochs=1, rate=0.01, optimiser="sgd", batch=len(self.noise), crop=4, flip=True, average=0.999, **KINDS[kind]
        )
        network = self.network(name)
        return self.step(ClassifierStage(kind, network, schedule, self.noise, self.noise[:2], self.device), schedule)

    def hardening(self, name: str) -> dict[str, Any]:
        """A step of stage 2, against ten steps of an attack on the whole defence."""
        spec = AttackSpec(attack="annealed", eps=EPS, steps=10, directed_at="defence")
        schedule = PurifierTraining(
            epochs=1,
            rate=0.001,
            batch=len(self.noise),
            attacks=(spec,),
            mixing="parts",
            feed="fresh",
            consistency=100.0,
        )
        defence = self.defence(name)
        return self.step(
            PurifierStage(
                "hardening",
                defence.representation,
                defence.purifier,
                schedule,
                self.noise,
                self.noise[:2],
                0,
                self.device,
            ),
            schedule,
        )

    def step(self, stage: Stage, schedule: Schedule) -> dict[str, Any]:
        """Seconds of a step, and of an epoch of CIFAR-10 at that rate."""
        optimisation = Optimisation(stage.module, schedule, self.rounds)
        stage.begin(0)
        stage.module.train()
        images = stage.train.images
        indices = torch.arange(stage.size, device=self.device)
        replay = steps_of(stage, optimisation)[0]

        def once() -> object:
            optimisation.prepare()
            return replay(images, indices)

        for _ in range(Replay.WARMUP if self.device.type == "cuda" else 0):
            once()
        seconds = self.timed(once)
        epoch = Spread.of(seconds).median * TRAINING_IMAGES / stage.size
        return {"seconds": spread(seconds), "batch": stage.size, "epoch_seconds": epoch}

    def timed(self, work: Callable[[], object]) -> list[float]:
        """Seconds of every round, after one that does not count."""
        found = []
        for _ in range(self.rounds + 1):
            self.wait()
            started = time.perf_counter()
            work()
            self.wait()
            found.append(time.perf_counter() - started)
        return found[1:]

    def wait(self) -> None:
        """Until the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def measured(self, work: Work) -> dict[str, Any]:
        """What a work found and the most memory that it took, or the error that it ended in."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            found = work()
        except Exception as error:
            return {"error": ": ".join([type(error).__name__, *str(error).splitlines()[:1]])}
        return found | ({"peak_bytes": torch.cuda.max_memory_allocated()} if self.device.type == "cuda" else {})


def spread(seconds: list[float]) -> dict[str, float]:
    """Median, least and largest."""
    return vars(Spread.of(seconds))


def main(bench: Bench, minutes: float, out: Path) -> None:
    """Every work for which there is time, written down as it is done."""
    deadline = time.monotonic() + 60 * minutes
    about = environment().model_dump() | {"device": name_of(bench.device), "images": len(bench.noise)}
    found: dict[str, Any] = {"environment": about, "works": {}, "left_out": []}
    for name, work in bench.works():
        if time.monotonic() > deadline:
            found["left_out"].append(name)
            continue
        found["works"][name] = bench.measured(work)
        print(name, json.dumps(found["works"][name]), flush=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def name_of(device: torch.device) -> str:
    """What the device is called."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8.5)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    sizes, images, rounds = (SMALL, 16, 2) if given.small else (SIZES, 256, 5)
    main(Bench(torch.device(given.device), sizes, images, rounds), given.minutes, given.out)
