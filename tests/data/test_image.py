import contextlib
import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from carso import data
from carso.data import image as picture
from carso.errors import DataError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 5), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def unit(pixels: np.ndarray) -> torch.Tensor:
    return torch.tensor(pixels / 255, dtype=torch.float32)


@pytest.fixture(scope="module")
def digit() -> torch.Tensor:
    return data.load("mnist", "test")[:1].images[0]


@pytest.fixture(scope="module")
def levels(digit: torch.Tensor) -> np.ndarray:
    return (digit[0] * 255).round().byte().numpy()


def test_an_exact_picture_is_read_exactly(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "c.png")
    Image.fromarray(GREY).save(tmp_path / "g.png")
    assert torch.equal(data.read_image(tmp_path / "c.png", (3, 6, 5)), unit(COLOUR.transpose(2, 0, 1)))
    assert torch.equal(data.read_image(str(tmp_path / "g.png"), (1, 6, 5)), unit(GREY[None]))
    assert torch.equal(data.read_image(tmp_path / "g.png", (3, 6, 5)), unit(np.stack([GREY] * 3)))


def test_colour_becomes_luma(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "c.png")
    luma = (COLOUR @ np.array([0.299, 0.587, 0.114]))[None]
    torch.testing.assert_close(data.read_image(tmp_path / "c.png", (1, 6, 5)), unit(luma), atol=0.51 / 255, rtol=0)


def test_another_size_is_cut_about_its_centre_and_resized(tmp_path: Path) -> None:
    wide = np.zeros((20, 60), np.uint8)
    wide[:, 20:40] = 200
    Image.fromarray(wide).save(tmp_path / "w.png")
    read = data.read_image(tmp_path / "w.png", (3, 10, 10))
    assert read.shape == (3, 10, 10)
    assert (read - 200 / 255).abs().max() < 0.06


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "16 bits"])
def test_a_digit_passes_unchanged_in_every_mode(
    tmp_path: Path, digit: torch.Tensor, levels: np.ndarray, mode: str
) -> None:
    sixteen_bits = levels.astype(np.uint16) * 257
    image = Image.fromarray(sixteen_bits) if mode == "16 bits" else Image.fromarray(levels).convert(mode)
    image.save(tmp_path / "d.png")
    torch.testing.assert_close(data.read_image(tmp_path / "d.png", (1, 28, 28)), digit, atol=0, rtol=0)


def test_a_two_level_digit_is_read(tmp_path: Path, levels: np.ndarray) -> None:
    Image.fromarray(levels > 127).save(tmp_path / "d.png")
    assert torch.equal(data.read_image(tmp_path / "d.png", (1, 28, 28)), torch.tensor(levels > 127).float()[None])


@pytest.mark.parametrize("ink", [0, 255])
def test_ink_on_a_transparent_sheet_is_seen_whatever_its_colour(
    tmp_path: Path, digit: torch.Tensor, levels: np.ndarray, ink: int
) -> None:
    drawn = np.full((28, 28, 4), ink, np.uint8)
    drawn[..., 3] = levels
    Image.fromarray(drawn).save(tmp_path / "d.png")
    torch.testing.assert_close(data.read_image(tmp_path / "d.png", (1, 28, 28)), digit, atol=1.01 / 255, rtol=0)


def test_what_is_transparent_becomes_white_elsewhere(tmp_path: Path) -> None:
    drawn = np.dstack([COLOUR, np.full((6, 5), 255, np.uint8)])
    drawn[:3, :, 3] = 0
    Image.fromarray(drawn).save(tmp_path / "t.png")
    read = data.read_image(tmp_path / "t.png", (3, 6, 5))
    assert (read[:, :3] == 1).all()
    assert torch.equal(read[:, 3:], unit(COLOUR[3:].transpose(2, 0, 1)))


def test_a_transparent_colour_of_a_palette_becomes_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 51, 102, 153])
    image.save(tmp_path / "p.png", transparency=0)
    read = data.read_image(tmp_path / "p.png", (3, 2, 2))
    assert torch.equal(read[:, 0, 1], torch.tensor([0.2, 0.4, 0.6]))
    assert torch.equal(read[:, 0, 0], torch.ones(3))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 28, 28)])
def test_a_transparent_level_of_sixteen_bits_is_read_as_one_of_eight(
    tmp_path: Path, levels: np.ndarray, shape: tuple[int, int, int]
) -> None:
    shown = np.where(levels > 0, levels, 7)
    Image.fromarray(shown).save(tmp_path / "8.png", transparency=7)
    Image.fromarray(shown.astype(np.uint16) * 257).save(tmp_path / "16.png", transparency=7 * 257)
    assert torch.equal(data.read_image(tmp_path / "16.png", shape), data.read_image(tmp_path / "8.png", shape))
    assert not torch.equal(data.read_image(tmp_path / "8.png", shape), torch.zeros(shape))


@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, -1), (8, 1)])
def test_the_cameras_rotation_is_undone(tmp_path: Path, orientation: int, turns: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(GREY).save(tmp_path / "e.png", exif=exif)
    upright = np.rot90(GREY, turns).copy()
    assert torch.equal(data.read_image(tmp_path / "e.png", (1, *upright.shape)), unit(upright[None]))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_of_a_digit_is_prepared(tmp_path: Path, digit: torch.Tensor, levels: np.ndarray, mode: str) -> None:
    large = Image.fromarray(255 - levels).resize((280, 280), Image.Resampling.BICUBIC)
    large.convert(mode).save(tmp_path / "d.jpeg", quality=95)
    read = data.read_image(tmp_path / "d.jpeg", (1, 28, 28))
    assert torch.nn.functional.cosine_similarity(read.flatten(), digit.flatten(), 0) > 0.9


@pytest.mark.parametrize("channels", [0, 2, 4])
def test_models_take_one_or_three_channels(channels: int) -> None:
    with pytest.raises(ValueError, match=f"takes {channels}"):
        picture.prepare(Image.new("L", (4, 4)), (channels, 4, 4))


def refuse(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"odd.png: .*{message}"):
        data.read_image(path, (1, 28, 28))


def test_names_a_missing_picture(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png: there is no such file"):
        data.read_image(tmp_path / "none.png", (1, 28, 28))


@pytest.mark.parametrize("content", [b"", b"hello", encoded(Image.new("L", (9, 9)), "GIF")])
def test_refuses_what_is_no_picture(tmp_path: Path, content: bytes) -> None:
    refuse(content, "is not a PNG, JPEG, WebP, BMP or TIFF picture, or is damaged", tmp_path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_refuses_a_truncated_picture(tmp_path: Path, kind: str) -> None:
    whole = encoded(Image.fromarray(RNG.integers(0, 256, (99, 99), dtype=np.uint8)), kind)
    refuse(whole[: len(whole) // 2], "damaged", tmp_path)


def test_refuses_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("L", (9, 9), level) for level in (0, 99, 200)]
    refuse(encoded(frames[0], save_all=True, append_images=frames[1:]), "animated", tmp_path)


@pytest.mark.parametrize("side", [8_001, 12_000, 60_000])
def test_refuses_a_bomb_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    refuse(b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b""), "more than 64,000,000 pixels", tmp_path)


def test_refuses_a_blank_sheet_as_a_digit(tmp_path: Path) -> None:
    refuse(encoded(Image.new("RGB", (50, 50), "white")), "shows no digit", tmp_path)


def test_an_invisible_sheet_shows_no_digit(tmp_path: Path) -> None:
    refuse(encoded(Image.new("RGBA", (50, 50))), "shows no digit", tmp_path)


WAYS: list[tuple[str, dict[str, object]]] = [
    ("PNG", {}),
    ("BMP", {}),
    ("WEBP", {"lossless": True}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "tiff_adobe_deflate"}),
]


@pytest.mark.parametrize(("kind", "options"), WAYS)
def test_every_format_is_read_exactly(tmp_path: Path, kind: str, options: dict[str, object]) -> None:
    (tmp_path / "c").write_bytes(encoded(Image.fromarray(COLOUR), kind, **options))
    assert torch.equal(data.read_image(tmp_path / "c", (3, 6, 5)), unit(COLOUR.transpose(2, 0, 1)))
    (tmp_path / "g").write_bytes(encoded(Image.fromarray(GREY), kind, **options))
    assert torch.equal(data.read_image(tmp_path / "g", (1, 6, 5)), unit(GREY[None]))


@pytest.mark.parametrize(("kind", "options"), [way for way in WAYS if way[0] != "BMP"])
@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, -1), (8, 1)])
def test_every_format_is_turned_upright_once(
    tmp_path: Path, kind: str, options: dict[str, object], orientation: int, turns: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "e").write_bytes(encoded(Image.fromarray(COLOUR), kind, exif=exif, **options))
    upright = np.rot90(COLOUR, turns).copy()
    assert torch.equal(data.read_image(tmp_path / "e", (3, *upright.shape[:2])), unit(upright.transpose(2, 0, 1)))


YCBCR = pytest.param(
    "YCbCr",
    marks=pytest.mark.skipif(PIL.__version__ < "13", reason="older Pillows read no uncompressed YCbCr, and say so"),
)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", YCBCR])
def test_a_tiff_means_the_same_in_every_mode(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(np.uint8([[0, 255], [255, 0]])).convert(mode)
    image.save(tmp_path / "t.tif")
    assert torch.equal(data.read_image(tmp_path / "t.tif", (1, 2, 2)), torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]))


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bits_in_either_order_are_read(tmp_path: Path, order: str) -> None:
    levels = (GREY.astype(np.uint16) * 257).astype(f"{order}u2")
    picture_of = Image.frombytes("I;16" if order == "<" else "I;16B", (5, 6), levels.tobytes())
    picture_of.save(tmp_path / "t.tif")
    assert torch.equal(data.read_image(tmp_path / "t.tif", (1, 6, 5)), unit(GREY[None]))


def tiff(bits: int, photometric: int, form: int, values: bytes) -> bytes:
    """A grey TIFF of 2 x 2 pixels by hand."""
    tags = [(256, 2), (257, 2), (258, bits), (259, 1), (262, photometric), (273, 0), (277, 1), (279, len(values))]
    tags = sorted([*tags, (339, form)])
    offset = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, offset if tag == 273 else value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + values


def test_a_tiff_made_by_hand_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.tif").write_bytes(tiff(16, 1, 1, np.uint16([0, 257 * 51, 257 * 102, 65535]).tobytes()))
    read = data.read_image(tmp_path / "t.tif", (1, 2, 2))
    assert torch.equal(read, torch.tensor([[[0.0, 0.2], [0.4, 1.0]]]))


@pytest.mark.parametrize(
    ("bits", "photometric", "form", "kind"),
    [(16, 0, 1, "I;16"), (12, 1, 1, "I;16"), (16, 1, 2, "I"), (32, 1, 1, "I"), (32, 1, 3, "F")],
    ids=["white is zero", "12 bits", "signed", "32 bits", "float"],
)
def test_levels_that_would_be_misread_are_refused(
    tmp_path: Path, bits: int, photometric: int, form: int, kind: str
) -> None:
    refuse(tiff(bits, photometric, form, bytes(16)[: bits // 2]), f"of a kind that is not read \\({kind}\\)", tmp_path)


def test_a_laboratory_colour_is_refused(tmp_path: Path) -> None:
    refuse(encoded(Image.new("LAB", (4, 4)), "TIFF"), r"of a kind that is not read \(LAB\); convert it", tmp_path)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_refuses_several_pictures_in_one(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", (9, 9), (level, 0, 0)) for level in (0, 99, 200)]
    refuse(encoded(frames[0], kind, save_all=True, append_images=frames[1:]), "animated or has several", tmp_path)


def test_a_photograph_with_a_thumbnail_beside_it_is_read(tmp_path: Path) -> None:
    """Multi-picture JPEG, as telephones write it: the first is the photograph."""
    frames = [Image.new("RGB", (8, 8), (level, level, level)) for level in (102, 0)]
    (tmp_path / "p.jpg").write_bytes(encoded(frames[0], "MPO", save_all=True, append_images=frames[1:]))
    assert (data.read_image(tmp_path / "p.jpg", (3, 8, 8)) - 0.4).abs().max() < 0.01


def rotated(kind: str, description: str, **options: object) -> bytes:
    """A picture in colour that is to be turned."""
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = description, 6
    return encoded(Image.fromarray(COLOUR), kind, exif=exif, **options)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize(("tag", "type_"), [(0x010E, 2), (0x0112, 3)])
def test_a_rotation_that_cannot_be_read_is_no_guess(tmp_path: Path, kind: str, tag: int, type_: int) -> None:
    """Pillow warns of such a picture and shows it lying on its side."""
    whole, order = rotated(kind, "a description that does not fit into four bytes"), "<" if kind == "TIFF" else ">"
    count = whole.index(struct.pack(order + "HH", tag, type_)) + 4
    broken = bytearray(whole)
    broken[count : count + 4] = struct.pack(order + "I", 2**20)
    if kind == "PNG":
        start = whole.index(b"eXIf")
        (length,) = struct.unpack(">I", whole[start - 4 : start])
        end = start + 4 + length
        broken[end : end + 4] = struct.pack(">I", zlib.crc32(broken[start:end]))
    refuse(bytes(broken), "is damaged", tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_while_a_picture_is_decoded_other_threads_may_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    def warn_beside(image: Image.Image, in_place: bool) -> None:
        with ThreadPoolExecutor(1) as other:
            other.submit(warnings.warn, "of a model").result()

    monkeypatch.setattr("PIL.ImageOps.exif_transpose", warn_beside)
    assert picture.open_image(encoded(Image.fromarray(GREY))).size == (5, 6)


def test_a_checksum_that_the_decoder_does_not_reach_is_checked(tmp_path: Path) -> None:
    """Without its final block a stream of pixels ends before its checksum, and Pillow shows what there is."""
    whole = encoded(Image.fromarray(RNG.integers(0, 256, (9, 9), dtype=np.uint8)))
    start = whole.index(b"IDAT") + 6
    assert whole[start] == 1, "a single block, stored"
    refuse(whole[:start] + b"\0" + whole[start + 1 : start + 20] + b"!" + whole[start + 21 :], "is damaged", tmp_path)


def test_strangers_may_send_png_and_jpeg_only() -> None:
    for kind in ("WEBP", "BMP", "TIFF"):
        with pytest.raises(DataError, match=r"^is not a PNG or JPEG picture, or is damaged; convert it to PNG$"):
            picture.open_image(encoded(Image.fromarray(COLOUR), kind))
    assert picture.open_image(encoded(Image.fromarray(COLOUR), "JPEG")).size == (5, 6)


@pytest.mark.parametrize(
    ("kind", "enough", "size"),
    [
        ("JPEG", None, (400, 320)),
        ("JPEG", 161, (400, 320)),
        ("JPEG", 160, (200, 160)),
        ("JPEG", 50, (100, 80)),
        ("JPEG", 1, (50, 40)),
        ("PNG", 1, (400, 320)),
    ],
)
def test_a_large_jpeg_is_decoded_no_smaller_than_is_enough(
    kind: str, enough: int | None, size: tuple[int, int]
) -> None:
    image = Image.linear_gradient("L").resize((400, 320))
    found = picture.open_image(encoded(image, kind), enough=enough)
    assert found.size == size
    difference = np.asarray(found, int) - np.asarray(image.resize(size), int)
    assert np.abs(difference).max() < 8


def test_a_limit_of_pillows_own_is_no_other_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    content = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b""))
    )
    refuse(b"\x89PNG\r\n\x1a\n" + content, "more than 64,000,000 pixels", tmp_path)


def test_large_pictures_become_small_before_they_become_floats(
    tmp_path: Path, digit: torch.Tensor, levels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = np.pad(255 - levels, 6, constant_values=255).repeat(20, 0).repeat(20, 1)
    Image.fromarray(large).save(tmp_path / "d.png")
    whole = data.read_image(tmp_path / "d.png", (1, 28, 28))
    monkeypatch.setattr(picture, "WORKING_PIXELS", 200 * 200)
    shrunk: list[tuple[int, ...]] = []
    monkeypatch.setattr(picture.digits, "normalise", lambda grey: shrunk.append(grey.shape) or whole[0].numpy())
    data.read_image(tmp_path / "d.png", (1, 28, 28))
    assert shrunk == [(200, 200)]
    monkeypatch.undo()
    assert torch.nn.functional.cosine_similarity(whole.flatten(), digit.flatten(), 0) > 0.9


WHOLE = [encoded(Image.fromarray(COLOUR), kind) for kind in ("PNG", "JPEG")]


@given(st.sampled_from(WHOLE), st.integers(0, 700), st.binary(min_size=1, max_size=4))
def test_damaged_bytes_are_read_or_refused(content: bytes, at: int, damage: bytes) -> None:
    with contextlib.suppress(DataError):
        image = picture.open_image(content[:at] + damage + content[at + len(damage) :])
        read = picture.prepare(image, (3, 6, 5))
        assert read.shape == (3, 6, 5)
        assert 0 <= read.min() <= read.max() <= 1


def test_what_shows_no_digit_is_only_resized(tmp_path: Path, digit: torch.Tensor) -> None:
    light = 1 - digit[0]
    Image.fromarray((light * 255).round().byte().numpy()).save(tmp_path / "light.png")
    seen = data.read_image(tmp_path / "light.png", (1, 28, 28), digit=False)
    torch.testing.assert_close(seen[0], light, atol=1e-6, rtol=0)
    torch.testing.assert_close(data.read_image(tmp_path / "light.png", (1, 28, 28))[0], digit[0], atol=1e-6, rtol=0)
