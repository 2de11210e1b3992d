"""One image file -> (H, W, 3) uint8 RGB, upright; anything that is not one raises UnreadableImage."""

from __future__ import annotations

import ctypes
import gzip
import logging
import math
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Literal

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from bakeoff.data.dataset import Dataset, Record
from bakeoff.errors import DataError, UnreadableImage

Resize = Literal["squash", "crop", "pad"]
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM", "ICO", "PCX", "QOI")
SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jfif", "mpo", "png", "apng", "gif", "bmp", "dib", "tif", "tiff", "webp"),
        *("avif", "jp2", "j2k", "ppm", "pgm", "pbm", "pnm", "ico", "pcx", "qoi"),
    )
)  # of files that a folder is searched for; what a file really is, its content says
MAX_PIXELS = 178_000_000  # a 21 KB PNG can ask for gigabytes: checked before anything is decoded
MAX_IDX_BYTES = 8 << 30
PADDING = (124, 116, 104)  # the mean colour of ImageNet, a grey
GZIP, IDX = b"\x1f\x8b", b"\0\0\x08"  # first bytes
WHITE = (255, 255, 255, 255)
# Warnings that leave the pixels as they are: broken metadata, and a second picture that is damaged or not announced.
HARMLESS = r"(Possibly c|C)orrupt EXIF|Metadata Warning|Tag (offset|data)|.*malformed MPO|Invalid APNG"


def decode(path: Path, frame: int | None = None) -> NDArray[np.uint8]:
    """Return an image as (H, W, 3) uint8 RGB with its EXIF orientation applied.

    Transparent pixels lie on white.  Of animations and multi-page files the first picture counts unless `frame` names
    another; in an idx file (plain or gzip) `frame` is the index of the image.  16-bit grey is scaled by its stated
    depth; 32-bit and float grey by the smallest of 0..1, 0..255, 0..65535 that holds all values, else by their own
    minimum and maximum.  Unreadable EXIF data counts as none.  Raises UnreadableImage.
    """
    if frame is not None and is_idx(path):
        return _idx_frame(path, frame)
    with opened(path, frame) as image:
        depth = _depth(image)
        image.load()  # verify() would miss truncated files
        return _rgb(_upright(image), depth)


def decode_resized(path: Path, size: int, policy: Resize = "squash") -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Return resize(decode(path)) and the width and height that the image had: the same pixels, a third sooner.

    What Pillow has as RGB already is resized as it is, without becoming an array and a picture again.
    """
    with opened(path, None) as image:
        depth = _depth(image)
        image.load()
        picture = _upright(image)
        if picture.mode != "RGB" or picture.has_transparency_data:
            picture = Image.fromarray(_rgb(picture, depth))
        return _fitted(picture, size, policy), picture.size


def read_image(dataset: Dataset, record: Record) -> NDArray[np.uint8]:
    """Return the image of a record, (H, W, 3) uint8 RGB.  Raises UnreadableImage."""
    return decode(dataset.path(record), record.frame)


def measure(path: Path) -> tuple[int, int]:
    """Return (width, height) after EXIF orientation, without decoding the pixels.  Raises UnreadableImage."""
    if is_idx(path):
        height, width = _idx_frame(path, 0).shape[:2]
        return width, height
    with opened(path, None) as image:
        width, height = image.size
        # Pillow turns the size of a TIFF itself
        turned = (
            image.format != "TIFF"
            and _has_exif(image, path)
            and image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        )
        return (height, width) if turned else (width, height)


def resize(image: NDArray[np.uint8], size: int, policy: Resize = "squash") -> NDArray[np.uint8]:
    """Return an image (H, W, 3) as (size, size, 3), bicubic and antialiased (Pillow).

    squash  the whole image, its aspect ratio ignored
    crop    the largest centred square: the shorter side becomes `size`
    pad     the whole image in its aspect ratio: the longer side becomes `size`, the rest is the grey PADDING
    """
    return _fitted(Image.fromarray(image), size, policy)


def _fitted(source: Image.Image, size: int, policy: Resize) -> NDArray[np.uint8]:
    """Resize a picture."""
    width, height = source.size
    if policy == "squash":
        return np.asarray(source.resize((size, size), Image.Resampling.BICUBIC))
    if policy == "crop":
        side = min(height, width)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        return np.asarray(source.resize((size, size), Image.Resampling.BICUBIC, box=box))
    scale = size / max(height, width)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = Image.new("RGB", (size, size), PADDING)
    place = ((size - inner[0]) // 2, (size - inner[1]) // 2)
    canvas.paste(source.resize(inner, Image.Resampling.BICUBIC), place)
    return np.asarray(canvas)


# --- idx files: MNIST's format, http://yann.lecun.com/exdb/mnist/ ---


def is_idx(path: Path) -> bool:
    """Say whether a file is an idx file of bytes by its first bytes, gzip or plain; a missing file is none."""
    try:
        with path.open("rb") as stream:
            start = stream.read(3)
        if start.startswith(GZIP):
            with gzip.open(path) as unpacked:
                start = unpacked.read(3)
        return start == IDX
    except (OSError, EOFError, zlib.error):
        return False


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Return the array of an idx file of unsigned bytes, plain or gzip; read-only, and kept for the next call.

    Images are (n, H, W), labels (n,).  Raises DataError for a wrong magic number, missing or extra bytes.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    return _read_idx(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4)
def _read_idx(path: Path, changed: int, size: int) -> NDArray[np.uint8]:
    """Read an idx file; `changed` and `size` are there so that a rewritten file is read again."""
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == GZIP
        with gzip.open(path, "rb") if packed else path.open("rb") as stream:
            shape = _idx_shape(stream, path)
            content = stream.read(math.prod(shape) + 1)  # one more than there should be, never a bomb's all
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged idx file (modified {changed}, {size} bytes): {error}") from None
    if len(content) != math.prod(shape):
        more = "more" if len(content) > math.prod(shape) else f"only {len(content)}"
        raise DataError(f"{path}: its header promises {shape} = {math.prod(shape)} bytes, the file holds {more}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _idx_shape(stream: IO[bytes] | gzip.GzipFile, path: Path) -> tuple[int, ...]:
    """Read the header of an idx file."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:3] != IDX or magic[3] not in (1, 3):
        expected = "00000801 (labels) or 00000803 (images)"
        raise DataError(f"{path}: wrong magic number {magic.hex() or 'nothing'}, expected {expected}")
    sizes = stream.read(4 * magic[3])
    if len(sizes) != 4 * magic[3]:
        raise DataError(f"{path}: ends within its header")
    shape = tuple(int(n) for n in np.frombuffer(sizes, ">u4"))
    if 0 in shape or math.prod(shape) > MAX_IDX_BYTES:
        raise DataError(f"{path}: its header gives the impossible size {shape}")
    return shape


def _idx_frame(path: Path, frame: int) -> NDArray[np.uint8]:
    """Return one image of an idx file as RGB."""
    try:
        images = read_idx(path)
    except DataError as error:
        raise UnreadableImage(path, str(error).removeprefix(f"{path}: ")) from None
    if images.ndim != 3 or not 0 <= frame < len(images):
        raise UnreadableImage(path, f"there is no image {frame} in an idx file of shape {images.shape}")
    return np.repeat(images[frame][..., None], 3, axis=2)


# --- Pillow, kept strict and quiet ---


@contextmanager
def opened(path: Path, frame: int | None) -> Iterator[Image.Image]:
    """Open an image of a known format and a sane size; every error becomes UnreadableImage."""
    _silence()
    try:
        with STRICT, Image.open(path, formats=_known()) as image:
            _check_size(image)
            if frame is not None:
                image.seek(frame)
                _check_size(image)
            yield image
    except UnreadableImage:
        raise
    except UnidentifiedImageError:
        known = ", ".join(_known())
        raise UnreadableImage(path, f"damaged from the start, or none of the formats {known}") from None
    except Image.DecompressionBombError as error:
        asked = str(error).partition(" exceeds")[0]
        raise UnreadableImage(path, f"{asked}, more than {MAX_PIXELS}: damaged, or much too large") from None
    except EOFError:
        raise UnreadableImage(path, f"it has no frame {frame}, or ends too early") from None
    except OSError as error:
        raise UnreadableImage(path, error.strerror or str(error) or "damaged") from None
    except Exception as error:  # Pillow's plugins raise about everything on broken files
        raise UnreadableImage(path, str(error) or type(error).__name__) from None


class _Strict:
    """Turns Pillow's warnings into errors while any thread is inside; warnings.catch_warnings alone is not for threads.

    Warnings of other modules, which other threads may raise meanwhile, are left as they are.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._saved = threading.Lock(), 0, warnings.catch_warnings()

    def __enter__(self) -> None:
        """Install the filters with the first thread."""
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("error", module=r"PIL\.")
                warnings.filterwarnings("ignore", HARMLESS, module=r"PIL\.")
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS decides

    def __exit__(self, *_: object) -> None:
        """Take the filters away with the last thread."""
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._saved.__exit__(None, None, None)


STRICT = _Strict()


@lru_cache(maxsize=1)
def _known() -> tuple[str, ...]:
    """Return the allowed formats that this build of Pillow has."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@lru_cache(maxsize=1)
def _silence() -> None:
    """Keep Pillow's logger and the libtiff of its wheels from writing to stderr: exceptions tell us all there is."""
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    here = Path(PIL.__file__).parent
    for library in (*here.parent.glob("pillow.libs/libtiff*"), *here.glob(".dylibs/libtiff*")):
        try:
            ctypes.CDLL(str(library)).TIFFSetErrorHandler(None)
        except (OSError, AttributeError):
            continue


def _check_size(image: Image.Image) -> None:
    """Refuse an empty image, and one above the ceiling."""
    width, height = image.size
    if width < 1 or height < 1:
        raise ValueError(f"its size is {width}x{height}")
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width}x{height} pixels are more than {MAX_PIXELS}: make it smaller")


def _has_exif(image: Image.Image, path: Path) -> bool:
    """Say whether an orientation may be found: Pillow decodes a whole PNG before it says that there is none."""
    if image.format != "PNG":
        return True
    content = path.read_bytes()
    return any(mark in content for mark in (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp"))


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; EXIF data that cannot be read says nothing about the pixels."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


# --- to 8-bit RGB ---


def _depth(image: Image.Image) -> int:
    """Return the bits of a pixel that a TIFF states: Pillow unpacks 12 bits into 16 and leaves them there."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(ExifTags.Base.BitsPerSample, (16,)) if image.format == "TIFF" else (16,)
    return int(bits[0]) if 8 < int(bits[0]) <= 16 else 16


def _rgb(image: Image.Image, depth: int) -> NDArray[np.uint8]:
    """Return a loaded image of any Pillow mode as (H, W, 3) uint8."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _deep_grey(image, depth)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return np.array(Image.alpha_composite(Image.new("RGBA", layer.size, WHITE), layer).convert("RGB"))
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _deep_grey(image: Image.Image, depth: int) -> NDArray[np.uint8]:
    """Scale 16-bit, 32-bit and float grey to 8 bit: convert("RGB") would clip at 255."""
    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        levels = np.arange(1 << 16) * 255.0 / ((1 << depth) - 1)
        grey = np.rint(np.minimum(levels, 255)).astype(np.uint8)[values.astype(np.uint16, copy=False)]
    else:
        grey = _stretched(values)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey[values == clear] = 255
    return np.repeat(grey[..., None], 3, axis=2)


def _stretched(values: NDArray[np.float32] | NDArray[np.int32]) -> NDArray[np.uint8]:
    """Scale values of an unstated range, see decode(); what is not finite becomes black."""
    ceilings = (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (65535.0,)
    scaled = values.astype(np.float32)
    finite = np.isfinite(scaled)
    if not finite.any():
        return np.zeros(values.shape, np.uint8)
    low, high = float(scaled[finite].min()), float(scaled[finite].max())
    top = next((ceiling for ceiling in ceilings if low >= 0 and high <= ceiling), None)
    if top is not None:
        low, high = 0.0, top
    scaled[~finite] = low
    scaled -= low
    scaled *= 255.0 / ((high - low) or 1.0)
    return np.rint(scaled).astype(np.uint8)
