from __future__ import annotations

import copy
import linecache
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx._symbolic_trace import is_fx_tracing

from carso.fast import faster
from carso.fast.network import Network, network, reading
from carso.fast.tracing import Graph, traced

DARK = torch.full((2, 3, 8, 8), 0.01)
BRIGHT = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
CAP = 0.3


class Net(nn.Module):
    """Two convolutions and a linear layer, with something done to the maps between that dark images do not show.

    Args:
        between: of itself and the maps, what the logits are computed from.
    """

    def __init__(self, between: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm, self.logits = nn.BatchNorm2d(8), nn.Linear(512, 5)
        self.cap, self.own, self.relu = nn.Hardtanh(-9, CAP, inplace=True), Capped(), nn.ReLU(inplace=True)
        self.between = between
        nn.init.zeros_(self.first.bias)

    def forward(self, images: Tensor) -> Tensor:
        h = self.between(self, 3 * self.second(3 * self.first(images)))
        answer: Tensor = self.logits(h.flatten(1))
        return answer


class Capped(nn.Module):
    """A layer of somebody's own that writes into what it is given."""

    def forward(self, h: Tensor) -> Tensor:
        return h.clamp_(max=CAP)


def statement(net: Net, h: Tensor) -> Tensor:
    h.clamp_(max=CAP)
    return h


def view(net: Net, h: Tensor) -> Tensor:
    h.flatten(1).clamp_(max=CAP)
    return h


def reshaped(net: Net, h: Tensor) -> Tensor:
    h.permute(0, 2, 3, 1).reshape(-1, 8).clamp_(max=CAP)
    return h


def chunk(net: Net, h: Tensor) -> Tensor:
    one, _ = h.chunk(2, 1)
    one.clamp_(max=CAP)
    return h


def item(net: Net, h: Tensor) -> Tensor:
    h[:, :4] = h[:, :4].clamp(max=CAP)
    return h


def read_again(net: Net, h: Tensor) -> Tensor:
    k = h.clamp_(max=CAP)
    return h + k


def assigned(net: Net, h: Tensor) -> Tensor:
    k = h
    h -= F.relu(h - CAP)
    return h + k


def attribute(net: Net, h: Tensor) -> Tensor:
    t = h.mT
    t -= F.relu(t - CAP)
    return h


def data(net: Net, h: Tensor) -> Tensor:
    h.data = h.clamp(max=CAP)
    return h


def flag(net: Net, h: Tensor) -> Tensor:
    F.hardtanh(h, -9, CAP, True)
    return h


def out(net: Net, h: Tensor) -> Tensor:
    torch.clamp(h, max=CAP, out=h)
    return h


def overload(net: Net, h: Tensor) -> Tensor:
    torch.ops.aten.clamp_.default(h, None, CAP)
    return h


def taken_over(net: Net, h: Tensor) -> Tensor:
    (2 * h).set_(h).clamp_(max=CAP)  # type: ignore[call-overload]
    return h


def layer(net: Net, h: Tensor) -> Tensor:
    net.cap(h)
    return h


def own_layer(net: Net, h: Tensor) -> Tensor:
    k = net.own(h)
    return h + k


WRITERS = [
    statement,
    view,
    reshaped,
    chunk,
    item,
    read_again,
    assigned,
    attribute,
    data,
    flag,
    out,
    overload,
    taken_over,
    layer,
    own_layer,
]


@pytest.mark.parametrize("between", WRITERS)
@torch.no_grad()
def test_what_is_written_in_place_stays_written(between: Callable[[Net, Tensor], Tensor]) -> None:
    model = Net(between).eval()
    uncapped = Net(lambda _, h: h).eval()
    if between not in (reshaped, read_again, assigned, own_layer):
        torch.testing.assert_close(model(DARK), uncapped(DARK))
        assert not torch.allclose(model(BRIGHT), uncapped(BRIGHT), atol=0.1)
    form, read = faster(model, DARK), reading(model, ("second", "output"), DARK)
    ours = form.exact if isinstance(form, Network) else form
    torch.testing.assert_close(ours(BRIGHT), model(BRIGHT), rtol=1e-4, atol=1e-4)
    if read is not None:
        torch.testing.assert_close(read.exact(BRIGHT)[1], model(BRIGHT), rtol=1e-4, atol=1e-4)


class Kept(nn.Module):
    """A layer of somebody's own that gives what it keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = nn.Buffer(torch.zeros(1, 8, 8, 8))

    def forward(self, h: Tensor) -> Tensor:
        return self.kept


def buffer(net: Net, h: Tensor) -> Tensor:
    kept: Tensor = net.keeper.kept.add_(1)
    return h + kept


def given_buffer(net: Net, h: Tensor) -> Tensor:
    kept: Tensor = net.keeper(h)
    kept += 1
    return h + kept


@pytest.mark.parametrize("between", [buffer, given_buffer])
@torch.no_grad()
def test_what_writes_into_a_buffer_has_no_form(between: Callable[[Net, Tensor], Tensor]) -> None:
    model = Net(between)
    model.keeper = Kept()
    assert network(model.eval(), DARK) is None
    assert not model.keeper.kept.any()
    assert not torch.equal(model(DARK), model(DARK))


def residual(net: Net, h: Tensor) -> Tensor:
    g = F.relu(net.norm(h), inplace=True)
    g = net.relu(net.norm(net.second(g)))
    g += h
    return F.relu_(g)


def own_layer_alone(net: Net, h: Tensor) -> Tensor:
    return net.own(h) + 1


@pytest.mark.parametrize("between", [residual, own_layer_alone])
@torch.no_grad()
def test_what_is_read_by_the_result_alone_may_be_written(between: Callable[[Net, Tensor], Tensor]) -> None:
    model = Net(between).eval()
    assert traced(copy.deepcopy(model)) is not None
    form = network(model, DARK)
    assert form is not None
    torch.testing.assert_close(form.exact(BRIGHT), model(BRIGHT), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_layer_that_is_written_over_is_read_as_it_was_made() -> None:
    model = Net(lambda net, h: net.relu(net.norm(h))).eval()
    heard: list[Tensor] = []
    handle = model.norm.register_forward_hook(lambda *call: heard.append(call[2].clone()))
    logits = model(BRIGHT)
    handle.remove()
    read = reading(model, ("norm", "output"), DARK)
    assert read is not None
    for ours, theirs in zip(read.exact(BRIGHT), (heard[0], logits), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def meanwhile(do: Callable[[], object], wait: float | None = 10) -> Callable[[Net, Tensor], Tensor]:
    """What has another thread do something while the network is traced."""

    def between(net: Net, h: Tensor) -> Tensor:
        if isinstance(h, fx.Proxy):
            other = threading.Thread(target=do)
            other.start()
            other.join(wait)
        return h

    return between


def test_other_threads_call_their_modules_while_one_is_traced() -> None:
    module, answers = nn.Sequential(nn.Linear(2, 2), nn.ReLU()), []
    expected = module(torch.ones(1, 2))

    def call() -> None:
        answers.extend([module(torch.ones(1, 2)), module[0].weight, bool(is_fx_tracing())])

    assert traced(Net(meanwhile(call)).eval()) is not None
    assert torch.equal(answers[0], expected)
    assert isinstance(answers[1], nn.Parameter)
    assert answers[2] is False


def test_one_thread_traces_at_a_time() -> None:
    before, found = (nn.Module.__call__, nn.Module.__getattr__), []
    other = threading.Thread(target=lambda: found.append(traced(Net(lambda _, h: h).eval())))

    def begin() -> None:
        other.start()
        other.join(0.2)
        found.append(None)

    traced(Net(meanwhile(begin)).eval())
    other.join(10)
    assert found[0] is None
    assert isinstance(found[1], Graph)
    assert (nn.Module.__call__, nn.Module.__getattr__) == before


def test_what_another_thread_draws_is_not_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threading.active_count", lambda: 2)
    for draw in (lambda: torch.rand(4).tolist(), lambda: np.random.rand(4).tolist()):
        drawn: list[float] = []
        traced(Net(meanwhile(lambda draw=draw, drawn=drawn: drawn.extend(draw()))).eval())
        assert len(drawn) == 4
        assert draw() != drawn


def test_torchs_chance_is_refused_before_it_is_drawn() -> None:
    state = torch.get_rng_state()
    assert traced(Net(lambda _, h: h * torch.rand(())).eval()) is None
    assert traced(Net(lambda _, h: h + torch.empty(8, 8).bernoulli_()).eval()) is None
    assert torch.equal(torch.get_rng_state(), state)


def test_no_source_of_a_graph_is_kept() -> None:
    def kept() -> tuple[int, int]:
        sources = sum("eval_with_key" in name for name in linecache.cache)
        return len(fx.graph_module._loader.eval_cache), sources

    model = Net(lambda net, h: net.norm(h)).eval()
    before = kept()
    form = faster(model, BRIGHT)
    assert isinstance(form, Network)
    assert kept() == before
    with pytest.raises(RuntimeError, match="expected input"):
        form.exact(torch.rand(1, 4, 8, 8))
