"""The demo under load: N visitors for S seconds, each picking, attacking, following a vote, sometimes uploading.

    python benchmarks/runs/demo_load.py [--load USERS SECONDS]... [--out FILE]

The demo is `carso demo` as a user starts it, on loopback; the visitors run beside it, on the same processor. They come
back without a pause, and ask for their place in the queue while they wait, as the page does. Who is told to come back
later does, and the interaction's time then runs from the first try. Failed is what was answered by an error, broke off
or was never answered; what has begun after S seconds goes on to its end. Memory is the resident set of the demo.
"""

import argparse
import asyncio
import io
import json
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from PIL import Image, ImageDraw

from carso.evaluation.environment import environment

ROOT = Path(__file__).parents[2]
MOST_USERS, MOST_SECONDS, TO_END = 500, 600, 120
UPLOADS, AIMED_AT_DEFENCE = 0.1, 0.1
ATTACKS = ("noise", "fgsm", "pgd", "pgd", "annealed")


@dataclass
class Log:
    """What visitors lived through, by kind of interaction."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    refused: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    memory: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        return {kind: self._summary(kind) for kind in sorted({*self.seconds, *self.failed})}

    def _summary(self, kind: str) -> dict[str, Any]:
        times = self.seconds[kind]
        counts = {"done": len(times), "failed": self.failed[kind], "refused": self.refused[kind]}
        spread = {"p50": np.median(times), "p95": np.quantile(times, 0.95), "max": max(times)} if times else {}
        return counts | {"seconds": {name: round(float(value), 3) for name, value in spread.items()}}


class Visitor:
    """One who comes again and again until the time is over."""

    def __init__(self, address: str, log: Log, seed: int) -> None:
        self.log, self.random = log, random.Random(seed)
        headers = {"X-Visitor": f"visitor {seed}"}
        self.client = httpx2.AsyncClient(
            base_url=address, headers=headers, timeout=TO_END, trust_env=False, verify=False
        )

    async def stay(self, until: float) -> None:
        async with self.client:
            while time.monotonic() < until:
                await self.interact()

    async def interact(self) -> None:
        picked = await self.ask("pick", "GET", f"/api/pick?index={self.random.randrange(10_000)}")
        image = picked and json.loads(picked)["image"]
        if self.random.random() < UPLOADS:
            await self.ask("picture", "POST", "/api/picture", content=drawing(self.random))
        attacked = image and await self.ask("attack", "POST", "/api/attack", json=self.attack(image))
        if attacked:
            await self.ask("vote", "POST", "/api/vote", json={"image": json.loads(attacked)["image"]})

    def attack(self, image: str) -> dict[str, Any]:
        aim = "defence" if self.random.random() < AIMED_AT_DEFENCE else "classifier"
        return {"image": image, "attack": self.random.choice(ATTACKS), "norm": "Linf", "eps": 0.3, "aim": aim}

    async def ask(self, kind: str, method: str, path: str, **body: Any) -> str | None:
        """The whole answer, however often it must be asked for; None if it failed."""
        started = time.monotonic()
        async with self.watching(kind):
            try:
                answer = await self.insist(kind, method, path, body)
            except (httpx2.HTTPError, ValueError) as error:
                self.log.failed[kind] += 1
                self.log.errors[f"{type(error).__name__}: {error}"[:120]] += 1
                return None
        self.log.seconds[kind].append(time.monotonic() - started)
        return answer

    async def insist(self, kind: str, method: str, path: str, body: dict[str, Any]) -> str:
        while True:
            answer = await self.client.request(method, path, **body)
            if answer.status_code != 503 or "retry-after" not in answer.headers:
                break
            self.log.refused[kind] += 1
            await asyncio.sleep(float(answer.headers["retry-after"]))
        answer.raise_for_status()
        if kind == "vote" and not json.loads(answer.text.splitlines()[-1])["decided"]:
            raise ValueError("the vote broke off")
        return answer.text

    @asynccontextmanager
    async def watching(self, kind: str) -> AsyncIterator[None]:
        """Ask for the place in the queue meanwhile."""
        looking = asyncio.create_task(self.look()) if kind not in ("pick", "place") else None
        try:
            yield
        finally:
            if looking is not None:
                looking.cancel()

    async def look(self) -> None:
        await asyncio.sleep(0.4)
        while True:
            await self.ask("place", "GET", "/api/place")
            await asyncio.sleep(2)


def drawing(chance: random.Random) -> bytes:
    """A photograph's size of paper with a stroke."""
    picture = Image.new("RGB", (1200, 900), "white")
    ends = [(chance.randrange(300, 900), chance.randrange(200, 700)) for _ in range(3)]
    ImageDraw.Draw(picture).line(ends, "black", 60)
    buffer = io.BytesIO()
    picture.save(buffer, chance.choice(("PNG", "JPEG")))
    return buffer.getvalue()


@contextmanager
def served(*arguments: str) -> Iterator[tuple[str, int]]:
    """The address and the process of a `carso` that serves on a free port."""
    command = [sys.executable, "-m", "carso", *arguments, "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        found = re.search(r"http://[^/\s]+", line := process.stderr.readline())
        if found is None:
            raise SystemExit(f"carso {arguments[0]} did not start: {line}{process.stderr.read()}")
        yield found.group(), process.pid
    finally:
        process.terminate()
        process.wait(30)
        print(process.stderr.read(), end="")


def resident(process: int) -> float:
    """MiB."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def weigh(process: int, log: Log) -> None:
    while True:
        log.memory.append(resident(process))
        await asyncio.sleep(0.2)


async def visit(address: str, process: int, users: int, seconds: float) -> Log:
    log = Log()
    weighing = asyncio.create_task(weigh(process, log))
    until = time.monotonic() + seconds
    stays = [asyncio.create_task(Visitor(address, log, seed).stay(until)) for seed in range(users)]
    ended, unanswered = await asyncio.wait(stays, timeout=seconds + TO_END)
    for stay in unanswered:
        stay.cancel()
        log.failed["unanswered"] += 1
    for stay in ended:
        stay.result()
    await asyncio.sleep(1)
    weighing.cancel()
    return log


def load(users: int, seconds: float) -> dict[str, Any]:
    with served("demo", "--no-open") as (address, process):
        httpx2.get(f"{address}/api/pick", trust_env=False)
        busy, started = os.getloadavg()[0], time.monotonic()
        log = asyncio.run(visit(address, process, users, seconds))
    took, memory = time.monotonic() - started, log.memory
    half = memory[round(len(memory) * seconds / took / 2)]
    entry = {"users": users, "seconds": seconds, "took": round(took, 1), "load_before": round(busy, 2)}
    mebibytes = {"start": memory[0], "half": half, "peak": max(memory), "end": memory[-1]}
    done = sum(map(len, log.seconds.values()))
    totals = {"done": done, "failed": log.failed.total(), "refused": log.refused.total()}
    rounded = {name: round(value, 1) for name, value in mebibytes.items()}
    return entry | totals | {"interactions": log.summary(), "errors": log.errors, "MiB": rounded}


def main(given: argparse.Namespace) -> None:
    runs = []
    for users, seconds in given.load or [(50, 60), (200, 30)]:
        runs.append(load(min(users, MOST_USERS), min(seconds, MOST_SECONDS)))
        print(json.dumps(runs[-1], indent=1), flush=True)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    table = {"environment": environment().model_dump(), "cores": os.cpu_count(), "runs": runs}
    given.out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", type=int, nargs=2, action="append", metavar=("USERS", "SECONDS"))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "reliability" / "demo.json")
    main(parser.parse_args())
