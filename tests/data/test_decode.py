"""decode(): what Pillow can open becomes upright 8-bit RGB, everything else UnreadableImage."""

from __future__ import annotations

import gzip
import io
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bakeoff.data.dataset import Dataset, Record
from bakeoff.data.decode import Resize, decode, decode_resized, measure, read_idx, read_image, resize
from bakeoff.data.targets import Label
from bakeoff.errors import DataError, UnreadableImage

RED, HALF = (250, 10, 20), (252, 132, 137)  # HALF: red with alpha 128 on white


def palette(transparent: bool) -> Image.Image:
    image = Image.new("P", (8, 6), 1)
    image.putpalette([0, 0, 0, *RED])
    if transparent:
        image.info["transparency"] = 1
    return image


def deep(value: float, dtype: type) -> Image.Image:
    return Image.fromarray(np.full((6, 8), value, dtype))


CASES: list[tuple[Image.Image, str, tuple[int, int, int]]] = [
    (Image.new("RGB", (8, 6), RED), "a.png", RED),  # plain
    (Image.new("RGB", (8, 6), RED), "a.bmp", RED),  # bmp
    (Image.new("RGB", (8, 6), RED), "a.ppm", RED),  # ppm
    (Image.new("L", (8, 6), 77), "a.png", (77, 77, 77)),  # grey
    (Image.new("1", (8, 6), 1), "a.png", (255, 255, 255)),  # 1 bit
    (palette(False), "a.png", RED),  # palette
    (palette(True), "a.png", (255, 255, 255)),  # palette, transparent colour
    (palette(True), "a.gif", (255, 255, 255)),  # transparent GIF
    (Image.new("RGBA", (8, 6), (*RED, 128)), "a.png", HALF),  # half transparent
    (Image.new("LA", (8, 6), (0, 0)), "a.png", (255, 255, 255)),  # grey, fully transparent
    (Image.new("RGBA", (8, 6), (*RED, 0)), "a.tif", (255, 255, 255)),  # TIFF with alpha
    (Image.new("CMYK", (8, 6), (0, 255, 255, 0)), "a.tif", (255, 0, 0)),  # CMYK
    (Image.new("LAB", (8, 6), (255, 128, 128)), "a.tif", (255, 255, 255)),  # LAB white
    (deep(0x8000, np.uint16), "a.png", (128, 128, 128)),  # 16-bit PNG, not clipped
    (deep(0x8000, np.uint16), "a.tif", (128, 128, 128)),  # 16-bit TIFF
    (deep(257 * 9, np.int32), "a.tif", (9, 9, 9)),  # 32-bit integers within 16 bits
    (deep(0.5, np.float32), "a.tif", (128, 128, 128)),  # float 0..1
    (deep(99.0, np.float32), "a.tif", (99, 99, 99)),  # float 0..255
]


@pytest.mark.parametrize(("image", "name", "colour"), CASES)
def test_every_mode_becomes_rgb(tmp_path: Path, image: Image.Image, name: str, colour: tuple[int, int, int]) -> None:
    image.save(tmp_path / name)
    pixels = decode(tmp_path / name)
    assert pixels.shape == (6, 8, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - np.array(colour)).max() <= 1
    assert measure(tmp_path / name) == (8, 6)


def test_float_of_any_range_is_stretched_and_not_a_number_is_black(tmp_path: Path) -> None:
    values = np.array([[-3.0, 0.0, 3.0], [np.nan, np.inf, 3.0]], np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert decode(tmp_path / "a.tif")[..., 0].tolist() == [[0, 128, 255], [0, 0, 255]]


def tiff(pixels: bytes, bits: int = 8, samples: int = 1) -> bytes:
    """A TIFF of 2x1 pixels."""
    tags = [(256, 2), (257, 1), (258, bits), (259, 1), (262, 1), (273, 200), (277, samples), (278, 1), (279, 3)]
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags)
    header = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"
    return header.ljust(200, b"\0") + pixels


def test_12_bits_are_scaled_by_their_own_depth(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(bytes([0xFF, 0xF8, 0x00]), bits=12))  # 4095 and 2048
    assert decode(tmp_path / "a.tif")[0, :, 0].tolist() == [255, 128]


def marked() -> Image.Image:
    """An 8x4 image, dark but for its top left quarter."""
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:2, :4] = 255
    return Image.fromarray(pixels)


BRIGHT = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}  # EXIF 2.3, 4.6.4 A


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    marked().save(path, exif=exif)
    pixels = decode(path)
    height, width = pixels.shape[:2]
    assert (height, width) == ((4, 8) if orientation < 5 else (8, 4))
    assert measure(path) == (width, height)
    rows = np.split(pixels.mean(axis=2), 2, axis=0)
    quarters = np.array([[part.mean() for part in np.split(row, 2, axis=1)] for row in rows])
    assert divmod(int(quarters.argmax()), 2) == BRIGHT[orientation]


def test_png_named_jpg_is_read_by_its_content(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2), RED).save(tmp_path / "a.jpg", "PNG")
    assert decode(tmp_path / "a.jpg")[0, 0].tolist() == list(RED)


def test_frames_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("L", (5, 5), value) for value in (10, 90, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert [decode(tmp_path / "a.gif", frame)[0, 0, 0] for frame in (None, 0, 2)] == [10, 10, 200]
    with pytest.raises(UnreadableImage, match="no frame 3"):
        decode(tmp_path / "a.gif", 3)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def huge_png() -> bytes:
    """A PNG of a few hundred bytes that asks for 20,000 x 20,000 pixels."""
    header = struct.pack(">2I5B", 20_000, 20_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def saved(format: str) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(stream, format, compression="tiff_lzw" if format == "TIFF" else None)
    return stream.getvalue()


BROKEN: list[tuple[Callable[[], bytes], str]] = [
    (lambda: b"", "damaged from the start"),  # empty file
    (lambda: b"hello", "damaged from the start"),  # text
    (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "damaged from the start"),  # EPS is not allowed
    (lambda: saved("JPEG")[:2000], "truncated"),  # truncated JPEG, which verify() accepts
    (lambda: saved("PNG")[:2000], "truncated"),  # truncated PNG
    (lambda: saved("TIFF")[:-2000], "."),  # truncated TIFF
    (lambda: saved("TIFF").replace(saved("TIFF")[2000:2400], bytes(400)), "."),  # damaged LZW: libtiff complains
    (lambda: tiff(bytes(3), samples=107), "."),  # TIFF of 107 channels: Pillow logs
    (huge_png, "400000000 pixels"),  # bomb
]


@pytest.mark.parametrize(("content", "reason"), BROKEN, ids=range(len(BROKEN)))
def test_broken_files_are_named_quietly(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: Callable[[], bytes], reason: str
) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(content())
    with pytest.raises(UnreadableImage, match=reason) as caught:
        decode(path)
    assert caught.value.path == path
    assert capfd.readouterr() == ("", "")


def test_a_ceiling_of_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bakeoff.data.decode.MAX_PIXELS", 99)
    Image.new("L", (10, 10)).save(tmp_path / "a.png")
    with pytest.raises(UnreadableImage, match="10x10 pixels are more than 99"):
        decode(tmp_path / "a.png")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="No such file"):
        decode(tmp_path / "none.png")
    with pytest.raises(UnreadableImage, match="directory"):
        decode(tmp_path)


def test_damaged_exif_leaves_the_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "maker " * 20
    Image.new("RGB", (6, 4), RED).save(tmp_path / "a.jpg", exif=exif.tobytes()[:30])
    assert decode(tmp_path / "a.jpg").shape == (4, 6, 3)


def test_threads_leave_the_warning_filters_as_they_were(tmp_path: Path) -> None:
    Image.new("RGB", (50, 50)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(huge_png())
    before = list(warnings.filters)

    def work() -> None:
        for _ in range(20):
            decode(tmp_path / "a.png")
            with pytest.raises(UnreadableImage):
                decode(tmp_path / "b.png")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_idx_frames(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    images = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    path = tmp_path / "images-idx3-ubyte"
    path.write_bytes(pack(idx_bytes(images)))
    assert np.array_equal(read_idx(path), images)
    assert np.array_equal(decode(path, 2), np.stack([images[2]] * 3, axis=2))
    assert measure(path) == (5, 4)
    dataset = Dataset("classification", ("x",), (Record("a", path.name, Label(0), frame=1),), tmp_path)
    assert np.array_equal(read_image(dataset, dataset.records[0])[..., 1], images[1])
    with pytest.raises(UnreadableImage, match="no image 3"):
        decode(path, 3)
    path.write_bytes(pack(idx_bytes(images[::-1])))
    os.utime(path, (0, 0))
    assert np.array_equal(read_idx(path), images[::-1])  # a rewritten file is read again


GOOD = idx_bytes(np.zeros((3, 4, 5), np.uint8))
IDX_FAULTS = [
    (b"\0\0\x0d\x03" + GOOD[4:], "wrong magic number 00000d03"),  # floats
    (GOOD[:-1], "holds only 59"),  # a byte is missing
    (GOOD + b"\0", "holds more"),  # a byte too many
    (GOOD[:10], "ends within its header"),  # header cut
    (b"\0\0\x08\x03" + b"\xff" * 12, "impossible size"),  # asks for 2**96 bytes
    (gzip.compress(GOOD, mtime=0)[:-9], "damaged idx file"),  # gzip cut
]


@pytest.mark.parametrize(("content", "reason"), IDX_FAULTS, ids=[reason for _, reason in IDX_FAULTS])
def test_idx_faults(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "images").write_bytes(content)
    with pytest.raises(DataError, match=reason):
        read_idx(tmp_path / "images")


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("squash", [[0, 255], [0, 255]]),  # all of it
        ("crop", [[0, 255], [0, 255]]),  # its middle
        ("pad", [[124, 124], [0, 255]]),  # above it the padding
    ],
)
def test_resize_policies(policy: Resize, expected: list[list[int]]) -> None:
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 40:] = 255
    small = resize(image, 32, policy)
    assert small.shape == (32, 32, 3)
    assert small.dtype == np.uint8
    assert [[small[y, x, 0] for x in (4, 27)] for y in (3, 15)] == expected


def test_reading_and_resizing_at_once_gives_the_same_pixels(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 44, 4), np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    noise.convert("RGB").save(tmp_path / "plain.jpg", exif=turned)
    noise.convert("RGB").save(tmp_path / "clear.png", transparency=(1, 2, 3))
    for mode in ("RGBA", "L", "LA", "P", "I;16"):
        noise.convert("L" if mode == "I;16" else mode).convert(mode).save(tmp_path / f"{mode[0]}{len(mode)}.png")
    for file in sorted(tmp_path.iterdir()):
        whole = decode(file)
        for policy in get_args(Resize):
            pixels, size = decode_resized(file, 16, policy)
            np.testing.assert_array_equal(pixels, resize(whole, 16, policy), err_msg=file.name)
            assert size == (whole.shape[1], whole.shape[0])


def test_resize_crop_leaves_the_sides_out() -> None:
    image = np.zeros((20, 100, 3), np.uint8)
    image[:, 40:60] = 200
    assert (resize(image, 20, "crop") == 200).all()
    assert (resize(image.transpose(1, 0, 2).copy(), 20, "crop") == 200).all()


def test_resize_survives_a_line() -> None:
    assert resize(np.zeros((1, 5000, 3), np.uint8), 16, "pad").shape == (16, 16, 3)


def test_resize_is_antialiased() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(resize(stripes, 8, "squash").astype(int) - 128).max() < 20


def test_clutter_is_decoded_or_named(shared: Path, capfd: pytest.CaptureFixture[str]) -> None:
    outcomes: dict[str, object] = {}
    for path in sorted((shared / "clutter").glob("*/*.*")):
        try:
            height, width = decode(path).shape[:2]
            outcomes[path.name] = measure(path)
            assert outcomes[path.name] == (width, height)
        except UnreadableImage as error:
            outcomes[path.name] = error.reason
    named = {name for name, outcome in outcomes.items() if isinstance(outcome, str)}
    assert {"truncated_jpeg.jpg", "truncated_image.png", "broken.png", "zero_width.gif"} <= named
    assert not {"hopper_bad_exif.jpg", "lab.tif", "pil_sample_cmyk.jpg", "i_trns.png", "frozenpond.mpo"} & named
    assert capfd.readouterr() == ("", "")
