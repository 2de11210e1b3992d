"""Videos, cameras and lists of paths: which frames, at what time, drawn as a new video, and damage told."""

from __future__ import annotations

import io
import json
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from bakeoff import verbs_predict
from bakeoff.cli import main
from bakeoff.data.dataset import TaskName
from bakeoff.errors import Refused, ResourceError, UsageError
from bakeoff.predict import Folders, Options, Output
from bakeoff.predict.prediction import counted, label
from bakeoff.predict.sources import find_sources, total
from bakeoff.predict.video import Clip, Film

from .simple import Light

FRAMES, RATE = 20, 10.0


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Return a video of 2 s in which a light square of 16 pixels moves right by 2 pixels a frame."""
    with Film() as film:
        for number in range(FRAMES):
            image = np.zeros((48, 64, 3), np.uint8)
            image[16:32, 2 * number : 2 * number + 16] = 255
            film.add(tmp_path / "clip.mp4", image, RATE)
    return tmp_path / "clip.mp4"


@pytest.fixture
def cut_short(tmp_path: Path) -> Path:
    """Return a video of which the second half is missing."""
    whole = tmp_path / "whole.avi"
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter.fourcc(*"MJPG"), RATE, (64, 48))
    for number in range(FRAMES):
        writer.write(np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8))
    writer.release()
    (tmp_path / "short.avi").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    return tmp_path / "short.avi"


@pytest.fixture(params=["detection"])
def light(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Light:
    """Let every model be one that finds what is light."""
    task: TaskName = request.param
    predictor = Light(task)
    monkeypatch.setattr(verbs_predict, "find_labeller", lambda *_: verbs_predict.Labeller(predictor))
    return predictor


PARTS = [
    (Clip("", 1, None), list(range(20))),  # all of it
    (Clip("", 6, None), [0, 6, 12, 18]),  # every sixth frame
    (Clip("", 1, 0.5), [0, 1, 2, 3, 4]),  # half a second
    (Clip("", 4, 1.0), [0, 4, 8]),  # both
]


@pytest.mark.parametrize(("part", "frames"), PARTS, ids=["all", "every", "seconds", "both"])
def test_the_frames_that_are_wanted_come_in_order_with_their_times(clip: Path, part: Clip, frames: list[int]) -> None:
    wanted = Clip(str(clip), part.every, part.seconds)
    moments = list(wanted.moments())
    assert [moment.frame for moment in moments] == frames
    np.testing.assert_allclose([moment.seconds for moment in moments], np.array(frames) / RATE, atol=1e-3)
    assert moments[0].rate == pytest.approx(RATE / part.every)
    assert wanted.count() == len(frames)
    assert moments[-1].name == f"{clip}#{frames[-1]:06d}"


def test_objects_are_followed_through_a_video(clip: Path) -> None:
    found = list(label(Light("detection"), [Clip(str(clip))]))
    lefts = [one.target.xyxy[0, 0] for one in found]  # type: ignore[union-attr]
    np.testing.assert_allclose(lefts, 2 * np.arange(FRAMES), atol=2)


def test_overlays_of_a_video_are_a_video_and_never_overwritten(clip: Path, light: Light, tmp_path: Path) -> None:
    still = tmp_path / "still.png"
    Image.fromarray(next(Clip(str(clip)).moments()).image).save(still)
    output = Output(tmp_path / "found.csv", folders=Folders(overlays=tmp_path / "seen"))
    given = (Path("model"), [str(clip), str(still)], output, (None, "cpu", 0.5), None, Options(every=2))
    assert verbs_predict.write_predictions(*given) == 0
    drawn = list(Clip(str(tmp_path / "seen/clip.mp4")).moments())
    assert (len(drawn), drawn[0].rate) == (FRAMES / 2, RATE / 2)
    assert np.ptp(drawn[3].image[24].astype(int), axis=1).max() > 30  # a box in colour over grey pixels
    assert (tmp_path / "seen/still.jpg").exists()
    header, first, *rest = (tmp_path / "found.csv").read_text().splitlines()
    assert header == "path,label,score,x1,y1,x2,y2,error,overlay,frame,seconds"
    assert first.endswith(f"{tmp_path / 'seen/clip.mp4'},0,0")
    assert rest[-1].endswith("still.jpg,,")
    with pytest.raises(Refused, match=r"2 files that would be written are there already \(still.jpg, clip.mp4\)"):
        verbs_predict.write_predictions(*given)


@pytest.mark.parametrize("light", ["semantic"], indirect=True)
def test_masks_of_a_video_are_a_folder(clip: Path, light: Light, tmp_path: Path) -> None:
    output = Output(tmp_path / "found.jsonl", folders=Folders(tmp_path / "masks"))
    assert light.task == "semantic"
    options = Options(every=10)
    assert verbs_predict.write_predictions(Path("m"), [str(clip)], output, (None, "cpu", 0.5), None, options) == 0
    names = sorted(file.name for file in (tmp_path / "masks/clip").iterdir())
    assert names == ["000000.png", "000010.png"]
    lines = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert [(line["frame"], line["seconds"]) for line in lines] == [(0, 0.0), (10, 1.0)]


def test_damaged_videos_are_told_and_what_could_be_read_is_kept(
    clip: Path, cut_short: Path, light: Light, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(clip.read_bytes()[:500])
    files = [str(broken), str(cut_short), str(clip)]
    with pytest.raises(SystemExit) as end:
        main(["predict", "model", *files, "--json", "--quiet"])
    out, err = capfd.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    failed = [line for line in lines if line["error"]]
    assert end.value.code == 3
    assert [line["path"] for line in failed] == [str(broken), str(cut_short)]
    assert "of 20 frames: damaged, or cut short" in failed[1]["error"]
    assert 0 < sum(line["path"].startswith(f"{cut_short}#") for line in lines) < FRAMES
    assert sum(line["path"].startswith(f"{clip}#") for line in lines) == FRAMES
    assert err == "2 files could not be read; the output says why\n"  # and no word from OpenCV
    assert light.asked > FRAMES


def test_a_camera_is_looked_through_until_ctrl_c(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: real(str(clip)) if number == 3 else None)
    before = signal.getsignal(signal.SIGINT)
    seen = []
    for moment in Clip("camera:3").moments():
        seen.append(moment.seconds)
        if len(seen) == 4:
            os.kill(os.getpid(), signal.SIGINT)
    assert seen == pytest.approx([0, 0.1, 0.2, 0.3])
    assert signal.getsignal(signal.SIGINT) is before
    assert len(list(Clip("camera:3", seconds=0.55).moments())) == 6


def test_a_camera_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ResourceError, match="camera 97 cannot be opened"):
        list(Clip("camera:97").moments())


def test_lists_name_images_and_videos_and_may_be_wrong(clip: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "white").save(tmp_path / "a.png")
    listing = io.StringIO(f"{tmp_path / 'a.png'}\n\n{clip}\n{tmp_path / 'gone.png'}\r\n")
    sources = find_sources(["-", str(tmp_path / "a.png")], every=5, listing=listing)
    assert total(sources) == 2 + 4
    found = list(label(Light("classification"), sources))
    assert [one.error is None for one in found] == [True] * 5 + [False]
    assert "No such file" in str(found[-1].error)


def test_the_total_is_not_told_where_it_is_not_known(clip: Path) -> None:
    assert total([Clip("camera:0"), Path("a.png")]) == 0
    told: list[tuple[int, int]] = []
    list(counted(label(Light("classification"), [Clip(str(clip), 10)]), 0, lambda *both: told.append(both)))
    assert told == [(1, 0), (2, 0)]


WRONG = [
    ({"every": 0}, "every must be at least 1"),  # no frame at all
    ({"seconds": 0.0}, "seconds must be above 0"),  # nor in no time
    ({"name": "camera:front"}, "a camera has a number"),  # a name
]


@pytest.mark.parametrize(("given", "message"), WRONG, ids=["every", "seconds", "name"])
def test_impossible_parts_of_a_video_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Clip(**{"name": "a.mp4", **given})  # type: ignore[arg-type]
