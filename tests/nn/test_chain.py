import pytest
import torch
from torch import nn

from carso.nn import CNN, MLP


@pytest.mark.parametrize("model", [MLP((1, 12, 12), (5, 4)).eval(), CNN((1, 12, 12), (2,), (5,)).eval()])
def test_a_part_of_a_network_is_a_chain_of_its_layers(model: nn.Sequential) -> None:
    images = torch.rand(3, 1, 12, 12)
    head, tail = model[:-2], model[-2:]
    assert [*dict(head.named_children()), *dict(tail.named_children())] == [*dict(model.named_children())]
    assert torch.equal(tail(head(images)), model(images))
    assert model[-1] is [*model][-1]
