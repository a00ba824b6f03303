"""Where to train."""

from __future__ import annotations

import torch

from carso.errors import CarsoError


def choose_device(name: str = "auto") -> torch.device:
    """The named device, or with "auto" the GPU if there is one.

    Raises:
        CarsoError: if the device is unknown, or not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in {"cpu", "cuda"}:
        raise CarsoError(f"device must be auto, cpu or cuda, not {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise CarsoError("no CUDA device is available; use --device cpu")
    return torch.device(name)
