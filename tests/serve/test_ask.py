"""Asking the candidates: the answers of `bakeoff predict`, what is refused and why, and a queue that does not grow."""

from __future__ import annotations

import asyncio
import base64
import csv
import io
import json
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bakeoff.data.dataset import TaskName
from bakeoff.data.masks import palette
from bakeoff.data.targets import LabelMap
from bakeoff.predict import write_jsonl
from bakeoff.serve.worker import Busy, Worker
from bakeoff.verbs_predict import predict

from .conftest import TASKS, Folders, Open

PNG = {"Content-Type": "image/png"}


def near(found: Any, expected: Any) -> bool:
    """Compare JSON, numbers to 1e-6."""
    if isinstance(expected, dict):
        return set(found) == set(expected) and all(near(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(near, found, expected))
    return bool(found == pytest.approx(expected, abs=1e-6)) if isinstance(expected, float) else bool(found == expected)


@pytest.mark.parametrize("task", TASKS)
def test_answers_are_those_of_predict(
    task: TaskName, open_client: Open, folders: Folders, photo: bytes, tmp_path: Path
) -> None:
    client, study = open_client(task)
    (tmp_path / "photo.png").write_bytes(photo)
    path, least = folders(task).path, 0.3
    (found,) = predict(path, [tmp_path / "photo.png"], threshold=least)
    stream = io.StringIO()
    write_jsonl([found], stream, study.tested.classes, task)
    expected = json.loads(stream.getvalue())
    asked: dict[str, str | float] = {"threshold": least, "name": "photo.png"}
    answer = client.post("/predict", params=asked, content=photo, headers=PNG).json()
    own = {key: answer.pop(key) for key in ("candidate", "run", "task")}
    assert own["candidate"] == study.material.comparison.rows[0].candidate
    assert own["run"] == study.models.best[own["candidate"]]
    shared = {key: value for key, value in expected.items() if key not in ("mask", "overlay", "error")}
    assert near(answer, {**shared, "path": "photo.png"})
    assert expected.get("objects", [1]), "nothing is compared"
    form = client.post("/predict", params=asked, files={"image": ("photo.png", photo, "image/png")})
    assert near(form.json(), {**own, **answer})
    table = client.post("/predict", params={**asked, "format": "csv"}, content=photo)
    rows = list(csv.reader(io.StringIO(table.text)))
    assert rows[0][0] == "path"
    assert rows[1][0] == "photo.png"
    drawn = client.post("/predict", params={**asked, "format": "overlay"}, content=photo, headers=PNG)
    assert Image.open(io.BytesIO(drawn.content)).size == (270, 210)  # three times as large as it was sent
    mask = client.post("/predict", params={**asked, "format": "mask"}, content=photo, headers=PNG)
    if isinstance(found.target, LabelMap):
        assert np.array_equal(
            np.asarray(Image.open(io.BytesIO(mask.content))), np.asarray(palette(found.target.pixels))
        )
    else:
        assert mask.status_code == 404


@pytest.mark.parametrize("task", TASKS)
def test_the_page_gets_a_prediction_drawn_and_explained(task: TaskName, open_client: Open, photo: bytes) -> None:
    client, study = open_client(task)
    names = [one.candidate.name for one in study.tested.judged]
    least = {"threshold": "0.2"}
    answers = [client.post("/api/try", params={"candidate": n, **least}, content=photo).json() for n in names[:2]]
    assert [answer["candidate"] for answer in answers] == names[:2]
    assert answers[0]["picture"] != answers[1]["picture"]
    for answer in answers:
        picture = Image.open(io.BytesIO(base64.b64decode(answer["picture"].partition(",")[2])))
        assert picture.size == (270, 210)
        tiles = answer["explanation"]["tiles"]
        assert [tile["title"] for tile in tiles][1:] == [
            "LayerCAM" if task in ("detection", "instance") else "Grad-CAM"
        ]
        assert "correlation with random weights" in tiles[1]["words"] or "says nothing" in tiles[1]["words"]
        assert answer["csv"].startswith("path,")
    without = client.post("/api/try", params={"explain": False}, content=photo).json()
    assert without["explanation"] is None
    wanted = study.tested.classes[-1]
    chosen = client.post("/api/try", params={"class": wanted}, content=photo).json()["explanation"]
    assert wanted in (chosen["tiles"][0]["title"] if chosen["tiles"] else chosen["error"])
    assert client.post("/api/try", params={"class": "unicorn"}, content=photo).status_code == 404


def test_a_test_image_is_tried_by_its_number(open_client: Open, folders: Folders) -> None:
    client, study = open_client("detection")
    answer = client.post("/api/images/3/try", params={"candidate": "small", "threshold": 0.2}).json()
    record = next(r for r in study.material.data["records"] if r["id"] == study.tested.ids[3])
    file = Path(study.material.data["source"]) / record["image"]
    run = folders("detection").run(study.models.best["small"]).path
    (found,) = predict(run, [file], threshold=0.2)
    assert len(answer["objects"]) == len(found.target)  # type: ignore[arg-type]
    assert answer["path"] == study.tested.ids[3]
    assert client.post("/api/images/999/try").status_code == 404
    assert open_client("classification")[0].post("/api/images/0/try").status_code == 503  # its images are not there


def bomb(side: int) -> bytes:
    """Return a small PNG that promises many pixels."""

    def part(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    head = side.to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(b"\0" * 10**6)) + part(b"IEND", b"")


def jpeg() -> bytes:
    """Return a whole JPEG."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("status", "words", "content", "headers"),
    [
        (422, "truncated", jpeg()[:4000], PNG),  # a torn file
        (422, "none of the formats", b"hello, this is no picture", PNG),  # a text that says it is a picture
        (422, "no picture", b"", PNG),  # nothing
        (422, "900000000 pixels", bomb(30_000), PNG),  # more than Pillow would ever be given
        (413, "45,000,000", bomb(7_000), PNG),  # more than a server should decode
        (413, "20,000,000 bytes", b"\xff" * 21_000_000, PNG),  # too many bytes
        (415, "text/html", b"<p>", {"Content-Type": "text/html"}),  # another kind of body
        (415, "json", b'{"url": "http://127.0.0.1/"}', {"Content-Type": "application/json"}),  # nothing is fetched
        (422, "no file", b"--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}),  # a form without a file
        (400, "boundary", b"--x", {"Content-Type": "multipart/form-data"}),  # a form that is none
        (
            422,
            "none of the formats",
            b"\x1f\x8b\x08" + zlib.compress(b"\0\0\x08\x03"),
            PNG,
        ),  # an idx file is no picture
    ],
)
def test_what_is_no_picture_is_refused_in_words(
    status: int, words: str, content: bytes, headers: dict[str, str], open_client: Open
) -> None:
    client, _ = open_client("classification")
    for address in ("/predict", "/api/try"):
        answer = client.post(address, content=content, headers=headers)
        assert answer.status_code == status, answer.text
        assert words in answer.json()["error"], answer.text
        assert "/" not in answer.json()["error"].replace("image/*", "").replace("octet-stream", "").replace(
            "multipart/form-data", ""
        ).replace("text/html", "").replace("application/", "")


def test_bytes_are_counted_while_they_come(open_client: Open) -> None:
    client, study = open_client("classification", bytes=50_000)

    def pieces() -> Iterator[bytes]:  # sent in chunks, so that no header says how many
        for _ in range(100):
            yield b"\xff" * 1000

    assert client.post("/predict", content=pieces(), headers=PNG).status_code == 413
    form = client.post("/predict", files={"image": ("a.png", b"\xff" * 60_000, "image/png")})
    assert form.status_code == 413
    assert study.worker.taken == 0


@contextmanager
def busy(worker: Worker, jobs: int) -> Iterator[threading.Event]:
    """Let the networks' thread work until the event is set, with more jobs behind it."""
    release = threading.Event()

    async def fill() -> None:
        for _ in range(jobs):
            with worker.place() as place:
                place.used = True
                worker.submit(release.wait)

    asyncio.run(fill())
    try:
        yield release
    finally:
        release.set()


def test_a_full_queue_answers_429_and_takes_requests_again(open_client: Open, photo: bytes) -> None:
    client, study = open_client("classification", waiting=2)
    assert client.post("/predict", content=photo).status_code == 200
    with busy(study.worker, 3):
        answer = client.post("/predict", content=photo)
        assert answer.status_code == 429
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert "waiting" in answer.json()["error"]
        assert "bakeoff_queue_length 2" in client.get("/metrics").text
        with pytest.raises(Busy), study.worker.place():
            pass
    for _ in range(100):
        if (answer := client.post("/predict", content=photo)).status_code == 200:
            break
        threading.Event().wait(0.05)
    assert answer.status_code == 200
    assert study.worker.taken == 0


def test_who_waits_too_long_is_told_and_leaves_the_queue(open_client: Open, photo: bytes) -> None:
    client, study = open_client("classification", answer=0.05)
    with busy(study.worker, 1):
        answer = client.post("/predict", content=photo)
        assert answer.status_code == 503
        assert "0.05 seconds" in answer.json()["error"]
        assert study.worker.taken == 1  # the job that was not begun is given up


def test_only_so_many_models_stay_in_memory(open_client: Open, photo: bytes) -> None:
    client, study = open_client("classification", models=2)
    names = list(study.models.best)
    for name in (*names, names[1]):
        assert client.post("/predict", params={"candidate": name}, content=photo).json()["candidate"] == name
    assert sorted(study.models.loaded.values()) == sorted([names[1], names[2]])
    answer = client.post("/predict", params={"candidate": "cnm"}, content=photo)
    assert (answer.status_code, "did you mean cnn" in answer.json()["error"]) == (404, True)


def test_a_damaged_model_is_told_without_the_folder(open_client: Open, folders: Folders, photo: bytes) -> None:
    client, study = open_client("semantic")
    file = folders("semantic").run(study.models.best["small"]).model
    whole = file.read_bytes()
    try:
        file.write_bytes(whole[:-1])
        answer = client.post("/predict", params={"candidate": "small"}, content=photo)
    finally:
        file.write_bytes(whole)
    assert answer.status_code == 503
    assert answer.json()["error"].startswith("model.safetensors: damaged")


def test_metrics_count_what_was_answered(open_client: Open, photo: bytes) -> None:
    client, study = open_client("classification")
    client.post("/predict", content=photo)
    client.post("/predict", content=b"no")
    client.request("BREW", "/health")
    text = client.get("/metrics").text
    assert 'bakeoff_requests_total{method="POST",route="/predict",status="200"} 1\n' in text
    assert 'bakeoff_requests_total{method="POST",route="/predict",status="422"} 1\n' in text
    assert 'method="other"' in text
    assert 'bakeoff_request_seconds_count{route="/predict"} 2\n' in text
    assert 'bakeoff_request_seconds_bucket{route="/predict",le="+Inf"} 2\n' in text
    best = next(iter(study.models.best))
    assert f'bakeoff_model_loaded{{candidate="{best}",run="{study.models.best[best]}"}} 1\n' in text
    assert client.get("/health").json() == {"status": "ok"}
