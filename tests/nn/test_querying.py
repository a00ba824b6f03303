from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import carso
from carso.errors import ModelError, NoGradientError
from carso.nn import MLP, Standardise
from carso.nn.monitor import Monitor, cleaned, monitored, note
from carso.nn.querying import Queried, answers, input_dtype, query, widened

IMAGES = torch.rand(4, 1, 3, 3, generator=torch.Generator().manual_seed(0))


def linear(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(9, 3)).to(dtype)


def test_the_model_gets_a_copy_and_the_gradient_comes_back() -> None:
    model, images = linear(), IMAGES.clone().requires_grad_()
    (expected,) = torch.autograd.grad(model(2 * images).sum(), images)
    (found,) = torch.autograd.grad(query(lambda x: model(x.mul_(2)), images).sum(), images)
    assert torch.equal(found, expected)
    assert torch.equal(images.detach(), IMAGES)


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_float32_images_go_into_every_dtype_and_no_less_comes_out(inside: torch.dtype, outside: torch.dtype) -> None:
    answer = query(linear(inside), IMAGES)
    assert answer.dtype == outside
    torch.testing.assert_close(answer.float(), linear()(IMAGES), atol=0.02, rtol=0.02)


def test_what_a_module_takes() -> None:
    assert input_dtype(MLP().double()) == torch.float64
    assert input_dtype(nn.Sequential(Standardise(), nn.Linear(9, 3).half())) is None
    assert input_dtype(nn.Flatten()) is None
    assert input_dtype(lambda x: x) is None
    careful = linear(torch.bfloat16)
    careful.input_dtype = torch.float32
    assert input_dtype(careful) == torch.float32


def test_a_function_of_double_images_gets_them() -> None:
    model = linear(torch.float64)
    assert torch.equal(query(lambda x: model(x), IMAGES.double()), model(IMAGES.double()))


def test_autocast_is_left_alone() -> None:
    seen: list[torch.dtype] = []
    model = linear()
    model.register_forward_pre_hook(lambda module, given: seen.append(given[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        query(model, IMAGES.bfloat16())
    assert seen == [torch.bfloat16]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_autocast_leaves_half_and_double_precision_alone(dtype: torch.dtype) -> None:
    """Beside bfloat16, norms in half precision would raise."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.GroupNorm(2, 2), nn.BatchNorm2d(2), nn.Flatten()).to(dtype).eval()
    images = torch.rand(2, 1, 3, 3)
    expected = model(images.to(dtype)).to(widened(dtype))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(query(model, images), expected)


def test_a_model_that_takes_fewer_images_at_a_time_is_told_so() -> None:
    def engine(images: Tensor) -> Tensor:
        if len(images) > 2:
            raise RuntimeError("batches of 1 or 2")
        return images.flatten(1)

    assert torch.equal(answers(engine, IMAGES.split(2)), IMAGES.flatten(1).argmax(1))
    with pytest.raises(ModelError, match=r"cannot run on 4 images at a time: RuntimeError: batches of 1 or 2; .*wrap"):
        answers(engine, [IMAGES])


def test_an_asked_model_is_asked_once() -> None:
    calls: list[int] = []
    model = Queried(Queried(lambda x: calls.append(id(x)) or x.flatten(1)))
    assert torch.equal(model(IMAGES), IMAGES.flatten(1))
    assert len(calls) == 1
    assert calls[0] != id(IMAGES)


@pytest.mark.parametrize("answer", [[IMAGES], None, "seven", {"logits": IMAGES}])
def test_an_answer_that_is_no_tensor_is_named(answer: object) -> None:
    with pytest.raises(ModelError, match=f"must return a tensor, not {type(answer).__name__}"):
        query(lambda x: answer, IMAGES)  # type: ignore[arg-type,return-value]


def test_other_errors_are_the_models_own() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2") as caught:
        query(linear(), torch.rand(4, 1, 2, 2, requires_grad=True))
    assert not isinstance(caught.value, NoGradientError)
    with pytest.raises(NoGradientError):
        query(lambda x: torch.from_numpy(x.numpy()), IMAGES.clone().requires_grad_())


def gradient(model: nn.Module | Queried, images: Tensor) -> Tensor:
    x = images.clone().requires_grad_()
    return torch.autograd.grad(query(model, x).sum(), x)[0]


class Rooted(nn.Module):
    """Its gradient is infinite where a pixel is zero."""

    def forward(self, images: Tensor) -> Tensor:
        return images.sqrt().flatten(1)


def test_whoever_listens_hears_of_answers_and_gradients() -> None:
    images = IMAGES.clone()
    images[1, 0, 2, 2] = images[3, 0, 0, 0] = 0
    assert gradient(Rooted(), images).isinf().sum() == 2
    monitor = Monitor()
    with monitored(monitor):
        found = gradient(Rooted(), images)
    assert monitor.most == 2
    assert found.isfinite().all()
    assert torch.equal(found == 0, images == 0)
    with monitored(monitor):
        query(lambda x: x.flatten(1) / 0, images)
    assert monitor.most == 4


def test_what_a_model_asks_within_is_its_own_affair() -> None:
    monitor = Monitor()
    with monitored(monitor):
        query(lambda x: query(lambda y: y.flatten(1) / 0, x).nan_to_num(), IMAGES)
    assert monitor.most == 0


def test_nobody_listens_outside() -> None:
    rows = torch.tensor([[torch.nan], [1.0]])
    note(rows)
    assert cleaned(rows) is rows


class Steps(torch.autograd.Function):
    """A quantiser that says nothing of its slope."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (x * 8).round() / 8

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> None:  # type: ignore[override]
        return None


def test_a_backward_pass_that_ends_in_nothing_has_no_gradient() -> None:
    images = torch.rand(4, 1, 2, 2)

    def model(x: Tensor) -> Tensor:
        return Steps.apply(x).flatten(1)

    with pytest.raises(NoGradientError):
        carso.attacks.pgd(model, images, torch.zeros(4).long(), carso.Budget("Linf", 0.1), steps=2)
