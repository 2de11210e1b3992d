"""Grading labels and probabilities: scikit-learn as the oracle, the numbers of score, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import stats
from sklearn import metrics
from torch import manual_seed
from typer.testing import CliRunner

from bakeoff import verbs_predict, verbs_winner
from bakeoff.cli import app
from bakeoff.errors import DataError, UsageError
from bakeoff.evaluate.score import Score
from bakeoff.grading import grade, is_submission
from bakeoff.models import build, trained
from bakeoff.models.spec import ModelSpec
from bakeoff.models.trained import Trained
from bakeoff.predict import Output

CLASSES = ("cat", "dog", "owl")
Floats = NDArray[np.float64]


def table(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def graded(submission: Path, truth: Path, against: Path | None = None, **more: str) -> Score:
    return grade(submission, {"path": str(truth), **more}, against)


def drawn(folder: Path, images: int = 60, seed: int = 0) -> tuple[Path, NDArray[np.int64], Floats]:
    """Write a truth of made-up labels, without images; return it with the labels and some probabilities."""
    draws = np.random.default_rng(seed)
    truth = draws.integers(0, 3, images)
    logits = draws.normal(size=(images, 3)) + 1.2 * np.eye(3)[truth]
    scores = np.round(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), 5)
    rows = "".join(f"img/{i:03}.jpg,{CLASSES[c]},{i // 2}\n" for i, c in enumerate(truth))
    return table(folder / "truth.csv", f"path,label,group\n{rows}"), truth, scores / scores.sum(axis=1, keepdims=True)


def probabilities(path: Path, scores: Floats, order: NDArray[np.intp], mark: str = ",") -> Path:
    rows = [[f"img/{i:03}.jpg", *(f"{value:.7f}" for value in scores[i])] for i in order]
    lines = [["ID", *CLASSES], *rows]
    return table(path, "\ufeff" + "\r\n".join(mark.join(line) for line in lines) + "\r\n")


def test_probabilities_are_graded_as_by_scikit_learn(tmp_path: Path) -> None:
    truth, labels, scores = drawn(tmp_path)
    order = np.random.default_rng(1).permutation(len(labels))
    found = graded(probabilities(tmp_path / "a.csv", scores, order, ";"), truth)
    guess = scores.argmax(axis=1)
    expected = {
        "accuracy": metrics.accuracy_score(labels, guess),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, guess),
        "macro_f1": metrics.f1_score(labels, guess, average="macro"),
        "log_loss": metrics.log_loss(labels, scores),
        "auroc": metrics.roc_auc_score(labels, scores, multi_class="ovr"),
        "brier": ((scores - np.eye(3)[labels]) ** 2).sum(axis=1).mean(),
    }
    assert {name: found.metrics[name].value for name in expected} == pytest.approx(expected, abs=1e-6)
    assert (found.images, found.groups) == (60, 30)
    assert all(one.low is not None and one.low < one.value < one.high for one in found.metrics.values() if one.value)  # type: ignore[operator]
    assert not found.findings


def test_labels_alone_are_graded_without_metrics_of_probabilities(tmp_path: Path) -> None:
    truth, labels, scores = drawn(tmp_path)
    guess = scores.argmax(axis=1)
    rows = "".join(f"{i:03}\t{CLASSES[c]}\n" for i, c in enumerate(guess))  # neither folder nor suffix
    found = graded(table(tmp_path / "a.tsv", f"image_id\tlabel\n{rows}"), truth)
    assert found.metrics["accuracy"].value == pytest.approx(metrics.accuracy_score(labels, guess))
    assert found.metrics["macro_f1"].value == pytest.approx(metrics.f1_score(labels, guess, average="macro"))
    assert {name for name, one in found.metrics.items() if one.value is None} == {
        "log_loss",
        "brier",
        "ece",
        "auroc",
        "average_precision",
    }
    assert [finding.code for finding in found.findings] == ["ids-by-name", "labels-alone"]
    assert "000 is img/000.jpg" in found.findings[0].sentence


def test_of_two_classes_one_column_is_enough(tmp_path: Path) -> None:
    truth = table(tmp_path / "truth.csv", "id,label\n" + "".join(f"{i},{'ny'[i % 2]}\n" for i in range(30)))
    draws = np.random.default_rng(0).random(30)
    found = graded(table(tmp_path / "a.csv", "id,y\n" + "".join(f"{i},{p}\n" for i, p in enumerate(draws))), truth)
    assert found.metrics["auroc"].value == pytest.approx(metrics.roc_auc_score(np.arange(30) % 2, draws))
    assert found.metrics["log_loss"].value == pytest.approx(metrics.log_loss(np.arange(30) % 2, draws), abs=1e-6)


def test_two_files_are_compared_image_by_image(tmp_path: Path) -> None:
    truth, labels, scores = drawn(tmp_path)
    order = np.arange(len(labels))
    flat = table(truth, truth.read_text().replace(",group", ",g"))  # every image is its own group
    a = probabilities(tmp_path / "a.csv", scores, order)
    b = probabilities(tmp_path / "b.csv", np.roll(scores, 1, axis=1), order)
    found = graded(a, flat, b)
    assert found.against is not None
    right = [one.argmax(axis=1) == labels for one in (scores, np.roll(scores, 1, axis=1))]
    only = [int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())]
    assert found.against.p == pytest.approx(stats.binomtest(only[0], sum(only)).pvalue)
    difference = found.against.differences["accuracy"]
    assert difference.value == pytest.approx(right[0].mean() - right[1].mean())
    assert 0 < (difference.low or 0.0) < (difference.value or 0.0)
    loss = found.against.differences["log_loss"]
    assert (loss.low or 0.0) < (loss.value or 0.0) < 0
    assert "on these files a.csv is ahead of b.csv" in found.against.sentence.lower()
    assert "may not survive retraining" in found.against.sentence
    assert " better" not in found.against.sentence
    swapped = graded(b, flat, a).against
    assert swapped is not None
    assert swapped.differences["accuracy"].value == pytest.approx(-(difference.value or 0.0))
    assert swapped.differences["log_loss"].value == pytest.approx(-(loss.value or 0.0))


TRUTH = "id,label\na.jpg,cat\nb.jpg,dog\nc.jpg,owl\nx/d.jpg,owl\ny/d.jpg,cat\n"
GOOD = {"a.jpg": "cat", "b.jpg": "dog", "c.jpg": "owl", "x/d.jpg": "owl", "y/d.jpg": "cat"}
SURE = {"cat": "1,0,0", "dog": "0,1,0", "owl": "0,0,1"}
HEAD = "id,cat,dog,owl\n"


def labelled(**changed: str | None) -> str:
    rows = {**GOOD, **changed}
    return "id,label\n" + "".join(f"{id},{label}\n" for id, label in rows.items() if label is not None)


def probable(change: str, header: str = HEAD) -> str:
    rest = "".join(f"{id},{SURE[label]}\n" for id, label in GOOD.items() if id != "a.jpg")
    return f"{header}a.jpg,{change}\n{rest}"


WRONG = [
    (labelled(**{"b.jpg": None, "c.jpg": None}), r"no prediction for 2 of the 5 images .*: b\.jpg, c\.jpg"),  # missing
    (labelled(**{"e.jpg": "cat"}), r"1 id that .* does not have: e\.jpg \(did you mean"),  # extra
    (labelled() + "a.jpg,cat\n", r"line 7: a\.jpg has a prediction already \(.*line 2\)"),  # twice
    (labelled() + "./a,cat\n", r"line 7: \./a has a prediction already"),  # twice under two names
    (labelled(**{"x/d.jpg": None, "d.jpg": "owl"}), r"'d\.jpg' may mean x/d\.jpg, y/d\.jpg"),  # one name, two images
    (labelled(**{"b.jpg": "dgo"}), r"line 3: .* no class 'dgo' \(did you mean dog\?\)"),  # an unknown class
    (labelled(**{"b.jpg": ""}), r"line 3: b\.jpg has no label"),  # an empty cell
    (labelled().replace("id,", "name,"), r"lacks a column id or path or image .*it has label, name"),  # no id column
    ("id,lable\na.jpg,cat\n", r"neither a column label nor columns for the classes cat, dog, owl"),  # no label column
    ("id,label\na.jpg,cat,\n", r"line 2: 3 cells, the header has 2"),  # a comma too many
    ("id,label,label\na.jpg,cat,cat\n", r"the column 'label' more than once"),  # a column twice
    ("id,label,class\na.jpg,cat,cat\n", r"the columns label, class mean the same"),  # a column twice, by two names
    ("id,label\n", r"has no rows"),  # nothing at all
    (probable("1,0,0", "id,cat,dgo,owl\n"), r"1 of the 3 classes have no column: dog \(did you mean dgo\?\)"),  # header
    (probable("-0.1,0.6,0.5"), r"line 2: cat of a\.jpg is -0\.1, not a probability"),  # negative
    (probable("0.5,0.5,0.2"), r"line 2: the probabilities of a\.jpg add up to 1\.2, not to 1"),  # more than 1
    (probable("nan,0.5,0.5"), r"line 2: cat of a\.jpg is nan, not a probability"),  # NaN
    (probable(",0.5,0.5"), r"line 2: cat of a\.jpg is empty, not a probability"),  # an empty cell
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_what_cannot_be_graded_is_named(text: str, message: str, tmp_path: Path) -> None:
    truth = table(tmp_path / "truth.csv", TRUTH)
    assert graded(table(tmp_path / "good.csv", labelled()), truth).metrics["accuracy"].value == 1
    with pytest.raises(DataError, match=message) as caught:
        graded(table(tmp_path / "a.csv", text), truth)
    assert "a.csv" in str(caught.value)


def test_predictions_of_a_model_have_the_score_of_the_model(tmp_path: Path) -> None:
    classes = ("=1+1", "cat", "dog", "owl")  # a name that spreadsheets would run, and a class without an image here
    draws = np.random.default_rng(0)
    for i in range(24):
        file = tmp_path / "photos" / classes[i % 3] / f"{i:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 256, (20, 24, 3), np.uint8)).save(file)
    manual_seed(0)
    spec = ModelSpec(arch="small:cnn")
    trained.save(tmp_path, Trained(build(spec, 4, 16), spec, "classification", classes, 16, "pad"))
    expected = verbs_winner.score(tmp_path / "model.safetensors", tmp_path / "photos").metrics
    for name in ("labels.csv", "labels.jsonl"):
        how = (None, "cpu", 0.5)
        assert (
            verbs_predict.write_predictions(tmp_path, [str(tmp_path / "photos")], Output(tmp_path / name), how, None)
            == 0
        )
        found = verbs_winner.score(tmp_path / name, tmp_path / "photos")
        assert found.outcomes.classes == classes
        for metric, one in found.metrics.items():
            assert one.value == pytest.approx(expected[metric].value, abs=1e-6), metric
            assert one.low == pytest.approx(expected[metric].low, abs=1e-5), metric
    assert not is_submission(tmp_path / "model.json")


def test_files_that_a_model_could_not_read_are_no_predictions(tmp_path: Path) -> None:
    truth = table(tmp_path / "truth.csv", TRUTH)
    text = labelled(**{"b.jpg": None}).replace("\n", ",\n").replace("label,", "label,error")
    with pytest.raises(DataError, match=r"no prediction for 1 .*b\.jpg; the file says: b\.jpg: damaged"):
        graded(table(tmp_path / "a.csv", text + "b.jpg,,damaged\n"), truth)


def test_from_the_command_line(tmp_path: Path) -> None:
    truth = table(tmp_path / "truth.csv", TRUTH)
    good, bad = table(tmp_path / "good.csv", labelled()), table(tmp_path / "bad.csv", labelled(**{"a.jpg": "dog"}))
    done = CliRunner().invoke(app, ["score", str(good), str(truth), "--against", str(bad), "--json"])
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert content["metrics"]["accuracy"]["value"] == 1
    assert content["against"]["differences"]["accuracy"]["value"] == pytest.approx(0.2)
    shown = CliRunner().invoke(app, ["score", str(good), str(truth), "--against", str(bad)])
    assert "good.csv less bad.csv" in shown.stdout
    for arguments, kind in (
        ([str(good), str(tmp_path / "nowhere")], UsageError),  # no truth
        ([str(good), str(truth), "--part", "test"], UsageError),  # a part of what?
        ([str(good), str(truth), "--against", str(tmp_path / "no.csv")], UsageError),  # no second file
        ([str(good), str(truth), "--against", str(good)], UsageError),  # the same file
        ([str(table(tmp_path / "x.csv", "id,label\nq,cat\n")), str(truth)], DataError),  # bad data
    ):
        failed = CliRunner().invoke(app, ["score", *arguments])
        assert type(failed.exception) is kind, failed.output


def test_images_derived_from_others_are_not_judged(tmp_path: Path) -> None:
    rows = [("a.png", "cat", "", ""), ("b.png", "dog", "", ""), ("a-cutmix.png", "cat", "cutmix", "a.png")]
    cells = "".join(f"{','.join(row)}\n" for row in rows)
    truth = table(tmp_path / "truth.csv", f"path,label,derived_by,derived_from\n{cells}")
    for name, *_ in rows:
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    submission = table(tmp_path / "mine.csv", "id,label\na.png,cat\nb.png,cat\n")
    assert graded(submission, truth).images == 2  # ids and labels
    found = graded(submission, truth, format="table")  # a dataset with its images
    assert (found.images, found.metrics["accuracy"].value) == (2, 0.5)
