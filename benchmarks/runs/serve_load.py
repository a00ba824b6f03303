"""The service under load: N clients for S seconds, each asking again as soon as it is answered.

    python -m benchmarks.runs.serve_load [--load CLIENTS SECONDS]... [--onnx FILE] [--out FILE]

The service is `carso serve mnist` as a user starts it, or an ONNX file, on loopback; the clients run beside it, on the
same processor, and send digits of MNIST's test set as PNG. Who is told to come back later does, and its time then runs
from the first try. Latency is that of answers with status 200; an error is any other answer but a 503, or none. Memory
is the resident set of the service, after the first answer and at the end.
"""

import argparse
import asyncio
import io
import json
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from benchmarks.runs.demo_load import resident, served
from PIL import Image

from carso import data
from carso.evaluation.environment import environment

ROOT = Path(__file__).parents[2]
LOADS = ((1, 60.0), (8, 60.0), (64, 60.0))
DIGITS, TO_END = 200, 60


@dataclass
class Log:
    """What clients lived through."""

    seconds: list[float] = field(default_factory=list)
    refused: int = 0
    errors: Counter[str] = field(default_factory=Counter)


class Client:
    """One who asks again and again."""

    def __init__(self, http: httpx2.AsyncClient, bodies: list[bytes], log: Log) -> None:
        self.http, self.bodies, self.log = http, bodies, log

    async def stay(self, first: int, until: float) -> None:
        at = first
        while time.monotonic() < until:
            await self.ask(self.bodies[at % len(self.bodies)])
            at += 1

    async def ask(self, body: bytes) -> None:
        began = time.monotonic()
        try:
            await self.insist(body)
        except (httpx2.HTTPError, ValueError) as error:
            self.log.errors[f"{type(error).__name__}: {error}"[:120]] += 1
        else:
            self.log.seconds.append(time.monotonic() - began)

    async def insist(self, body: bytes) -> None:
        while True:
            answer = await self.http.post("/predict", content=body, headers={"Content-Type": "image/png"})
            if answer.status_code != 503:
                break
            self.log.refused += 1
            await asyncio.sleep(float(answer.headers["retry-after"]))
        answer.raise_for_status()
        if len(answer.json()["predictions"]) != 1:
            raise ValueError("not one prediction for one image")


def digits() -> list[bytes]:
    """The first test images as PNG."""
    bodies = []
    for image in data.load("mnist", "test")[:DIGITS].images:
        buffer = io.BytesIO()
        Image.fromarray((255 * image[0]).byte().numpy()).save(buffer, "PNG")
        bodies.append(buffer.getvalue())
    return bodies


async def visit(address: str, bodies: list[bytes], clients: int, seconds: float) -> tuple[Log, float]:
    """What so many clients live through, and the seconds until the last one is answered."""
    log, began = Log(), time.monotonic()
    limits = httpx2.Limits(max_connections=clients)
    async with httpx2.AsyncClient(base_url=address, timeout=TO_END, limits=limits, trust_env=False) as http:
        stays = (Client(http, bodies, log).stay(7 * each, began + seconds) for each in range(clients))
        await asyncio.gather(*stays)
    return log, time.monotonic() - began


def load(clients: int, seconds: float, bodies: list[bytes], onnx: Path | None) -> dict[str, Any]:
    answering = ["mnist-strong"] if onnx is None else ["--onnx", str(onnx)]
    with served("serve", *answering) as (address, process):
        httpx2.post(
            f"{address}/predict", content=bodies[0], headers={"Content-Type": "image/png"}, trust_env=False
        ).raise_for_status()
        start, busy = resident(process), os.getloadavg()[0]
        log, took = asyncio.run(visit(address, bodies, clients, seconds))
        end = resident(process)
    latency = dict(zip(("p50", "p99"), np.quantile(log.seconds or [np.inf], (0.5, 0.99)), strict=True))
    return {
        "clients": clients,
        "seconds": round(took, 1),
        "load_before": round(busy, 2),
        "answered": len(log.seconds),
        "per_second": round(len(log.seconds) / took, 1),
        "latency": {name: round(float(value), 4) for name, value in latency.items()},
        "refused": log.refused,
        "errors": log.errors,
        "MiB": {"start": round(start, 1), "end": round(end, 1)},
    }


def main(given: argparse.Namespace) -> None:
    bodies, runs = digits(), []
    for clients, seconds in given.load or LOADS:
        runs.append(load(int(clients), seconds, bodies, given.onnx))
        print(json.dumps(runs[-1], indent=1), flush=True)
    engine = "torch" if given.onnx is None else "onnxruntime"
    table = {"environment": environment().model_dump(), "cores": os.cpu_count(), "engine": engine, "runs": runs}
    out = given.out or ROOT / "benchmarks" / "results" / "serve" / f"{engine}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", type=float, nargs=2, action="append", metavar=("CLIENTS", "SECONDS"))
    parser.add_argument("--onnx", type=Path)
    parser.add_argument("--out", type=Path)
    main(parser.parse_args())
