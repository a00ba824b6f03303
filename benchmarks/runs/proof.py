"""The audit as its own proof: `standard` against AutoAttack on all test images of a network whose figure is published.

    python -m benchmarks.runs.proof benchmarks/results/proof --shares 10 --share 0 [--autoattack 250]

The network is the robust CNN of `benchmarks.own.strangers`, at Linf 0.30: AutoAttack's table has 92.81 % of 10,000.
The images are cut into shares, audited one by one, since all of them take hours; a share that was interrupted goes on.
AutoAttack `standard`, by its published code, attacks the first images of a share if asked to, after our audit. Both on
one thread; seconds are the processor's. OUT/SHARE holds `audit.json` and `proof.json`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from benchmarks.own.strangers import public
from torch import Tensor, nn

from carso import data
from carso.audit import audit, read_worst
from carso.audit.autoattack import unguarded
from carso.data import Dataset
from carso.evaluation.environment import environment
from carso.storage.files import write_text
from carso.types import Budget

FILE, BUDGET, SEED, IMAGES = "proof.json", Budget("Linf", 0.3), 0, 10_000


@contextmanager
def spending(path: Path) -> Iterator[None]:
    """Seconds of this process's processor time, added to those that a file holds."""
    began, before = time.process_time(), spent(path)
    try:
        yield
    finally:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, f"{before + time.process_time() - began}\n")


def spent(path: Path) -> float:
    return float(path.read_text(encoding="utf-8")) if path.exists() else 0.0


def ours(network: nn.Module, images: Dataset, state: Path, kept: Path) -> tuple[Tensor, float]:
    """Which images (n,) the audit leaves, in their own order, and its seconds."""
    with spending(state / "seconds"):
        audit(network, images, eps=(BUDGET.eps,), n=len(images), seed=SEED, name="public-cnn", out=state).write(kept)
    worst = read_worst(state, BUDGET)
    return worst.standing[worst.places.argsort()], spent(state / "seconds")


def theirs(network: Callable[[Tensor], Tensor], images: Dataset) -> tuple[Tensor, float]:
    """Which images (n,) AutoAttack leaves, and its seconds."""
    labels = images.required_labels
    began = time.process_time()
    crafted = unguarded(network, images.images, labels, BUDGET, "standard", SEED)
    seconds = time.process_time() - began
    with torch.no_grad():
        return network(crafted).argmax(1) == labels, seconds


def share_of(share: int, shares: int, autoattack: int, out: Path, state: Path) -> dict[str, Any]:
    """What both leave of one share of the test images."""
    test, network = data.load("mnist", "test"), public()
    size = IMAGES // shares
    first = share * size
    images = test[first : first + size]
    left, seconds = ours(network, images, state / f"{share}-of-{shares}", out / str(share))
    found: dict[str, Any] = {"first": first, "n": size, "left": int(left.sum()), "seconds": round(seconds, 1)}
    if autoattack:
        some, both = images[:autoattack], left[:autoattack]
        rest, its = theirs(network, some)
        found["autoattack"] = {
            "n": len(some),
            "left": int(rest.sum()),
            "left_by_audit": int(both.sum()),
            "only_audit": int((rest & ~both).sum()),
            "only_autoattack": int((both & ~rest).sum()),
            "seconds": round(its, 1),
        }
    return found | {"seed": SEED, "environment": environment().model_dump()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=int, required=True, help="which, from 0")
    parser.add_argument("--shares", type=int, default=10)
    parser.add_argument("--autoattack", type=int, default=0, metavar="IMAGES", help="of the share, from its first")
    parser.add_argument("--state", type=Path, default=Path("out/proof"), help="where an audit goes on from")
    given = parser.parse_args()
    if not 0 <= given.share < given.shares or IMAGES % max(given.shares, 1):
        parser.error(f"--shares divides {IMAGES:,} images, and --share counts from 0: {given.share} of {given.shares}")
    torch.set_num_threads(1)
    found = share_of(given.share, given.shares, given.autoattack, given.out, given.state)
    write_text(given.out / str(given.share) / FILE, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
