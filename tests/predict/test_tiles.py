"""Large images in windows: nothing is found twice, lost or cut, and no seam shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bakeoff.data.masks import to_pixels
from bakeoff.data.targets import Boxes, Instances, LabelMap, Target
from bakeoff.errors import UsageError
from bakeoff.predict import Options, Prediction
from bakeoff.predict.prediction import label
from bakeoff.predict.tiling import Tiles

from .simple import Light, Pixels

BOXES = [
    (5, 5, 20, 20),  # in one window alone
    (50, 40, 70, 62),  # in several, cut by some
    (100, 10, 180, 30),  # longer than a window: no window has all of it
    (10, 100, 30, 190),  # the same upright
    (192, 192, 200, 200),  # in the last corner
    (75, 75, 125, 125),  # across four windows
    (140, 150, 144, 154),  # small
]


def painted(boxes: Sequence[tuple[int, int, int, int]], size: tuple[int, int] = (200, 200)) -> Pixels:
    image = np.zeros((size[1], size[0], 3), np.uint8)
    for left, top, right, bottom in boxes:
        image[top:bottom, left:right] = 255
    return image


def tiled(folder: Path, predictor: Light, image: Pixels, options: Options) -> Prediction:
    Image.fromarray(image).save(folder / "large.png")
    (found,) = label(predictor, [folder / "large.png"], framing=options.framing(predictor))
    assert found.error is None
    return found


@pytest.mark.parametrize("overlap", [0.25, 0.5])
@pytest.mark.parametrize("size", [64, 32])  # the window as it is, and brought to half
def test_every_object_is_found_once_and_whole(tmp_path: Path, overlap: float, size: int) -> None:
    found = tiled(tmp_path, Light("detection", size), painted(BOXES), Options(tile=64, overlap=overlap)).target
    assert isinstance(found, Boxes)
    assert found.size == (200, 200)
    assert found.scores is not None
    assert (np.diff(found.scores) <= 0).all()
    order = np.lexsort(found.xyxy.T[::-1])
    np.testing.assert_allclose(found.xyxy[order], sorted(BOXES), atol=64 / size + 1e-9)


def test_masks_of_objects_are_joined_across_windows(tmp_path: Path) -> None:
    image = painted(BOXES)
    found = tiled(tmp_path, Light("instance"), image, Options(tile=64)).target
    assert isinstance(found, Instances)
    assert len(found) == len(BOXES)
    np.testing.assert_array_equal(
        sum(to_pixels(mask, found.size).astype(int) for mask in found.masks), image[..., 0] > 0
    )


def test_objects_of_two_classes_stay_two() -> None:
    window = Boxes((64, 64), np.array([[10, 10, 40, 40], [10, 10, 40, 40]]), np.array([0, 1]), np.array([0.9, 0.8]))
    tiles = Tiles(64, 64, 0.5)
    found = tiles.joined(iter([window, window]), (96, 64))
    assert isinstance(found, Boxes)
    assert sorted(found.labels.tolist()) == [0, 0, 1, 1]  # at two places each, 32 pixels apart


class Blind(Light):
    """Sees nothing in the outermost pixels of what it is shown, as networks do where they pad: dark, and sure of it."""

    def __call__(self, pixels: Pixels) -> Sequence[Target]:
        found = super().__call__(pixels)
        for target in found:
            assert isinstance(target, LabelMap)
            assert target.scores is not None
            for edge in (np.s_[:, :6], np.s_[:, -6:], np.s_[:, :, :6], np.s_[:, :, -6:]):
                target.scores[edge] = np.array([0.99, 0.01]).reshape(2, 1, 1)
        return found


@pytest.mark.parametrize(("width", "height"), [(200, 200), (201, 130), (64, 300)])
def test_label_maps_have_no_seams(tmp_path: Path, width: int, height: int) -> None:
    image = np.random.default_rng(0).integers(0, 2, (height, width, 1), np.uint8).repeat(3, axis=2) * 255
    truth = image[..., 0] > 0
    plain = tiled(tmp_path, Light(), image, Options(tile=64)).target
    assert isinstance(plain, LabelMap)
    np.testing.assert_array_equal(plain.pixels, truth)
    blind = tiled(tmp_path, Blind(), image, Options(tile=64, overlap=0.5)).target
    assert isinstance(blind, LabelMap)
    inner: NDArray[np.bool_] = np.pad(np.ones((height - 12, width - 12), np.bool_), 6)
    np.testing.assert_array_equal(blind.pixels[inner], truth[inner])  # no window sees more of the image's own edge


def test_an_image_smaller_than_a_window_is_padded_not_stretched(tmp_path: Path) -> None:
    predictor = Light("detection")
    found = tiled(tmp_path, predictor, painted([(10, 10, 30, 20)], (40, 30)), Options(tile=64)).target
    assert isinstance(found, Boxes)
    assert (found.size, found.xyxy.tolist()) == ((40, 30), [[10, 10, 30, 20]])
    assert predictor.asked == 1


WRONG = [
    (Options(tile=4), "detection", "at least 8 pixels"),  # no window
    (Options(tile=64, overlap=1.0), "detection", "overlap must lie in"),  # windows that do not advance
    (Options(tile=64), "classification", "a label is of the whole image"),  # nothing to join
]


@pytest.mark.parametrize(("options", "task", "message"), WRONG, ids=["small", "overlap", "classification"])
def test_tiles_that_cannot_be_are_refused(options: Options, task: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        options.framing(Light(task))  # type: ignore[arg-type]
