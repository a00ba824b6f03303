from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from carso.errors import ModelError
from carso.training.optimise import Optimisation, Plateau, _optimiser, risen
from carso.training.recipe import Schedule


class Unread(TorchDispatchMode):
    """Where no value of a tensor may be read, as while a CUDA graph is recorded."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert function is not torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def test_sgd_never_reads_a_rate_in_a_tensor_and_makes_the_same_steps() -> None:
    schedule = Schedule(epochs=1, rate=0.1, optimiser="sgd", weight_decay=0.01)
    given, recorded = (torch.nn.Parameter(torch.arange(3.0)) for _ in range(2))
    for parameter, rate in ((given, 0.1), (recorded, torch.tensor(0.1))):
        optimiser = _optimiser([parameter], rate, schedule)
        for step in range(3):
            parameter.grad = torch.arange(3.0) - step
            with Unread():
                optimiser.step()
    torch.testing.assert_close(recorded, given)


def test_cosine_rises_to_the_peak_and_falls_to_nothing() -> None:
    module = torch.nn.Linear(2, 1)
    optimisation = Optimisation(module, Schedule(epochs=10, rate=0.5, warmup=0.1), steps_per_epoch=100)
    rates = []
    for _ in range(1000):
        rates.append(optimisation.rate)
        optimisation.prepare()
    assert max(rates) == pytest.approx(0.5, rel=0.01)
    assert rates.index(max(rates)) == pytest.approx(100, abs=2)
    assert rates[0] < 0.005
    assert rates[-1] < 1e-4


def test_linear_rises_stays_and_falls_to_nothing() -> None:
    schedule = Schedule(epochs=4, rate=0.5, shape="linear", warmup=0.25, flat=0.25)
    optimisation = Optimisation(torch.nn.Linear(2, 1), schedule, steps_per_epoch=2)
    rates = []
    for _ in range(8):
        rates.append(optimisation.rate)
        optimisation.prepare()
    assert rates == pytest.approx([0.125, 0.375, 0.5, 0.5, 0.4375, 0.3125, 0.1875, 0.0625])


def test_a_ramp_rises_evenly_and_stays() -> None:
    assert [risen(epoch, 0.3, 10) for epoch in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1, 1])
    assert risen(0, 0.0, 10) == 1
    assert [risen(epoch - 2, 0.0, 10) for epoch in range(4)] == [0, 0, 1, 1]


def test_plateau_waits_and_reduces() -> None:
    plateau = Plateau(factor=0.5, patience=3)
    for loss in (3.0, 2.0, 2.0, 2.5):
        plateau.observe(loss)
    assert plateau.scale == 1
    plateau.observe(2.1)
    assert plateau.scale == 0.5
    plateau.observe(2.0)
    assert plateau.scale == 0.5


def test_a_step_is_that_of_radam_and_the_average_follows() -> None:
    torch.manual_seed(0)
    module, twin = torch.nn.Linear(3, 1), torch.nn.Linear(3, 1)
    twin.load_state_dict(module.state_dict())
    schedule = Schedule(epochs=1, rate=0.1, shape="plateau", average=0.5)
    optimisation = Optimisation(module, schedule, steps_per_epoch=8)
    oracle = torch.optim.RAdam(twin.parameters(), lr=0.1)
    average = {k: v.clone() for k, v in module.state_dict().items()}
    inputs = torch.randn(16, 3)
    for step in range(8):
        optimisation.prepare()
        optimisation.step([module(inputs).square().mean()])
        oracle.zero_grad()
        twin(inputs).square().mean().backward()
        oracle.step()
        keep = min(0.5, (1 + step) / (10 + step))
        average = {k: keep * average[k] + (1 - keep) * v for k, v in twin.state_dict().items()}
    torch.testing.assert_close(dict(module.state_dict()), dict(twin.state_dict()))
    optimisation.finish()
    torch.testing.assert_close(dict(module.state_dict()), average)


@pytest.mark.parametrize("average", [0.0, 0.5])
def test_lookahead_pulls_the_fast_weights_to_the_slow_ones(average: float) -> None:
    """Every third step phi <- phi + 0.8 (theta - phi), theta <- phi; training ends with phi, or the average."""
    slope, module = torch.tensor([[1.0, -2.0, 3.0]]), torch.nn.Linear(3, 1, bias=False)
    schedule = Schedule(epochs=1, rate=0.1, shape="plateau", lookahead=3, average=average)
    optimisation = Optimisation(module, schedule, steps_per_epoch=8)
    oracle = torch.nn.Linear(3, 1, bias=False)
    oracle.load_state_dict(module.state_dict())
    fast = torch.optim.RAdam(oracle.parameters(), lr=0.1)
    phi = oracle.weight.detach().clone()
    for step in range(8):
        optimisation.prepare()
        optimisation.step([(slope * module.weight).sum()])
        fast.zero_grad()
        (slope * oracle.weight).sum().backward()
        fast.step()
        if step in (2, 5):
            phi = phi + 0.8 * (oracle.weight.detach() - phi)
            oracle.weight.data.copy_(phi)
        torch.testing.assert_close(module.weight, oracle.weight)
    assert not torch.equal(oracle.weight, phi)
    optimisation.finish()
    torch.testing.assert_close(module.weight.detach(), optimisation.average["weight"] if average else phi)


def test_too_few_steps_to_look_ahead_leave_what_was_learned() -> None:
    module = torch.nn.Linear(3, 1, bias=False)
    before = module.weight.detach().clone()
    optimisation = Optimisation(module, Schedule(epochs=1, rate=0.1, shape="plateau", lookahead=6), steps_per_epoch=2)
    for _ in range(2):
        optimisation.prepare()
        optimisation.step([module.weight.sum()])
    learned = module.weight.detach().clone()
    optimisation.finish()
    assert not torch.equal(learned, before)
    assert torch.equal(module.weight.detach(), learned)


@pytest.mark.parametrize("module", [torch.nn.Linear(2, 1).requires_grad_(False), torch.nn.ReLU()])
def test_a_module_without_anything_to_train_is_named(module: torch.nn.Module) -> None:
    with pytest.raises(ModelError, match=rf"nothing of the {type(module).__name__} is trainable"):
        Optimisation(module, Schedule(epochs=1, rate=0.1), steps_per_epoch=1)
