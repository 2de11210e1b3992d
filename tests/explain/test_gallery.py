"""The gallery: one study's test images by all candidates, kept in its folder and shown without a network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bakeoff import cli, verbs
from bakeoff.compare import Comparison
from bakeoff.data import formats
from bakeoff.data.digits import write_digits
from bakeoff.errors import DataError
from bakeoff.explain.gallery import choose_images
from bakeoff.files import read_json, write_json
from bakeoff.report import write_report
from bakeoff.store import StudyFolder
from bakeoff.winners import shown_runs

pytestmark = pytest.mark.usefixtures("inline")


def call(*arguments: object) -> int:
    """Run the command line in this process and return its exit code."""
    try:
        cli.main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    """Return a finished, cross-validated study of a network with feature maps and one without."""
    whole = formats.read(write_digits(tmp_path / "all", 16))
    some = whole.without(record.id for place, record in enumerate(whole.records) if place % 9)
    formats.write(some, tmp_path / "digits", "folder")
    settings = {
        "size": 16,
        "split.folds": 2,
        "split.repeats": 2,
        "repeat_one": False,
        "recipe.epochs": 2,
        "recipe.augment": "none",
        "candidates": [
            {"name": "cnn <b>", "model": {"arch": "small:cnn", "options": {"width": 8}}},
            {"name": "mlp", "model": {"arch": "small:mlp", "options": {"hidden": 16}}},
        ],
    }
    verbs.run(tmp_path / "digits", tmp_path / "study", settings=settings)
    return StudyFolder(tmp_path / "study")


def test_all_candidates_are_explained_on_the_same_test_images(
    study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "Why they say so" not in study.report.read_text()
    assert call("explain", study.path) == 0
    assert capsys.readouterr().out.strip() == str(study.report)
    stored = read_json(study.explanations)
    assert len(stored["images"]) == 6
    entries = {(e["candidate"], e["image"]): e for e in stored["entries"]}
    assert len(entries) == 12
    runs = {e["run"] for e in stored["entries"]}
    found = [run for run in study.planned() if run.id in runs]
    assert len(found) == 2
    assert len({(run.repeat, run.fold) for run in found}) == 1
    for run in found:
        assert set(stored["images"]) <= set(study.run(run.id).outcomes().ids)
    for (candidate, _), entry in entries.items():
        assert [one["applies"] for one in entry["methods"]] == [candidate != "mlp"] * 2
        outcomes = study.run(entry["run"]).outcomes()
        scores = outcomes.columns["scores"][outcomes.ids.index(entry["image"])]
        assert entry["label"] == outcomes.classes[int(scores.argmax())]
        assert entry["probability"] == pytest.approx(float(scores.max()), abs=1e-4)
    with np.load(study.explained) as pictures:
        assert len(pictures.files) == 6 * 3 + 6  # the image and two maps, and of the other the image alone
        assert all(pictures[name].shape == (16, 16, 3) for name in pictures.files)
    page = study.report.read_text()
    assert page.count('class="row"') == 12
    assert "cnn <b>" not in page


def test_the_report_shows_it_without_a_network_and_says_when_it_is_old(study: StudyFolder) -> None:
    assert call("explain", study.path, "--method", "gradcam") == 0
    kept = (study.report.read_bytes(), study.explained.read_bytes(), study.explanations.read_bytes())
    code = (
        "import sys; from pathlib import Path; from bakeoff.report import write_report; "
        "from bakeoff.store import StudyFolder; "
        f"write_report(StudyFolder(Path({str(study.path)!r}))); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert call("explain", study.path, "--method", "gradcam") == 0
    assert (study.report.read_bytes(), study.explained.read_bytes(), study.explanations.read_bytes()) == kept
    content = read_json(study.explanations)
    content["entries"][0]["run"] = "another-s1-00000000"
    write_json(study.explanations, content)
    assert "trained again" in write_report(study).read_text()
    study.explained.write_bytes(b"torn")
    with pytest.raises(DataError, match="make it again: bakeoff explain"):
        write_report(study)


def test_a_study_that_is_not_there_or_not_finished(
    study: StudyFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("explain", tmp_path / "none") == 2
    assert "no such study; to explain images, name them" in capsys.readouterr().err
    found = Comparison.from_json(read_json(study.comparison))
    assert list(shown_runs(study, found)) == [row.candidate for row in found.rows]
    study.comparison.unlink()
    assert call("explain", study.path) == 2
    assert "is not finished" in capsys.readouterr().err


def test_images_are_a_fair_draw_from_those_that_all_were_tested_on() -> None:
    ids = [f"image {number}" for number in range(100)]
    chosen = choose_images([ids, ids[:50][::-1]])
    assert len(chosen) == 6
    assert set(chosen) <= set(ids[:50])
    assert chosen != ids[:6]
    assert chosen == choose_images([ids[:50], ids])
    assert choose_images([ids[:3], ids]) == sorted(ids[:3], key=choose_images([ids[:3]]).index)
