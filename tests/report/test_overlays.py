"""Reports on label maps, boxes and instances: numbers from the outcomes, pictures of the same images for everyone."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))

from fabricate_scenes import Scenes, make_scenes
from page import Page

from bakeoff.data.dataset import TaskName
from bakeoff.data.draw import draw
from bakeoff.data.targets import Boxes
from bakeoff.files import write_json
from bakeoff.report import objects, overlays, semantic, write_report
from bakeoff.report.material import Material, read_comparison, read_material
from bakeoff.report.report import TASK_PARTS
from bakeoff.store import StudyFolder
from bakeoff.tasks.mistakes import error_kinds
from bakeoff.tasks.precision import best_score, per_class
from bakeoff.tasks.task import Outcomes

TASKS: list[TaskName] = ["semantic", "detection", "instance"]
HOSTILE = ("<b>bar</b> & 'x'", "{{ 7*7 }}\u202egnp", "عربي \x1b[2J")


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StudyFolder]:
    """Return a study of each task."""
    return {
        task: make_scenes(
            tmp_path_factory.mktemp(task), Scenes(task, images=24 if task == "detection" else 14, seeds=2)
        )
        for task in TASKS
    }


@pytest.fixture(scope="module")
def pages(studies: dict[str, StudyFolder]) -> dict[str, Page]:
    """Return their reports."""
    return {task: Page(write_report(folder)) for task, folder in studies.items()}


def material(folder: StudyFolder) -> Material:
    """Read a study as the report does."""
    comparison = read_comparison(folder)
    return read_material(folder, comparison, TASK_PARTS[comparison.task].metrics)


SECTIONS = {
    "semantic": "verdict candidates differences cost learning classes images checks making",
    "detection": "verdict candidates differences cost learning classes curves errors images checks making",
    "instance": "verdict candidates differences cost learning classes curves errors images checks making",
}


@pytest.mark.parametrize("task", TASKS)
def test_the_page_is_whole_stands_alone_and_is_accessible(pages: dict[str, Page], task: str) -> None:
    page = pages[task]
    assert [attrs["id"] for tag, attrs in page.tags if tag == "section"] == SECTIONS[task].split()
    assert all(source.startswith("data:image/webp;base64,") for source in page.values("src"))
    assert not re.search(r"url\(|@import|https?://", page.source)
    for tag, attrs in page.tags:
        assert tag != "img" or attrs["alt"]
        assert tag != "svg" or (attrs["role"] == "img" and attrs["aria-label"])
        assert attrs.get("class") != "stack-bar" or attrs["aria-label"]
    (script,) = re.findall(r"<script>(.*?)</script>", page.source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.source
    assert "nan" not in page.text.split()
    assert ("mean IoU with its" if task == "semantic" else "mAP with its") in page.text


@pytest.mark.parametrize("task", TASKS)
def test_every_image_shows_the_truth_and_all_candidates(pages: dict[str, Page], task: str) -> None:
    page = pages[task]
    plates = [attrs for tag, attrs in page.tags if tag == "li" and "data-gap" in attrs]
    assert len(plates) == (24 if task == "detection" else 14)
    pictures = [attrs["alt"] or "" for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == 5 * len(plates)
    first = [alt.partition(": ")[2].partition(",")[0] for alt in pictures[:5]]
    assert first == ["image", "truth", "prediction of retina", "prediction of faster", "prediction of tiny"]
    assert all(len((plate["data-scores"] or "").split()) == 3 for plate in plates)


def test_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    plan = Scenes(
        "detection", names=HOSTILE, shapes=tuple(sorted(HOSTILE)), images=8, seeds=1, prefix="<img src=x>\u2028"
    )
    page = Page(write_report(make_scenes(tmp_path, plan)))
    assert not [key for _, attrs in page.tags for key in attrs if key.startswith("on")]
    assert not re.search("[\x00-\x08\x1b\x7f-\x9f\u2028-\u202e]", page.source)
    for name in ("<b>bar</b> & 'x'", "{{ 7*7 }}⟨U+202E⟩gnp", "<img src=x>⟨U+2028⟩"):
        assert name in page.text


def test_the_same_study_gives_the_same_bytes_without_torch(studies: dict[str, StudyFolder]) -> None:
    code = (
        "import sys; from pathlib import Path; from bakeoff.store import StudyFolder; from bakeoff.report import "
        "write_report; print(write_report(StudyFolder(Path(sys.argv[1])))); print({'torch', 'timm'} & set(sys.modules))"
    )
    folder = studies["instance"]
    before = write_report(folder).read_bytes()
    done = subprocess.run([sys.executable, "-c", code, folder.path], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[1] == "set()"
    assert folder.report.read_bytes() == before


def test_classes_of_label_maps_are_pooled_over_runs(studies: dict[str, StudyFolder]) -> None:
    found = material(studies["semantic"])
    tested = [(candidate, list(found.tested(candidate))) for candidate in found.candidates]
    content = semantic.classes_content(tested)
    runs = [outcomes for _, outcomes in tested[1][1]]
    tp, fp, fn = (sum(run.columns[name].sum(axis=0) for run in runs) for name in ("tp", "fp", "fn"))
    for place, row in enumerate(content["rows"]):
        assert row["scores"][4] == pytest.approx(tp[place] / (tp + fp + fn)[place])
        assert row["scores"][6] == pytest.approx(tp[place] / (tp + fn)[place])
    assert content["rows"][0]["facts"][0] == 14  # the background is in every image, and every image counts once
    assert sum(row["facts"][1] for row in content["rows"]) == pytest.approx(100, abs=0.1)


def test_classes_of_objects_are_means_over_runs(studies: dict[str, StudyFolder]) -> None:
    found = material(studies["detection"])
    evidence = objects.gathered(found)
    content = objects.classes_content(evidence)
    tables = [per_class(outcomes) for outcomes in evidence[2].runs]
    for place, row in enumerate(content["rows"]):
        assert row["scores"][6:] == pytest.approx(
            [np.mean([t[place][name] for t in tables]) for name in ("ap", "ap50", "ar")]
        )
        assert row["facts"] == [tables[0][place]["images"], tables[0][place]["objects"]]
    curves = objects.curves_content(evidence)["together"]
    for figure, metric in zip(curves, ("map50", "map"), strict=True):
        value = 100 * (found.candidates[0].row.metrics[metric].value or 0)
        assert f"A {value:.1f}" in figure.caption  # the area below the curve is the metric


def test_errors_are_counted_at_each_runs_own_threshold(studies: dict[str, StudyFolder]) -> None:
    evidence = objects.gathered(material(studies["detection"]))
    rows = objects.errors_content(evidence)["rows"]
    for entry, row in zip(evidence, rows, strict=True):
        totals = [error_kinds(outcomes, best_score(outcomes)[0]) for outcomes in entry.runs]
        truths = int(entry.runs[0].columns["truths"][:, :, 0].sum())
        for kind, value in row["errors"].items():
            assert value == pytest.approx(100 * np.mean([total[kind].sum() for total in totals]) / truths)
        assert row["f1"] == pytest.approx(np.mean([best_score(outcomes)[1] for outcomes in entry.runs]))
    assert rows[0]["f1"] > rows[2]["f1"]


def test_f1_of_an_image() -> None:
    kinds = np.array([[1, 6, 0, 0], [2, 1, 0, 1], [0, 0, 0, 0], [6, 0, 0, 0]], np.uint8)
    scores = np.array([[0.9, 0.8, 0.7, 0.0], [0.9, 0.8, 0.7, 0.2], [0.9, 0, 0, 0], [0.1, 0, 0, 0]])
    truths = np.zeros((4, 2, 4), np.int32)
    truths[:, 0, 0], truths[:, 1, 0] = [1, 2, 0, 0], [1, 1, 0, 0]
    found = objects.image_f1(
        Outcomes(tuple("abcd"), ("x", "y"), {"kinds": kinds, "scores": scores, "truths": truths}), 0.5
    )
    assert found.tolist() == [2 / 4, 2 / 5, 1.0, 1.0]  # detections that are not judged or not sure count nowhere


def test_what_is_drawn_is_what_was_judged(studies: dict[str, StudyFolder]) -> None:
    found = material(studies["detection"])
    for entry in objects.gathered(found):
        showing = objects.showing(entry)
        atlas = overlays.Atlas(found, [showing], set(showing.runs))
        run, outcomes = entry.tested[0]
        assert set(showing.runs.values()) == {run.id}
        for row, id in enumerate(outcomes.ids):
            target = atlas.prediction(showing, id)
            assert isinstance(target, Boxes)  # the one that is exactly as sure as the threshold asks included
            assert len(target) == (outcomes.columns["scores"][row] >= entry.best[0][0]).sum()


def test_tiles_are_drawings_of_the_studys_own_pixels(studies: dict[str, StudyFolder], pages: dict[str, Page]) -> None:
    found = material(studies["semantic"])
    (evidence, *_) = [(c, list(found.tested(c))) for c in found.candidates]
    showing = overlays.gather(evidence[0], evidence[1], semantic.image_scores, {})
    id = next(iter(showing.runs))
    atlas = overlays.Atlas(found, [showing], {id})
    image, truth = atlas.image(id), atlas.truth(id)
    assert image is not None
    assert truth is not None
    assert image.shape == (192, 192, 3)  # 64 pixels, three times as large
    source = next(
        s for s, a in ((a["src"], a["alt"]) for t, a in pages["semantic"].tags if t == "img") if a == f"{id}: truth"
    )
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode((source or "").partition(",")[2]))).convert("RGB"))
    assert np.abs(shown.astype(int) - draw(image, truth, atlas.classes)).mean() < 6


def test_images_are_chosen_by_disagreement_and_by_failure(studies: dict[str, StudyFolder]) -> None:
    a, b, *_ = material(studies["detection"]).candidates
    ids = [f"{i:03}" for i in range(100)]
    good = dict.fromkeys(ids, 0.9)
    one = overlays.Showing(a, {**good, "050": 0.1, "051": 0.2, "060": 0.3}, {}, {}, {})
    two = overlays.Showing(b, {**good, "050": 0.1, "070": 0.0, "071": 0.5}, {}, {}, {})
    chosen = overlays.choose(ids, [one, two])
    assert chosen[:4] == ["070", "051", "060", "071"]  # gaps of .9, .7, .6, .4
    assert chosen[20] == "050"  # bad for both, so no gap
    assert len(chosen) == len(set(chosen)) == overlays.MOST
    assert overlays.choose(ids, [one])[:3] == ["050", "051", "060"]
    assert overlays.choose([], [one]) == []
    assert len(overlays.choose(ids, [one] * 60)) == overlays.FEWEST


def test_what_is_not_in_the_folder_is_said(tmp_path: Path) -> None:
    folder = make_scenes(tmp_path, Scenes("detection", names=("solo",), skills=(0.7,), images=6, seeds=1))
    whole = Page(write_report(folder))
    assert "the worst ones" in whole.text
    assert "disagreement" not in whole.text
    (folder.cache / "objects-64-squash.npz").unlink()
    assert write_report(folder).read_text().count("no picture<") == 6  # the truth
    for file in folder.cache.glob("pixels-*"):
        file.unlink()
    assert "so there are no pictures" in Page(write_report(folder)).text
    for run in folder.runs():
        folder.run(run.id).predictions_file.unlink()
    assert "no pictures" in Page(write_report(folder)).text
    for run in folder.runs():
        folder.run(run.id).write(replace(run, state="failed", error="stopped"))
    assert "images" not in Page(write_report(folder)).values("id")


def test_what_the_guards_said_is_among_the_checks(studies: dict[str, StudyFolder]) -> None:
    folder = studies["semantic"]
    assert "networks whole" not in write_report(folder).read_text()
    told = {"code": "skip", "ok": True, "sentence": "cutting any of 3 skip connections changes the output"}
    write_json(folder.guards, {"retina": {"results": [told]}})
    page = Page(write_report(folder))
    folder.guards.unlink()
    assert "Guard skip connections passed: retina: cutting any of 3 skip connections changes the output." in page.text


def test_other_data_is_not_shown(tmp_path: Path) -> None:
    folder = make_scenes(tmp_path, Scenes("semantic", names=("solo",), skills=(0.7,), images=6, seeds=1))
    write_json(folder.cache / "labels-64-squash.json", {"fingerprint": "other", "size": 64, "resize": "squash"})
    assert write_report(folder).read_text().count("no picture<") == 6


def test_under_cross_validation_every_image_is_shown_by_the_run_that_tested_it(tmp_path: Path) -> None:
    folder = make_scenes(tmp_path, Scenes("semantic", names=("one", "two"), images=12, seeds=2, folds=3))
    found = material(folder)
    (candidate, *_) = found.candidates
    showing = overlays.gather(candidate, list(found.tested(candidate)), semantic.image_scores, {})
    assert len(showing.scores) == 12
    assert len(set(showing.runs.values())) == 3  # the folds of the first repeat
    assert len(Page(write_report(folder)).values("data-gap")) == 12
