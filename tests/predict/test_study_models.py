"""A study's best candidate as an ensemble, and its probabilities calibrated on its own validation images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import bakeoff
from bakeoff.errors import UsageError
from bakeoff.predict import Options
from bakeoff.predict.calibrated import scaled, temperature
from bakeoff.predict.options import PLAIN
from bakeoff.store import StudyFolder
from bakeoff.verbs_predict import fitted_temperature, predict

pytestmark = pytest.mark.usefixtures("inline")


@pytest.fixture
def digits(some_digits: Callable[..., Path]) -> Path:
    """Return 400 digits of 16 pixels in class folders."""
    return some_digits(9, (0, 4))


@pytest.fixture
def study(digits: Path, tmp_path: Path) -> Path:
    """Return a finished study of one candidate with three seeds."""
    mlp = {"name": "mlp", "model": {"arch": "small:mlp", "options": {"hidden": 32}}}
    quick = {"size": 16, "seeds": 3, "repeat_one": False, "recipe.epochs": 4, "recipe.augment": "none"}
    bakeoff.run(digits, tmp_path / "study", settings={**quick, "candidates": [mlp]})
    return tmp_path / "study"


def scores(model: Path, images: Path, options: Options = PLAIN) -> NDArray[np.float64]:
    """Return the probabilities of all images."""
    return np.array([list(one.scores.values()) for one in predict(model, [images], None, "cpu", 0.5, options)])


def test_an_ensemble_is_the_mean_of_its_runs_and_calibration_fits_validation(
    study: Path, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = sorted((study / "runs").iterdir())
    each = [scores(run, digits / "3") for run in runs]
    assert len(each) == 3
    together = scores(study, digits / "3", Options(ensemble=True))
    np.testing.assert_allclose(together, np.mean(each, axis=0), atol=1e-6)

    files = {path: path.stat().st_mtime_ns for path in study.rglob("*")}
    validation = [StudyFolder(study).run(run.name).outcomes("validation").columns for run in runs]
    expected = temperature(np.mean([one["scores"] for one in validation], axis=0), validation[0]["truth"])
    assert fitted_temperature(runs) == pytest.approx(expected)
    assert abs(np.log(expected)) > 0.05  # else nothing is shown here
    both = scores(study, digits / "3", Options(ensemble=True, calibrated=True))
    np.testing.assert_allclose(both, scaled(together, expected), atol=1e-6)
    assert {path: path.stat().st_mtime_ns for path in study.rglob("*")} == files

    capsys.readouterr()
    from bakeoff.cli import main

    with pytest.raises(SystemExit) as end:
        main(["predict", str(runs[0]), str(digits / "3"), "--calibrated", "--json", "--quiet"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert end.value.code == 0
    assert {line["temperature"] for line in lines} == {fitted_temperature(runs[:1])}
    assert [line["label"] for line in lines] == [str(row.argmax()) for row in each[0]]


def test_wishes_that_a_model_cannot_meet_are_refused_with_the_reason(study: Path, digits: Path) -> None:
    first, *_, third = sorted((study / "runs").iterdir())
    (third / "validation.npz").unlink()
    cases = [
        (study, Options(ensemble=True, calibrated=True), "there is no validation.npz here"),
        (first, Options(ensemble=True), "made of the runs of a finished study"),
        (study / "gone.onnx", Options(ensemble=True), "one exported file"),
        (study, Options(tile=32), "a label is of the whole image"),
    ]
    for model, options, message in cases:
        with pytest.raises(UsageError, match=message):
            predict(model, [digits], options=options)
