from __future__ import annotations

import pytest
import torch

from carso.correction import CorrectivePurifier
from carso.data import Dataset
from carso.errors import RecipeError
from carso.nn import MLP, ResNet
from carso.purifier import ConvolutionalPurifier, Purifier
from carso.representation import Representation
from carso.training.design import classifier_of, is_convolutional, purifier_of, representation_of, samples_of
from carso.training.recipe import ClassifierSpec, PurifierSpec

GREY, COLOUR, LARGE = (1, 28, 28), (3, 16, 16), (1, 48, 64)


def images(shape: tuple[int, int, int]) -> Dataset:
    return Dataset("noise", torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(
    ("shape", "kind", "convolutional"),
    [
        (GREY, None, False),
        (COLOUR, None, True),
        (LARGE, None, True),
        (GREY, "convolutional", True),
        (COLOUR, "dense", False),
    ],
)
def test_the_kind_decides_how_many_vote(shape: tuple[int, int, int], kind: str | None, convolutional: bool) -> None:
    spec = PurifierSpec(kind=kind)
    assert is_convolutional(spec, shape) == convolutional
    assert samples_of(spec, shape, None) == (8 if convolutional else 1500)
    assert samples_of(spec, shape, 33) == 33


@pytest.mark.parametrize(("shape", "field"), [(COLOUR, "hidden"), (COLOUR, "representation"), (GREY, "code")])
def test_fields_of_a_kind_that_the_images_do_not_have_are_refused(shape: tuple[int, int, int], field: str) -> None:
    given = {"hidden": {"widths": "interpolated", "hidden": 3}, "representation": {"representation": (9,)}}
    spec, train = PurifierSpec(**given.get(field, {field: 9})), images(shape)
    representation = Representation(MLP(shape, (5,)).eval(), ("input", "output"))
    with pytest.raises(RecipeError, match=r"purifier: \w+ is of kind: (dense|convolutional), .* by default for noise"):
        purifier_of(spec, representation, train)


def test_proposed_layers_are_said_and_read(capsys: pytest.CaptureFixture[str]) -> None:
    model = ResNet(COLOUR, width=4, blocks=(1, 1)).eval()
    representation = representation_of(PurifierSpec(), model, images(COLOUR))
    assert representation.layers == ("groups.0.0", "groups.1.0", "output")
    assert "its 2 blocks (groups.0.0, groups.1.0) and the logits" in capsys.readouterr().err
    purifier = purifier_of(PurifierSpec(code=16), representation, images(COLOUR))
    assert isinstance(purifier, ConvolutionalPurifier)
    assert purifier.neurons == 4 * 256 + 8 * 64 + 10


def test_a_recipe_may_name_the_layers(capsys: pytest.CaptureFixture[str]) -> None:
    spec = PurifierSpec(layers=("input", "output"))
    assert representation_of(spec, MLP().eval(), images(GREY)).layers == ("input", "output")
    assert capsys.readouterr().err == ""


def test_a_dense_purifier_of_a_large_network_stays_small() -> None:
    spec = PurifierSpec(kind="dense")
    model = ResNet((3, 32, 32), width=16, blocks=(1, 1, 1)).eval()
    representation = representation_of(spec, model, images((3, 32, 32)))
    reads = purifier_of(spec, representation, images((3, 32, 32))).representation_encoder
    assert sum(weights.numel() for weights in reads.parameters()) < 2**25


def test_maps_read_the_image_of_a_convolutional_purifier() -> None:
    model = ResNet(COLOUR, width=4, blocks=(1, 1)).eval()
    seeing = PurifierSpec(layers=("input", "output"), maps=(4, 6), code=16)
    purifier = purifier_of(seeing, representation_of(seeing, model, images(COLOUR)), images(COLOUR))
    assert purifier.options["maps"] == [4, 6]
    blind = PurifierSpec(layers=("output",), maps=(4, 6))
    with pytest.raises(RecipeError, match=r"purifier\.maps reads the image, which purifier.layers leaves out"):
        purifier_of(blind, representation_of(blind, model, images(COLOUR)), images(COLOUR))


@pytest.mark.parametrize(("hidden", "layers"), [(1, 2), (3, 4)])
def test_a_recipe_says_how_many_hidden_layers(hidden: int, layers: int) -> None:
    spec = PurifierSpec(layers=("input", "output"), maps=(2,), widths="interpolated", hidden=hidden)
    purifier = purifier_of(spec, representation_of(spec, MLP().eval(), images(GREY)), images(GREY))
    for network in (purifier.image_encoder, purifier.representation_encoder, purifier.decoder):
        assert sum(isinstance(layer, torch.nn.Linear) for layer in network) == layers
    assert purifier.compress(torch.rand(2, purifier.neurons)).shape == (2, purifier.code)


def test_latents_that_a_recipe_does_not_name_are_as_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    made = [
        purifier_of(spec := PurifierSpec(kind=kind), representation_of(spec, MLP().eval(), images(GREY)), images(GREY))
        for kind in ("dense", "convolutional", "corrective")
    ]
    assert [type(purifier) for purifier in made] == [Purifier, ConvolutionalPurifier, CorrectivePurifier]
    dense, convolutional, corrective = (purifier.latent for purifier in made)
    said = f"by default {dense} if dense, {convolutional} if convolutional, {corrective} if corrective."
    assert said in str(PurifierSpec.model_fields["latent"].description)
    assert CorrectivePurifier(GREY, [GREY]).latent == corrective


def test_images_too_small_for_a_cnn_are_refused() -> None:
    labelled = Dataset("dots", torch.rand(2, 1, 9, 9), torch.tensor([0, 1]), ("a", "b"))
    with pytest.raises(RecipeError, match="classifier: images of 9 x 9 are too small for 2 groups"):
        classifier_of(ClassifierSpec(architecture="cnn"), labelled)
    assert classifier_of(ClassifierSpec(architecture="cnn", groups=(2,)), labelled)(labelled.images).shape == (2, 2)
