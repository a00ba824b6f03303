from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFilter

from carso import data
from carso.data import digits
from carso.errors import DataError

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def mnist() -> np.ndarray:
    return data.load("mnist", "test")[:20].images[:, 0].numpy()


def enlarge(digit: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)).clip(0, 1)


def on_paper(digit: np.ndarray, size: tuple[int, int], side: int, top: int, left: int) -> np.ndarray:
    """A digit as white ink somewhere on a black sheet."""
    sheet = np.zeros(size, np.float32)
    sheet[top : top + side, left : left + side] = enlarge(digit, side)
    return sheet


def likeness(image: np.ndarray, digit: np.ndarray) -> float:
    """The cosine between two images, at best within a pixel of each other."""
    moved = (np.roll(image, (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1))
    return max(float((one * digit).sum() / np.sqrt((one**2).sum() * (digit**2).sum())) for one in moved)


def test_an_mnist_digit_passes_unchanged(mnist: np.ndarray) -> None:
    for digit in mnist:
        assert digits.normalise(digit) is digit


def test_an_inverted_one_is_inverted_back(mnist: np.ndarray) -> None:
    for digit in mnist:
        np.testing.assert_allclose(digits.normalise(1 - digit), digit, atol=1e-7)


def test_a_28_x_28_picture_without_a_digit_passes(mnist: np.ndarray) -> None:
    noise = RNG.uniform(0, 0.3, (28, 28)).astype(np.float32)
    blank = np.zeros((28, 28), np.float32)
    assert digits.normalise(blank) is blank
    assert digits.normalise(np.where(mnist[0] > 0.5, mnist[0], noise)).min() >= 0


def test_centring_finds_mnists_own_place(mnist: np.ndarray) -> None:
    for digit in mnist:
        rows, columns = np.flatnonzero(digit.any(1)), np.flatnonzero(digit.any(0))
        box = digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert max(box.shape) == 20
        np.testing.assert_array_equal(digits.centre(box), digit)


PICTURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "white on black": lambda digit: enlarge(digit, 200),
    "black on white": lambda digit: 1 - on_paper(digit, (400, 600), 250, 100, 300),
    "far off the middle": lambda digit: 1 - on_paper(digit, (600, 600), 120, 0, 480),
    "upright sheet": lambda digit: 1 - on_paper(digit, (900, 300), 280, 10, 10),
    "pencil on grey": lambda digit: 0.6 - 0.3 * on_paper(digit, (300, 300), 200, 60, 60),
    "dark on dark": lambda digit: 0.4 - 0.35 * on_paper(digit, (300, 300), 200, 60, 60),
    "uneven light": lambda digit: (
        0.9 - 0.4 * on_paper(digit, (300, 400), 250, 25, 60) - 0.4 * np.linspace(0, 1, 400, dtype=np.float32)
    ),
    "noise": lambda digit: 0.8 - 0.6 * on_paper(digit, (240, 320), 150, 45, 100) + RNG.normal(0, 0.05, (240, 320)),
    "two levels": lambda digit: enlarge(digit, 300) > 0.5,
}


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES.keys())
def test_a_picture_of_a_digit_becomes_the_digit(mnist: np.ndarray, picture: Callable[..., np.ndarray]) -> None:
    found = [digits.normalise(picture(digit).astype(np.float32)) for digit in mnist]
    for image, digit in zip(found, mnist, strict=True):
        assert image.shape == (28, 28)
        assert image.dtype == np.float32
        assert image.min() >= 0
        assert image.max() == 1
        assert likeness(image, digit) > 0.9
    assert np.mean([likeness(image, digit) for image, digit in zip(found, mnist, strict=True)]) > 0.97


def test_fills_the_box_and_centres_the_mass() -> None:
    sheet = np.zeros((100, 80), np.float32)
    sheet[10:50, 20:30] = 1
    sheet[40:50, 20:50] = 1
    image = digits.normalise(sheet)
    rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
    assert (rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1) == (20, 15)
    for axis in (0, 1):
        middle = np.average(np.arange(28), weights=image.sum(1 - axis))
        assert abs(middle - 14) <= 0.5


@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (300, 200), (1, 4000)])
@pytest.mark.parametrize("level", [0.0, 0.4, 1.0])
def test_a_blank_sheet_shows_no_digit(shape: tuple[int, int], level: float) -> None:
    with pytest.raises(DataError, match="shows no digit"):
        digits.normalise(np.full(shape, level, np.float32))


def test_faint_noise_is_no_digit() -> None:
    with pytest.raises(DataError, match="shows no digit"):
        digits.normalise((0.8 + RNG.normal(0, 0.01, (200, 200))).astype(np.float32))


@pytest.mark.parametrize("shape", [(8, 8), (3, 9), (1, 30), (270, 5), (29, 28)])
def test_any_size_will_do(shape: tuple[int, int]) -> None:
    sheet = np.ones(shape, np.float32)
    sheet[shape[0] // 2, shape[1] // 2] = 0
    image = digits.normalise(sheet)
    assert image.shape == (28, 28)
    assert image.max() == 1


def test_a_thin_pen_is_still_seen(mnist: np.ndarray) -> None:
    drawn = Image.fromarray((enlarge(mnist[0], 400) * 255).astype(np.uint8)).filter(ImageFilter.MinFilter(15))
    image = digits.normalise(1 - np.asarray(drawn, np.float32) / 255)
    assert likeness(image, mnist[0]) > 0.6


def test_digits_are_known_by_shape_names_and_data() -> None:
    names = tuple("0123456789")
    assert digits.meant((1, 28, 28), names)
    assert digits.meant((1, 28, 28), list(names), "mnist")
    assert not digits.meant((1, 28, 28), names, "pictures")
    assert not digits.meant((1, 28, 28), (*names, "10"))
    assert not digits.meant((1, 28, 28), ("T-shirt", *names[1:]))
    assert not digits.meant((1, 32, 32), names)
