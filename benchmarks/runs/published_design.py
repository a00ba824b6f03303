"""The published CARSO attacked three ways: through its aggregation, before it, and by an audit.

    python -m benchmarks.runs.published_design out/cifar10-published
    python -m benchmarks.runs.published_design out/cifar10-published --images 200 --eot 5 --only peel before

Every attack is AutoAttack's `rand` (package pyautoattack, its own code, NaN left as it is); an image counts as right if
one fresh answer to it is. The attacks:

    clean                                       none
    mode, mean-logit, mean-probability, peel    the published protocol: through that aggregation of the candidates
    before                                      on the candidates' mean log-probability; each of the four answers
    classifier                                  on N alone
    copies                                      on N alone behind peel over alike candidates: no defence at all

Whatever is done of `--out` is kept and gone on from; the audits lie beside it, a folder each. Weights of
`published_short.py` say how they were trained, and the record repeats it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, get_args

import torch
from benchmarks.runs.published_short import TRAINING
from torch import Tensor

from carso import CARSO, data, vote
from carso.attacks.eot import Aggregate, Candidates, Expectation, calls
from carso.audit import audit
from carso.audit.autoattack import unguarded
from carso.audit.effort import Effort
from carso.data import Dataset
from carso.errors import RunError
from carso.evaluation.environment import environment
from carso.evaluation.results import Rate
from carso.evaluation.seeding import seeded
from carso.fast import faster
from carso.progress import track
from carso.storage import weights
from carso.storage.files import write_text
from carso.types import Budget, Classifier, Images, Labels, radius
from carso.vote import Aggregation

FILE = "protocol.json"
PUBLISHED: tuple[Aggregation, ...] = ("mode", "mean-logit", "mean-probability", "peel")
ATTACKS = ("clean", "classifier", "copies", "before", *PUBLISHED)

Answer: TypeAlias = Callable[[Images], Labels]
Found: TypeAlias = dict[str, Any]


def through(aggregation: Aggregation) -> Aggregate:
    """An aggregation as who follows its gradient sees it; that of counts is zero."""
    aggregate = vote.AGGREGATES[aggregation]
    return (lambda logits: aggregate(logits) + 0 * logits.mean(1)) if aggregation == "mode" else aggregate


def copies(candidates: Candidates) -> Candidates:
    """As many alike candidates as are asked for."""
    return lambda images, samples: candidates(images, 1).expand(-1, samples, -1)


def followed(defence: CARSO, images: Images) -> dict[str, Classifier]:
    """What each attack differentiates."""
    quick, bare = faster(defence, images), calls(defence.classifier)

    def whole(images: Tensor, samples: int) -> Tensor:
        logits: Tensor = quick.logits(images, latents=defence.latents(samples))
        return logits

    models = {"classifier": Expectation(bare), "copies": Expectation(copies(bare), defence.samples, vote.peel)}
    models["before"] = Expectation(whole, defence.samples)
    return {**models, **{name: Expectation(whole, defence.samples, through(name)) for name in PUBLISHED}}


def answers(defence: CARSO, attack: str) -> dict[str, Answer]:
    """Who is asked about what an attack found."""

    def by(aggregation: Aggregation) -> Answer:
        def answer(images: Images) -> Labels:
            defence.aggregation = aggregation
            return defence.predict(images)

        return answer

    def bare(images: Images) -> Labels:
        with torch.no_grad():
            labels: Tensor = defence.classifier(images).argmax(1)
        return labels

    asked: dict[str, Answer] = {} if attack in PUBLISHED else {"classifier": bare}
    if attack in ("clean", "before"):
        return asked | {name: by(name) for name in PUBLISHED}
    return asked or {name: by(name) for name in PUBLISHED if name == attack}


class Protocol:
    """The published protocol under way, kept after every batch.

    Args:
        defence: whose aggregations are attacked; it takes all its samples.
        dataset: labelled images.
        settings: what decides the figures: n, seed, batch, eps, eot, and what they are of.
        out: the file.
    """

    def __init__(self, defence: CARSO, dataset: Dataset, settings: Found, out: Path) -> None:
        self.defence, self.settings, self.out = defence, settings, out
        self.images, self.labels = dataset.images[: settings["n"]], dataset.required_labels[: settings["n"]]
        self.models = followed(defence, self.images)
        self.found: Found = {"settings": settings, "environment": environment().model_dump(), "attacks": {}}
        if out.exists():
            self.found = json.loads(out.read_text(encoding="utf-8"))
            if self.found["settings"] != settings:
                raise RunError(f"{out} was made with other settings; choose another --out, or delete it")

    def run(self, attack: str) -> None:
        """One attack, from where it stands."""
        about = self.found["attacks"].setdefault(attack, {"done": 0, "seconds": 0.0, "right": {}})
        starts = range(about["done"], len(self.images), self.settings["batch"])
        for start in track(starts, f"{attack}, {len(self.images)} images"):
            began, batch = time.perf_counter(), slice(start, start + self.settings["batch"])
            for name, right in self._batch(attack, self.images[batch], self.labels[batch], start).items():
                about["right"][name] = about["right"].get(name, 0) + right
            about["done"] = min(batch.stop, len(self.images))
            about["seconds"] = round(about["seconds"] + time.perf_counter() - began, 2)
            about["rates"] = {
                name: Rate.of(right, about["done"]).model_dump() for name, right in about["right"].items()
            }
            write_text(self.out, json.dumps(self.found, indent=1) + "\n")

    def _batch(self, attack: str, images: Images, labels: Labels, start: int) -> dict[str, int]:
        """Right answers, by who gave them."""
        budget = Budget("Linf", self.settings["eps"])
        with seeded(self.settings["seed"], attack, start) as generator:
            if attack != "clean":
                seed = int(torch.randint(2**31, (), generator=generator))
                images = unguarded(self.models[attack], images, labels, budget, "rand", seed, self._eot(attack))
            asked = answers(self.defence, attack)
            return {name: int((answer(images) == labels).sum()) for name, answer in asked.items()}

    def _eot(self, attack: str) -> int:
        """Of N alone every gradient is the same."""
        return 1 if attack in ("classifier", "copies") else int(self.settings["eot"])


def audits(defence: CARSO, dataset: Dataset, given: argparse.Namespace) -> None:
    """N, and the defence by each aggregation, audited as wholes."""
    options = {"effort": given.effort, "eps": (given.eps,), "n": given.audit_images, "seed": given.seed}

    def audited(subject: Any, name: str) -> None:
        found = audit(subject, dataset, **options, name=name, out=given.out / f"audit-{name}")
        raised = [check.name for check in found.raised]
        print("audit", name, found.budgets[0].worst_case.accuracy, raised, flush=True)

    if "classifier" in given.only:
        audited(defence.classifier, "classifier")
    for aggregation in (each for each in PUBLISHED if each in given.only):
        defence.aggregation = aggregation
        audited(defence, aggregation)


def main(given: argparse.Namespace) -> None:
    """The protocol, then the audits."""
    defence, test = weights.load(given.name), data.load(given.data, "test")
    defence.stop = "never"
    settings = {"n": given.images, "seed": given.seed, "batch": given.batch, "eps": given.eps, "eot": given.eot}
    of = {"weights": weights.digest(defence), "samples": defence.samples, "data": test.name}
    of["classifier"] = weights.about(weights.find(given.name) / weights.CLASSIFIER, "classifier")["options"]
    trained = weights.find(given.name) / TRAINING
    if trained.exists():
        of["training"] = json.loads(trained.read_text(encoding="utf-8"))
    protocol = Protocol(defence, test, settings | of, given.out / FILE)
    for attack in (name for name in ATTACKS if name in given.only):
        protocol.run(attack)
        for name, rate in protocol.found["attacks"][attack]["rates"].items():
            print(attack, name, rate["accuracy"], flush=True)
    if given.audit:
        audits(defence, test, given)


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("name", help="a shipped defence or a folder of weights")
    options.add_argument("--data", default="cifar10")
    options.add_argument("--out", type=Path, default=Path("benchmarks/results/published"))
    options.add_argument("--eps", type=radius, default=8 / 255)
    options.add_argument("--images", type=int, default=1000)
    options.add_argument("--batch", type=int, default=50, help="images attacked at a time")
    options.add_argument("--eot", type=int, default=20)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", nargs="+", choices=ATTACKS, default=ATTACKS, help="which attacks and audits")
    options.add_argument("--no-audit", dest="audit", action="store_false")
    options.add_argument("--effort", choices=get_args(Effort), default="standard")
    options.add_argument("--audit-images", type=int, default=1000)
    return options


if __name__ == "__main__":
    main(parser().parse_args())
