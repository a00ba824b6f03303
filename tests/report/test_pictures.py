import base64
import io

import numpy as np
import torch
from PIL import Image

from carso.report import pictures


def pixels(uri: str) -> np.ndarray:
    kind, data = uri.split(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_a_grey_picture_keeps_its_bytes() -> None:
    image = torch.arange(6).view(1, 2, 3) / 255
    assert pixels(pictures.picture(image)).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_three_channels_are_colours() -> None:
    image = torch.tensor([1.0, 0.0, 0.4]).view(3, 1, 1).expand(3, 2, 2)
    assert pixels(pictures.picture(image))[0, 0].tolist() == [255, 0, 102]


def test_a_strip_sets_images_beside_each_other() -> None:
    images = torch.tensor([10, 20], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 4, 3)
    found = pixels(pictures.strip(images, gap=1))
    assert found.shape == (4, 7, 2)
    assert found[0, :, 0].tolist() == [10, 10, 10, 0, 20, 20, 20]
    assert found[0, :, 1].tolist() == [255, 255, 255, 0, 255, 255, 255]
    assert pixels(pictures.strip(images.expand(2, 3, 4, 3))).shape == (4, 8, 4)


def test_a_perturbation_is_warm_up_cold_down_and_opaque_at_its_largest() -> None:
    found = pixels(pictures.signed(torch.tensor([[[0.2, -0.1, 0.0]]])))
    assert found[0, 0].tolist() == [*pictures.WARM, 255]
    assert found[0, 1].tolist() == [*pictures.COLD, 128]
    assert found[0, 2, 3] == 0


def test_a_large_picture_is_averaged_and_its_largest_changes_are_kept() -> None:
    image = torch.zeros(3, 224, 300)
    image[:, :3, :3] = 1
    image[:, 222:, 297:] = 0.5
    found = pixels(pictures.picture(image))
    assert found.shape == (75, 100, 3)
    assert found[0, 0].tolist() == [255] * 3
    assert found[-1, -1].tolist() == [128] * 3
    change = torch.zeros(1, 224, 300)
    change[0, 100, 100], change[0, 101, 101] = 0.1, -0.2
    shown = pixels(pictures.signed(change))
    assert shown.shape == (75, 100, 4)
    assert shown[33, 33].tolist() == [*pictures.COLD, 255]
    assert shown[..., 3].sum() == 255
