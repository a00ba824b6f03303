"""Optimisation: RAdam or SGD, its learning rate over time, slow weights, and a moving average of the weights.

    cosine     eta_t = rate * min(1, t / w) * (1 + cos(pi * max(0, (t - w) / (1 - w)))) / 2,  t in [0, 1], w the warm-up
    linear     eta_t = rate * min(1, t / w) * min(1, (1 - t) / (1 - w - f)),  f the flat share
    plateau    eta <- factor * eta once the epoch's loss has not fallen for `patience` epochs
    lookahead  every k steps: phi <- phi + alpha (theta - phi),  theta <- phi;  alpha = 0.8, as in the published code
    average    m <- m + (1 - d_s) (theta - m),  d_s = min(average, (1 + s) / (10 + s)) at step s

Sources: thesis, section 3.3; L. Liu et al., On the variance of the adaptive learning rate and beyond, ICLR 2020;
I. Loshchilov and F. Hutter, SGDR, ICLR 2017; M. Zhang et al., Lookahead optimizer: k steps forward, 1 step back,
NeurIPS 2019; B. Polyak and A. Juditsky, Acceleration of stochastic approximation by
averaging, 1992.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from carso.errors import ModelError
from carso.training.recipe import Schedule
from carso.training.together import add_up

MOMENTUM = 0.9
SLOW = 0.8
"""alpha: how far the slow weights go to where the fast ones are."""


@dataclass
class Plateau:
    """Reduces the rate when the loss stops falling.

    Args:
        factor: what the rate is multiplied by.
        patience: epochs to wait for a new best loss, counted anew after each reduction.
    """

    factor: float
    patience: int
    best: float = math.inf
    waited: int = 0
    scale: float = 1.0

    def observe(self, loss: float) -> None:
        """Take note of one epoch's loss."""
        self.waited = 0 if loss < self.best else self.waited + 1
        self.best = min(self.best, loss)
        if self.waited >= self.patience:
            self.scale, self.waited = self.scale * self.factor, 0

    def state(self) -> dict[str, float]:
        """What a checkpoint must keep (an infinite best becomes a large number, which JSON can hold)."""
        return asdict(self) | {"best": min(self.best, 1e308)}

    def restore(self, state: dict[str, float]) -> None:
        """Go on from `state`."""
        self.best, self.waited, self.scale = state["best"], int(state["waited"]), state["scale"]


def risen(epoch: int, share: float, epochs: int) -> float:
    """What rises linearly to 1 over that share of the epochs, at `epoch`, the first being 0; 0 before it."""
    return min(1.0, max(0, epoch + 1) / (share * epochs + 1))


def _warmed(schedule: Schedule, progress: float) -> float:
    """How much of the peak rate the warm-up has reached at this share of the steps."""
    return min(1.0, progress / schedule.warmup if schedule.warmup else 1.0)


def fallen(schedule: Schedule, progress: float) -> float:
    """What is left of the peak rate at this share of the steps, whatever the warm-up."""
    warmup = schedule.warmup
    if schedule.shape == "linear":
        return min(1.0, (1 - progress) / (1 - warmup - schedule.flat))
    return (1 + math.cos(math.pi * max(0.0, (progress - warmup) / (1 - warmup)))) / 2


def _optimiser(parameters: list[nn.Parameter], rate: float | Tensor, schedule: Schedule) -> torch.optim.Optimizer:
    """RAdam or SGD; a rate in a tensor can change within a recorded graph."""
    decay, capturable = schedule.weight_decay, isinstance(rate, Tensor)
    if schedule.optimiser == "sgd":
        form = {"fused" if capturable else "foreach": True}
        return torch.optim.SGD(parameters, rate, MOMENTUM, weight_decay=decay, nesterov=True, **form)
    return torch.optim.RAdam(
        parameters, rate, weight_decay=decay, decoupled_weight_decay=True, foreach=True, capturable=capturable
    )


def _is_finite(value: Tensor) -> bool:
    return value.is_floating_point() and bool(value.isfinite().all())


class Optimisation:
    """An optimiser on a module's trainable parameters, with its schedule, slow weights and average.

    Everything that changes from step to step lives in tensors on the module's device, so that a step can be recorded
    as a CUDA graph.

    Attributes:
        tracked: what has an average over the steps: all of the module's numbers that are finite from the beginning,
            which a mask of infinity is not.
        settled: whether the weights are those before or after a step, and not in the middle of one.
    """

    def __init__(self, module: nn.Module, schedule: Schedule, steps_per_epoch: int) -> None:
        self.module = module
        self.schedule = schedule
        self.total = max(1, schedule.epochs * steps_per_epoch)
        self.steps = 0
        self.settled = True
        self.plateau = Plateau(schedule.factor, schedule.patience)
        parameters = [p for p in module.parameters() if p.requires_grad]
        if not parameters:
            raise ModelError(f"nothing of the {type(module).__name__} is trainable: no parameter has requires_grad")
        device = parameters[0].device
        on_gpu = device.type == "cuda"
        rate = torch.tensor(schedule.rate, device=device, dtype=torch.float32) if on_gpu else schedule.rate
        self.optimiser = _optimiser(parameters, rate, schedule)
        self.tracked = {name: value for name, value in module.state_dict().items() if _is_finite(value)}
        self.average = {name: value.clone() for name, value in self.tracked.items()}
        self._keep, self._due = torch.zeros(2, device=device, dtype=torch.float32).unbind()
        self._fast = {name: p for name, p in module.named_parameters() if p.requires_grad and schedule.lookahead}
        self.slow = {name: value.detach().clone() for name, value in self._fast.items()}

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        if self.schedule.shape == "plateau":
            return self.schedule.rate * self.plateau.scale
        progress = (self.steps + 0.5) / self.total
        return self.schedule.rate * _warmed(self.schedule, progress) * fallen(self.schedule, progress)

    def prepare(self) -> None:
        """Set the rate and the weights of the next step's averages; host work, done outside a recorded graph."""
        for group in self.optimiser.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(self.rate)
            else:
                group["lr"] = self.rate
        self._keep.fill_(min(self.schedule.average, (1 + self.steps) / (10 + self.steps)))
        self.steps += 1
        self._due.fill_(bool(self.slow) and self.steps % self.schedule.lookahead == 0)

    def step(self, losses: Iterable[Tensor]) -> Tensor:
        """Descend the sum of some losses, look ahead and update the average; returns the sum, no wait for the device.

        Of each loss only its gradient is left before the next one is asked for.
        """
        self.optimiser.zero_grad(set_to_none=True)
        total = torch.zeros_like(self._keep)
        for loss in losses:
            loss.backward()
            total = total + loss.detach()
        add_up(self.module.parameters())
        self.settled = False
        self.optimiser.step()
        self._look_ahead()
        if self.schedule.average:
            for name, value in self.tracked.items():
                self.average[name].lerp_(value, 1 - self._keep)
        self.settled = True
        return total

    @torch.no_grad()
    def _look_ahead(self) -> None:
        for name, fast in self._fast.items():
            self.slow[name].lerp_(fast, SLOW * self._due)
            fast.lerp_(self.slow[name], self._due)

    def finish(self) -> None:
        """Put the averaged weights, if any, into the module, else the slow ones, if any."""
        ahead = self.slow if self.slow and self.steps >= self.schedule.lookahead else {}
        final = self.average if self.schedule.average else ahead
        if final:
            self.module.load_state_dict(self.module.state_dict() | final)
