"""Every command of the guided pages runs, on little, and makes its picture; the site builds without a warning."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
from PIL import Image

from bakeoff.cli import main
from bakeoff.data.dataset import TaskName
from bakeoff.data.digits import write_digits
from bakeoff.data.scenes import write_scenes

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "notes").glob("*.md"))
NOTES: dict[str, Any] = runpy.run_path(str(ROOT / "scripts" / "notes.py"))
LESS = {  # what makes a command quick: by its program and its verb or script
    "demo": ["--quiet", "--set", "recipe.epochs=1"],
    "rcnn": ["--images", "2"],
    "sliding_windows": ["--steps", "2"],
}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inline: None) -> Path:
    """Work in a folder with the scripts of the pages, where studies are in this process and about few images."""
    shutil.copytree(ROOT / "docs" / "notes", tmp_path / "docs" / "notes", ignore=shutil.ignore_patterns("pictures"))
    named = set(re.findall(r"digit-\d+\.png", "".join(page.read_text(encoding="utf-8") for page in PAGES)))

    def few(task: TaskName, folder: Path) -> Path:
        if task != "classification":
            return write_scenes(folder / "scenes", task, count=20)
        for place, digit in enumerate(sorted(write_digits(folder / "digits").glob("*/*.png"))):
            if place % 18 and digit.name not in named:
                digit.unlink()
        return folder / "digits"

    monkeypatch.setattr("bakeoff.demos.data", few)
    monkeypatch.setattr("bakeoff.evaluate.outcomes.LATENCY_IMAGES", 1)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command of a page in this process, on little."""
    program, first, *rest = words
    less = LESS.get(Path(first).stem, [])
    if program == "bakeoff":
        with pytest.raises(SystemExit) as end:
            main([first, *rest, *less])
        assert end.value.code == 0, shlex.join(words)
        return
    assert program == "python", f"{program} is none of the programs of the pages"
    monkeypatch.setattr(sys, "argv", [first, *rest, *less])
    runpy.run_path(first, run_name="__main__")
    plt.close("all")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_make_its_pictures(page: Path, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands, pictures = NOTES["commands"](page), NOTES["pictures"](desk / "docs" / "notes" / page.name)
    assert bool(commands) == bool(pictures) == (page.stem != "index")
    for words in commands:
        run(words, monkeypatch)
    for picture in pictures:
        with Image.open(picture) as image:
            assert image.width > 600
            assert len(image.convert("L").getcolors() or ()) > 20  # something is drawn
    assert {path.parts[0] for path in (path.relative_to(desk) for path in desk.rglob("*"))} <= {"docs", "build"}


def test_pictures_are_made_again_when_a_script_or_a_command_changes(tmp_path: Path) -> None:
    page, script = tmp_path / "docs" / "notes" / "dots.md", tmp_path / "docs" / "notes" / "dots.py"
    picture = page.parent / "pictures" / "dots.png"
    picture.parent.mkdir(parents=True)
    script.write_text("import sys\nopen('docs/notes/pictures/dots.png', 'a').write(' '.join(sys.argv[1:]))\n")
    page.write_text(
        "# Dots\n```sh\npython docs/notes/dots.py \\\n  red 'and blue'  # two\n```\n![Dots](pictures/dots.png)\n"
    )
    assert NOTES["is_stale"](page)  # there is no picture yet
    NOTES["make"](page)
    assert picture.read_text() == "red and blue"
    assert not NOTES["is_stale"](page)
    os.utime(script, (picture.stat().st_mtime + 9,) * 2)
    assert NOTES["is_stale"](page)  # the script is newer
    os.utime(picture, (script.stat().st_mtime + 9,) * 2)
    assert not NOTES["is_stale"](page)
    page.write_text(page.read_text().replace("red", "green"))
    assert NOTES["is_stale"](page)  # another command
    page.write_text(page.read_text().replace("dots.png", "spots.png"))
    with pytest.raises(SystemExit, match=r"made no spots\.png"):
        NOTES["make"](page)


def test_the_site_names_every_page_and_needs_no_network(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("pictures"))
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    for page in PAGES:
        for picture in NOTES["pictures"](tmp_path / "docs" / "notes" / page.name):
            picture.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (1, 1)).save(picture)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (built.returncode, built.stdout, built.stderr) == (0, "", "")
    pages = [path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("*.html")]
    assert len(pages) == len(list((ROOT / "docs").rglob("*.md"))) + 1  # and the page for what is not found
    assert not [link for page in pages for link in re.findall(r'<(?:script|link|img)[^>]*"(?:https?:)?//[^"]*"', page)]
