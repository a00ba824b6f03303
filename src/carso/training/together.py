"""One step in shares, of several processes or one after the other, each some rows of the batch: what they sum.

    L = sum_r b_r / B L_r,    grad L = sum_r grad(b_r / B L_r)      b_r of the B rows, L_r their mean loss
    batch norm: m = sum_r sum_i x_i / n,   v = sum_r sum_i (x_i - m)^2 / n,   y = (x - m) / sqrt(v + eps) w + b
    dropout:    y = x o mask / (1 - p), the mask drawn for the whole batch

Source: S. Ioffe and C. Szegedy, Batch normalization, ICML 2015; the sums over processes are torch.distributed's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from carso.nn.chance import forked
from carso.processes.dealing import Deal, deal_of, dealing, dealt
from carso.processes.group import count, sum_over

Function: TypeAlias = Callable[..., Any]


def weighed(loss: Tensor, rows: int) -> Tensor:
    """The mean loss of the rows at hand, by their share of the whole batch."""
    size = deal_of(rows).size
    return loss if size == rows else loss * (rows / size)


def in_portions(rows: int, portions: int) -> Iterator[slice]:
    """Every `portions`-th of the rows at hand, from the first, the second, ..., each dealt while it is worked on.

    Chance is drawn alike for each, for the whole batch: together they are what the batch would be at once.
    """
    deal = deal_of(rows)
    for portion in range(portions):
        mine = Deal(deal.size, deal.first + portion * deal.step, deal.step * portions)
        with dealing(mine), forked(enabled=portion + 1 < portions):
            yield slice(portion, None, portions)


def add_up(parameters: Iterable[nn.Parameter]) -> None:
    """Put into the gradients their sums over all processes."""
    if count() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    sum_over([flat])
    for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(summed.view_as(gradient))


def as_whole() -> AbstractContextManager[object]:
    """Layers that look at a whole batch, batch norm and dropout, do so whoever has its rows; nothing changes alone."""
    return _Whole() if dealt().step > 1 else nullcontext()


class _Whole(TorchFunctionMode):
    def __torch_function__(
        self, function: Function, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return LAYERS.get(function, function)(*args, **kwargs or {})


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`torch.nn.functional.batch_norm` of the rows at hand, in training with mean and variance of the whole batch."""
    if not training:
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    wide = x.float()
    mean, n = _mean(wide)
    variance, _ = _mean((wide - mean).square())
    for kept, found in ((running_mean, mean), (running_var, variance * n / (n - 1))):
        if kept is not None:
            kept.detach().lerp_(found.detach().flatten().to(kept.dtype), momentum)
    scale, shift = (None if part is None else part.view_as(mean) for part in (weight, bias))
    y = (wide - mean) * (variance + eps).rsqrt()
    y = y if scale is None else y * scale
    return (y if shift is None else y + shift).to(x.dtype)


def _mean(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of every channel, (1, channels, 1, ...), over all processes, and of how many values it is."""
    sums = x.transpose(0, 1).flatten(1).sum(1)
    counted = torch.cat([sums, sums.new_full((1,), x.numel() / x.shape[1])])
    total: Tensor = _Sum.apply(counted)  # type: ignore[no-untyped-call]
    return (total[:-1] / total[-1]).view(1, -1, *[1] * (x.ndim - 2)), total[-1].detach()


class _Sum(torch.autograd.Function):
    """A sum over all processes, each of whose losses it leads to."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        sum_over([total := mine.clone()])
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        sum_over([total := gradients[0].clone()])
        return total


def dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`torch.nn.functional.dropout`, in training by the mask's rows of a draw for the whole batch."""
    deal = dealt()
    if not training or len(x) % len(deal):
        return F.dropout(x, p, training, inplace)
    ones = x.new_ones(len(x) // len(deal) * deal.size, *x.shape[1:])
    return x * deal.rows(F.dropout(ones, p))


LAYERS: Mapping[Function, Function] = {F.batch_norm: batch_norm, F.dropout: dropout}
