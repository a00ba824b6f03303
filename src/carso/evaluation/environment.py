"""Where a result was computed: what a reader needs in order to expect the same figure."""

from __future__ import annotations

import platform
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict

import carso


class Environment(BaseModel):
    """Versions and machine of one run."""

    model_config = ConfigDict(extra="allow")

    python: str
    torch: str
    platform: str
    cpu: str
    threads: int
    carso: str


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def environment() -> Environment:
    """The environment of this process, now."""
    return Environment(
        python=platform.python_version(),
        torch=torch.__version__,
        platform=platform.platform(),
        cpu=_cpu(),
        threads=torch.get_num_threads(),
        carso=carso.__version__,
    )
