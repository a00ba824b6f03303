"""The verbs carried out by two and four processes, and what they leave beside what one process leaves."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.processes.conftest import Launch

from carso.storage.claim import claim

MLP = """name: mlp
data: data
classifier: {hidden: [20, 10]}
adversarial:
  epochs: 2
  batch: 50
  batches: 2
  rate: 0.02
  crop: 1
  flip: true
  attacks: [{attack: pgd, eps: 0.1, steps: 3}, {attack: n-fgsm, eps: 0.3, norm: L2}]
"""
TRADES = """name: trades
data: data
classifier: {architecture: resnet, width: 4, blocks: [1, 1]}
adversarial:
  {epochs: 1, batch: 26, batches: 2, rate: 0.02, trades: 6, attacks: [{attack: pgd, eps: 0.1, steps: 2}]}
"""
DEFENCE = """name: defence
data: data
samples: 30
classifier: {hidden: [20, 10]}
adversarial: {epochs: EPOCHS, batch: 40, rate: 0.02, attacks: [{attack: n-fgsm, eps: 0.05}]}
purification:
  {epochs: 3, batch: 48, batches: 8, rate: 0.001, optimiser: sgd, attacks: [{attack: pgd, eps: 0.1, steps: 3}]}
hardening:
  epochs: 2
  batch: 50
  batches: 3
  rate: 0.001
  optimiser: sgd
  feed: fresh
  mixing: parts
  consistency: 1.0
  attacks: [{attack: pgd, eps: 0.1, steps: 3}, {attack: pgd, eps: 0.1, steps: 2, directed_at: defence}]
"""
"""Under SGD: RAdam makes steps of full length of gradients that are zero but for rounding."""
PASSING = {"seconds", "environment", "command"}


def told(path: Path) -> Any:
    """What a file of results says, but for times and places."""

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: without(part) for name, part in value.items() if name not in PASSING}
        return [without(part) for part in value] if isinstance(value, list) else value

    return without(json.loads(path.read_text()))


def check_alike(place: Path, name: str, file: str, processes: int, tolerance: float) -> None:
    ours, theirs = (load_file(place / f"{name}-{count}" / file) for count in (1, processes))
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        torch.testing.assert_close(theirs[key], value, rtol=tolerance, atol=tolerance, equal_nan=True, msg=key)


def commands(counts: tuple[int, ...], name: str, *arguments: str) -> list[tuple[int, list[str]]]:
    return [(count, [*arguments, "--out", f"{name}-{count}"]) for count in counts]


def test_a_classifier_learns_alike(place: Path, launch: Launch) -> None:
    (place / "mlp.yaml").write_text(MLP)
    assert launch(commands((1, 2), "mlp", "train", "classifier", "mlp.yaml")) == [[0], [0, 0]]
    check_alike(place, "mlp", "classifier.safetensors", 2, 1e-5)
    assert not (place / "2-1.log").read_text()


@pytest.mark.slow
def test_whole_defences_learn_alike(place: Path, launch: Launch) -> None:
    (place / "trades.yaml").write_text(TRADES)
    (place / "defence.yaml").write_text(DEFENCE.replace("EPOCHS", "2"))
    counts = (1, 2, 4)
    verbs = commands(counts, "trades", "train", "classifier", "trades.yaml")
    verbs += commands(counts, "defence", "train", "purifier", "defence.yaml")
    assert {status for statuses in launch(verbs) for status in statuses} == {0}
    for processes in counts[1:]:
        check_alike(place, "trades", "classifier.safetensors", processes, 1e-5)
        for file in ("classifier", "purifier"):
            check_alike(place, "defence", f"{file}.safetensors", processes, 1e-4)


@pytest.mark.slow
def test_records_are_identical(place: Path, launch: Launch) -> None:
    (place / "seen.yaml").write_text(DEFENCE.replace("EPOCHS", "10"))
    counts, given = (1, 2, 4), ("--data", "data", "--images")
    verbs = [(1, ["train", "purifier", "seen.yaml", "--out", "seen"])]
    verbs += commands(counts, "evaluated", "evaluate", "seen", *given, "30", "--chunk", "8")
    whole = commands(counts, "audited", "audit", "seen", *given, "24", "--chunk", "4", "--effort", "quick")
    verbs += [(count, [*arguments, "--eps", "0.1"]) for count, arguments in whole]
    statuses = launch(verbs)
    assert {status for some in statuses[:4] for status in some} == {0}
    assert all(len(set(some)) == 1 for some in statuses)
    for processes in counts[1:]:
        check_alike(place, "evaluated", "records.safetensors", processes, 0)
        check_alike(place, "audited", "state/Linf-0.1.safetensors", processes, 0)
        for file in ("evaluated-{}/results.json", "audited-{}/audit.json"):
            assert told(place / file.format(processes)) == told(place / file.format(1))


@pytest.mark.slow
def test_what_is_wrong_is_said_once(place: Path, launch: Launch) -> None:
    (place / "mlp.yaml").write_text(MLP)
    (place / "small.yaml").write_text(MLP.replace("batch: 50", "batch: 3"))
    with claim(place / "held"):
        statuses = launch(
            [
                (2, ["train", "classifier", "mlp.yaml", "--out", "held"]),
                (2, ["harden", "x:y"]),
                (4, ["train", "classifier", "small.yaml"]),
            ]
        )
    assert {status for some in statuses for status in some} == {2}
    said = (place / "2-0.log").read_text() + (place / "4-0.log").read_text()
    assert said.count("held is in use by process") == 1
    assert said.count("start it without torchrun") == 1
    assert said.count("4 processes share a batch of 3 images") == 1
