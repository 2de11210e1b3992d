"""Closed-form matting: the alpha of a narrow band from the known pixels on both of its sides.

A. Levin, D. Lischinski, Y. Weiss, "A closed-form solution to natural image matting", 2008: in every window of 3 x 3
pixels alpha is a linear function of the colour, as nearly as can be.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import cg

from bakeoff.composite.planes import Plane

SMOOTHNESS = 1e-7  # of the colours' covariance in a window, in squares of 0..1
PRIOR = 1e-5  # how much a guess weighs where the colours say nothing
TOLERANCE, STEPS = 1e-4, 600


def solve_alpha(image: Plane, guess: Plane, unknown: NDArray[np.bool_]) -> Plane:
    """Return alpha (H, W) in 0..1 of an image (H, W, 3) in 0..1: `guess`, solved for anew where `unknown`.

    The system is over the unknown pixels alone; time and memory grow with their number, some 20 kB each.
    """
    if not unknown.any():
        return guess
    laplacian = _laplacian(image, unknown)
    inner = np.flatnonzero(unknown)
    rows = laplacian[inner]
    known = np.where(unknown, 0, guess).ravel().astype(np.float64)
    start = guess.ravel()[inner].astype(np.float64)
    matrix = (rows[:, inner] + PRIOR * sparse.identity(len(inner))).tocsr()
    target = PRIOR * start - rows @ known
    found, _ = cg(matrix, target, start, rtol=TOLERANCE, maxiter=STEPS, M=sparse.diags(1 / matrix.diagonal()))
    alpha = guess.copy()
    alpha.ravel()[inner] = np.clip(found, 0, 1)
    return alpha


def _laplacian(image: Plane, unknown: NDArray[np.bool_]) -> sparse.csr_matrix:
    """Return the matting Laplacian (H W, H W) of all windows that hold an unknown pixel."""
    height, width = unknown.shape
    index = np.arange(height * width).reshape(height, width)
    windows = np.lib.stride_tricks.sliding_window_view(index, (3, 3)).reshape(-1, 9)
    windows = windows[unknown.ravel()[windows].any(axis=1)]
    colours = image.reshape(-1, 3)[windows].astype(np.float64)
    colours -= colours.mean(axis=1, keepdims=True)
    spread = colours.transpose(0, 2, 1) @ colours / 9 + SMOOTHNESS / 9 * np.eye(3)
    likeness = (1 + colours @ np.linalg.solve(spread, colours.transpose(0, 2, 1))) / 9
    values = np.eye(9) - likeness
    rows, columns = np.repeat(windows, 9, axis=1), np.tile(windows, 9)
    entries = (values.ravel(), (rows.ravel(), columns.ravel()))
    return sparse.csr_matrix(entries, shape=(height * width, height * width))
