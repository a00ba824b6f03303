import torch
from hypothesis import given
from hypothesis import strategies as st

from carso.training.augment import moved, shifted


@given(st.integers(-2, 2), st.integers(-2, 2))
def test_a_window_moves_over_zeros(down: int, right: int) -> None:
    images = torch.rand(3, 2, 5, 7)
    found = shifted(images, torch.tensor([[0, down, 0], [0, right, right]]), 2)
    assert torch.equal(found[0], images[0])
    for i in range(5):
        for j in range(7):
            inside = 0 <= i + down < 5 and 0 <= j + right < 7
            expected = images[1, :, i + down, j + right] if inside else torch.zeros(2)
            assert torch.equal(found[1, :, i, j], expected)


def test_half_of_the_images_are_mirrored() -> None:
    torch.manual_seed(0)
    images = torch.rand(400, 1, 4, 4)
    found = moved(images, flip=True)
    mirrored = (found == images.flip(3)).flatten(1).all(1)
    kept = (found == images).flatten(1).all(1)
    assert (mirrored | kept).all()
    assert 150 < mirrored.sum() < 250


def test_every_shift_is_as_likely() -> None:
    torch.manual_seed(0)
    images = torch.zeros(9000, 1, 5, 5)
    images[:, :, 2, 2] = 1
    seen = moved(images, shift=1).mean(0)[0]
    assert ((seen[1:4, 1:4] - 1 / 9).abs() < 0.02).all()
    seen[1:4, 1:4] = 0
    assert not seen.any()


def test_nothing_moves_unless_asked_to() -> None:
    images = torch.rand(3, 1, 4, 4)
    assert moved(images) is images
