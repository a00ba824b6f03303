"""What tests of several folders do to networks."""

from typing import Any

import torch
from torch import Tensor, nn

from carso.training.loop import Stage


class Scaling(torch.autograd.Function):
    """The identity, whose gradient is so many times what it is."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        return ctx.scale * slopes[0], None


def without_batch_norm(stage: Stage) -> Stage:
    """The stage, in whose network no image knows of another."""
    for module in list(stage.module.modules()):
        for name, layer in module.named_children():
            if isinstance(layer, nn.BatchNorm1d):
                setattr(module, name, nn.Identity())
    return stage
