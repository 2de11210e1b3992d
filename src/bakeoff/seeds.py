"""Every random draw is a function of (seed, keys): nothing random is ever stored."""

from __future__ import annotations

import hashlib

import numpy as np


def fold(seed: int, *keys: int | str) -> int:
    """Fold keys into a seed: a 63-bit integer that depends on every key and its place.

    >>> fold(0, "epoch", 1) == fold(0, "epoch", 1) != fold(0, "epoch", 2)
    True
    """
    text = repr((int(seed), *keys)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def generator(seed: int, *keys: int | str) -> np.random.Generator:
    """Return a numpy generator seeded by fold(seed, *keys)."""
    return np.random.Generator(np.random.PCG64(fold(seed, *keys)))
