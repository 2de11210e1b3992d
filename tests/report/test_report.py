"""The report: complete, correct numbers, harmless whatever the names are, and the same bytes every time."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import precision_score, recall_score

sys.path.insert(0, str(Path(__file__).parent))

from fabricate import Plan, comparison, make_study
from page import Page

from bakeoff.compare import Comparison, Control, Estimate
from bakeoff.errors import DataError
from bakeoff.files import read_json, write_json
from bakeoff.report import write_report
from bakeoff.report.classification import METRICS, class_rows, confused, gather
from bakeoff.report.material import Material, read_comparison, read_material
from bakeoff.report.pictures import DISAGREEMENTS, galleries, majority
from bakeoff.report.sections import turned
from bakeoff.store import StudyFolder
from bakeoff.tasks.task import Outcomes

HOSTILE = ('<b>bold</b> & "quote"', "$x_1$ \u202egnp.exe\x00", "{{ 7*7 }} ' onload=alert(1) x='" + "n" * 80)
CLASSES = tuple(sorted([f"class {i:02d} <i>$a_{i}</i>" for i in range(38)] + ["\u202eevil", "عربي"]))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """Return a study of three candidates, five seeds, one failed run."""
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def page(study: StudyFolder) -> Page:
    """Return its report."""
    return Page(write_report(study))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Return the report of a study whose every name is hostile."""
    plan = Plan(names=HOSTILE, classes=CLASSES, images=300, seeds=2, failed=((HOSTILE[2], 0),))
    plan = replace(plan, prefix="<img src=x onerror=alert(1)>\u2028-")
    return Page(write_report(make_study(tmp_path_factory.mktemp("hostile"), plan)))


def material(folder: StudyFolder) -> Material:
    """Read a study as the report does."""
    return read_material(folder, read_comparison(folder), METRICS)


def rewrite(folder: StudyFolder, **changes: object) -> Comparison:
    """Change fields of the stored comparison."""
    changed = replace(read_comparison(folder), **changes)  # type: ignore[arg-type]
    write_json(folder.comparison, changed.to_json())
    return changed


def test_everything_asked_for_is_on_the_page(study: StudyFolder, page: Page) -> None:
    found = read_comparison(study)
    said = [found.verdict, found.next_step, "Claim level", *(pair.sentence for pair in found.pairs)]
    said += [control.name for control in found.controls] + [finding.sentence for finding in found.findings]
    said += ["seed 3: the loss became nan at step 312", "the same picture", "bakeoff run study.toml", "2.14.1"]
    said += [
        "80 % power",
        "f" * 64,
        "5" * 64,
        "runs/c0-s4-0000",
        'alert("toml")',
        "bf16",
        "12 images look unlike",
        "Class 3 is 4 %",
        "13.4",
    ]
    assert [text for text in said if text not in page.text] == []
    anchors = "verdict candidates differences cost learning classes calibration images checks making"
    assert [attrs["id"] for tag, attrs in page.tags if tag == "section"] == anchors.split()


@pytest.mark.parametrize("name", ["page", "hostile"])
def test_the_page_stands_alone_and_is_accessible(name: str, request: pytest.FixtureRequest) -> None:
    page: Page = request.getfixturevalue(name)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    links = page.values("href")
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert all(re.fullmatch(r"#[a-z]+|runs/[\w-]+/model\.safetensors", link) for link in links)
    assert all(source.startswith("data:image/png;base64,") for source in page.values("src"))
    assert not re.search(r"url\(|@import|https?://", page.source)
    for tag, attrs in page.tags:
        assert tag != "img" or attrs["alt"]
        assert tag != "svg" or (attrs["role"] == "img" and attrs["aria-label"])
        assert attrs.get("class") != "scroll" or (attrs["tabindex"] == "0" and attrs["aria-label"])


def test_hostile_names_are_text_and_nothing_else(hostile: Page) -> None:
    assert not [key for _, attrs in hostile.tags for key in attrs if key.startswith("on")]
    tags = {tag for tag, _ in hostile.tags}
    assert not {"b", "i", "object", "iframe"} & {tag for tag, attrs in hostile.tags if not attrs and tag != "b"} - {"i"}
    assert "i" not in tags or all("style" in attrs for tag, attrs in hostile.tags if tag == "i")
    assert not re.search("[\x00-\x08\x7f-\x9f\u2028-\u202e\u2066-\u2069]", hostile.source)
    for name in (
        '<b>bold</b> & "quote"',
        "$x_1$ ⟨U+202E⟩gnp.exe⟨U+0000⟩",
        "{{ 7*7 }} ' onload=alert(1)",
        "<i>$a_3</i>",
    ):
        assert name in hostile.text
    assert "most confused pairs" in hostile.text  # 40 classes: no matrix


def test_the_only_script_is_the_one_the_policy_allows(hostile: Page) -> None:
    scripts = re.findall(r"<script>(.*?)</script>", hostile.source, re.DOTALL)
    allowed = [attrs["content"] or "" for _, attrs in hostile.tags if "http-equiv" in attrs]
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert len(scripts) == len(allowed) == 1
    assert f"script-src 'sha256-{digest}'" in allowed[0]
    assert "default-src 'none'" in allowed[0]


def test_the_same_study_gives_the_same_bytes_without_torch(study: StudyFolder, page: Page) -> None:
    code = (
        "import sys; from pathlib import Path; from bakeoff.store import StudyFolder; "
        "from bakeoff.report import write_report; print(write_report(StudyFolder(Path(sys.argv[1])))); "
        "print({'torch', 'torchvision', 'timm', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, study.path], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[1] == "set()"
    assert study.report.read_text("utf-8") == page.source


def test_absent_parts_are_left_out_and_said_so(tmp_path: Path) -> None:
    folder = make_study(tmp_path, Plan(images=60, seeds=2, failed=()))
    for file in (folder.data, folder.split, folder.audit, folder.execution, folder.study, folder.path / "planner.json"):
        file.unlink()
    for run in folder.runs():
        folder.run(run.id).history_file.unlink()
        folder.run(run.id).model.unlink()
    rewrite(folder, pairs=(), rows=tuple(replace(row, facts={}) for row in read_comparison(folder).rows))
    page = Page(write_report(folder))
    assert "no thumbnails" in page.text
    assert "No run has finished an epoch" in page.text
    assert "No finished run has both a score and a cost" in page.text
    assert "nothing to compare" in page.text
    assert "Trained model" not in page.text


def test_an_interval_is_drawn_as_far_as_is_possible(tmp_path: Path) -> None:
    folder = make_study(tmp_path, Plan(images=60, seeds=2, failed=()))
    pair = replace(read_comparison(folder).pairs[0], difference=-0.3, low=-1.4, high=0.12)
    rewrite(folder, pairs=(pair,))
    page = Page(write_report(folder))
    assert "[−100.0, +12.0]" in page.text
    assert "cut at ±100 points" in page.text
    assert "140" not in page.text.partition("Differences")[2].partition("Findable gap")[0]
    assert "The 95 % interval of the difference holds zero." in page.text


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = make_study(tmp_path, Plan(images=40, seeds=1, failed=()))
    damaged = folder.run(folder.runs()[0].id).path / "outcomes.npz"
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(DataError, match=r"outcomes\.npz: cannot be read"):
        write_report(folder)
    folder.audit.write_text("{", "utf-8")
    with pytest.raises(DataError, match=r"audit\.json: damaged"):
        write_report(folder)
    folder.comparison.write_text(json.dumps({"rows": 3}), "utf-8")
    with pytest.raises(DataError, match=r"comparison\.json: not a comparison"):
        write_report(folder)
    folder.comparison.unlink()
    with pytest.raises(DataError, match=r"comparison\.json: not found.*bakeoff run"):
        write_report(folder)
    assert not folder.report.exists()


@pytest.mark.parametrize(
    ("plan", "words", "absent"),
    [
        (
            Plan(level="L0", seeds=1, failed=()),
            ["may not survive retraining", "second ahead"],
            ["How sure", "A better"],
        ),
        (Plan(level="L2", seeds=2, folds=3, failed=()), ["repeated cross-validation", "Repeats, S", "6: about"], []),
        (Plan(names=("solo",), failed=()), ["nothing to compare"], ["Where candidates disagree", "How sure"]),
        (
            Plan(seeds=2, failed=(("mlp", 0), ("mlp", 1))),
            ["interval of the difference lies clear of zero", "C: mlp – –", "seed 1: the loss became nan"],
            ["Cmlp confusion"],
        ),
        (Plan(names=("a", "b"), seeds=1, failed=(("a", 0), ("b", 0))), ["no two candidates have"], ["Confusion"]),
    ],
    ids=["one seed", "cross-validation", "one candidate", "a candidate without runs", "nothing finished"],
)
def test_every_kind_of_study_is_worded(tmp_path: Path, plan: Plan, words: list[str], absent: list[str]) -> None:
    page = Page(write_report(make_study(tmp_path, replace(plan, images=120))))
    assert [word for word in words if word not in page.text] == []
    assert [word for word in absent if word in page.text] == []


def test_an_undeclared_difference_and_an_unknown_task_are_shown(tmp_path: Path) -> None:
    folder = make_study(tmp_path, Plan(images=60, seeds=1, failed=()))
    control = Control("resize policy", {"resnet": "squash", "cnn": "crop", "mlp": None}, "undeclared")
    rewrite(folder, task="counting", controls=(control,))
    page = Page(write_report(folder))
    assert "nothing is ranked" in page.text
    assert "resnet: squash" in page.text
    assert "calibration" not in page.values("id")  # sections of another task


def test_ten_candidates_stay_small(tmp_path: Path) -> None:
    names = tuple(f"candidate_{i}" for i in range(10))
    plan = Plan(names=names, skills=tuple(3.5 - 0.1 * i for i in range(10)), seeds=3, images=500, epochs=60, failed=())
    page = Page(write_report(make_study(tmp_path, plan)))
    assert len(page.source) < 1_500_000  # pictures are capped, so the number of images adds nothing
    assert page.values("class").count("gallery") == 2


def test_class_scores_are_those_of_the_pooled_outcomes(study: StudyFolder) -> None:
    found = material(study)
    runs = list(found.outcomes(found.candidates[2]))
    evidence = gather(found.candidates[2], runs)
    assert len(runs) == 4  # one of five failed
    truth = np.concatenate([run.columns["truth"] for run in runs])
    choice = np.concatenate([run.columns["scores"].argmax(axis=1) for run in runs])
    recall, precision = zip(*(row["scores"][0] for row in class_rows([evidence], runs[0].classes)), strict=True)
    assert recall == pytest.approx(recall_score(truth, choice, average=None))
    assert precision == pytest.approx(precision_score(truth, choice, average=None))
    worst = confused(evidence.table, runs[0].classes)[0]
    assert worst.images == max(np.sum((truth == i) & (choice == j)) for i in range(10) for j in range(10) if i != j)


def outcomes(ids: str, truth: list[int], scores: list[list[float]]) -> Outcomes:
    """Return outcomes of one run on three classes."""
    columns = {"truth": np.array(truth), "scores": np.array(scores, np.float32)}
    return Outcomes(tuple(ids), ("x", "y", "z"), columns)


@pytest.mark.parametrize(
    ("scores", "label", "probability"),
    [
        ([[0.6, 0.4, 0.0], [0.6, 0.4, 0.0], [0.0, 1.0, 0.0]], 0, 0.4),  # two votes beat the higher mean
        ([[0.6, 0.4, 0.0], [0.1, 0.9, 0.0]], 1, 0.65),  # one vote each: the more probable
        ([[0.2, 0.3, 0.5]], 2, 0.5),  # a single run
    ],
)
def test_the_majority_of_runs(scores: list[list[float]], label: int, probability: float) -> None:
    found = majority([outcomes("a", [1], [row]) for row in scores])
    assert (found.label[0], found.probability[0]) == (label, pytest.approx(probability))
    assert found.own[0] == pytest.approx(np.mean([row[1] for row in scores]))


def test_galleries_hold_the_images_that_they_say(study: StudyFolder) -> None:
    found = material(study)
    truth = [0, 0, 1, 2, 1]
    first = outcomes("abcde", truth, [[0.9, 0.1, 0], [0.5, 0.3, 0.2], [0.7, 0.3, 0], [0, 0.1, 0.9], [0.6, 0.4, 0]])
    other = outcomes("abcdf", truth, [[0.1, 0.9, 0], [0.3, 0.5, 0.2], [0.9, 0.1, 0], [0, 0.2, 0.8], [0.6, 0.4, 0]])
    votes = [(c, majority([run])) for c, run in zip(found.candidates, (first, other), strict=False)]
    disagree, mistakes = galleries(found, votes, ("x", "y", "z"))
    assert [picture.id for picture in disagree.pictures] == ["a", "b"]  # the widest gap first
    assert [picture.id for picture in mistakes.pictures] == ["c"]  # d is right, e and f were not seen by both
    assert [(g.label, g.right) for g in disagree.pictures[0].guesses] == [("x", True), ("y", False)]
    assert (disagree.found, mistakes.found, disagree.images) == (2, 1, 4)


def test_pictures_on_the_page_are_the_images_that_disagree(study: StudyFolder, page: Page) -> None:
    found = material(study)
    votes = [(c, majority(list(found.outcomes(c)))) for c in found.candidates]
    labels = np.stack([entry.label for _, entry in votes])
    assert galleries(found, votes, [""] * 10)[0].found == int((labels != labels[0]).any(axis=0).sum())
    cards = [attrs for tag, attrs in page.tags if tag == "li" and "data-wrong" in attrs]
    assert len(cards) >= DISAGREEMENTS
    assert all((card["data-wrong"] or "").split() for card in cards)
    pixels = found.pixels
    assert pixels is not None
    assert pixels.shape == (400, 32, 32, 3)


def test_a_cache_of_other_data_is_not_shown(tmp_path: Path) -> None:
    folder = make_study(tmp_path, Plan(images=40, seeds=1, failed=()))
    stamp = folder.cache / "pixels-32-squash.json"
    write_json(stamp, {**read_json(stamp), "fingerprint": "other"})
    assert "no thumbnails" in Page(write_report(folder)).text


def test_a_run_repeated_as_a_check_counts_once(tmp_path: Path) -> None:
    folder = make_study(tmp_path, Plan(images=40, seeds=2, failed=()))
    first = folder.runs()[0]
    again = replace(first, id=f"{first.id}-again")
    folder.run(again.id).write(again)
    folder.run(again.id).write_outcomes(folder.run(first.id).outcomes())
    folder.run("c0-s9").write(replace(first, id="c0-s9", seed=9, state="failed"))
    candidate = material(folder).by_name[first.candidate]
    assert [run.id for run in candidate.counted] == ["c0-s0-0000", "c0-s1-0000", "c0-s9"]
    assert len(list(material(folder).outcomes(candidate))) == 2
    assert again.id in Page(write_report(folder)).text  # but it is listed


def test_a_turned_chance_is_its_complement() -> None:
    assert turned(Estimate(0.25, 0.125, 0.5)) == Estimate(0.75, 0.5, 0.875)
    assert turned(Estimate(None)) == Estimate(None)


def test_the_fabricated_comparison_survives_the_disk(study: StudyFolder) -> None:
    plan, runs = Plan(), study.runs()
    made = comparison(plan, runs, {run.id: study.run(run.id).outcomes() for run in runs if run.state == "done"})
    assert read_comparison(study) == made
