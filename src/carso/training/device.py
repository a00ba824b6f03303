"""Where to train, and how networks lie in its memory."""

from __future__ import annotations

import torch
from torch import nn

from carso.errors import CarsoError
from carso.fast import Reduced, convolves
from carso.nn import evaluating, query
from carso.nn.chance import forked
from carso.types import Classifier, Images

LANES = 16
"""Floats in a register of AVX-512; of AVX2, half as many."""


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


def placed(module: nn.Module, device: torch.device) -> nn.Module:
    """The module itself, on the device; weights of convolutions channels last where that is safe, as it is fastest."""
    module.to(device)
    if convolves(module) and not (device.type == "cpu" and overruns(module)):
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module


def placed_around(classifier: nn.Module, device: torch.device, images: Images, *networks: nn.Module) -> None:
    """Place a classifier of anyone's, and networks that make images for it.

    Where it does not run on images that lie channels last, as with `view` behind a convolution, none lies so.

    Args:
        classifier: N.
        device: where to.
        images: (B, C, H, W) on which it is tried.
        networks: the others.
    """
    for network in (classifier, *networks):
        placed(network, device)
    if not _runs_channels_last(classifier, images.to(device)):
        for network in (classifier, *networks):
            network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


@torch.no_grad()
def _runs_channels_last(classifier: nn.Module, images: Images) -> bool:
    try:
        with evaluating(classifier), forked():
            query(classifier, images.contiguous(memory_format=torch.channels_last))
    except Exception:  # what else may be wrong with it shows in training
        return False
    return True


def lowered(classifier: nn.Module, device: torch.device) -> Classifier:
    """N as attacks in training take it: on a GPU with bfloat16 products if it has convolutions, elsewhere itself.

    Attacks find a cheaper form by themselves, but compare it with N, for which no step that is recorded can wait.
    """
    return Reduced(classifier) if device.type == "cuda" and convolves(classifier) else classifier


def overruns(module: nn.Module) -> bool:
    """Whether a gradient of its weights, channels last, makes oneDNN write past its memory.

    So it is with kernels of one pixel in strides over fewer channels than a register has floats, in torch 2.13:
    oneDNN's issue 6035.
    """
    return any(
        isinstance(part, nn.Conv2d)
        and max(part.kernel_size) == 1 < max(part.stride)
        and part.in_channels // part.groups < LANES
        for part in module.modules()
    )
