"""What the commands share: options, settings made from them, and how answers are printed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bakeoff.errors import UsageError

if TYPE_CHECKING:
    from bakeoff.findings import Finding
    from bakeoff.progress import Progress

SCHEMA_VERSION = 1
TERMINATED = 143  # exit code after SIGTERM
STOPPED = "stopped; run the same command again to go on"
Data = Annotated[
    Path,
    typer.Argument(help="Labelled images: class folders, a table, idx files, mask files, VOC XML, COCO, YOLO, VIA, …"),
]
Format = Annotated[
    str | None,
    typer.Option(help="Format of the data: folder, table, idx, masks, voc, coco, yolo, … Default: found out."),
]
Task = Annotated[
    str | None, typer.Option(help="Read as classification, semantic, detection or instance. Default: found out.")
]
LabelFrom = Annotated[
    str | None, typer.Option(help="Take labels from file names: a regular expression with (?P<label>...).")
]
GroupFrom = Annotated[
    str | None, typer.Option(help="Keep images together by file name: a regular expression with (?P<group>...).")
]
Skip = Annotated[bool, typer.Option("--skip-unreadable", help="Go on without images that cannot be decoded.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="Any field of study.toml: recipe.epochs=3. May be repeated.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing while working.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Where to write.")]
Models = Annotated[
    str | None, typer.Option(help="Candidates, separated by commas: source:arch@weights, e.g. mobilenetv2_100@none.")
]
Folds = Annotated[int | None, typer.Option(help="Cross-validate with so many folds (claim level L2).")]
Track = Annotated[
    str | None, typer.Option(help="Write the runs to tensorboard, mlflow, or both, separated by a comma.")
]
Repeats = Annotated[int | None, typer.Option(help="Repeat the cross-validation so many times.")]


def data_settings(
    format: str | None,
    label_from: str | None = None,
    group_from: str | None = None,
    skip: bool = False,
    task: str | None = None,
) -> dict[str, Any]:
    """Return the data options as settings by dotted path."""
    return {
        "data.format": format,
        "data.label_from": label_from,
        "data.group_from": group_from,
        "data.skip_unreadable": skip or None,
        "data.task": task,
    }


def all_settings(sets: list[str] | None, chosen: dict[str, Any] | None = None) -> dict[str, Any]:
    """Join options that were given with --set key=value."""
    from bakeoff.settings import parse_setting

    given = {key: value for key, value in (chosen or {}).items() if value is not None}
    return {**given, **dict(parse_setting(setting) for setting in sets or ())}


def model_names(models: str | None) -> list[str]:
    """Take a list separated by commas apart."""
    return [name.strip() for name in models.split(",") if name.strip()] if models else []


def share_list(shares: str) -> list[float]:
    """Take shares separated by commas apart; UsageError for what is no number."""
    try:
        return [float(share) for share in shares.split(",") if share.strip()]
    except ValueError:
        raise UsageError(f"shares must be numbers separated by commas, as in 0.1,0.25,0.5,1, not {shares!r}") from None


@contextmanager
def show_progress(quiet: bool) -> Iterator[Progress]:
    """Yield the display of a study under way, on stderr.

    Ctrl-C leaves with exit code 130 and SIGTERM with 143; both say how to go on.
    """
    from bakeoff.progress import Progress

    try:
        with Progress(mode="quiet" if quiet else "auto") as progress:
            yield progress
    except KeyboardInterrupt:
        say(STOPPED)
        raise typer.Exit(130) from None
    except SystemExit as end:
        if end.code == TERMINATED:
            say(STOPPED)
        raise


def print_findings(findings: Iterable[Finding]) -> None:
    """Print findings, one a line."""
    lines = [f"{finding.severity:8} {finding.code:28} {finding.sentence}" for finding in findings]
    typer.echo("\n".join(lines) or "nothing found")


def print_json(content: Any, lines: bool = False) -> None:
    """Print JSON with its schema version, or as one line without; a list stands under "items"."""
    if lines:
        typer.echo(json.dumps(content, allow_nan=False))
        return
    body = content if isinstance(content, dict) else {"items": content}
    typer.echo(json.dumps({"schema_version": SCHEMA_VERSION, **body}, indent=1))


def say(line: str) -> None:
    """Print a line for people, on stderr."""
    typer.echo(line, err=True)
