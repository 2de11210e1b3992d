"""The built-in digits: real, complete, always the same, and never written over something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from bakeoff.data import formats
from bakeoff.data.decode import read_image
from bakeoff.data.digits import COUNT, write_digits
from bakeoff.errors import UsageError


def test_digits_are_those_of_scikit_learn(tmp_path: Path) -> None:
    dataset = formats.read(write_digits(tmp_path / "digits", 8))
    images, labels = load_digits(return_X_y=True)
    assert len(dataset) == COUNT == len(labels)
    for record in dataset.records[::97]:
        position = int(record.id[-8:-4])
        assert dataset.classes[record.label] == str(labels[position])
        assert np.array_equal(read_image(dataset, record)[..., 0], np.rint(images[position].reshape(8, 8) * 255 / 16))


def test_digits_are_written_once_and_always_the_same(tmp_path: Path) -> None:
    first = write_digits(tmp_path / "a")
    times = {path: path.stat().st_mtime_ns for path in first.glob("*/*")}
    write_digits(first)
    assert {path: path.stat().st_mtime_ns for path in first.glob("*/*")} == times
    second = formats.read(write_digits(tmp_path / "b"))
    assert second.fingerprint == formats.read(first).fingerprint
    assert read_image(second, second.records[0]).shape == (32, 32, 3)


def test_digits_leave_other_data_alone(tmp_path: Path) -> None:
    folder = write_digits(tmp_path / "digits", 8)
    with pytest.raises(UsageError, match="of 32 px; name another folder"):
        write_digits(folder, 32)
    (folder / "3" / "digit-0003.png").unlink()
    with pytest.raises(UsageError, match="holds something else"):
        write_digits(folder, 8)
