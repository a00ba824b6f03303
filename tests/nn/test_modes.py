from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carso.nn import evaluating
from carso.nn.modes import frozen, lock_of, modules_behind, uncompiled

IMAGES = torch.rand(4, 3)
GLOBAL = nn.BatchNorm1d(3)


class Holder:
    """An object with a module, called or asked by a method."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, images: Tensor) -> Tensor:
        answer: Tensor = self.module(images)
        return answer

    def method(self, images: Tensor) -> Tensor:
        return self(images)


def called(module: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    return module(images)


HOLDERS: dict[str, Callable[[nn.Module], Any]] = {
    "closure": lambda m: lambda x: m(x),
    "partial": lambda m: functools.partial(called, m),
    "keyword": lambda m: functools.partial(called, module=m),
    "object": Holder,
    "method": lambda m: Holder(m).method,
    "method of the module": lambda m: m.forward,
    "function in a function": lambda m: (lambda f: lambda x: f(x))(lambda x: m(x)),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_a_module_behind_a_callable_keeps_its_mode_and_its_statistics(name: str) -> None:
    module = nn.BatchNorm1d(3)
    function = HOLDERS[name](module)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    assert modules_behind(function) == [module]
    with evaluating(function):
        assert module.training
        during = function(images=IMAGES) if name == "keyword" else function(IMAGES)
        assert not torch.equal(module.running_mean, before["running_mean"])
    torch.testing.assert_close(during.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    assert module.training
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


class Averaging(nn.Module):
    """Keeps a running mean in buffers that are made anew in every call, the second not before the first."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("last", None)

    def forward(self, images: Tensor) -> Tensor:
        self.last = images.mean(0)
        self.mean = 0.9 * self.mean + 0.1 * self.last
        return images - self.mean


def test_buffers_that_are_assigned_are_put_back() -> None:
    module = Averaging()
    kept = module.mean
    with evaluating(lambda x: module(x)):
        module(IMAGES)
        assert module.mean.any()
    assert module.mean is kept
    assert not kept.any()
    assert module.last is None
    module(IMAGES)
    assert torch.equal(module.mean, 0.1 * IMAGES.mean(0))


def test_a_global_module_is_found() -> None:
    before = GLOBAL.running_mean.clone()
    with evaluating(lambda x: GLOBAL(x)):
        GLOBAL(IMAGES)
    assert torch.equal(GLOBAL.running_mean, before)


def test_an_empty_cell_is_no_obstacle() -> None:
    def function(images: Tensor) -> Tensor:
        return later(images)

    with evaluating(function):
        pass

    def later(images: Tensor) -> Tensor:
        return images

    assert modules_behind(function) == []


def test_modules_run_in_eval_mode_and_get_theirs_back_after_an_error() -> None:
    module = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(3).eval())
    with evaluating(module):
        assert not any(layer.training for layer in module.modules())
    with pytest.raises(RuntimeError), evaluating(module):
        module(torch.rand(4, 5))
    assert [layer.training for layer in module.modules()] == [True, True, False]


def test_a_part_stays_in_eval_mode_until_the_last_thread_has_left() -> None:
    part = nn.BatchNorm1d(3)
    whole = nn.Sequential(part).eval()
    part.train()
    began, end = threading.Event(), threading.Event()

    def hold() -> None:
        with evaluating(whole):
            began.set()
            end.wait(10)

    other = threading.Thread(target=hold)
    other.start()
    began.wait(10)
    with evaluating(part):
        end.set()
        other.join()
        assert not part.training
    assert part.training
    assert not whole.training


def test_a_module_put_into_train_mode_while_it_is_held_goes_back_to_it() -> None:
    network = nn.Sequential(nn.Dropout()).train()
    with evaluating(network):
        network.train()
        with evaluating(network):
            assert not network[0].training
        assert network[0].training
    assert network.training
    assert network[0].training


@pytest.mark.parametrize("order", [("second", "part", "first"), ("second", "first", "part")])
def test_what_was_found_in_train_mode_while_held_stays_held_for_who_came_after(order: tuple[str, ...]) -> None:
    part = nn.BatchNorm1d(3)
    whole = nn.Sequential(part).train()
    held = {name: ExitStack() for name in order}
    held["first"].enter_context(evaluating(whole))
    whole.train()
    held["second"].enter_context(evaluating(whole))
    held["part"].enter_context(evaluating(part))
    waiting = {"second", "part"}
    for name in order:
        assert not part.training
        held[name].close()
        waiting.discard(name)
        if not waiting:
            break
    assert part.training
    assert whole.training
    for each in held.values():
        each.close()
    assert part.training


def test_a_compiled_module_shares_the_lock_of_the_first() -> None:
    module = nn.BatchNorm1d(3)
    compiled = torch.compile(module, backend="eager")
    assert uncompiled(compiled) is module
    assert lock_of(compiled) is lock_of(module)


def test_a_frozen_module_passes_gradients_on_and_takes_none() -> None:
    linear, images = nn.Linear(3, 2), torch.rand(4, 3, requires_grad=True)
    linear.bias.requires_grad = False
    with frozen(linear):
        total = linear(images).sum()
    total.backward()
    assert images.grad is not None
    assert linear.weight.grad is None
    assert [p.requires_grad for p in linear.parameters()] == [True, False]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_frozen_script_has_no_mode_to_leave() -> None:
    script = torch.jit.freeze(torch.jit.script(nn.Sequential(nn.Linear(3, 2), nn.ReLU()).eval()))
    with evaluating(script):
        assert script(torch.rand(4, 3)).shape == (4, 2)
