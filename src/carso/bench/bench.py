"""The bench: every race, its ratios, its distance from the machine's limit, and what came out as JSON.

share of the limit = least time of the work's matrix products alone / least time of the work
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

import torch
from rich.console import Console
from rich.table import Table

from carso import data
from carso.bench import works
from carso.bench.machine import bandwidth, product_rate, product_seconds
from carso.bench.race import Spread, race, ratio
from carso.bench.works import Work
from carso.defence import CARSO
from carso.evaluation.environment import environment
from carso.files import write_text
from carso.nn.products import product_dtype

PEERS = ("torchattacks", "foolbox", "adversarial-robustness-toolbox")

Report: TypeAlias = dict[str, Any]


def bench(defence: CARSO, out: Path | None = None, *, images: int = 1000, rounds: int = 5) -> Report:
    """Run every race on MNIST's test images, print the ratios and write them to `out`.

    Args:
        defence: whose classifier is attacked, and which predicts.
        out: the JSON file; None to keep nothing.
        images: how many are attacked; a tenth of them is predicted with every stop.
        rounds: of each race.
    """
    found: Report = {"environment": environment().model_dump(), "peers": dict(_peers()), "machine": _machine()}
    found["images"], found["rounds"] = images, rounds
    found["works"] = [_measured(work, rounds) for work in _works(defence, images)]
    _print(found)
    if out is not None:
        write_text(out, json.dumps(found, indent=1) + "\n")
    return found


def _works(defence: CARSO, images: int) -> Iterator[Work]:
    test = data.load("mnist", "test")
    some, labels = test.images[:images], test.required_labels[:images]
    yield works.pgd(defence.classifier, some, labels)
    yield works.deepfool(defence.classifier, some, labels)
    yield works.prediction(defence, some[: max(1, images // 10)])
    yield works.training(defence.classifier, some, labels)


def _measured(work: Work, rounds: int) -> Report:
    seconds = race(work.name, work.contestants, rounds)
    entry: Report = {
        "work": work.name,
        "seconds": {name: asdict(Spread.of(values)) for name, values in seconds.items()},
        "ratios": {name: asdict(ratio(seconds, name, work.ours)) for name in seconds if name != work.ours},
    }
    if work.check is not None:
        figures = {name: work.check(contestant()) for name, contestant in work.contestants.items()}
        ours = figures[work.ours]
        entry["check"] = {"figures": figures, "agree": all(abs(f - ours) <= work.within for f in figures.values())}
    if work.products:
        best = min(seconds[work.ours])
        entry["limits"] = {
            str(dtype).removeprefix("torch."): work.repeats * product_seconds(work.products, dtype) / best
            for dtype in {torch.float32, product_dtype(torch.device("cpu"))}
        }
    return entry


def _machine() -> Report:
    dtypes = {torch.float32, product_dtype(torch.device("cpu"))}
    rates = {str(dtype).removeprefix("torch."): product_rate(dtype) for dtype in dtypes}
    return {"products_per_second": rates, "bytes_per_second": bandwidth()}


def _peers() -> Iterator[tuple[str, str]]:
    for peer in PEERS:
        try:
            yield peer, version(peer)
        except PackageNotFoundError:
            yield peer, "not installed: pip install 'carso[bench]'"


def _print(found: Report) -> None:
    machine = found["machine"]
    rates = ", ".join(f"{name} {rate / 1e9:,.0f} GFLOP/s" for name, rate in machine["products_per_second"].items())
    table = Table(
        title="Time of each contestant; ratios to ours are medians of the rounds, with least and largest",
        caption=f"{found['environment']['cpu']}, {found['environment']['threads']} threads; matrix products: {rates}; "
        f"memory {machine['bytes_per_second'] / 1e9:.0f} GB/s",
    )
    for heading in ("work", "contestant", "seconds", "ratio to ours", "agrees", "share of the limit"):
        table.add_column(heading, justify="left" if heading in ("work", "contestant") else "right")
    for entry in found["works"]:
        table.add_section()
        for i, (name, seconds) in enumerate(entry["seconds"].items()):
            times = entry["ratios"].get(name)
            spread = "1" if times is None else f"{times['median']:.2f} [{times['least']:.2f}, {times['largest']:.2f}]"
            figure = f"{entry['check']['figures'][name]:.1f}" if "check" in entry else ""
            limits = ", ".join(f"{dtype} {share:.2f}" for dtype, share in entry.get("limits", {}).items())
            work, share = entry["work"] if i == 0 else "", limits if times is None else ""
            table.add_row(work, name, f"{seconds['median']:.3f}", spread, figure, share)
    Console().print(table)
    for peer, which in found["peers"].items():
        if which.startswith("not installed"):
            Console().print(f"left out: {peer} ({which})")
