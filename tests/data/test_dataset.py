import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from carso.data.dataset import Dataset, from_bytes
from carso.errors import DataError

IMAGES = torch.linspace(0, 1, 5 * 3 * 2 * 4).reshape(5, 3, 2, 4)
LABELS = torch.tensor([0, 1, 1, 0, 1])
PAIR = ("no", "yes")


def test_knows_its_length_and_shape() -> None:
    dataset = Dataset("d", IMAGES, LABELS, PAIR)
    assert len(dataset) == 5
    assert dataset.shape == (3, 2, 4)


@pytest.mark.parametrize(
    ("index", "positions"),
    [
        (slice(1, 3), [1, 2]),
        (slice(None, None, 2), [0, 2, 4]),
        (torch.tensor([4, 0, 0]), [4, 0, 0]),
        (torch.tensor([False, True, False, False, True]), [1, 4]),
    ],
)
def test_a_part_keeps_images_and_labels_together(index: slice | torch.Tensor, positions: list[int]) -> None:
    part = Dataset("d", IMAGES, LABELS, PAIR)[index]
    assert torch.equal(part.images, torch.stack([IMAGES[at] for at in positions]))
    assert part.labels is not None
    assert part.labels.tolist() == [int(LABELS[at]) for at in positions]
    assert part.classes == PAIR


def test_an_order_that_is_drawn_keeps_images_and_labels_together() -> None:
    dataset = Dataset("d", IMAGES, LABELS, PAIR)
    drawn, again, other = (dataset.shuffled(seed) for seed in (0, 0, 1))
    assert torch.equal(drawn.images, again.images)
    assert not torch.equal(drawn.images, other.images)
    positions = [next(i for i in range(5) if torch.equal(IMAGES[i], image)) for image in drawn.images]
    assert sorted(positions) == list(range(5))
    assert torch.equal(drawn.required_labels, LABELS[positions])


def test_a_part_of_a_part_knows_where_its_images_lay() -> None:
    dataset = Dataset("d", IMAGES, LABELS, PAIR)
    assert dataset.places is None
    assert dataset[:3].places is None
    for part in (dataset.shuffled(1)[1:4], dataset[torch.tensor([3, 1, 4])].in_turns(), dataset[1:][LABELS[1:] == 1]):
        assert part.places is not None
        assert torch.equal(part.images, IMAGES[part.places])
        assert torch.equal(part.required_labels, LABELS[part.places])


def test_classes_that_lie_one_after_another_take_turns() -> None:
    images = torch.arange(6).view(6, 1, 1, 1).expand(6, 1, 1, 1) / 6
    sorted_ = Dataset("d", images, torch.tensor([0, 0, 0, 0, 1, 1]), PAIR)
    found, order = sorted_.in_turns(), sorted_.turns()
    assert order is not None
    assert order.tolist() == [0, 4, 1, 2, 5, 3]
    assert found.required_labels.tolist() == [0, 1, 0, 0, 1, 0]
    assert torch.equal(found.images.flatten() * 6, torch.tensor([0.0, 4, 1, 2, 5, 3]))


@given(st.lists(st.integers(1, 40), min_size=2, max_size=6))
def test_any_first_images_in_turns_stand_for_all(counts: list[int]) -> None:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    mixed = Dataset("d", torch.zeros(len(labels), 1, 1, 1), labels, tuple(map(str, range(len(counts))))).in_turns()
    assert mixed.required_labels.bincount().tolist() == counts
    shares = torch.tensor(counts) / len(labels)
    for n in range(1, len(labels)):
        met = mixed[:n].required_labels.bincount(minlength=len(counts))
        assert bool(((met - n * shares).abs() < len(counts)).all())


def test_any_other_order_stays() -> None:
    dataset = Dataset("d", IMAGES, LABELS.flip(0), PAIR)
    assert dataset.in_turns() is dataset
    assert dataset.turns() is None


def test_what_has_no_labels_comes_in_an_order_of_a_fixed_seed() -> None:
    given = Dataset("d", torch.arange(1000.0).view(1000, 1, 1, 1) / 1000)
    found, order = given.in_turns(), given.turns()
    assert order is not None
    assert sorted(order.tolist()) == list(range(1000))
    assert 30 < (order[:100] < 500).sum() < 70
    assert torch.equal(found.images, given.images[order])
    assert torch.equal(given.in_turns().images, found.images)


def test_what_is_mixed_stays_as_it_is_drawn_once() -> None:
    given = Dataset("d", torch.arange(100.0).view(100, 1, 1, 1) / 100)
    for mixed in (given.in_turns(), given.shuffled(3), given.in_turns()[:20], Dataset("d", IMAGES, mixed=True)):
        assert mixed.in_turns() is mixed
    sorted_ = Dataset("d", IMAGES, LABELS.sort().values, PAIR, mixed=True)
    assert sorted_.in_turns().required_labels.tolist() != LABELS.sort().values.tolist()


def test_a_part_without_labels_has_none() -> None:
    assert Dataset("d", IMAGES)[:2].labels is None


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[0], r"shape \(N, C, H, W\), not \(3, 2, 4\)"),
        (IMAGES.double(), "float32.*not torch.float64"),
        ((IMAGES * 255).int(), "float32 in \\[0, 1\\], or bytes, not torch.int32"),
        ((IMAGES * 255).byte()[0], r"shape \(N, C, H, W\), none of them 0, not \(3, 2, 4\)"),
        ((IMAGES * 255).byte()[:0], r"not \(0, 3, 2, 4\)"),
        (IMAGES[:0], "no images"),
        (IMAGES * 255, r"\[0, 1\] but span 0 to 255"),
        (IMAGES - 0.5, "span -0.5 to 0.5"),
        (IMAGES * torch.tensor([1, 1, 1, 1.5, 1]).view(5, 1, 1, 1), "first in image 3"),
        (IMAGES * torch.tensor([1, 1, float("nan"), 1, 1]).view(5, 1, 1, 1), "image 2 holds NaN"),
        (torch.where(IMAGES == 1, float("inf"), IMAGES), "to inf"),
    ],
)
def test_refuses_what_are_not_images(images: torch.Tensor, message: str) -> None:
    with pytest.raises(DataError, match=f"(?s)^mine: .*{message}"):
        Dataset("mine", images)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS[:4], r"5 images need labels of shape \(5,\), not \(4,\)"),
        (LABELS[:, None], r"not \(5, 1\)"),
        (LABELS.float(), "int64"),
        (torch.tensor([0, 1, 2, 0, 1]), "label 2 of image 2 is not one of the 2 classes"),
        (torch.tensor([0, 1, 1, -1, 1]), "label -1 of image 3"),
    ],
)
def test_refuses_labels_that_do_not_fit(labels: torch.Tensor, message: str) -> None:
    with pytest.raises(DataError, match=f"^mine: .*{message}"):
        Dataset("mine", IMAGES, labels, PAIR)


def test_a_number_gives_a_set_of_one() -> None:
    dataset = Dataset("d", IMAGES, LABELS, PAIR)
    for index in (0, 3, -1, np.int64(3)):
        one = dataset[index]
        assert torch.equal(one.images, IMAGES[index].unsqueeze(0))
        assert one.required_labels.tolist() == [int(LABELS[index])]
    assert [part.required_labels.item() for part in dataset] == LABELS.tolist()
    with pytest.raises(IndexError):
        dataset[5]


@pytest.mark.parametrize("index", ["a", 1.0, [0, 1]])
def test_is_indexed_by_numbers_slices_and_tensors_only(index: Any) -> None:
    with pytest.raises(TypeError):
        Dataset("d", IMAGES)[index]


WITHOUT_TENSORS = """
import numpy, torch
from carso.data import Dataset, Pairs
from carso.errors import DataError
images = torch.rand(2, 1, 3, 3)
for make in (
    lambda: Dataset("mine", images, [0, 1], ("no", "yes")),
    lambda: Dataset("mine", images, numpy.array([0, 1]), ("no", "yes")),
    lambda: Dataset("mine", images.numpy()),
    lambda: Pairs("mine", images, images, [0, 1]),
):
    try:
        make()
    except DataError as error:
        print(error)
"""


def test_what_is_no_tensor_is_told_how_to_become_one() -> None:
    """In a process of its own, as a user has it: in this one the types of arguments are checked before."""
    printed = subprocess.run([sys.executable, "-c", WITHOUT_TENSORS], capture_output=True, text=True, check=True).stdout
    wrong = (("labels", "list"), ("labels", "ndarray"), ("images", "ndarray"), ("labels", "list"))
    assert printed.splitlines() == [
        f"mine: {what} must be a tensor, not a {kind}; torch.as_tensor({what}) makes one" for what, kind in wrong
    ]
    assert Dataset("mine", IMAGES, torch.as_tensor([0, 1, 1, 0, 1]), PAIR).required_labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize(("name", "classes"), [("caf\udce9", PAIR), ("mine", ("no", "caf\udce9"))])
def test_names_that_no_file_of_results_could_hold_are_refused(name: str, classes: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"^'caf\\udce9': is no name in UTF-8; rename it$"):
        Dataset(name, IMAGES, LABELS, classes)
    assert Dataset("café", IMAGES, LABELS, ("non", "ouï")).name == "café"


@given(st.lists(st.integers(0, 255), min_size=4, max_size=4))
def test_bytes_become_the_float32_nearest_to_v_over_255(values: list[int]) -> None:
    pixels = torch.tensor(values, dtype=torch.uint8).reshape(1, 1, 2, 2)
    images = from_bytes(pixels.numpy())
    assert images.dtype == torch.float32
    assert torch.equal(images, (pixels.double() / 255).float())


@pytest.mark.parametrize("grey", [True, False])
def test_the_moments_of_images_are_those_of_all_their_pixels(grey: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carso.data.dataset.VALUES", 500)
    levels = torch.randint(256, (40, 1 if grey else 3, 5, 6), generator=torch.Generator().manual_seed(0))
    mean, spread = Dataset("d", levels.byte()).moments
    exact = (levels / 255).double().transpose(0, 1).flatten(1)
    assert mean == pytest.approx(exact.mean(1).tolist(), rel=1e-6)
    assert spread == pytest.approx(exact.std(1, correction=0).tolist(), rel=1e-6)
    again = Dataset("d", levels.byte())
    assert again.moments is again.moments
    assert Dataset("black", torch.zeros(3, 1, 4, 4)).moments[1] == (1e-3,)


MOMENTS = """
import resource

import torch

from carso.data.dataset import Dataset
from carso.data.lazy import Lazy


def read(batches):
    return (torch.zeros(len(positions), 3, 224, 224, dtype=torch.uint8) for positions in batches)


photographs = Dataset("photographs", Lazy(read, torch.arange(700), (3, 224, 224)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
photographs.moments
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_the_moments_of_photographs_take_the_memory_of_a_few_of_them() -> None:
    found = subprocess.run([sys.executable, "-c", MOMENTS], capture_output=True, text=True, check=True)
    assert int(found.stdout) < 300 * 1024


def test_bytes_are_the_images_they_stand_for() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(4, 1, 8, 8)
    dataset = Dataset("d", pixels)
    assert torch.equal(dataset.images, torch.from_numpy((pixels.double() / 255).numpy().astype("float32")))
    assert torch.equal(dataset[2].images, dataset.images[2:3])
    assert dataset[1:].pixels.data_ptr() == pixels[1:].data_ptr()
    assert torch.equal(pixels.flatten(), torch.arange(256, dtype=torch.uint8))


@pytest.mark.parametrize("pixels", [IMAGES, (IMAGES * 255).byte()], ids=["floats", "bytes"])
def test_all_images_are_gone_through_in_parts_that_fit(pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset("d", pixels)
    assert [span for span, _ in dataset.chunks(2)] == [slice(0, 2), slice(2, 4), slice(4, 6)]
    monkeypatch.setattr("carso.data.dataset.VALUES", 3 * 24)
    for most, sizes in ((5, [3, 2]), (2, [2, 2, 1]), (1, [1] * 5)):
        parts = [images for _, images in dataset.chunks(most)]
        assert list(map(len, parts)) == sizes
        assert torch.equal(torch.cat(parts), dataset.images)
    order = torch.tensor([3, 1, 0, 4])
    assert torch.equal(torch.cat(list(dataset.batches(order.split(3)))), dataset.images[order])


def test_a_set_that_is_where_it_should_be_is_not_moved() -> None:
    there = Dataset("d", torch.rand(3, 1, 4, 4), torch.tensor([0, 1, 0]), ("a", "b"))
    assert there.to(torch.device("cpu")) is there
