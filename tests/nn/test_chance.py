import torch

from carso.nn.chance import home, signs

META, CPU = torch.device("meta"), torch.device("cpu")


def test_draws_are_made_where_the_generator_lives() -> None:
    assert home(None, META) == META
    assert home(torch.Generator(), META) == CPU


def test_signs_are_the_generators_bits() -> None:
    drawn = signs((3, 5), torch.zeros(2, dtype=torch.float64), torch.Generator().manual_seed(4))
    bits = torch.randint(2, (3, 5), generator=torch.Generator().manual_seed(4))
    assert drawn.dtype == torch.float64
    assert drawn.tolist() == [[1.0 if bit else -1.0 for bit in row] for row in bits.tolist()]
    assert signs((2,), torch.zeros(2, device=META), torch.Generator()).device == META
