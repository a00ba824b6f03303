import pytest
import torch

from carso.checks import check_images, check_suits
from carso.data import Dataset
from carso.errors import DataError


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.rand(1, 8, 8), r"shape \(batch, 1, 8, 8\), not \(1, 8, 8\)"),
        (torch.rand(2, 3, 8, 8), r"not \(2, 3, 8, 8\)"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), "divide bytes by 255"),
        (-torch.rand(2, 1, 8, 8), r"lie in \[0, 1\]"),
        (torch.full((2, 1, 8, 8), float("nan")), "NaN"),
    ],
)
def test_bad_images_are_named(bad: torch.Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_images(bad, (1, 8, 8))


def test_good_images_pass() -> None:
    check_images(torch.rand(2, 1, 8, 8), (1, 8, 8))
    check_images(torch.rand(0, 1, 8, 8))


def test_a_data_set_must_suit_the_defence() -> None:
    images = torch.rand(2, 1, 8, 8)
    dataset = Dataset("mine", images, torch.tensor([0, 5]), tuple("012345"))
    check_suits(dataset, (1, 8, 8), 6)
    check_suits(Dataset("mine", images), (1, 8, 8), 2)
    with pytest.raises(DataError, match=r"mine: has the label 5, the defence knows the classes 0 to 4"):
        check_suits(dataset, (1, 8, 8), 5)
    with pytest.raises(DataError, match=r"mine: its images are \(1, 8, 8\), the defence takes \(3, 8, 8\)"):
        check_suits(dataset, (3, 8, 8), 6)
