"""What the documents say exists: commands, options, fields, functions, targets and files."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import bakeoff
from bakeoff.models.spec import Head, ModelSpec
from bakeoff.study import Candidate, DataSpec, Execution, SplitSpec, Study, make_study
from bakeoff.train.recipe import Recipe, Stage
from bakeoff.train.space import Tune

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
WRITTEN = [page for page in PAGES if page.name != "commands.md"]  # that one is generated
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}


def blocks(*languages: str) -> Iterator[tuple[str, str]]:
    """Yield (page and place, content) of fenced blocks in these languages."""
    for page in WRITTEN:
        for place, (language, content) in enumerate(re.findall(r"^```(\w*)\n(.*?)^```", TEXTS[page], re.M | re.S)):
            if language in languages:
                yield f"{page.name}#{place}", content


def commands() -> list[str]:
    """Return every bakeoff command line in shell blocks, and those named in running text."""
    shell = "\n".join(content for _, content in blocks("sh", "console")).replace("\\\n", " ")
    lines = re.findall(r"^(?:\$ )?(bakeoff .*)$", shell, re.M)
    spans = [span for page in WRITTEN for span in re.findall(r"`(bakeoff [^`\n]+)`", TEXTS[page])]
    named = [f"{span} --help" if re.fullmatch(r"bakeoff (data )?\w+", span) else span for span in spans]
    return sorted({line.split("  #")[0].strip() for line in [*lines, *named]})


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    """The command line with commands that parse and do nothing."""
    from bakeoff import cli, cli_data

    for group in (cli.app, cli_data.app):
        for command in group.registered_commands:
            assert command.callback is not None
            monkeypatch.setattr(command, "callback", _idle(command.callback))
    return cli.app


def _idle(callback: Callable[..., Any]) -> Callable[..., None]:
    """Return a function of the same signature that does nothing."""

    def idle(**_given: Any) -> None:
        return

    idle.__signature__ = inspect.signature(callback, eval_str=True)  # type: ignore[attr-defined]
    idle.__annotations__ = inspect.get_annotations(callback, eval_str=True)
    idle.__name__ = callback.__name__
    return idle


@pytest.mark.parametrize("line", commands())
def test_commands_parse(line: str, app: typer.Typer) -> None:
    result = CliRunner().invoke(app, shlex.split(line)[1:])
    assert result.exit_code == 0, result.output


def test_wrong_commands_do_not_parse(app: typer.Typer) -> None:
    for line in ("rnu photos", "run photos --sedes 3", "run", "run photos --seeds three"):
        assert CliRunner().invoke(app, shlex.split(line)).exit_code == 2


def test_the_command_reference_is_fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "100")
    target = tmp_path / "commands.md"
    command = [sys.executable, "-m", "typer", "bakeoff.cli", "utils", "docs", "--name", "bakeoff"]
    subprocess.run([*command, "--title", "The command line", "--output", target], check=True, capture_output=True)
    assert target.read_text() == TEXTS[ROOT / "docs" / "commands.md"], "stale: run `make docs` and commit"


@pytest.mark.parametrize(("place", "content"), list(blocks("toml")))
def test_studies_are_valid(place: str, content: str) -> None:
    assert make_study(tomllib.loads(content), place).candidates


def test_every_field_of_a_study_is_documented() -> None:
    text = TEXTS[ROOT / "docs" / "study.md"]
    parts = (Study, DataSpec, SplitSpec, Tune, Execution, Candidate, ModelSpec, Head, Recipe, Stage)
    assert not [
        f"{part.__name__}.{name}"
        for part in parts
        for name in part.model_fields
        if not re.search(rf"`{name}`|\[{name}\]", text)
    ]


@pytest.mark.parametrize(("place", "content"), list(blocks("python")))
def test_calls_fit_their_functions(place: str, content: str) -> None:
    for node in ast.walk(ast.parse(content)):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="bakeoff"), attr=name), args=given, keywords=named):
                keywords = {keyword.arg: None for keyword in named if keyword.arg}
                inspect.signature(getattr(bakeoff, name)).bind(*given, **keywords)
            case ast.Attribute(value=ast.Name(id="bakeoff"), attr=name):
                assert name in bakeoff.__all__


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    named = {name for text in TEXTS.values() for name in re.findall(r"(?:^|`)make (\w+)", text, re.M)}
    assert {"demo", "test"} <= named <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", TEXTS[page])
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_paths_that_are_named_exist(page: Path) -> None:
    paths = re.findall(r"`((?:tests|docs|src|benchmarks)/[\w./]+)`", TEXTS[page])
    assert not [path for path in paths if not (ROOT / path).exists()]
