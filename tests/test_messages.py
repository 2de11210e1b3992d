"""What a first-time user meets: odd requests get a sentence that says what to do instead."""

from __future__ import annotations

import os
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from bakeoff.contest import planner_sentence
from bakeoff.data import formats
from bakeoff.data.dataset import Dataset
from bakeoff.data.decode import decode
from bakeoff.data.expand import Expansion
from bakeoff.data.sheet import show_sheet
from bakeoff.errors import BakeoffError, DataError, UnreadableImage, UsageError
from bakeoff.evaluate.planner import Design
from bakeoff.models import TASK_NAMES, build, small
from bakeoff.models.catalogue import catalogue
from bakeoff.models.spec import ModelSpec
from bakeoff.predict import Output
from bakeoff.prepare import prepare
from bakeoff.progress import Progress
from bakeoff.settings import set_value
from bakeoff.store import StudyFolder
from bakeoff.study import Study, make_study
from bakeoff.tasks import semantic
from bakeoff.verbs import find_study, init, run
from bakeoff.verbs_data import convert, expand
from bakeoff.verbs_winner import score


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder with two noisy pictures of each of two classes."""
    draws = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(2):
            pixels = draws.integers(0, 255, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def read(folder: Path) -> Dataset:
    """Read class folders."""
    return formats.read(folder, "folder")


def no_pictures(photos: Path) -> object:
    """Ask for a sheet without pictures."""
    return show_sheet(read(photos), per_class=0)


def table_among_files(photos: Path) -> object:
    """Ask for a table in a folder that holds other things."""
    formats.write(read(photos), photos.parent / "labels.csv", "table")
    return None


def mistyped_weights(photos: Path) -> object:
    """Mistype 'pretrained'."""
    return build(ModelSpec(arch="small:cnn", weights="pretraind"), 2, 16)


def function_without_size(photos: Path) -> object:
    """Name a function that does not take what it is given."""
    (photos / "net.py").write_text("def net(classes):\n    return None\n")
    return build(ModelSpec(arch=f"python:{photos / 'net.py'}:net", weights="none"), 2, 16)


ODD: list[tuple[Callable[[Path], object], type[BakeoffError], str]] = [
    (no_pictures, UsageError, "at least 1 picture"),  # nothing to see
    (table_among_files, UsageError, r"name a new folder, .*labels"),  # not "the folder . is not empty"
    (mistyped_weights, DataError, "did you mean pretrained"),  # taken for a file
    (function_without_size, UsageError, r"called as net\(classes=..., size=...\)"),  # a wrong signature
]


@pytest.mark.parametrize(("ask", "error", "words"), ODD)
def test_odd_requests_say_what_to_do(
    photos: Path, ask: Callable[[Path], object], error: type[BakeoffError], words: str
) -> None:
    with pytest.raises(error, match=words):
        ask(photos)


def test_a_damaged_image_is_named_where_it_lies_not_where_it_would_go(photos: Path, tmp_path: Path) -> None:
    (photos / "dog" / "1.png").write_bytes(b"no image")
    with pytest.raises(UnreadableImage) as caught:
        formats.write(read(photos), tmp_path / "voc", "voc")
    assert caught.value.path == photos / "dog" / "1.png"
    assert not (tmp_path / "voc").exists()


def test_links_that_lead_nowhere_are_named_as_images(photos: Path) -> None:
    os.symlink("itself.png", photos / "cat" / "itself.png")
    os.symlink("gone.png", photos / "cat" / "dead.png")
    dataset = read(photos)
    assert {"cat/itself.png", "cat/dead.png"} <= set(dataset.index)
    for name in ("itself.png", "dead.png"):
        with pytest.raises(UnreadableImage, match=name):
            decode(photos / "cat" / name)


def test_a_list_can_be_asked_for_by_its_source() -> None:
    names = {name for task in TASK_NAMES for name in small.names(task)}
    assert {(entry.family, entry.name) for entry in catalogue("small:")} == {("small", name) for name in names}
    assert {"cnn", "mlp"} <= {entry.name for entry in catalogue("small") if entry.family == "small"}


def test_a_stage_that_is_not_there_is_not_made_up_from_half_its_fields() -> None:
    content: dict[str, Any] = {"recipe": {"epochs": 3}}
    with pytest.raises(UsageError, match=r"recipe.stages=\[\{ rate"):
        set_value(content, "recipe.stages.0.rate", 0.1)
    content["recipe"]["stages"] = [{"rate": 1.0}]
    set_value(content, "recipe.stages.0.rate", 0.1)
    assert content["recipe"]["stages"] == [{"rate": 0.1}]


def refusal(content: dict[str, Any]) -> list[str]:
    """Return the lines that say why a study is refused."""
    with pytest.raises(UsageError) as caught:
        make_study({"data": {"path": "."}, "candidates": ["small:cnn", "small:mlp"], **content})
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"epoch": 3}, "recipe.epoch (did you mean epochs?)"),  # unknown
        ({"epochs": -3}, "recipe.epochs: Input should be greater than or equal to 1, got -3"),  # out of range
        ({"early_stop": 3}, 'recipe: early_stop needs checkpoint = "best"'),  # at odds with itself
    ],
)
def test_what_is_wrong_with_the_shared_recipe_is_said_once(recipe: dict[str, Any], words: str) -> None:
    (line,) = refusal({"recipe": recipe})
    assert words in line
    assert "candidates" not in line


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            {"tune": {"space": {"rate": {"lo": 1, "high": 2}}}},
            "unknown key tune.space.rate.lo (did you mean low?)",
        ),  # typo
        (
            {"tune": {"space": {"rate": {"low": 3, "high": 2}}}},
            "tune.space.rate: low (3) must be below high (2)",
        ),  # turned
        ({"tune": {"space": {"rate": 3}}}, "tune.space.rate: expected a list, [ … ], got 3"),  # neither range nor list
        ({"looks": 3}, "looks: expected a list, [ … ], got 3"),  # one number
        ({"recipe": {"derived": "cutmix"}}, "recipe.derived: expected a list, [ … ], got 'cutmix'"),  # one name
        ({"recipe": {"stages": [{"until": {"gab": 1}}]}}, "recipe.stages.0.until.gab (did you mean gap?)"),  # typo
        ({"recipe": {"stages": [{"until": "gap"}]}}, "recipe.stages.0.until: expected a table, { key = value, … }"),
        ({"tune": {"trials": 3}, "candidates": [{"model": "small:cnn", "tune": False}]}, "leave one out"),  # none tuned
    ],
)
def test_a_study_is_refused_in_words_of_its_own(content: dict[str, Any], line: str) -> None:
    assert any(line in said for said in refusal(content))
    assert not any("function-" in said or "tuple" in said or "GapRule" in said for said in refusal(content))


def test_a_new_folder_lies_outside_of_the_data(photos: Path) -> None:
    for write in (
        lambda: expand(photos, photos / "more", Expansion(cutmix=1)),
        lambda: convert(photos, photos / "x", "table"),
    ):
        with pytest.raises(UsageError, match="lies in the folder of the data"):
            write()
    assert sorted(path.name for path in photos.iterdir()) == ["cat", "dog"]


def test_a_missing_file_is_missed_as_what_it_was_meant_for(photos: Path) -> None:
    with pytest.raises(UsageError, match=r"labels\.csv: no such file; expected \.csv"):
        score(photos / "labels.csv", photos)
    with pytest.raises(UsageError, match=r"net\.onnx: no such file"):
        expand(photos, photos.parent / "more", Expansion(background=1, model=photos / "net.onnx"))


def test_a_licence_that_nothing_has_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'permisive' \(did you mean permissive\?\)"):
        catalogue("small:", licence="permisive")
    assert {entry.family for entry in catalogue("small:cnn", licence="none")} == {"small"}


def test_what_is_wrong_with_one_candidate_is_still_said() -> None:
    one = {"name": "one", "model": "small:cnn", "recipe": {"batch": 0}}
    assert len(refusal({"recipe": {"epochs": -3}, "candidates": [one, "small:mlp"]})) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"name": "x"}, "unknown key name (name stands in [[candidates]])"),  # in one section
        ({"recipe": {"size": 3}}, "recipe.size (size stands at the top or in a candidate's model)"),  # in two
    ],
)
def test_a_known_key_in_the_wrong_place_is_told_its_own(content: dict[str, Any], words: str) -> None:
    (line,) = refusal(content)
    assert words in line


def test_one_of_a_thing_is_not_spoken_of_in_the_plural() -> None:
    assert planner_sentence(Design(12, 1), 1.0).startswith("1 seed and 12 independent test images are too few")


def test_the_planner_says_what_it_was_planned_for() -> None:
    design, metrics = Design(200, 5), semantic.METRICS
    assert "accuracy" not in planner_sentence(design, 1.0)
    assert "near 85 %; for mean IoU a rough guide). Smaller" in planner_sentence(design, 1.0, metrics["miou"])
    assert "consider" not in planner_sentence(design, 1.0, metrics["log_loss"])  # whose eps is not in points


def test_an_unknown_model_leaves_no_study_behind(photos: Path, tmp_path: Path) -> None:
    for verb in (run, init):
        with pytest.raises(UsageError, match="did you mean mlp"):
            verb(photos, tmp_path / "study", models=["small:mpl"])
    assert not (tmp_path / "study").exists()


def test_one_model_may_be_named_without_a_list(photos: Path) -> None:
    study, _ = find_study(photos, None, "small:cnn", {})
    assert [candidate.name for candidate in study.candidates] == ["cnn"]


def test_predictions_are_not_written_under_a_name_that_says_something_else(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.csv, \.jsonl or \.json"):
        Output(tmp_path / "labels.xlsx").chosen("classification")


def test_the_audit_speaks_before_anything_trains(photos: Path, tmp_path: Path) -> None:
    for number in range(8):
        (photos / "dog" / f"copy{number}.png").write_bytes((photos / "dog" / "0.png").read_bytes())
        Image.effect_noise((20, 20), 50 + number).convert("RGB").save(photos / "cat" / f"more{number}.png")
    heard: list[dict[str, Any]] = []
    spec = Study.model_validate({"data": {"path": str(photos)}, "candidates": ["small:cnn"], "split": {"folds": 2}})
    prepare(spec, StudyFolder(tmp_path / "study"), lambda _run, fact: heard.append(fact))
    assert "duplicate" in [fact["code"] for fact in heard if fact["kind"] == "finding"]
    stream = StringIO()
    with Progress(mode="lines", console=Console(file=stream)) as progress:
        for fact in heard:
            progress.tell("", fact)
    assert "warning: equal pixels" in stream.getvalue()
