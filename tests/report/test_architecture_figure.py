from collections import OrderedDict
from xml.etree import ElementTree

from torch import nn

from carso.defence import CARSO
from carso.nn import MLP
from carso.purifier import Purifier, Widths
from carso.report.architecture import dimensions_of, draw


def defence() -> CARSO:
    widths = Widths(image=(20, 9), representation=(11, 7), encoder=(12, 10), decoder=(31, 33))
    return CARSO(MLP((1, 5, 5), (13, 8), 4), Purifier((1, 5, 5), 25, latent=3, widths=widths), samples=1234)


def test_the_dimensions_are_those_of_the_modules() -> None:
    found = dimensions_of(defence())
    assert found.classifier == (25, 13, 8, 4)
    assert found.image_encoder == (25, 20, 9)
    assert found.representation_encoder == (25, 11, 7)
    assert found.encoder == (16, 12, 10)
    assert found.decoder == (10, 31, 33, 25)
    assert (found.latent, found.samples, found.classes) == (3, 1234, 4)
    n = sum(p.numel() for p in MLP((1, 5, 5), (13, 8), 4).parameters())
    assert found.parameters[0] == n


def test_the_figure_is_well_formed_and_shows_every_size() -> None:
    figure = ElementTree.fromstring(draw(dimensions_of(defence())))
    texts = [element.text for element in figure.iter() if element.tag.endswith("text")]
    for sizes in ("25-13-8-4", "25-20-9", "25-11-7", "16-12-10", "10-31-33-25"):
        assert sizes in texts
    assert "of 1,234" in texts
    assert sum(element.tag.endswith("polygon") for element in figure.iter()) == 9


def test_an_image_in_the_representation_is_told_apart_from_neurons() -> None:
    layers = ("input", "mish1", "output")
    seeing = CARSO(MLP((1, 5, 5), (13, 8), 4), Purifier((1, 5, 5), 25 + 13 + 4), layers)
    assert dimensions_of(seeing).classifier == (25, 13, 4)
    assert "42, x included" in draw(dimensions_of(seeing))
    assert "x included" not in draw(dimensions_of(defence()))


def test_an_image_of_more_contrast_is_no_layer() -> None:
    layers = ("contrast", "mish1", "output")
    spread = CARSO(MLP((1, 5, 5), (13, 8), 4, contrast=0.3), Purifier((1, 5, 5), 25 + 13 + 4), layers)
    assert dimensions_of(spread).classifier == (25, 13, 4)
    assert "42, x included" in draw(dimensions_of(spread))


def test_a_layer_of_that_name_is_a_layer() -> None:
    classifier = nn.Sequential(OrderedDict(flatten=nn.Flatten(), input=nn.Linear(25, 6), output=nn.Linear(6, 4)))
    named_so = CARSO(classifier, Purifier((1, 5, 5), 10), ("input", "output"))
    assert dimensions_of(named_so).classifier == (25, 6, 4)
    assert "x included" not in draw(dimensions_of(named_so))


def test_what_has_no_pre_encoders_is_drawn_without_them() -> None:
    bare = Purifier((1, 5, 5), 25, latent=3, widths="uncompressed")
    found = dimensions_of(CARSO(MLP((1, 5, 5), (13, 8), 4), bare))
    assert (found.image_encoder, found.representation_encoder) == ((25,), (25,))
    assert "code, 25" in draw(found)


def test_every_arrow_is_longer_than_its_head() -> None:
    figure = ElementTree.fromstring(draw(dimensions_of(defence())))
    wires = [element.attrib["points"].split() for element in figure.iter() if element.tag.endswith("polyline")]
    assert wires
    for *_, before, end in wires:
        (x_0, y_0), (x_1, y_1) = (map(int, point.split(",")) for point in (before, end))
        assert abs(x_1 - x_0) + abs(y_1 - y_0) > 9
