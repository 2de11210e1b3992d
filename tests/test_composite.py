"""bakeoff composite: what is cut out, what it is set before and where, pictures and videos in and out."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import bakeoff
from bakeoff.cli import main
from bakeoff.composite import Matting, Options, Placement, subject
from bakeoff.data.dataset import TaskName
from bakeoff.data.decode import Resize
from bakeoff.data.masks import to_runs
from bakeoff.data.targets import Instances, Label, LabelMap, Target
from bakeoff.errors import DataError, Refused, UsageError
from bakeoff.models import build, trained
from bakeoff.models.spec import ModelSpec
from bakeoff.models.trained import Trained
from bakeoff.predict.video import Clip, Film

Pixels = NDArray[np.uint8]
RED, GREEN, NIGHT = (230, 40, 30), (30, 200, 60), (10, 10, 40)
EXACT = Options(matting=Matting("none"), spill=True)


@dataclass
class Colours:
    """Tells red and green things from the night around them, without a network."""

    task: TaskName = "semantic"
    resize: Resize = "squash"
    classes: tuple[str, ...] = ("background", "apple", "leaf")
    size: int = 64
    batch: int = 1

    def __call__(self, pixels: Pixels) -> Sequence[Target]:
        return [self._one(image) for image in pixels]

    def _one(self, image: Pixels) -> Target:
        red, green = image[..., 0] > 128, image[..., 1] > 128
        if self.task == "classification":
            return Label(0, (1.0, 0.0, 0.0))
        if self.task == "semantic":
            labels = np.where(red, 1, np.where(green, 2, 0)).astype(np.uint8)
            return LabelMap(labels, np.stack([labels == index for index in range(3)]).astype(np.float32))
        frame, masks = (self.size, self.size), (red, green, red | green)
        found = tuple(to_runs(mask, frame) for mask in masks)
        return Instances(frame, np.zeros((3, 4)), np.array([1, 2, 1]), np.array([0.9, 0.8, 0.2]), masks=found)


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Colours:
    """Let the path "model" be one that tells colours apart."""
    predictor = Colours()
    monkeypatch.setattr(subject, "open_predictor", lambda *_: predictor)
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    return predictor


def paint(path: Path, x: int = 60, colour: tuple[int, int, int] = RED, size: tuple[int, int] = (160, 96)) -> Pixels:
    """Write and return a disc of 24 pixels around (x, 60) at night."""
    image = np.empty((size[1], size[0], 3), np.uint8)
    image[:] = NIGHT
    image += np.random.default_rng(0).integers(0, 20, image.shape, np.uint8)
    cv2.circle(image, (x, 60), 24, colour, -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return image


def read(path: Path | str) -> Pixels:
    return np.asarray(Image.open(path))


def test_pixels_are_the_pictures_or_the_backgrounds(colours: Colours, tmp_path: Path) -> None:
    image = paint(tmp_path / "in.png")
    main_ok("composite", "model", "in.png", "-b", "#1020f0", "--out", "out", "-q")
    main_ok("composite", "model", "in.png", "--alpha", "--out", "cut.png", "-q")
    found, cut = read(tmp_path / "out" / "in.png"), read(tmp_path / "cut.png")
    assert found.shape == image.shape
    assert cut.shape == (96, 160, 4)
    whole, none = cut[..., 3] == 255, cut[..., 3] == 0
    assert whole.sum() > 1000
    assert none.sum() > 10000
    np.testing.assert_array_equal(found[whole], image[whole])
    np.testing.assert_array_equal(cut[whole][:, :3], image[whole])
    np.testing.assert_array_equal(np.unique(found[none], axis=0), [[0x10, 0x20, 0xF0]])


def main_ok(*arguments: str, code: int = 0) -> None:
    """Run the command line."""
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert end.value.code == code


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_the_mask_lies_where_the_subject_is(colours: Colours, tmp_path: Path, resize: Resize) -> None:
    colours.resize = resize
    paint(tmp_path / "in.png", x=80)
    ((made,), cut) = list(bakeoff.composite("model", ["in.png"], "white", "out.png", options=EXACT)), read("out.png")
    assert made.subject == "apple"
    red = (cut[..., 0] > 200) & (cut[..., 1] < 80)
    y, x = np.nonzero(red)
    assert (round(x.mean()), round(y.mean())) == (80, 60)
    assert red.sum() == pytest.approx(np.pi * 24**2, rel=0.1)  # less what is mixed with white at its edge


@pytest.mark.parametrize(
    ("placement", "size", "box"),
    [
        (Placement(), (160, 96), (36, 36, 84, 84)),  # as it was
        (Placement(0.5), (160, 96), (58, 66, 82, 90)),  # its picture half as large, at the bottom in the middle
        (Placement(1.0, (0, 0)), (160, 96), (0, 0, 48, 48)),  # the subject in the top left corner
        (Placement(0.5, (1, 1)), (160, 96), (136, 72, 160, 96)),  # half as large in the bottom right corner
        (Placement(canvas="background"), (320, 240), (72, 120, 168, 216)),  # its picture as wide as the background
        (Placement(2.0, (0.5, 1.0)), (160, 96), (32, 0, 128, 96)),  # twice as large: as high as the canvas
    ],
)
def test_where_the_subject_stands(
    colours: Colours, tmp_path: Path, placement: Placement, size: tuple[int, int], box: tuple[int, ...]
) -> None:
    paint(tmp_path / "in.png")
    Image.new("RGB", (320, 240), (0, 0, 250)).save("sky.png")
    list(bakeoff.composite("model", ["in.png"], "sky.png", "out.png", options=Options(EXACT.matting, placement)))
    found = read("out.png")
    assert found.shape == (size[1], size[0], 3)
    left, top, width, height = cv2.boundingRect((found[..., 0] > 130).astype(np.uint8))
    np.testing.assert_allclose((left, top, left + width, top + height), box, atol=3)


def test_backgrounds(colours: Colours, tmp_path: Path) -> None:
    image = paint(tmp_path / "in.png")
    sky = np.zeros((50, 300, 3), np.uint8)
    sky[..., 2], sky[:, :100], sky[:, 200:] = 200, (255, 255, 255), (255, 255, 255)  # only the middle is seen
    Image.fromarray(sky).save("sky.png")
    for background, colour in (("sky.png", (0, 0, 200)), ("White", (255, 255, 255)), ("teal", (0, 128, 128))):
        list(bakeoff.composite("model", ["in.png"], background, f"{background}-out", options=EXACT))
        assert tuple(read(f"{background}-out/in.png")[60, 120]) == colour
    list(bakeoff.composite("model", ["in.png"], "blur", "blurred", options=EXACT))
    blurred = read("blurred/in.png")
    np.testing.assert_array_equal(blurred[60, 50:70], image[60, 50:70])
    assert blurred[5:25].std(axis=(0, 1)).max() < 0.2 * image[5:25].std(axis=(0, 1)).min()
    around = cv2.circle(np.zeros((96, 160), np.uint8), (60, 60), 30, 1, 2) > 0
    assert blurred[around].max() < 70  # nothing of the red subject bleeds


def test_which_class_is_cut_out(colours: Colours, tmp_path: Path) -> None:
    image = paint(tmp_path / "both.png")
    cv2.circle(image, (125, 40), 12, GREEN, -1)
    Image.fromarray(image).save("both.png")
    for wanted, name, seen in ((None, "apple", (60, 60)), ("leaf", "leaf", (125, 40)), ("apple", "apple", (60, 60))):
        (made,) = bakeoff.composite("model", ["both.png"], "white", f"{wanted}.png", wanted, EXACT)
        assert made.subject == name
        found = read(f"{wanted}.png")
        assert tuple(found[seen[1], seen[0]]) == tuple(image[seen[1], seen[0]])
        assert (found == 255).all(axis=2).mean() == pytest.approx(1 - (made.share or 0), abs=0.02)
    with pytest.raises(UsageError, match=r"'leave' is unknown \(did you mean leaf\?\); the model knows background"):
        bakeoff.composite("model", ["both.png"], wanted="leave")


def test_objects_of_a_class_are_cut_out_together_from_the_threshold_on(colours: Colours, tmp_path: Path) -> None:
    colours.task = "instance"
    image = paint(tmp_path / "both.png")
    cv2.circle(image, (125, 40), 12, GREEN, -1)
    Image.fromarray(image).save("both.png")
    shares = []
    for number, threshold in enumerate((0.5, 0.1)):  # the third "apple" is unsure, and covers the leaf too
        options = Options(EXACT.matting, threshold=threshold)
        shares += [m.share for m in bakeoff.composite("model", ["both.png"], "red", f"{number}.png", "apple", options)]
    assert shares[0] == pytest.approx(np.pi * 24**2 / (96 * 160), rel=0.05)
    assert shares[1] == pytest.approx(np.pi * (24**2 + 12**2) / (96 * 160), rel=0.05)


@pytest.mark.parametrize(
    ("mode", "high"),
    [
        ("L", 255),  # black and white
        ("L", 1),  # class indices
        ("RGBA", 255),  # a cut-out: its transparency counts
    ],
)
def test_a_given_mask(tmp_path: Path, mode: str, high: int) -> None:
    image = paint(tmp_path / "in.png")
    disc = cv2.circle(np.zeros((48, 80), np.uint8), (30, 30), 12, high, -1)
    plain = Image.fromarray(disc)
    layer = Image.merge("RGBA", [Image.new("L", plain.size, 77)] * 3 + [plain]) if mode == "RGBA" else plain
    layer.save(tmp_path / "mask.png")
    list(bakeoff.composite(tmp_path / "mask.png", [tmp_path / "in.png"], "white", tmp_path / "out.png", options=EXACT))
    found = read(tmp_path / "out.png")
    np.testing.assert_array_equal(found[50:70, 50:70], image[50:70, 50:70])
    assert (found[:20] == 255).all()


def test_grabcut_needs_neither_a_model_nor_torch(tmp_path: Path) -> None:
    image = paint(tmp_path / "in.png", x=80)
    command = (
        "import atexit, sys, bakeoff.cli as cli; atexit.register(lambda: print('torch' in sys.modules)); cli.main()"
    )
    given = ["composite", "grabcut", str(tmp_path / "in.png"), "--out", str(tmp_path / "out.jpg"), "-q"]
    done = subprocess.run([sys.executable, "-c", command, *given], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "foreground" in done.stdout
    assert done.stdout.endswith("False\n")
    found = read(tmp_path / "out.jpg")
    assert np.abs(found[60, 75:85].astype(int) - image[60, 75:85]).max() < 12  # JPEG
    assert (found[:20] > 250).all()


def test_a_trained_model_from_its_folder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    spec = ModelSpec(arch="small:unet")
    network = build(spec, 2, 32, "semantic").eval()
    trained.save(tmp_path / "model", Trained(network, spec, "semantic", ("background", "digit"), 32, "squash"))
    paint(tmp_path / "in.png")
    (found,) = bakeoff.predict(tmp_path / "model", [tmp_path / "in.png"], device="cpu")
    assert isinstance(found.target, LabelMap)
    options = Options(Matting("none"), alpha=True, device="cpu")
    (made,) = bakeoff.composite(tmp_path / "model", [tmp_path / "in.png"], out=tmp_path / "cut.png", options=options)
    assert (made.subject, made.error) == ("digit", None)
    found_by_both = (read(tmp_path / "cut.png")[..., 3] >= 128) == (found.target.pixels == 1)
    assert 0.02 < (found.target.pixels == 1).mean() < 0.98
    assert found_by_both.mean() > 0.97  # one is brought to the picture smoothly, the other by nearest neighbour


def test_files_that_cannot_be_used_are_named_and_the_others_made(
    colours: Colours, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(paint(tmp_path / "in" / "a.png")).save("in/a.png", exif=turned)
    (tmp_path / "in" / "b.png").write_bytes(b"no picture")
    Image.new("RGB", (80, 60), NIGHT).save("in/c.png")
    main_ok("composite", "model", "in", "--out", "out", "--json", "--format", "jpg", code=3)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["error"] is None for line in lines] == [True, False, False]
    assert "PNG" in lines[1]["error"]
    assert "nothing of the subject" in lines[2]["error"]
    assert [file.name for file in Path("out").iterdir()] == ["a.jpg"]
    assert read("out/a.jpg").shape == (160, 96, 3)  # upright


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([[0.1, np.nan]], "not finite"),  # weights that diverged
        ([[0.9, 0.1]], "nothing of the subject"),  # sure that there is none
    ],
)
def test_answers_that_are_none_are_named(
    colours: Colours, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, values: list[list[float]], said: str
) -> None:
    scores = np.repeat(np.array(values, np.float32).reshape(2, 1, 1), 64 * 64, axis=1).reshape(2, 64, 64)
    scores[1, 30, 30] = 0.6  # one stray pixel is no subject
    monkeypatch.setattr(Colours, "_one", lambda *_: LabelMap(np.zeros((64, 64), np.uint8), scores))
    colours.classes = ("background", "apple")
    paint(tmp_path / "in.png", size=(640, 480))
    (made,) = bakeoff.composite("model", ["in.png"], out="out")
    assert said in (made.error or "")
    assert not Path("out").exists()


def test_files_are_never_overwritten(colours: Colours, tmp_path: Path) -> None:
    paint(tmp_path / "a.png")
    paint(tmp_path / "b.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.png").write_bytes(b"mine")
    for out in ("out", "b.png", "."):
        before = Path("b.png").read_bytes()
        inputs = ["a.png"] if out == "b.png" else ["a.png", "b.png"]
        with pytest.raises(Refused, match="are there already"):
            bakeoff.composite("model", inputs, "white", out)
        assert Path("b.png").read_bytes() == before
    assert [file.name for file in Path("out").iterdir()] == ["b.png"]
    assert Path("out/b.png").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("grabcat a.png", "did you mean grabcut"),
        ("model a.png -b whit", "did you mean white"),
        ("model a.png -b sea.jpg", "no such file"),
        ("model a.png --canvas background", "no size of its own"),
        ("model a.png --canvas backgroud", "did you mean background"),
        ("model a.png --matte closed-form", "did you mean closed_form"),
        ("model a.png --band 3", "0 to 0.2"),
        ("model a.png --scale 0", "scale must lie above 0"),
        ("model a.png --position middle", "two numbers x,y"),
        ("model a.png --smooth 1", "smooth must lie in 0 to below 1"),
        ("model a.png -b blur --blur 0", "blur must lie above 0"),
        ("model a.png --format gif", "format must be png or jpg"),
        ("model a.png --alpha --format jpg", "no transparency"),
        ("model a.png --alpha --out cut.jpg", "becomes a .png"),
        ("model a.png b.png --out one.png", "name a folder"),
        ("model a.png --out film.mp4", "becomes a .png or .jpg"),
        ("grabcut a.png --class person", "knows no classes"),
        ("model c.png", "did you mean"),  # an input that is not there
    ],
)
def test_mistakes_are_answered(
    colours: Colours, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: str, said: str
) -> None:
    for name in ("a.png", "b.png"):
        paint(tmp_path / name)
    main_ok("composite", *arguments.split(), "-q", code=2)
    assert said in capsys.readouterr().err
    assert not Path("composites").exists()


def test_models_and_masks_that_cut_nothing_out_are_refused(colours: Colours, tmp_path: Path) -> None:
    paint(tmp_path / "a.png")
    colours.task = "classification"
    with pytest.raises(UsageError, match="a classification model gives no masks"):
        bakeoff.composite("model", ["a.png"])
    Image.new("L", (9, 9), 255).save("white.png")
    with pytest.raises(DataError, match="the value 255 everywhere"):
        bakeoff.composite("white.png", ["a.png"])


# --- videos ---


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Return a video of 1.2 s in which a red disc moves right by 4 pixels a frame; it is not there at first."""
    with Film() as film:
        for number in range(12):
            image = np.full((96, 160, 3), NIGHT, np.uint8)
            if number:
                cv2.circle(image, (30 + 4 * number, 60), 20, RED, -1)
            film.add(tmp_path / "clip.mp4", image, 10.0)
    return tmp_path / "clip.mp4"


def test_a_video_before_a_shorter_video(
    colours: Colours, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Film() as film:
        for shade in (40, 120, 200):
            film.add(tmp_path / "behind.mp4", np.full((50, 80, 3), (0, shade, 255), np.uint8), 5.0)
    main_ok("composite", "model", "clip.mp4", "-b", "behind.mp4", "--out", "out", "--matte", "none")
    said = capsys.readouterr()
    assert "12 frames at" in said.out
    found = list(Clip(str(tmp_path / "out" / "clip.mp4")).moments())
    assert len(found) == 12
    assert found[0].rate == pytest.approx(10.0)
    shades = [int(moment.image[10, 10, 1]) for moment in found]  # a new one every second frame, and again
    np.testing.assert_allclose(shades, [40, 40, 120, 120, 200, 200] * 2, atol=12)
    assert found[0].image[..., 0].max() < 60
    for number, moment in enumerate(found[1:], 1):
        _, x = np.nonzero(moment.image[..., 0] > 150)
        assert x.mean() == pytest.approx(30 + 4 * number, abs=2)


def test_a_placed_subject_still_moves(colours: Colours, clip: Path) -> None:
    options = Options(Matting("guided"), Placement(1.0, (0.0, 1.0)), smooth=0.0)
    (made,) = bakeoff.composite("model", ["clip.mp4"], "white", "out.mp4", None, options)
    assert (made.frames, made.subject, made.error) == (12, "apple", None)
    found = list(Clip("out.mp4").moments())
    lefts = [int(np.nonzero((m.image[..., 1] < 100).any(axis=0))[0].min()) for m in found[1:]]
    np.testing.assert_allclose(lefts, [4 * number for number in range(11)], atol=4)  # from the left edge on


def test_a_broken_video_is_named_and_what_could_be_read_is_kept(
    colours: Colours, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "whole.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (160, 96))
    for number in range(20):
        writer.write(paint(tmp_path / "frame.png", 30 + 4 * number)[..., ::-1])
    writer.release()
    content = (tmp_path / "whole.avi").read_bytes()
    (tmp_path / "short.avi").write_bytes(content[: len(content) // 2])
    (tmp_path / "none.avi").write_bytes(b"no video")
    main_ok("composite", "model", "short.avi", "none.avi", "frame.png", "--out", "out", "--json", "-q", code=3)
    short, none, picture = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "cut short" in short["error"]
    assert 0 < short["frames"] < 20
    assert len(list(Clip("out/short.mp4").moments())) == short["frames"]
    assert none["picture"] is None
    assert "no video" in none["error"]
    assert picture["error"] is None
    with pytest.raises(UsageError, match="without transparency"):
        bakeoff.composite("model", ["whole.avi"], out="cuts", options=Options(alpha=True))
