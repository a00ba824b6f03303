from pathlib import Path

import pytest
import torch

import carso
from carso import CARSO
from carso.correction import CorrectivePurifier
from carso.errors import ModelError
from carso.nn import Contrast, ResNet
from carso.nn.correction import WITHIN, viewed
from carso.purifier import kl_divergence, reconstruction_loss
from carso.representation import Representation
from carso.storage import weights

SHAPE, LAYERS = (3, 16, 16), ("input", "groups.0", "groups.1", "output")
IMAGES = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(0))


def defence(shift: int = 1, flip: bool = True, contrast: float = 0.0) -> CARSO:
    torch.manual_seed(0)
    classifier = ResNet(SHAPE, width=8, blocks=(1, 1)).eval()
    shapes = [s for found in Representation(classifier, LAYERS).shapes(IMAGES[:1]).values() for s in found]
    sizes = {"latent": 4, "width": 8, "channels": 4, "blocks": 1}
    purifier = CorrectivePurifier(SHAPE, shapes, **sizes, shift=shift, flip=flip, contrast=contrast)
    return CARSO(classifier, purifier.eval(), LAYERS, samples=8, aggregation="mean-probability")


def test_an_untrained_defence_answers_as_its_classifier_does() -> None:
    plain = defence(0, False)
    candidates = plain.recall(IMAGES, samples=3)
    torch.testing.assert_close(candidates, (WITHIN + (1 - 2 * WITHIN) * IMAGES).unsqueeze(1).expand(-1, 3, -1, -1, -1))
    with torch.no_grad():
        assert torch.equal(plain.predict(IMAGES), plain.classifier(candidates[:, 0]).argmax(1))


def test_an_untrained_defence_of_contrast_recalls_the_image_of_more_contrast(tmp_path: Path) -> None:
    some = defence(0, False, 0.3)
    candidates = some.recall(IMAGES, samples=1)[:, 0]
    torch.testing.assert_close(candidates, WITHIN + (1 - 2 * WITHIN) * Contrast(0.3)(IMAGES))
    weights.save(some, tmp_path)
    torch.testing.assert_close(carso.load(str(tmp_path)).recall(IMAGES, samples=1)[:, 0], candidates)


def test_candidates_are_seen_from_the_viewpoints_of_their_latents() -> None:
    some, z = defence(), torch.randn(5, 4)
    with torch.no_grad():
        codes = some.codes(IMAGES)
        candidates = some.purifier.decode(z[:4], codes)
        straight = defence(0, False).purifier.decode(z[:4], codes)
    torch.testing.assert_close(candidates, viewed(straight, z[:4], 1, True))


def test_reconstructions_are_seen_straight_on_and_can_be_learned() -> None:
    some = defence()
    with torch.no_grad():
        codes = some.codes(IMAGES)
    reconstructions, mean, log_variance = some.purifier.reconstruct(IMAGES, codes)
    torch.testing.assert_close(reconstructions, WITHIN + (1 - 2 * WITHIN) * IMAGES)
    loss = (reconstruction_loss(reconstructions, IMAGES) + kl_divergence(mean, log_variance)).mean()
    loss.backward()
    last = some.purifier.decoder[0].last
    assert last.weight.grad is not None
    assert last.weight.grad.abs().sum() > 0


def test_with_contrast_a_reconstruction_is_held_to_the_image_of_more_contrast() -> None:
    assert torch.equal(defence().purifier.target(IMAGES), IMAGES)
    assert torch.equal(defence(contrast=0.3).purifier.target(IMAGES), Contrast(0.3)(IMAGES))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    some = defence()
    torch.nn.init.normal_(some.purifier.decoder[0].last.weight, std=0.1)
    weights.save(some, tmp_path)
    again = carso.load(str(tmp_path))
    assert isinstance(again.purifier, CorrectivePurifier)
    assert again.purifier.options == some.purifier.options
    seeds = [torch.Generator().manual_seed(3) for _ in range(2)]
    torch.testing.assert_close(some(IMAGES, generator=seeds[0]), again(IMAGES, generator=seeds[1]))


def test_the_image_must_be_among_the_layers() -> None:
    with pytest.raises(ModelError, match="name input among the layers"):
        CorrectivePurifier(SHAPE, [(8, 16, 16)])


def test_viewpoints_take_three_latents() -> None:
    with pytest.raises(ModelError, match="3 latents, and z has 2"):
        CorrectivePurifier(SHAPE, [SHAPE], latent=2)


def test_the_variance_of_q_stays_finite_whatever_is_thrown_at_it() -> None:
    some = defence()
    torch.nn.init.constant_(some.purifier.log_variance.bias, 1e6)
    with torch.no_grad():
        _, log_variance = some.purifier.encode(IMAGES, some.codes(IMAGES))
    torch.testing.assert_close(log_variance, torch.full_like(log_variance, 6.0))
