"""How cost grows: seconds and memory of PGD and of the full vote, each point in a process of its own.

    python -m benchmarks.speed.scaling pgd '{"images": 500}'        one point, as JSON

seconds  the least of three calls, after one that does not count
bytes    the process's largest resident memory, less what it held before the first call; `peak` is with it
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import PIPE, run

import torch
from benchmarks.speed.convolutional import defence

from carso import attacks
from carso.defence import CARSO
from carso.nn import MLP
from carso.progress import track
from carso.purifier import Purifier
from carso.types import Budget

Point = Mapping[str, int]

SHAPE, NEURONS = (1, 28, 28), 290
CALLS = 3


def pgd(images: int = 1000, batch: int = 0, width: int = 200) -> Callable[[], object]:
    """PGD-40 on a random classifier whose first hidden layer is `width` wide, `batch` images at a time or all."""
    x, model = torch.rand(images, *SHAPE), MLP(SHAPE, (width, 80)).eval()
    labels = model(x).argmax(1)
    parts = list(zip(x.split(batch or images), labels.split(batch or images), strict=True))
    return lambda: [attacks.pgd(model, some, y, Budget("Linf", 0.3), alpha=0.01) for some, y in parts]


def vote(images: int = 100, samples: int = 1500, batch: int = 0) -> Callable[[], object]:
    """The vote without an early stop, by a random defence of the thesis's sizes."""
    defence = CARSO(MLP(SHAPE).eval(), Purifier(SHAPE, NEURONS, latent=36), samples=samples)
    parts = torch.rand(images, *SHAPE).split(batch or images)
    return lambda: [defence.poll(some, stop="never") for some in parts]


def photographs(images: int = 10, samples: int = 1500) -> Callable[[], object]:
    """The vote without an early stop, by a random defence with a convolutional purifier; its progress is shown."""
    voting, some = defence(samples), torch.rand(images, 3, 32, 32)
    return lambda: voting.poll(some, stop="never")


ROOT = Path(__file__).parents[2]

WORKS: Mapping[str, Callable[..., Callable[[], object]]] = {"pgd": pgd, "vote": vote, "photographs": photographs}


def points(n: int) -> list[tuple[str, str, dict[str, int]]]:
    """(work, what grows, arguments), for PGD on about n images and votes on about a tenth of them."""
    steps, v = (n // 4, n // 2, n, 2 * n, 4 * n), max(4, n // 10)
    grown = [("pgd", "images", {"images": m}) for m in steps]
    grown += [("pgd", "batch", {"images": n, "batch": max(1, n // k)}) for k in (100, 20, 5, 1)]
    grown += [("pgd", "width", {"images": n, "width": w}) for w in (100, 200, 400, 800)]
    grown += [("pgd", "threads", {"images": n, "threads": k}) for k in range(1, torch.get_num_threads() + 1)]
    grown += [("vote", "images", {"images": max(1, v // 4 * k)}) for k in (1, 2, 4, 8)]
    grown += [("vote", "samples", {"images": v, "samples": k}) for k in (375, 750, 1500, 3000)]
    grown += [("vote", "batch", {"images": v, "batch": max(1, v // k)}) for k in (50, 10, 1)]
    return grown + [("vote", "threads", {"images": v, "threads": k}) for k in range(1, torch.get_num_threads() + 1)]


def scaling(n: int) -> list[dict[str, object]]:
    """Every point with its seconds and bytes."""
    return [
        {"work": work, "grows": grows, "arguments": arguments, **apart(work, arguments)}
        for work, grows, arguments in track(points(n), "scaling")
    ]


def measure(work: str, arguments: Point) -> dict[str, float]:
    """Seconds and bytes of one point, in this process."""
    options = dict(arguments)
    torch.set_num_threads(options.pop("threads", torch.get_num_threads()))
    torch.manual_seed(0)
    call = WORKS[work](**options)
    before, seconds = _resident(), []
    for _ in range(CALLS + 1):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    peak = _resident()
    return {"seconds": min(seconds[1:]), "bytes": peak - before, "peak": peak}


def apart(work: str, arguments: Point) -> dict[str, float]:
    """Seconds and bytes of one point, in a process of its own."""
    command = [sys.executable, "-m", __name__, work, json.dumps(arguments)]
    found: dict[str, float] = json.loads(run(command, check=True, stdout=PIPE, text=True, cwd=ROOT).stdout)
    return found


def _resident() -> float:
    """The largest so far, in bytes; Linux counts in KiB, macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(sys.argv[1], json.loads(sys.argv[2]))))
