import pytest
import torch
from torch import nn

from carso.nn.correction import WITHIN, Corrector, Reader, viewed

SHAPE = (3, 9, 12)
IMAGES = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))
SHAPES = [SHAPE, (8, 9, 12), (4, 3, 2), (7,)]


def reader() -> Reader:
    torch.manual_seed(0)
    return Reader(SHAPES, SHAPE, width=6, channels=2, blocks=1).eval()


def outputs() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [IMAGES, *(torch.randn(5, *shape, generator=generator) for shape in SHAPES[1:])]


def test_the_code_begins_with_the_image_and_has_as_many_numbers_as_said() -> None:
    code = reader().read(outputs())
    assert code.shape == (5, reader().features) == (5, 3 * 9 * 12 + 2 * 5 * 6)
    torch.testing.assert_close(code[:, : 3 * 9 * 12], IMAGES.flatten(1))


def test_a_flat_representation_is_read_as_its_layers_are() -> None:
    flat = torch.cat([each.flatten(1) for each in outputs()], 1)
    torch.testing.assert_close(reader()(flat), reader().read(outputs()))


@pytest.mark.parametrize("layer", range(4))
def test_every_layer_is_read(layer: int) -> None:
    changed = outputs()
    changed[layer] = changed[layer] + 1
    m, other = (reader().read(each)[:, 3 * 9 * 12 :] for each in (outputs(), changed))
    assert not torch.allclose(m, other)


def test_before_training_the_image_comes_back() -> None:
    corrector = Corrector(4, SHAPE, channels=2, width=6).eval()
    joint = torch.cat([torch.randn(5, 4), IMAGES.flatten(1), torch.randn(5, 2 * 5 * 6)], 1)
    torch.testing.assert_close(corrector(joint).sigmoid(), WITHIN + (1 - 2 * WITHIN) * IMAGES)


def test_the_gradient_reaches_saturated_pixels() -> None:
    corrector = Corrector(4, SHAPE, channels=2, width=6).eval()
    black = torch.zeros(1, 4 + 3 * 9 * 12 + 2 * 5 * 6, requires_grad=True)
    corrector(black).sigmoid().sum().backward()
    assert black.grad is not None
    torch.testing.assert_close(black.grad[0, 4 : 4 + 3 * 9 * 12], torch.full((3 * 9 * 12,), 1 - 2 * WITHIN))


def test_latents_and_maps_move_the_image_once_the_last_layer_is_not_zero() -> None:
    corrector = Corrector(4, SHAPE, channels=2, width=6).eval()
    nn.init.normal_(corrector.last.weight)
    joint = torch.cat([torch.randn(5, 4), IMAGES.flatten(1), torch.randn(5, 2 * 5 * 6)], 1)
    for column in (0, joint.shape[1] - 1):
        other = joint.clone()
        other[:, column] += 1
        assert not torch.allclose(corrector(joint), corrector(other))


SIGNS = torch.tensor([[flip, fall, turn, 1.0] for flip in (-1, 1) for fall in (-1, 1) for turn in (-1, 1)])


def by_hand(image: torch.Tensor, flip: float, fall: float, turn: float, shift: int) -> torch.Tensor:
    seen = torch.zeros_like(image)
    image = image.flip(2) if flip > 0 else image
    rows, columns = image.shape[1:]
    for i in range(rows):
        for j in range(columns):
            a, b = i - int(fall) * shift, j - int(turn) * shift
            if 0 <= a < rows and 0 <= b < columns:
                seen[:, i, j] = image[:, a, b]
    return seen


def test_viewpoints_are_flips_and_shifts() -> None:
    views = viewed(IMAGES[:1].expand(8, -1, -1, -1), SIGNS, 2, True)
    for view, signs in zip(views, SIGNS.tolist(), strict=True):
        assert torch.equal(view, by_hand(IMAGES[0], *signs[:3], 2))


def test_without_shift_and_flip_there_is_one_viewpoint() -> None:
    assert torch.equal(viewed(IMAGES, torch.randn(5, 4), 0, False), IMAGES)


def test_without_flip_nothing_is_mirrored() -> None:
    views = viewed(IMAGES[:1].expand(8, -1, -1, -1), SIGNS, 1, False)
    assert torch.equal(views[0], views[4])
    assert torch.equal(views[0], by_hand(IMAGES[0], -1, -1, -1, 1))
