"""Networks of random views, in-place writes and new values: a form that there is answers as the network does.

CARSO_FUZZ=500 pytest tests/fuzz/test_tracing.py    # so many networks
"""

from __future__ import annotations

import copy
import operator
import os
import random
from collections.abc import Callable
from typing import TypeAlias

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carso.fast import full_precision
from carso.fast.door import attempted
from carso.fast.network import network, reading

NETWORKS = int(os.environ.get("CARSO_FUZZ", "100"))
IMAGES = torch.rand(1, 4, 6, 6, generator=torch.Generator().manual_seed(0))
CAP = 0.2


class Own(nn.Module):
    """A layer of somebody's own, which writes into what it is given or gives what it keeps."""

    def __init__(self, writes: bool) -> None:
        super().__init__()
        self.writes = writes
        self.kept = nn.Buffer(torch.full((1, 4, 6, 6), 0.3))

    def forward(self, h: Tensor) -> Tensor:
        return h.clamp_(max=CAP) if self.writes else self.kept


Operation: TypeAlias = Callable[["Net", Tensor, Tensor], Tensor]

NEW: list[Operation] = [
    lambda net, h, k: net.convolution(h),
    lambda net, h, k: net.norm(net.convolution(h)),
    lambda net, h, k: h + k,
    lambda net, h, k: h * 1.5,
    lambda net, h, k: F.relu(h),
    lambda net, h, k: F.max_pool2d(h, 3, 1, 1),
    lambda net, h, k: torch.where(h > 0.1, h, k),
    lambda net, h, k: torch.cat([h[:, 2:], k[:, :2]], 1),
    lambda net, h, k: h.clone(),
    lambda net, h, k: net.bias + h,
    lambda net, h, k: net.gives(h) + h,
]

VIEWS: list[Operation] = [
    lambda net, h, k: h.transpose(2, 3),
    lambda net, h, k: h.mT,
    lambda net, h, k: h.permute(0, 1, 3, 2).reshape(-1, 4, 6, 6),
    lambda net, h, k: h.flatten(1).view(-1, 4, 6, 6),
    lambda net, h, k: h.contiguous(),
    lambda net, h, k: h.narrow(1, 0, 4),
    lambda net, h, k: h.view(h.shape),
    lambda net, h, k: h.detach(),
    lambda net, h, k: h.data,
    lambda net, h, k: h.chunk(1, 1)[0],
    lambda net, h, k: h.to(k.dtype),
    lambda net, h, k: net.identity(h),
    lambda net, h, k: h[:],
    lambda net, h, k: net.bias.view(1, 4, 6, 6),
    lambda net, h, k: net.table.view(1, 4, 6, 6),
    lambda net, h, k: net.gives(h),
]


def stated(h: Tensor, k: Tensor) -> Tensor:
    h += k
    return h


def scaled(h: Tensor, k: Tensor) -> Tensor:
    h *= k.mean((2, 3), keepdim=True)
    return h


def assigned(h: Tensor, k: Tensor) -> Tensor:
    h[:, :2] = k[:, :2]
    return h


WRITES: list[Operation] = [
    lambda net, h, k: h.clamp_(max=CAP),
    lambda net, h, k: h.mul_(0.5),
    lambda net, h, k: h.add_(k),
    lambda net, h, k: h.copy_(k),
    lambda net, h, k: h.set_(k),  # type: ignore[call-overload]
    lambda net, h, k: stated(h, k),
    lambda net, h, k: scaled(h, k),
    lambda net, h, k: assigned(h, k),
    lambda net, h, k: operator.imul(h, 0.7),
    lambda net, h, k: F.hardtanh(h, -9, CAP, True),
    lambda net, h, k: torch.relu_(h),
    lambda net, h, k: torch.clamp(h, max=CAP, out=h),
    lambda net, h, k: torch.add(h, k, out=k),
    lambda net, h, k: torch.ops.aten.mul_.Scalar(h, 0.5),
    lambda net, h, k: net.cap(h),
    lambda net, h, k: net.writes(h),
]

PARTS: list[Operation] = [
    lambda net, h, k: h[:, :2].clamp_(max=CAP),
    lambda net, h, k: h.chunk(2, 1)[0].mul_(0.5),
    lambda net, h, k: h.unbind(1)[0].mul_(0.5),
    lambda net, h, k: h.select(2, 0).zero_(),
    lambda net, h, k: h.diagonal(0, 2, 3).add_(0.1),
    lambda net, h, k: h.narrow(2, 0, 3).mul_(0.5),
    lambda net, h, k: F.relu(h.flatten(1) - 0.2, inplace=True),
    lambda net, h, k: F.relu(h.reshape(-1), inplace=True),
]
"""Writes into some of a value, which goes on under its own name."""


class Net(nn.Module):
    """A convolution, then random operations on the values so far, of which the last and some others are read.

    Args:
        seed: of the operations.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.convolution, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.bias, self.table = nn.Parameter(torch.rand(4, 6, 6)), nn.Buffer(torch.rand(1, 4, 6, 6))
        self.cap, self.identity = nn.Hardtanh(-9, CAP, inplace=True), nn.Identity()
        self.writes, self.gives = Own(writes=True), Own(writes=False)
        self.logits = nn.Linear(144, 3)
        draw = random.Random(seed)
        self.steps = [self._step(draw) for _ in range(draw.randint(2, 7))]
        self.read = [-1, *(draw.randrange(8) for _ in range(draw.choice([0, 0, 0, 1])))]

    @staticmethod
    def _step(draw: random.Random) -> tuple[Operation, bool, int, int]:
        kind = draw.choice([NEW, NEW, VIEWS, WRITES, WRITES, PARTS])
        back = [draw.choice([1, 1, 1, 2, 3, 8]), draw.choice([1, 2, 2, 3, 8])]
        return draw.choice(kind), kind is PARTS, *back

    def forward(self, images: Tensor) -> Tensor:
        values = [images, self.convolution(images)]
        for operation, aside, first, second in self.steps:
            h, k = (values[-min(back, len(values))] for back in (first, second))
            made = operation(self, h, k)
            values.append(h if aside else made)
        read = sum(values[i if i < len(values) else -1] for i in self.read)
        answer: Tensor = self.logits((read + 0.0).reshape(-1, 144))
        return answer


def asked(model: Callable[[Tensor], Tensor], inner: nn.Module) -> list[Tensor | None]:
    """Answers to one batch twice, what it and the buffers are afterwards, and a gradient if autograd gives one."""
    with torch.no_grad():
        images = IMAGES.clone()
        found: list[Tensor | None] = [model(images), images, model(images), *(b.clone() for b in inner.buffers())]
    try:
        images = (IMAGES * 1.0).requires_grad_()
        answers = model(images * 1.0)
        return [*found, *torch.autograd.grad(answers.square().sum(), images, allow_unused=True)]
    except RuntimeError:  # autograd refuses some of what is written in place
        return found


@pytest.mark.parametrize("seed", range(NETWORKS))
def test_a_form_of_what_writes_in_place_answers_as_the_network_does(seed: int) -> None:
    model = Net(seed).eval()
    with full_precision():
        form = attempted(lambda: network(model, IMAGES))
        read = attempted(lambda: reading(model, ("output",), IMAGES))
    buffers = copy.deepcopy(dict(model.named_buffers()))
    theirs = asked(model, model) if form or read else []
    for exact in (form and form.exact, read and (lambda images: read.exact(images)[0])):
        if exact:
            model.load_state_dict(buffers, strict=False)
            for ours, other in zip(asked(exact, model), theirs, strict=False):
                torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-4)


def test_many_of_them_have_a_form() -> None:
    with full_precision():
        forms = [attempted(lambda seed=seed: network(Net(seed).eval(), IMAGES)) for seed in range(60)]
    assert sum(form is not None for form in forms) > 6
