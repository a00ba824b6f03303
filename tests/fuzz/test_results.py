"""Damaged results, audits, records and states: what is read is what stands there, or one short error names the file.

CARSO_FUZZ=500 pytest tests/fuzz/test_results.py    # so many inputs per reader and kind of damage
"""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.runs.fuzz import log
from tests.efforts import shorten
from tests.fuzz.damage import damaged, some_place
from torch import Tensor

from carso import CARSO
from carso.audit import audit, keeping, read_audit
from carso.data import Dataset
from carso.errors import RunError
from carso.evaluation import Row, Settings, evaluate, read_records, read_results
from carso.evaluation.records import FILE
from carso.nn import MLP
from carso.purifier import Purifier
from carso.storage.tensors import read_tensors, write_tensors
from carso.types import Budget

INPUTS = int(os.environ.get("CARSO_FUZZ", "60"))
LONGEST = 600
SHAPE = (1, 6, 6)
PGD = Row("pgd", Budget("Linf", 0.2), options={"steps": 2})
BUDGET = Budget("Linf", 0.2)
KINDS = {FILE: "evaluation", "state/Linf-0.2.safetensors": keeping.KIND}

ODD: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 7, 10**5, 10**18, 2**100, -0.5, 0.5, 1.5, 1e-300, 1e308),
    *(float("inf"), float("nan"), "", "x", "true", "3", "1e-3", "é", "x" * 10**4),
    *([], {}, [[]], [0], [10**7] * 3, {"x": 1}, {"": None}, {"$tensor": "labels"}, json.loads("[" * 200 + "]" * 200)),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset]:
    """A folder with the evaluation and the audit of tiny random networks, and their images."""
    folder = tmp_path_factory.mktemp("run")
    with torch.random.fork_rng(), pytest.MonkeyPatch.context() as patch:
        torch.manual_seed(0)
        shorten(patch, "quick", n=20, tuning=5)
        bare, n = (MLP(SHAPE, hidden=(12, 8), classes=4).eval() for _ in range(2))
        columns = {"adversarially_trained": n, "carso": CARSO(n, Purifier(SHAPE, neurons=24, latent=3), samples=20)}
        images = torch.rand(20, *SHAPE)
        dataset = Dataset("noise", images, bare(images).argmax(1), tuple("0123"))
        settings = Settings(curve_images=5, sweep_images=5)
        rows = (Row("none"), PGD)
        evaluate(columns, dataset, rows, settings, directory=folder, curve_rows=rows[:1], sweep_rows=rows)
        audit(bare, dataset, effort="quick", eps=(0.2,), n=20, out=folder)
    return folder, dataset


Reader = Callable[[Path, Dataset], Any]


def state(path: Path, dataset: Dataset) -> Any:
    """As a broken-off audit goes on from it, whatever it says of whose it is."""
    _, about = read_tensors(path, keeping.KIND)
    found = keeping.read(path.parents[1], BUDGET, str(about.get("identity")), dataset.images)
    assert found is not None
    found.standing()
    return about


def records(path: Path, _: Dataset) -> Any:
    found = read_records(path)
    found.results()
    for record in found.rows.values():
        for outcome in record.outcomes.values():
            found.confusion(outcome)
    return {"records": found.model_dump()}


READERS: dict[str, Reader] = {
    "results.json": lambda path, _: read_results(path).model_dump(),
    "audit.json": lambda path, _: read_audit(path).model_dump(),
    FILE: records,
    "state/Linf-0.2.safetensors": state,
}


def told(read: Reader, path: Path, dataset: Dataset) -> Any:
    """What is read; None where one short line names the file and says more."""
    try:
        return read(path, dataset)
    except RunError as error:
        said = str(error)
    assert path.name in said or "another target" in said
    assert "\n" not in said
    assert len(said) < LONGEST
    return None


def altered(tree: Any, chance: random.Random) -> Any:
    """A tree of JSON of which one or two values are lost or replaced by others."""
    tree = copy.deepcopy(tree)
    for _ in range(chance.randint(1, 2)):
        holder, last = some_place(tree, chance)
        if chance.random() < 0.3:
            holder.pop(last, None) if isinstance(holder, dict) else holder.pop(last)
        else:
            holder[last] = copy.deepcopy(chance.choice(ODD))
    return tree


def spoiled(tensors: dict[str, Tensor], chance: random.Random) -> dict[str, Tensor]:
    """Tensors of which one is lost, or has another name, shape, dtype or range."""
    tensors = dict(tensors)
    name = chance.choice(sorted(tensors))
    value = tensors.pop(name)
    forms: tuple[Callable[[Tensor], dict[str, Tensor]], ...] = (
        lambda value: {},
        lambda value: {f"{name}x": value},
        lambda value: {name: value[:1].clone()},
        lambda value: {name: value[None].clone()},
        lambda value: {name: value.flatten()[:0].clone()},
        lambda value: {name: value.double()},
        lambda value: {name: value.float() * torch.nan},
        lambda value: {name: -value.long() - 1},
        lambda value: {name: value.long() + 10**6},
    )
    return tensors | chance.choice(forms)(value)


def agrees(found: Any, written: Any) -> bool:
    """Whether what was read is what stands in the file, where both say something."""
    if isinstance(found, dict) and isinstance(written, dict):
        return all(agrees(found[key], written[key]) for key in found.keys() & written.keys())
    if isinstance(found, list | tuple) and isinstance(written, list | tuple):
        return len(found) == len(written) and all(map(agrees, found, written))
    alike = isinstance(found, bool) == isinstance(written, bool) and (found == written or repr(found) == repr(written))
    return isinstance(found, Tensor) or bool(alike)


@pytest.mark.parametrize("name", READERS)
def test_damaged_bytes(name: str, run: tuple[Path, Dataset], tmp_path: Path) -> None:
    folder, dataset = run
    content, path = (folder / name).read_bytes(), tmp_path / name
    path.parent.mkdir(exist_ok=True)
    read = 0
    for seed in range(INPUTS):
        path.write_bytes(damaged(content, random.Random(seed)))
        read += told(READERS[name] if name not in KINDS else undigested(name), path, dataset) is not None
    log(f"{name}, bytes", read, INPUTS - read)


def undigested(name: str) -> Reader:
    """A reader of a file whose tensors may be gone before it is asked whose they are."""
    if name == FILE:
        return READERS[name]
    return lambda path, dataset: keeping.read(path.parents[1], BUDGET, "", dataset.images)


@pytest.mark.parametrize("name", ["results.json", "audit.json"])
def test_altered_fields(name: str, run: tuple[Path, Dataset], tmp_path: Path) -> None:
    folder, dataset = run
    tree, path = json.loads((folder / name).read_bytes()), tmp_path / name
    read = 0
    for seed in range(INPUTS):
        written = altered(tree, random.Random(seed))
        path.write_text(json.dumps(written))
        found = told(READERS[name], path, dataset)
        read += found is not None
        assert found is None or agrees(found, written), seed
    assert 0 < read < INPUTS
    log(f"{name}, fields", read, INPUTS - read)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("part", ["header", "tensors"])
def test_altered_records(name: str, part: str, run: tuple[Path, Dataset], tmp_path: Path) -> None:
    folder, dataset = run
    tensors, about = read_tensors(folder / name, KINDS[name])
    path = tmp_path / name
    read = 0
    for seed in range(INPUTS):
        chance = random.Random(seed)
        written = {**altered(about, chance), "kind": KINDS[name]} if part == "header" else about
        write_tensors(path, tensors if part == "header" else spoiled(tensors, chance), written)
        found = told(READERS[name], path, dataset)
        read += found is not None
        assert found is None or agrees(found, written), seed
    assert read < INPUTS
    log(f"{name}, {part}", read, INPUTS - read)
