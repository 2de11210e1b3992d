"""Run the commands of the pages in docs/notes whose pictures are missing, or older than what makes them.

A page's commands are its ```sh blocks; they write pictures to docs/notes/pictures and all else to build/notes/<page>.
    python scripts/notes.py            what is stale
    python scripts/notes.py rcnn       this page, stale or not
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

NOTES = Path(__file__).parents[1] / "docs" / "notes"


def commands(page: Path) -> list[list[str]]:
    """Return the commands of a page, each as its words; a line that ends in a backslash goes on in the next."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def pictures(page: Path) -> list[Path]:
    """Return the pictures that a page shows."""
    named = re.findall(r"!\[[^]]*\]\((pictures/[^)]+)\)", page.read_text(encoding="utf-8"))
    return [page.parent / name for name in named]


def sources(page: Path) -> list[Path]:
    """Return what a page's pictures depend on: the scripts beside it that it names, and their common look."""
    named = set(re.findall(r"\b(\w+\.py)\b", page.read_text(encoding="utf-8")))
    return [file for file in page.parent.iterdir() if file.name in named or file.suffix == ".mplstyle"]


def is_stale(page: Path) -> bool:
    """Say whether a picture is missing, or older than a script or than the commands that it was made by."""
    made, stamp = pictures(page), workshop(page) / "commands.txt"
    if not all(picture.exists() for picture in made) or not stamp.exists():
        return bool(made)
    newest = max((file.stat().st_mtime for file in sources(page)), default=0.0)
    return stamp.read_text(encoding="utf-8") != told(page) or any(file.stat().st_mtime < newest for file in made)


def told(page: Path) -> str:
    """Return the commands of a page, one a line."""
    return "".join(f"{shlex.join(words)}\n" for words in commands(page))


def workshop(page: Path) -> Path:
    """Return the folder that a page's commands work in."""
    return page.parents[2] / "build" / "notes" / page.stem


def make(page: Path) -> None:
    """Run a page's commands from the start, in the repository, with the programs beside this Python."""
    shutil.rmtree(workshop(page), ignore_errors=True)
    for picture in pictures(page):
        picture.unlink(missing_ok=True)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for words in commands(page):
        print(f"$ {shlex.join(words)}", flush=True)
        if code := subprocess.run(words, cwd=page.parents[2], env=environment).returncode:
            sys.exit(f"{page}: this command ended with exit code {code}: {shlex.join(words)}")
    if missing := [picture.name for picture in pictures(page) if not picture.exists()]:
        sys.exit(f"{page}: its commands made no {', '.join(missing)}")
    workshop(page).mkdir(parents=True, exist_ok=True)
    (workshop(page) / "commands.txt").write_text(told(page), encoding="utf-8")


def main() -> None:
    """Make the pictures of every stale page, or of those that are named, and say how long each took."""
    asked = sys.argv[1:]
    pages = [NOTES / f"{name}.md" for name in asked] or [page for page in sorted(NOTES.glob("*.md")) if is_stale(page)]
    for page in pages:
        began = time.perf_counter()
        make(page)
        print(f"{page.name}: made in {time.perf_counter() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
