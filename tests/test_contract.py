import pytest
import torch
from torch import Tensor, nn

from carso.contract import check_classifier
from carso.errors import ModelError
from carso.nn import MLP


class Returns(nn.Module):
    def __init__(self, output: object) -> None:
        super().__init__()
        self.output = output

    def forward(self, images: Tensor) -> object:
        return self.output(images) if callable(self.output) else self.output


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda x: x.flatten(1)[:, :10].softmax(1), "probabilities"),
        (lambda x: x.flatten(1)[:, :1], "a single class"),
        (lambda x: x, r"\(batch, classes\)"),
        (lambda x: x.flatten(1)[:1], r"\(batch, classes\)"),
        (lambda x: x.flatten(1)[:, :10] * float("nan"), "NaN"),
        (lambda x: [x], "list"),
        (lambda x: x.flatten(1)[:, : len(x)], r"\(batch, classes\)"),
        (lambda x: x.flatten(1)[:, :7], "7 classes, 10"),
    ],
)
def test_classifiers_that_break_the_contract_are_refused(output: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        check_classifier(Returns(output), (1, 28, 28), classes=10)


def test_the_contract_gives_the_number_of_classes() -> None:
    assert check_classifier(MLP(classes=7), (1, 28, 28)) == 7
    assert check_classifier(MLP(output="mish-log-softmax"), (1, 28, 28)) == 10


def test_a_classifier_of_other_images_says_how_pictures_are_made_so() -> None:
    told = r"of shape \(1, 9, 9\): .*3x81.*; if it was made for others, pictures .* by --size HxW and --channels"
    with pytest.raises(ModelError, match=told):
        check_classifier(MLP(), (1, 9, 9))


def test_whatever_a_classifier_raises_is_named_with_its_kind() -> None:
    class Failing(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return {1: images}[len(images)]

    with pytest.raises(ModelError, match=r"cannot run on images of shape \(1, 2, 2\): KeyError: 3; if it was made for"):
        check_classifier(Failing(), (1, 2, 2))


def test_memory_that_runs_out_is_no_broken_contract() -> None:
    class Hungry(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.empty(10**15)

    with pytest.raises(RuntimeError, match="allocate memory"):
        check_classifier(Hungry(), (1, 2, 2))


def test_low_precision_probabilities_are_probabilities() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 50), nn.Softmax(1)).to(torch.bfloat16).eval()
    with pytest.raises(ModelError, match="take off its final softmax"):
        check_classifier(network, (1, 2, 2))


@pytest.mark.usefixtures("fresh_progress")
@pytest.mark.parametrize(("kept", "told"), [(True, False), (False, True)])
def test_a_classifier_whose_answers_depend_on_the_batch_is_told_of(
    kept: bool, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    norm = nn.BatchNorm2d(9, track_running_stats=kept)
    check_classifier(nn.Sequential(nn.Conv2d(1, 9, 3), norm, nn.Flatten(), nn.Linear(36, 3)), (1, 4, 4))
    assert ("depends on the images beside it" in capsys.readouterr().err) == told
    check_classifier(nn.Sequential(nn.Flatten(), nn.Linear(16, 3), Jittering()), (1, 4, 4))
    assert "depends on" not in capsys.readouterr().err


class Jittering(nn.Module):
    """Random, whatever stands beside an image."""

    def forward(self, logits: Tensor) -> Tensor:
        return logits + torch.randn_like(logits)
