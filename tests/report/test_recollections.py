import re

import pytest
import torch

import carso
from carso import CARSO
from carso.nn import MLP
from carso.purifier import Purifier


@pytest.fixture(scope="module")
def defence() -> CARSO:
    torch.manual_seed(0)
    return CARSO(MLP((1, 6, 6), (12, 8), classes=4).eval(), Purifier((1, 6, 6), 24, latent=3), samples=60, stop="never")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(1))


def test_what_is_shown_is_what_votes(defence: CARSO, images: torch.Tensor) -> None:
    shown = carso.show(defence, images, samples=60, seed=5)
    answers = defence.classifier(shown.candidates.flatten(0, 1)).argmax(1).view(3, 60)
    counted = torch.stack([torch.bincount(row, minlength=4) for row in answers])
    assert torch.equal(shown.tally.counts, counted)


def test_fewer_samples_are_the_first(defence: CARSO, images: torch.Tensor) -> None:
    few, all_ = carso.show(defence, images, 4, seed=5), carso.show(defence, images, 60, seed=5)
    torch.testing.assert_close(few.candidates, all_.candidates[:, :4])
    torch.testing.assert_close(few.mean, all_.candidates[:, :4].mean(1))


def test_the_html_names_the_winners_and_fetches_nothing(defence: CARSO, images: torch.Tensor) -> None:
    shown = carso.show(defence, images)
    html = shown._repr_html_()
    assert html.count("data:image/png") == 9
    assert html.count('alt="') == 9
    assert all(f"class {winner}</b>" in html for winner in shown.tally.winners.tolist())
    assert "http" not in html
    titles = [f"<title>{c}: {share:.0%}</title>" for row in shown.tally.shares.tolist() for c, share in enumerate(row)]
    assert re.findall("<title>.*?</title>", html) == titles


@pytest.mark.parametrize("samples", [0, 61])
def test_a_number_of_samples_it_cannot_show_is_refused(defence: CARSO, images: torch.Tensor, samples: int) -> None:
    with pytest.raises(ValueError, match="samples must be between 1 and 60"):
        carso.show(defence, images, samples)


def test_what_is_elected_is_by_the_defences_own_aggregation_and_names(defence: CARSO, images: torch.Tensor) -> None:
    kinds = defence.classifier, defence.purifier
    logits = CARSO(*kinds, samples=60, aggregation="mean-logit")
    logits.class_names = ("ape", "bee", "cat", "dog")
    shown = carso.show(logits, images, seed=5)
    assert torch.equal(shown.labels, logits.predict(images, torch.Generator().manual_seed(5)))
    elected = [logits.class_names[label] for label in shown.labels.tolist()]
    assert repr(shown).endswith(f"elected {', '.join(elected)}")
    assert all(f"class {name}</b>" in shown._repr_html_() for name in elected)
