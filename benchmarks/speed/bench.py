"""The bench: every race, its ratios, its distance from the machine's limit, and what came out as JSON.

share of the limit = least time of the work's matrix products alone / least time of the work
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any, TypeAlias

import torch
from benchmarks.speed import convolutional, peers, works
from benchmarks.speed.agreement import agreement
from benchmarks.speed.machine import bandwidth, product_rate, product_seconds
from benchmarks.speed.profiles import profiles
from benchmarks.speed.race import Clock, Contestant, Spread, race, ratio
from benchmarks.speed.scaling import apart, scaling
from benchmarks.speed.works import Work
from rich.console import Console
from rich.table import Table

from carso import data
from carso.defence import CARSO
from carso.errors import DataError
from carso.evaluation.environment import environment
from carso.fast import product_dtype
from carso.storage.files import write_text

Report: TypeAlias = dict[str, Any]

RACES: Mapping[str, Callable[[CARSO, int], Work]] = {
    "pgd": lambda defence, n: works.pgd(defence.classifier, *_labelled(n)),
    "deepfool": lambda defence, n: works.deepfool(defence.classifier, *_labelled(n)),
    "vote": lambda defence, n: works.prediction(defence, works.images_of_every_row(defence, _test(n // 50))),
    "training": lambda defence, n: works.training(
        defence.classifier, data.load("mnist", "train")[: 60 * n], data.load("mnist", "validation")[:n]
    ),
    "pgd-resnet": lambda _, n: convolutional.pgd_resnet(n // 10),
    "pgd-cnn": lambda _, n: convolutional.pgd_cnn(n // 10),
    "vote-convolutional": lambda _, n: convolutional.vote_convolutional(64 * n // 1000),
    "training-resnet": lambda _, n: convolutional.training_resnet(n // 2),
    "fresh": lambda defence, n: works.fresh(defence, _test(1).images[0]),
}
"""By name: what makes the race for a defence and n attacked images."""

STUDIES: Mapping[str, Callable[[CARSO, int], object]] = {
    "agreement": lambda defence, n: agreement(defence, _test(n)),
    "scaling": lambda defence, n: scaling(n),
    "memory": lambda defence, n: apart("photographs", {"images": n // 100, "samples": 3 * n // 2}),
    "profiles": lambda defence, n: profiles(_profiled(defence, n)),
}
"""What is measured without rivals."""


def bench(
    defence: CARSO,
    out: Path | None = None,
    *,
    images: int = 1000,
    rounds: int = 5,
    only: Sequence[str] = (),
    name: str = "",
    clock: Clock = "wall",
) -> Report:
    """Run races and studies on MNIST's test images, print the ratios and write them to `out`.

    Args:
        defence: whose classifier is attacked, and which predicts.
        out: the JSON file, where entries of the same name are replaced and others stay; None to keep nothing.
        images: how many are attacked; a fiftieth of them, under each of the ten rows, is voted on by every stop.
        rounds: of each race.
        only: names of `RACES` and `STUDIES` to run; by default all races.
        name: of the defence.
        clock: "processor" for a machine that other programs keep busy: the seconds of its processor, on one thread.

    Raises:
        DataError: if a name is unknown.
    """
    if clock == "processor":
        torch.set_num_threads(1)
    unknown = set(only) - {*RACES, *STUDIES}
    if unknown:
        raise DataError(f"nothing to bench by the name of {min(unknown)!r}; there are {', '.join([*RACES, *STUDIES])}")
    found: Report = {} if out is None or not out.exists() else json.loads(out.read_text(encoding="utf-8"))
    for key in only or RACES:
        setting = {"defence": name, "images": images, "environment": environment().model_dump()}
        if key in STUDIES:
            found[key] = setting | {"found": STUDIES[key](defence, images)}
        else:
            setting |= {"rounds": rounds, "peers": peers.versions(), "machine": machine(clock), "clock": clock}
            found[key] = setting | measured(RACES[key](defence, images), rounds, clock)
            _print(found[key])
        if out is not None:
            write_text(out, json.dumps(found, indent=1) + "\n")
    return found


def measured(work: Work, rounds: int, clock: Clock = "wall") -> Report:
    """One race: seconds and ratios with their spread, what was checked, and shares of the limit."""
    finish = race(work.name, work.contestants, rounds, clock)
    entry: Report = {
        "work": work.name,
        "seconds": {name: asdict(Spread.of(values)) for name, values in finish.seconds.items()},
        "ratios": {
            ours: {name: asdict(ratio(finish.seconds, name, ours)) for name in finish.seconds if name != ours}
            for ours in work.ours
        },
    }
    if work.check is not None:
        figures = _mean([work.check(results) for results in finish.rounds])
        agree = {name: abs(f - figures[work.ours[0]]) <= work.within for name, f in figures.items()}
        entry["check"] = {"of": work.figure, "figures": figures, "within": work.within, "agree": agree}
    if work.products:
        entry["limits"] = {
            name: _shares(work, dtype, min(finish.seconds[name]), clock) for name, dtype in work.limited.items()
        }
    return entry


def _mean(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: mean(figures[name] for figures in rounds) for name in rounds[0]}


def _shares(work: Work, dtype: torch.dtype, seconds: float, clock: Clock) -> dict[str, float]:
    """Of the limit of the contestant's own products, and of float32's."""
    least = {each: work.repeats * product_seconds(work.products, each, clock=clock) for each in {dtype, torch.float32}}
    return {_name(each): limit / seconds for each, limit in least.items()}


def machine(clock: Clock = "wall") -> Report:
    """What the machine can do, now."""
    dtypes = {torch.float32, product_dtype(torch.device("cpu"))}
    rates = {_name(dtype): product_rate(dtype, clock) for dtype in dtypes}
    return {"products_per_second": rates, "bytes_per_second": bandwidth(clock)}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _test(n: int) -> data.Dataset:
    return data.load("mnist", "test")[: max(1, n)]


def _profiled(defence: CARSO, n: int) -> dict[str, Contestant]:
    """Our own contestants of the races that run in this process."""
    raced = [RACES[key](defence, n) for key in ("pgd", "deepfool", "vote", "training")]
    return {
        f"{work.name}: {name}": work.contestants[name]
        for work in raced
        for name in dict.fromkeys((*work.ours, *work.limited))
    }


def _labelled(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    test = _test(n)
    return test.images, test.required_labels


def _print(entry: Report) -> None:
    rates = ", ".join(f"{n} {rate / 1e9:,.0f} GFLOP/s" for n, rate in entry["machine"]["products_per_second"].items())
    table = Table(
        title=entry["work"],
        caption=f"{entry['environment']['cpu']}, {entry['environment']['threads']} threads; matrix products: {rates}; "
        f"memory {entry['machine']['bytes_per_second'] / 1e9:.0f} GB/s",
    )
    chief, ratios = next(iter(entry["ratios"].items()))
    for heading in ("contestant", "seconds", f"times {chief}", entry.get("check", {}).get("of", ""), "of the limit"):
        table.add_column(heading, justify="left" if heading == "contestant" else "right")
    for name, seconds in entry["seconds"].items():
        times = ratios.get(name)
        spread = "1" if times is None else f"{times['median']:.2f} [{times['least']:.2f}, {times['largest']:.2f}]"
        figure = f"{entry['check']['figures'][name]:.1f}" if "check" in entry else ""
        share = ", ".join(f"{to} {value:.2f}" for to, value in entry.get("limits", {}).get(name, {}).items())
        table.add_row(name, f"{seconds['median']:.3f}", spread, figure, share)
    Console().print(table)
    for peer, which in entry["peers"].items():
        if which.startswith("not installed"):
            Console().print(f"left out: {peer} ({which})")
