"""Damaged files: what is read is what they say, or one short error names the file; never a hang, never much memory.

CARSO_FUZZ=500 pytest tests/fuzz/test_storage.py    # so many inputs per reader
"""

from __future__ import annotations

import copy
import json
import os
import random
import resource
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from benchmarks.runs.fuzz import log
from safetensors.torch import save_file
from tests.fuzz.damage import damaged, some_place

import carso
from carso.data import Dataset
from carso.errors import LONGEST, CarsoError
from carso.nn import MLP
from carso.nn.maps import Maps
from carso.purifier import Purifier
from carso.storage import weights
from carso.storage.tensors import read_tensors, write_tensors
from carso.training.classifier import ClassifierStage
from carso.training.experiment import Experiment
from carso.training.history import read_history
from carso.training.loop import beginning, fit
from carso.training.reading import _Loader, parse_recipe, read_recipe
from carso.training.recipe import AttackSpec, ClassifierTraining, Recipe

INPUTS = int(os.environ.get("CARSO_FUZZ", "60"))
SECONDS, BYTES = 5, 2**30
CPU = torch.device("cpu")

Read = Callable[[], Callable[[], None]]
"""Reads the file, and gives back what checks that it means what it says."""

ODD: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 7, 10**5, 10**9, 10**18, 2**100, -0.5, 0.5, 1.5, 1e-300, 1e308),
    *(float("inf"), float("nan"), "", "x", "..", "true", "1e-3", "é\udcff", "x" * 10**4),
    *([], {}, [[]], [0], [10**7] * 3, [1] * 10**3, {"x": 1}, {"": None}, json.loads("[" * 200 + "]" * 200)),
)
WORDS = ("true", "-1", "*attacks", "&a", "!!set", "{", "]", ":", "? x", "'", "1e9", "9" * 5000, "~", "2001-01-01", "<<")


def altered(tree: Any, chance: random.Random) -> Any:
    """A tree of JSON with one or two values replaced, left out, added or moved."""
    tree = copy.deepcopy(tree)
    for _ in range(chance.randint(1, 2)):
        holder, last = some_place(tree, chance)
        match chance.randrange(4):
            case 0:
                holder.pop(last, None) if isinstance(holder, dict) else holder.pop(last)
            case 1 if isinstance(holder, dict):
                holder[chance.choice(["", "x", "é", str(last).upper(), 7])] = holder.get(last)
            case _:
                holder[last] = copy.deepcopy(chance.choice(ODD))
    return tree


@contextmanager
def in_time() -> Iterator[None]:
    def too_long(*_: object) -> None:
        pytest.fail(f"took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def attempted(read: Read) -> Callable[[], None] | CarsoError:
    with in_time():
        try:
            return read()
        except CarsoError as error:
            return error


def outlast(name: str, damage: Callable[[random.Random], object], read: Read, path: Path) -> None:
    """Damage and read again and again; every outcome must be an error that names `path`, or what the file says."""
    chance, refused, before = random.Random(name), 0, peak()
    for _ in range(INPUTS):
        damage(chance)
        found = attempted(read)
        if isinstance(found, CarsoError):
            refused += 1
            assert str(path) in str(found)
            assert len(str(found)) <= LONGEST
        else:
            found()
    assert peak() - before < BYTES
    assert refused
    log(name, INPUTS - refused, refused)


@pytest.fixture(scope="module")
def defence() -> carso.CARSO:
    torch.manual_seed(0)
    maps = Maps([(1, 8, 8), (12,), (10,)], (3, 5))
    purifier = Purifier((1, 8, 8), 86, latent=6, representation=(20, 9), maps=maps)
    made = carso.CARSO(MLP((1, 8, 8), (12,), maps=(2,)), purifier, ("input", "mish1", "output"), samples=40)
    made.class_names = tuple("abcdefghij")
    return made


@pytest.fixture
def folder(defence: carso.CARSO, tmp_path: Path) -> Path:
    weights.save(defence, tmp_path, {"recipe": {"classifier": {"factory": None}}, "seed": 7})
    return tmp_path


def settings(defence: carso.CARSO) -> dict[str, Any]:
    names = "samples", "aggregation", "stop", "error", "classes"
    return {name: getattr(defence, name) for name in names} | {
        "layers": list(defence.representation.layers),
        "names": defence.class_names,
        "shape": list(defence.purifier.shape),
        "latent": defence.purifier.latent,
        "weights": weights.digest(defence),
    }


def reheaded(content: bytes, chance: random.Random) -> bytes:
    """A safetensors file with another JSON header, of the right length."""
    size = struct.unpack("<Q", content[:8])[0]
    header = json.dumps(altered(json.loads(content[8 : 8 + size]), chance)).encode()
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


@pytest.mark.parametrize("file", [weights.CLASSIFIER, weights.PURIFIER])
@pytest.mark.parametrize("damage", [damaged, reheaded])
def test_damaged_weights_are_the_same_or_refused(
    defence: carso.CARSO, folder: Path, file: str, damage: Callable[[bytes, random.Random], bytes]
) -> None:
    path, expected = folder / file, settings(defence)
    content = path.read_bytes()

    def read() -> Callable[[], None]:
        found = settings(carso.load(folder))
        return lambda: pytest.fail("changed") if found != expected else None

    outlast(f"{file}, {damage.__name__}", lambda chance: path.write_bytes(damage(content, chance)), read, path)


DTYPES = ("F64", "F16", "BF16", "I32", "U8", "BOOL", "I64", "U64", "U16", "F8_E4M3", "F8_E8M0", "F4", "C64", "I8", "F0")


def retagged(content: bytes, chance: random.Random) -> bytes:
    """A safetensors file with another dtype for one tensor, and perhaps the shape that its bytes then have."""
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    tensor = header[chance.choice(sorted(header.keys() - {"__metadata__"}))]
    tensor["dtype"] = chance.choice(DTYPES)
    start, end = tensor["data_offsets"]
    tensor["shape"] = chance.choice([tensor["shape"], [(end - start) // chance.choice([1, 2, 8])]])
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + size :]


def test_weights_from_before_there_were_digests_fit_or_are_refused(defence: carso.CARSO, folder: Path) -> None:
    path = folder / weights.PURIFIER
    tensors, about = read_tensors(path, "purifier")
    tensors = {name: value.clone() for name, value in tensors.items()}
    save_file(tensors, path, metadata={"carso": json.dumps(about)})
    content = path.read_bytes()

    def read() -> Callable[[], None]:
        found = settings(carso.load(folder)) | {"weights": weights.digest(defence)}
        return lambda: None if found == settings(defence) else pytest.fail("changed")

    outlast("purifier.safetensors, retagged", lambda chance: path.write_bytes(retagged(content, chance)), read, path)


def test_a_forged_purifier_is_what_it_says_or_refused(defence: carso.CARSO, folder: Path) -> None:
    """Its description is changed and signed anew, as another program might write it."""
    path = folder / weights.PURIFIER
    tensors, about = read_tensors(path, "purifier")
    tensors = {name: value.clone() for name, value in tensors.items()}

    def read() -> Callable[[], None]:
        found = settings(carso.load(folder))
        said = read_tensors(path, "purifier")[1]
        wanted = {name: said[name] for name in ("samples", "aggregation", "stop", "error", "layers", "shape", "latent")}
        wanted |= {"names": tuple(said["classes"]) if said.get("classes") else None}
        return lambda: pytest.fail("changed") if settings(defence) | wanted != found else None

    outlast(
        "purifier.safetensors, forged",
        lambda chance: write_tensors(path, tensors, {"kind": "purifier"} | altered(about, chance)),
        read,
        path,
    )


def test_a_forged_classifier_is_what_it_says_or_refused(defence: carso.CARSO, folder: Path) -> None:
    path = folder / weights.CLASSIFIER
    tensors, about = read_tensors(path, "classifier")
    tensors = {name: value.clone() for name, value in tensors.items()}

    def read() -> Callable[[], None]:
        found = weights.load_classifier(path)
        said = read_tensors(path, "classifier")[1]["options"]
        assert isinstance(found, MLP)
        same = weights.digest(found) == weights.digest(defence.classifier)
        same &= all(value == said[name] for name, value in found.options.items() if name in said)
        return lambda: None if same else pytest.fail("changed")

    outlast(
        "classifier.safetensors, forged",
        lambda chance: write_tensors(path, tensors, {"kind": "classifier"} | altered(about, chance)),
        read,
        path,
    )


def stage(epochs: int) -> ClassifierStage:
    images, labels = torch.rand(32, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(32) % 3
    few = Dataset("few", images, labels, ("a", "b", "c"))
    with beginning(1, "start"):
        model = MLP((1, 4, 4), (8,), 3)
    attacks = (AttackSpec(attack="fgsm", eps=0.1),)
    schedule = ClassifierTraining(epochs=3, batch=16, rate=0.05, average=0.9, attacks=attacks, shape="plateau")
    return ClassifierStage("n", model, schedule.model_copy(update={"epochs": epochs}), few, few, CPU)


@pytest.mark.parametrize("damage", [damaged, reheaded])
def test_a_damaged_checkpoint_leads_to_the_same_end_or_is_refused(
    tmp_path: Path, damage: Callable[[bytes, random.Random], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, whole = tmp_path / "c", stage(3)
    fit(stage(2), 0, "f", path)
    content, history = path.read_bytes(), fit(whole, 0, "f")
    monkeypatch.setattr("carso.training.loop.save_checkpoint", lambda *_: None)

    def read() -> Callable[[], None]:
        again = stage(3)
        found = fit(again, 0, "f", path)
        same = weights.digest(again.module) == weights.digest(whole.module)
        return lambda: pytest.fail("changed") if not same or found != history else None

    outlast(f"checkpoint, {damage.__name__}", lambda chance: path.write_bytes(damage(content, chance)), read, path)


def test_a_forged_checkpoint_is_what_it_says_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c"
    fit(stage(2), 0, "f", path)
    tensors, about = read_tensors(path, "checkpoint")
    tensors = {name: value.clone() for name, value in tensors.items()}
    monkeypatch.setattr("carso.training.loop.save_checkpoint", lambda *_: None)

    def read() -> Callable[[], None]:
        found = fit(stage(3), 0, "f", path)
        said = read_tensors(path, "checkpoint")[1]
        kept = found[: len(said["history"])]
        return lambda: pytest.fail("changed") if repr(kept) != repr(floats(said["history"])) else None

    outlast(
        "checkpoint, forged",
        lambda chance: write_tensors(path, tensors, {"kind": "checkpoint"} | altered(about, chance)),
        read,
        path,
    )


def floats(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: float(v) if name != "stage" else v for name, v in entry.items()} for entry in entries]


HISTORY = [
    {"stage": name, "epoch": float(epoch), "rate": 0.01, "loss": 0.5 / epoch, "validation_loss": 3.25}
    for name in ("purifier", "hardening")
    for epoch in (1, 2, 3)
]


def as_json(content: bytes, chance: random.Random) -> bytes:
    """JSON with other values."""
    return json.dumps(altered(json.loads(content), chance)).encode()


@pytest.mark.parametrize("damage", [damaged, as_json])
def test_a_damaged_history_is_what_it_says_or_refused(
    tmp_path: Path, damage: Callable[[bytes, random.Random], bytes]
) -> None:
    path, content = tmp_path / "history.json", json.dumps(HISTORY, indent=1).encode()

    def read() -> Callable[[], None]:
        found, said = read_history(tmp_path), json.loads(path.read_text(encoding="utf-8"))
        return lambda: pytest.fail("changed") if repr(found) != repr(floats(said)) else None

    outlast(f"history.json, {damage.__name__}", lambda chance: path.write_bytes(damage(content, chance)), read, path)


RECIPE = """name: fuzzed
base: quick
seed: 3
samples: 900
classifier: {hidden: [20, 10], dropout: 0.1}
adversarial:
  epochs: 4
  rate: 1e-2
  attacks: &attacks
  - {attack: fgsm, eps: 0.15}
  - {attack: pgd, eps: 0.3, steps: 40, alpha: 0.01}
purification: {epochs: 6, rate: 0.004, average: 0.999, feed: fresh, labels: true, attacks: *attacks}
"""


def retyped(content: bytes, chance: random.Random) -> bytes:
    """Text as people mistype it: a word replaced, a line moved, repeated, indented or left out."""
    lines = content.decode().splitlines()
    for _ in range(chance.randint(1, 2)):
        at = chance.randrange(len(lines))
        words = lines[at].split(" ")
        match chance.randrange(5):
            case 0:
                words[chance.randrange(len(words))] = chance.choice(WORDS)
                lines[at] = " ".join(words)
            case 1:
                lines.insert(chance.randrange(len(lines)), lines[at])
            case 2:
                lines[at] = chance.choice(["  ", "\t", "- "]) + lines[at]
            case 3:
                del lines[at]
            case _:
                lines[at] = lines[at].replace(chance.choice(": ,{}[]"), chance.choice(["", ":", " ", "{", "[", "#"]), 1)
        lines = lines or [""]
    return "\n".join(lines).encode()


def as_yaml(content: bytes, chance: random.Random) -> bytes:
    """YAML with other values."""
    tree = altered(yaml.load(content, Loader=_Loader), chance)
    return yaml.safe_dump(tree).encode("utf-8", "surrogateescape")


def agrees(given: Any, found: Any) -> bool:
    """Whether every value that was given is there, as it was given."""
    if isinstance(given, dict):
        return isinstance(found, dict) and all(agrees(value, found.get(name)) for name, value in given.items())
    if isinstance(given, list):
        return isinstance(found, list) and len(given) == len(found) and all(map(agrees, given, found))
    return bool(given == found and isinstance(given, bool) == isinstance(found, bool))


@pytest.mark.parametrize("damage", [damaged, retyped, as_yaml])
def test_a_damaged_recipe_is_what_it_says_or_refused(
    tmp_path: Path, damage: Callable[[bytes, random.Random], bytes]
) -> None:
    path = tmp_path / "recipe.yaml"

    def read() -> Callable[[], None]:
        found = read_recipe(path)
        given = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
        given.pop("base", None)
        if agrees({"purification": {"labels": True}}, given):
            given["purification"]["labels"] = "true"
        again = parse_recipe(found.to_yaml(), "resolved")
        whole = agrees(given, found.model_dump(mode="json")) and again == found
        return lambda: None if whole else pytest.fail("changed")

    outlast(
        f"recipe.yaml, {damage.__name__}",
        lambda chance: path.write_bytes(damage(RECIPE.encode(), chance)),
        read,
        path,
    )


def test_a_damaged_recipe_of_a_run_is_the_same_or_refused(tmp_path: Path) -> None:
    path, recipe = tmp_path / "recipe.yaml", parse_recipe(RECIPE, "test")
    content = recipe.to_yaml()

    def read() -> Callable[[], None]:
        Experiment(recipe, tmp_path, CPU).open()
        return lambda: pytest.fail("changed") if path.read_text(encoding="utf-8") != content else None

    def damage(chance: random.Random) -> None:
        path.write_bytes(damaged(content.encode(), chance))

    assert isinstance(recipe, Recipe)
    outlast("recipe.yaml of a run", damage, read, path)
