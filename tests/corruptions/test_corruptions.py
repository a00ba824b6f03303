import math

import pytest
import torch
from scipy import ndimage

from carso.corruptions import CORRUPTIONS, corrupt
from carso.corruptions.light import plasma
from carso.corruptions.smoothing import smoothed
from carso.corruptions.warp import DEGREES, moved, posed
from carso.errors import DataError

SEEDED = torch.Generator()


def photographs(count: int = 6, channels: int = 3, height: int = 20, width: int = 28) -> torch.Tensor:
    """Smooth pictures with dark and bright parts."""
    noise = torch.rand(count, channels, height, width, generator=SEEDED.manual_seed(1))
    smooth = smoothed(noise, 2.0)
    low, high = smooth.amin((1, 2, 3), keepdim=True), smooth.amax((1, 2, 3), keepdim=True)
    return 0.1 + 0.8 * (smooth - low) / (high - low)


def corrupted(images: torch.Tensor, name: str, severity: int) -> torch.Tensor:
    return corrupt(images, name, severity, SEEDED.manual_seed(0))


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("channels", [1, 4])
def test_more_severe_is_further_away_and_the_same_chance_the_same_images(name: str, channels: int) -> None:
    images = photographs(channels=channels)
    given = images.clone()
    away = [(corrupted(images, name, level) - images).abs().mean() for level in range(1, 6)]
    assert away[0] > 0.0005
    assert away == sorted(away)
    assert torch.equal(images, given)
    once, again = corrupted(images, name, 3), corrupted(images, name, 3)
    assert torch.equal(once, again)
    assert once.shape == images.shape
    assert once.min() >= 0
    assert once.max() <= 1


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_uniform_image_stays_one_under_blur_and_warps(name: str) -> None:
    grey = torch.full((2, 1, 16, 16), 0.5)
    still = name in {"gaussian-blur", "motion-blur", "contrast", "rotate", "shear", "scale", "translate", "elastic"}
    same = torch.allclose(corrupted(grey, name, 5), grey, atol=1e-6)
    assert same == (still or name == "stripe")  # the negative of grey is grey


def test_light_is_what_its_equations_say() -> None:
    images = photographs()
    assert torch.allclose(corrupted(images, "brightness", 2), (images + 0.2).clamp(0, 1))
    mean = images.mean((1, 2, 3), keepdim=True)
    assert torch.allclose(corrupted(images, "contrast", 5), mean + 0.15 * (images - mean), atol=1e-6)
    foggy, brightest = corrupted(images, "fog", 3), images.amax((1, 2, 3), keepdim=True)
    clouds = plasma(images, SEEDED.manual_seed(0))
    assert torch.allclose(foggy, (images + clouds) * brightest / (brightest + 1), atol=1e-6)
    assert clouds.amin((2, 3)).eq(0).all()
    assert clouds.amax((2, 3)).eq(1).all()


def test_fog_is_of_low_frequencies() -> None:
    """Power falls as the third power of frequency."""
    clouds = plasma(torch.zeros(64, 1, 64, 64), SEEDED.manual_seed(0))
    power = torch.fft.rfft2(clouds).abs().square().mean((0, 1))
    slope = math.log(power[0, 16] / power[0, 2]) / math.log(8)
    assert slope == pytest.approx(-3, abs=0.3)


def test_noise_has_its_moments() -> None:
    half = torch.full((40, 1, 50, 50), 0.5)
    loud = corrupted(half, "gaussian-noise", 1)
    assert loud.std().item() == pytest.approx(0.08, rel=0.02)
    photons = corrupted(half, "shot-noise", 1)
    assert photons.mean().item() == pytest.approx(0.5, abs=0.002)
    assert photons.var().item() == pytest.approx(0.5 / 60, rel=0.05)
    assert corrupted(torch.zeros(2, 1, 9, 9), "shot-noise", 5).eq(0).all()
    salted = corrupted(half.expand(-1, 3, -1, -1), "impulse-noise", 5)
    assert salted.eq(0).float().mean().item() == pytest.approx(0.135, abs=0.01)
    assert salted.eq(1).float().mean().item() == pytest.approx(0.135, abs=0.01)
    assert salted.std(1).eq(0).all()


def test_blur_is_that_of_another_library() -> None:
    image = photographs(1, 1)
    theirs = ndimage.gaussian_filter(image[0, 0].double().numpy(), sigma=1.4, mode="nearest", radius=5)
    assert torch.allclose(smoothed(image, 1.4)[0, 0].double(), torch.from_numpy(theirs), atol=1e-6)


def test_a_move_by_whole_pixels_is_a_shift_and_a_quarter_turn_a_transposition() -> None:
    image = photographs(1, 2, 15, 15)
    by = torch.tensor([[3.0, -2.0]])
    inner = moved(image, by)[:, :, :-2, 3:]
    assert torch.allclose(inner, image[:, :, 2:, :-3], atol=1e-5)
    turned = posed(image, torch.tensor([90.0]), torch.zeros(1, 2))
    assert torch.allclose(turned, image.rot90(1, (2, 3)), atol=1e-5)


def test_a_pose_of_a_picture_that_is_not_square_keeps_its_angles() -> None:
    """A bright spot beside the centre is turned around it."""
    spot = torch.zeros(1, 1, 21, 41)
    spot[0, 0, 10, 28] = 1  # eight pixels to the right
    turned = posed(spot, torch.tensor([90.0]), torch.zeros(1, 2))
    assert turned[0, 0, 2, 20].item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_a_rotation_is_one_way_or_the_other(severity: int) -> None:
    images = photographs(12, 1, 21, 21)
    found = corrupted(images, "rotate", severity)
    ways = [posed(images, torch.full((12,), sign * DEGREES[severity - 1]), torch.zeros(12, 2)) for sign in (1, -1)]
    fits = torch.stack([(found - way).abs().amax((1, 2, 3)) < 1e-5 for way in ways])
    assert fits.any(0).all()
    assert fits.any(1).all()


def test_what_is_drawn_is_where_it_should_be() -> None:
    dark = torch.zeros(30, 3, 28, 28)
    band = corrupted(dark, "stripe", 5)
    assert band.eq(1).sum((1, 2, 3)).eq(3 * 28 * 7).all()
    assert band.amax(2).eq(band.amin(2)).all()
    drawn = corrupted(dark, "lines", 1)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert 5 < drawn[:, 0].sum((1, 2)).mean() < 45


def test_every_image_has_its_own_chance() -> None:
    same = photographs(1).expand(8, -1, -1, -1)
    for name in set(CORRUPTIONS) - {"gaussian-blur", "brightness", "contrast"}:
        found = corrupted(same, name, 3)
        assert not torch.allclose(found[1:], found[:1], atol=1e-4), name


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_what_becomes_of_an_image_does_not_depend_on_those_behind_it(name: str) -> None:
    images = photographs(7)
    torch.testing.assert_close(corrupted(images, name, 5)[:3], corrupted(images[:3], name, 5), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "severity", "says"),
    [
        ("mist", 1, "no corruption 'mist'; there are gaussian-noise"),
        ("fog", 6, "from 1 to 5, not 6"),
        ("fog", 0, "not 0"),
    ],
)
def test_what_there_is_not_is_refused(name: str, severity: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        corrupt(photographs(), name, severity)


def test_images_out_of_range_are_refused() -> None:
    with pytest.raises(DataError, match="0, 1"):
        corrupt(photographs() + 1, "fog", 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(0, 1, 8, 8), (2, 3, 1, 1), (2, 1, 8, 5)])
def test_fog_takes_what_the_others_take(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    images = torch.rand(shape).to(dtype)
    found = corrupt(images, "fog", 3, torch.Generator().manual_seed(0))
    assert (found.dtype, found.shape) == (dtype, images.shape)
    assert found.isfinite().all()
