from typing import Any, Protocol, runtime_checkable

import numpy as np
import pytest
import torch
from torch import nn

from carso.errors import DataError
from carso.types import Budget, ByAttributes, at_least_one, check_images, radius, sides, spelled


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.rand(1, 8, 8), r"shape \(batch, 1, 8, 8\), not \(1, 8, 8\)"),
        (torch.rand(2, 3, 8, 8), r"not \(2, 3, 8, 8\)"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), "divide bytes by 255"),
        (-torch.rand(2, 1, 8, 8), r"lie in \[0, 1\]"),
        (torch.full((2, 1, 8, 8), float("nan")), "NaN"),
        (torch.full((2, 1, 8, 8), 1 + 2**-23), r"these span 1\.0000001192092896 to 1\.0000001192092896"),
        (torch.full((2, 1, 8, 8), 1 + 2**-52, dtype=torch.float64), r"to 1\.0000000000000002"),
    ],
)
def test_bad_images_are_named(bad: torch.Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_images(bad, (1, 8, 8))


def test_good_images_pass() -> None:
    check_images(torch.rand(2, 1, 8, 8), (1, 8, 8))
    check_images(torch.rand(0, 1, 8, 8))


@pytest.mark.whole
@pytest.mark.parametrize("eps", [0.5, np.float32(0.5), np.array(0.5), torch.tensor(0.5), torch.tensor(0.5).double()])
def test_a_radius_of_any_kind_is_kept_as_a_float(eps: Any) -> None:
    budget = Budget("L2", eps)
    assert type(budget.eps) is float
    assert (budget, str(budget)) == (Budget("L2", 0.5), "L2 0.5")


@pytest.mark.whole
@pytest.mark.parametrize(
    "eps", ["0.5", None, [0.5], torch.tensor([0.5]), torch.tensor(0.5j), 0.5j, 0, -1, float("nan"), 10**400]
)
def test_what_is_no_positive_number_is_no_radius(eps: Any) -> None:
    with pytest.raises(ValueError, match="eps must be a positive finite number, not"):
        Budget("L2", eps)


def test_the_first_number_below_one_is_named() -> None:
    at_least_one(steps=1, restarts=3)
    with pytest.raises(ValueError, match=r"^restarts must be at least 1, not 0$"):
        at_least_one(steps=1, restarts=0, eot=-1)


@pytest.mark.parametrize(("written", "value"), [("0.3", 0.3), ("8/255", 8 / 255), ("1e-2", 0.01), ("2 / 4", 0.5)])
def test_radii_are_read_as_people_write_them(written: str, value: float) -> None:
    assert radius(written) == value


@pytest.mark.parametrize(
    ("eps", "written"),
    [
        (0.3, "0.3"),
        (8 / 255, "8/255"),
        (0.0156863, "4/255"),
        (51 / 255, "0.2"),
        (0.0314, "0.0314"),
        (8.1 / 255, "0.0317647"),
    ],
)
def test_radii_are_written_as_people_do(eps: float, written: str) -> None:
    assert spelled(eps) == written
    assert radius(spelled(eps)) == pytest.approx(eps, rel=1e-5)


@pytest.mark.parametrize("written", ["", "eight", "8/", "/255", "1/0", "1/2/3"])
def test_what_is_no_radius_is_named(written: str) -> None:
    with pytest.raises(ValueError, match="a number or a fraction"):
        radius(written)


@pytest.mark.parametrize("written", ["224x224", "224 X 224", " 224x224 "])
def test_sizes_are_read_as_people_write_them(written: str) -> None:
    assert sides(written) == (224, 224)


@pytest.mark.parametrize("written", ["", "224", "x", "224x", "0x5", "-3x5", "2x3x4", "axb", "1.5x2"])
def test_what_is_no_size_is_named(written: str) -> None:
    with pytest.raises(ValueError, match="height x width in pixels, such as 224x224, not"):
        sides(written)


@runtime_checkable
class Judged(Protocol, metaclass=ByAttributes):
    judge: nn.Module

    def verdict(self) -> int: ...


class Court(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.judge = nn.Identity()

    def verdict(self) -> int:
        return 1


def test_a_module_is_known_by_its_submodules_on_every_python() -> None:
    court = Court()
    assert isinstance(court, Judged)
    del court.judge
    assert not isinstance(court, Judged)
    assert not isinstance(Court.verdict, Judged)
