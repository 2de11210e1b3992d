"""The image browser: every filter chooses what it says, for every task, page by page, with pictures."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from bakeoff.data.dataset import TaskName
from bakeoff.serve.choosing import SHOWS
from bakeoff.serve.served import Served
from bakeoff.store import StudyFolder
from bakeoff.tasks.semantic import METRICS

from .conftest import TASKS, Folders, Open


def listed(client: TestClient, **wanted: Any) -> list[dict[str, Any]]:
    """Return the images of all pages."""
    found: list[dict[str, Any]] = []
    for page in range(1, 100):
        answer = client.get("/api/images", params={**wanted, "page": page}).json()
        found += answer["images"]
        if page >= answer["pages"]:
            assert answer["found"] == len(found)
            return found
    raise AssertionError("pages have no end")


def names(images: list[dict[str, Any]]) -> set[str]:
    """Return the names of images."""
    return {image["name"] for image in images}


def votes(folder: StudyFolder) -> dict[str, dict[str, list[str]]]:
    """Return what each run of each candidate says of each image: image -> candidate -> classes."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for run in folder.planned():
        if run.state == "done":
            outcomes = folder.run(run.id).outcomes()
            for id, scores in zip(outcomes.ids, outcomes.columns["scores"], strict=True):
                found[id][run.candidate].append(outcomes.classes[int(scores.argmax())])
    return found


def truths(folder: StudyFolder) -> dict[str, str]:
    """Return the true class of every image."""
    every = [folder.run(run.id).outcomes() for run in folder.planned() if run.state == "done"]
    pairs = [(o.classes, id, truth) for o in every for id, truth in zip(o.ids, o.columns["truth"], strict=True)]
    return {id: classes[int(truth)] for classes, id, truth in pairs}


def most(labels: list[str]) -> set[str]:
    """Return the classes with most votes."""
    tally = Counter(labels).most_common()
    return {label for label, count in tally if count == tally[0][1]}


def test_filters_of_one_answer_choose_by_the_votes_of_the_runs(open_client: Open, folders: Folders) -> None:
    client, _ = open_client("classification")
    said, true = votes(folders("classification")), truths(folders("classification"))
    assert names(listed(client)) == set(true)
    for image in listed(client):
        for one in image["candidates"]:
            labels = said[image["name"]][one["candidate"]]
            assert one["label"] in most(labels)
            assert one["wrong"] == (one["label"] != true[image["name"]])
            assert one["spread"] == pytest.approx(np.mean([label != one["label"] for label in labels]), abs=1e-4)
    images = listed(client)
    answers = {image["name"]: {one["candidate"]: one for one in image["candidates"]} for image in images}
    expected = {
        "wrong": {name for name, own in answers.items() if any(one["wrong"] for one in own.values())},
        "all_wrong": {name for name, own in answers.items() if all(one["wrong"] for one in own.values())},
        "disagree": {name for name, own in answers.items() if len({one["label"] for one in own.values()}) > 1},
        "seeds": {name for name in answers if any(len(set(labels)) > 1 for labels in said[name].values())},
    }
    for show, wanted in expected.items():
        assert 0 < len(wanted) < len(answers), show
        assert names(listed(client, show=show)) == wanted, show
    alone = {name for name, own in answers.items() if own["net <b>"]["wrong"]}
    assert names(listed(client, show="wrong", candidate="net <b>")) == alone
    assert names(listed(client, truth=1)) == {name for name, label in true.items() if label == "bee"}
    both = listed(client, show="wrong", candidate="net <b>", truth=1)
    assert names(both) == alone & names(listed(client, truth=1))
    scores = [answers[image["name"]]["net <b>"]["score"] for image in listed(client, show="wrong", candidate="net <b>")]
    assert scores == sorted(scores)


def test_low_confidence_is_the_tenth_that_a_candidate_is_least_sure_of(open_client: Open) -> None:
    client, study = open_client("classification")
    for place, one in enumerate(study.tested.judged):
        sure = {image["name"]: image["candidates"][place]["confidence"] for image in listed(client)}
        found = [image["name"] for image in listed(client, show="unsure", candidate=one.candidate.name)]
        assert found == sorted(sure, key=lambda name: sure[name])[: len(found)]
        assert len(found) == pytest.approx(0.1 * len(sure), abs=1)


@pytest.mark.parametrize("task", TASKS[1:])
def test_filters_of_dense_tasks_choose_by_scores(task: TaskName, open_client: Open) -> None:
    client, study = open_client(task)
    images = listed(client)
    scores = np.array([[one["score"] for one in image["candidates"]] for image in images])
    spread = np.array([[one["spread"] for one in image["candidates"]] for image in images])
    all_names = np.array([image["name"] for image in images])
    worst = (scores <= np.quantile(scores, 0.25, axis=0)) & (scores < 1)
    assert names(listed(client, show="wrong")) == set(all_names[worst.any(axis=1)])
    assert names(listed(client, show="all_wrong")) == set(all_names[worst.all(axis=1)])
    gap = np.ptp(scores, axis=1)
    assert names(listed(client, show="disagree")) == set(all_names[(gap >= np.quantile(gap, 0.75)) & (gap > 0)])
    wavers = (spread >= np.quantile(spread, 0.75, axis=0)) & (spread > 0)
    assert names(listed(client, show="seeds")) == set(all_names[wavers.any(axis=1)])
    unsure = listed(client, show="unsure")
    if task == "semantic":  # the fabricated predictions have no probabilities
        assert not unsure
        assert any("Not known" in show["words"] for show in study.study["shows"])
    else:
        known = [[one["confidence"] for one in image["candidates"]] for image in unsure]
        assert known
        assert all(any(value is not None for value in values) for values in known)
    label = study.tested.classes[1]
    assert names(listed(client, truth=1)) == {image["name"] for image in images if label in image["truth"]}
    assert 0 < len(listed(client, truth=1)) < len(images)


def test_the_score_of_a_label_map_is_its_mean_iou_over_the_runs(open_client: Open, folders: Folders) -> None:
    client, _ = open_client("semantic")
    folder, found = folders("semantic"), defaultdict(list)
    per_image = METRICS["image_miou"].per_image
    assert per_image is not None
    for run in folder.planned():
        outcomes = folder.run(run.id).outcomes()
        for id, value in zip(outcomes.ids, per_image(outcomes), strict=True):
            found[run.candidate, id].append(float(value))
    for image in listed(client):
        for one in image["candidates"]:
            assert one["score"] == pytest.approx(np.mean(found[one["candidate"], image["name"]]), abs=1e-5)
            assert one["spread"] == pytest.approx(np.ptp(found[one["candidate"], image["name"]]), abs=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_every_filter_says_what_it_means(task: TaskName, open_client: Open) -> None:
    client, _ = open_client(task)
    study = client.get("/api/study").json()
    assert [show["name"] for show in study["shows"]] == list(SHOWS)
    assert all(show["words"] and show["title"] for show in study["shows"])
    assert study["dense"] == (task != "classification")
    assert len(study["candidates"]) == len({one["letter"] for one in study["candidates"]})


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"show": "wrogn"}, "did you mean wrong"),  # a filter that there is not
        ({"candidate": "cnm"}, "did you mean cnn"),  # a candidate
        ({"truth": 3}, "no class 3"),  # a class
    ],
)
def test_what_there_is_not_is_told_with_the_nearest(wanted: dict[str, Any], words: str, open_client: Open) -> None:
    answer = open_client("classification")[0].get("/api/images", params=wanted)
    assert answer.status_code == 404
    assert words in answer.json()["error"]


def test_pages_are_full_until_the_last_and_empty_beyond(open_client: Open) -> None:
    client, study = open_client("classification")
    first, last, beyond = (client.get("/api/images", params={"page": page}).json() for page in (1, 3, 4))
    assert (len(first["images"]), len(last["images"]), beyond["images"]) == (24, 60 - 48, [])
    assert [image["image"] for image in first["images"]] == list(range(24))
    assert client.get("/api/images/59").json()["name"] == study.tested.ids[59]


def fetched(client: TestClient, image: int, of: str) -> np.ndarray:
    """Return a picture as pixels."""
    answer = client.get(f"/api/images/{image}/picture", params={"of": of})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/webp"
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"))


@pytest.mark.parametrize("task", TASKS)
def test_pictures_show_image_truth_and_predictions(task: TaskName, open_client: Open) -> None:
    client, study = open_client(task)
    image = next(row for row in range(len(study.tested)) if study.tested.truth[row].any())
    plain = fetched(client, image, "image")
    if task == "classification":
        assert client.get(f"/api/images/{image}/picture", params={"of": "truth"}).status_code == 404
        return
    others = [fetched(client, image, of) for of in ("truth", "0", "1")]
    assert all(other.shape == plain.shape for other in others)
    assert all(np.abs(other.astype(int) - plain).max() > 40 for other in others)
    assert client.get(f"/api/images/{image}/picture", params={"of": "2"}).status_code == 404
    assert client.get(f"/api/images/{len(study.tested)}/picture").status_code == 404


def test_under_cross_validation_a_run_answers_that_was_not_trained_on_the_image(open_client: Open) -> None:
    study: Served = open_client("classification")[1]
    runs = set()
    for row, id in enumerate(study.tested.ids):
        run = study.judge("cnn", row)
        assert id in study.material.folder.run(run).outcomes().ids
        runs.add(run)
    assert study.models.best["cnn"] in runs
    assert len(runs) == 2
