import pytest
import torch

from carso.nn import MLP
from carso.purifier import ConvolutionalPurifier, Purifier
from carso.recall import CONVOLVED, ROWS, classify, draw, poll, recall, rounds
from carso.vote import Stop, count


@pytest.fixture
def purifier() -> Purifier:
    torch.manual_seed(0)
    return Purifier((1, 6, 6), neurons=20, latent=5).eval()


def test_recall_is_the_decoder_on_every_pair(purifier: Purifier) -> None:
    latents, codes = torch.randn(4, 5), torch.rand(3, purifier.code)
    pairs = torch.stack([purifier.decode(z.expand(3, -1), codes) for z in latents], dim=1)
    torch.testing.assert_close(recall(purifier, latents, codes), pairs)


@pytest.mark.parametrize("stop", ["never", "exact", "confident"])
@pytest.mark.parametrize("samples", [1, 19, 20, 21, 1500, ROWS + 1])
def test_rounds_cover_the_samples_once(samples: int, stop: Stop) -> None:
    covered = [k for start, end in rounds(samples, stop) for k in range(start, end)]
    assert covered == list(range(samples))


def test_the_full_poll_counts_every_candidate(purifier: Purifier) -> None:
    classifier = MLP((1, 6, 6), (8,)).eval()
    latents, codes = torch.randn(30, 5), torch.rand(7, purifier.code)
    with torch.no_grad():
        expected = count(classify(classifier, recall(purifier, latents, codes)))
        tally = poll(classifier, purifier, latents, codes, "never", 1e-4)
    assert torch.equal(tally.counts, expected)
    assert (tally.samples == 30).all()


@pytest.mark.parametrize(("images", "samples"), [(3, 100), (100, 3), (1, 300)])
def test_few_convolved_candidates_are_in_memory_at_a_time(images: int, samples: int) -> None:
    """Whose maps in classifier and decoder are what a vote's memory is made of."""
    seen: list[int] = []
    torch.manual_seed(0)
    purifier = ConvolutionalPurifier((3, 32, 32), [(10,)], latent=4, code=5).eval()

    def classifier(candidates: torch.Tensor) -> torch.Tensor:
        seen.append(len(candidates))
        return candidates.flatten(1)[:, :3]

    latents, codes = torch.randn(samples, 4), torch.rand(images, 5)
    with torch.no_grad():
        tally = poll(classifier, purifier, latents, codes, "never", 1e-4)
        expected = count(classify(classifier, recall(purifier, latents, codes)))
    assert torch.equal(tally.counts, expected)
    assert max(seen[:-1]) * 3072 <= CONVOLVED


@pytest.mark.parametrize("stop", ["exact", "confident"])
def test_an_early_stop_counts_a_prefix(purifier: Purifier, stop: Stop) -> None:
    classifier = MLP((1, 6, 6), (8,)).eval()
    latents, codes = torch.randn(200, 5), torch.rand(7, purifier.code)
    with torch.no_grad():
        tally = poll(classifier, purifier, latents, codes, stop, 1e-4)
        for i, used in enumerate(tally.samples.tolist()):
            prefix = count(classify(classifier, recall(purifier, latents[:used], codes[i : i + 1])))
            assert torch.equal(tally.counts[i], prefix[0])
            assert tally.counts[i].sum() == used


def test_latents_follow_the_generator(purifier: Purifier) -> None:
    a, b = (draw(9, purifier, torch.Generator().manual_seed(3), torch.device("cpu")) for _ in range(2))
    assert torch.equal(a, b)
    assert a.shape == (9, 5)


def test_candidates_are_float32_under_autocast_too(purifier: Purifier) -> None:
    latents, codes = torch.randn(4, 5), torch.rand(3, purifier.code)
    with torch.autocast("cpu", torch.bfloat16):
        found = recall(purifier, latents, codes)
    assert found.dtype is torch.float32
    torch.testing.assert_close(found, recall(purifier, latents, codes), atol=2e-2, rtol=0)


def test_the_last_sigmoid_is_not_rounded_to_the_weights(purifier: Purifier) -> None:
    """As in `decode`, whether the first layer is taken in two parts, as here, or whole."""
    with torch.no_grad():
        purifier.decoder[0].weight[:, : purifier.latent] = 0
    latents, codes = torch.randn(4, 5), torch.rand(3, purifier.code)
    found = recall(purifier.bfloat16(), latents, codes)
    assert found.dtype is torch.float32
    assert not torch.equal(found, found.bfloat16().float())
    torch.testing.assert_close(found[:, 0], purifier.decode(latents[:1].expand(3, -1), codes), atol=1e-2, rtol=0)
