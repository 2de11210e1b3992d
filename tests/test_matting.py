"""Mattes against known alpha, the subject's colours without the old background's light, mattes that do not flicker."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from bakeoff.composite import Composing, Matting, matte
from bakeoff.composite.background import Picture, filled
from bakeoff.composite.foreground import foreground
from bakeoff.composite.guided import guided_filter
from bakeoff.composite.planes import to_bytes, to_levels
from bakeoff.composite.steadying import Steadying

HEIGHT, WIDTH = 240, 320
Plane = NDArray[np.float32]


def texture(colour: tuple[float, float, float], seed: int) -> Plane:
    """Return a smooth texture (H, W, 3) around a colour."""
    noise = np.random.default_rng(seed).normal(0, 1, (HEIGHT, WIDTH, 3)).astype(np.float32)
    return np.asarray(np.clip(np.array(colour) + 0.5 * cv2.GaussianBlur(noise, (0, 0), 6), 0, 1), np.float32)


@pytest.fixture(scope="module")
def alpha() -> Plane:
    """Return a flower with a soft edge, 8 pixels wide."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    angle, distance = np.arctan2(y - 120, x - 160), np.hypot(y - 120, x - 160)
    disc = np.clip((70 * (1 + 0.12 * np.sin(5 * angle) + 0.05 * np.sin(23 * angle)) - distance) / 8 + 0.5, 0, 1)
    return np.asarray(disc, np.float32)


SUBJECT, GROUND = texture((0.75, 0.45, 0.3), 0), texture((0.25, 0.4, 0.55), 1)


@pytest.fixture(scope="module")
def picture(alpha: Plane) -> NDArray[np.uint8]:
    """Return the flower before its own background."""
    veil = alpha[..., None]
    return to_bytes(veil * SUBJECT + (1 - veil) * GROUND)


@pytest.fixture(scope="module")
def mask(alpha: Plane) -> Plane:
    """Return what a network of 64 pixels might say: coarse, and two pixels off."""
    hard = (alpha > 0.5).astype(np.float32)
    coarse = cv2.resize(hard, (64, 64), interpolation=cv2.INTER_AREA)
    full = np.clip(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), 0, 1)
    return np.asarray(np.roll(full, (2, 2), (0, 1)), np.float32)


def error(found: Plane, alpha: Plane) -> float:
    """Return the mean absolute error."""
    return float(np.abs(found - alpha).mean())


@pytest.mark.parametrize(
    ("method", "working", "share"),
    [
        ("guided", 640, 0.65),  # the windows of the filter cannot follow the small lobes
        ("closed_form", 640, 0.25),
        ("closed_form", 200, 0.35),  # solved at a smaller size, and brought to the picture's
    ],
)
def test_mattes_are_much_nearer_to_the_truth_than_the_mask(
    picture: NDArray[np.uint8],
    alpha: Plane,
    mask: Plane,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    working: int,
    share: float,
) -> None:
    monkeypatch.setattr(matte, "WORKING", working)
    found = Matting(method).alpha(picture, mask)
    assert found.dtype == np.float32
    assert error(found, alpha) < share * error((mask >= 0.5).astype(np.float32), alpha)


@pytest.mark.parametrize("method", ["guided", "closed_form"])
def test_beyond_the_band_all_is_certain(picture: NDArray[np.uint8], mask: Plane, method: str) -> None:
    found = Matting(method, band=0.03).alpha(picture, mask)
    inside = (mask >= 0.5).astype(np.uint8)
    reach = 0.03 * WIDTH + 1
    assert (found[cv2.distanceTransform(inside, cv2.DIST_L2, 5) > reach] == 1).all()
    assert (found[cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5) > reach] == 0).all()


def test_no_mask_gives_no_matte_and_feather_softens(picture: NDArray[np.uint8], mask: Plane) -> None:
    assert not Matting().alpha(picture, np.zeros_like(mask)).any()
    np.testing.assert_array_equal(Matting("none").alpha(picture, mask), mask)
    hard = (mask >= 0.5).astype(np.float32)
    soft = Matting("none", feather=0.01).alpha(picture, hard)
    assert ((soft > 0.05) & (soft < 0.95)).sum() > 1000 > ((hard > 0.05) & (hard < 0.95)).sum()


def test_guided_filter_keeps_what_is_linear_in_the_colours(picture: NDArray[np.uint8]) -> None:
    image = to_levels(picture)
    linear = np.asarray(image @ np.array([0.5, -0.3, 0.2]) + 0.3, np.float32)
    np.testing.assert_allclose(guided_filter(image, linear, 4, 1e-9), linear, atol=2e-3)


def test_the_old_background_does_not_shine_through(picture: NDArray[np.uint8], alpha: Plane) -> None:
    image = to_levels(picture)
    found, edge = foreground(image, alpha), (alpha > 0.1) & (alpha < 0.9)
    np.testing.assert_array_equal(found[alpha == 1], image[alpha == 1])
    assert np.abs(found - SUBJECT)[edge].mean() < 0.35 * np.abs(image - SUBJECT)[edge].mean()


def test_before_its_own_background_a_subject_gives_the_picture_back(picture: NDArray[np.uint8], alpha: Plane) -> None:
    own = Picture(to_bytes(GROUND))
    composing = Composing(own, Matting("none"))
    found = composing.compose(composing.cut(picture, alpha))
    assert np.abs(found.astype(int) - picture).mean() < 0.3  # of 255


def test_hidden_ground_is_made_up_from_what_is_around() -> None:
    image = np.zeros((60, 90, 3), np.float32)
    image[:] = (0.1, 0.2, 0.9)
    known = np.ones((60, 90), np.float32)
    image[20:40, 30:70], known[20:40, 30:70] = (1, 0, 0), 0
    found = filled(image, known)
    np.testing.assert_allclose(found, np.broadcast_to(np.array([0.1, 0.2, 0.9]), found.shape), atol=1e-3)


def test_mattes_are_steady_where_the_picture_is_and_follow_it_where_it_moves() -> None:
    draws = np.random.default_rng(0)
    still, moved = np.full((40, 60, 3), 90, np.uint8), np.full((40, 60, 3), 90, np.uint8)
    moved[:, 30:] = 200
    masks = [np.clip(0.5 + draws.normal(0, 0.2, (40, 60)), 0, 1).astype(np.float32) for _ in range(30)]
    steady, plain = Steadying(0.7), Steadying(0.0)
    kept = [steady(still, mask) for mask in masks]
    assert np.std(kept[5:], axis=0).mean() < 0.6 * np.std([plain(still, mask) for mask in masks[5:]], axis=0).mean()
    new = np.ones((40, 60), np.float32)
    after = steady(moved, new)
    assert (after[:, 36:] > 0.99).all()
    assert (after[:, :24] < 0.9).all()
