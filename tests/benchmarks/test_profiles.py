import pytest
import torch
from benchmarks.speed.profiles import profiles


def test_shares_of_the_time_add_up_and_a_large_product_has_the_most() -> None:
    a = torch.rand(400, 400)
    found = profiles({"product": lambda: torch.mm(a, a)})["product"]
    assert next(iter(found)) == "aten::mm"
    assert sum(found.values()) == pytest.approx(100)
