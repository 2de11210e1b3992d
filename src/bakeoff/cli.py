"""The command line: one typer command per verb.  Parse, call the library, print; no logic.

stdout is data, stderr is talk.  Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bakeoff.errors import BakeoffError

if TYPE_CHECKING:
    from bakeoff.compare import Comparison
    from bakeoff.progress import Progress

SCHEMA_VERSION = 1
app = typer.Typer(
    name="bakeoff",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Which vision model and recipe should I use on my images, is the difference real, where is the winner?\n\n"
    "Start with:  bakeoff demo\n\nYour own images:  bakeoff run IMAGES --models small:cnn,mobilenetv2_100",
)
data_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Look at, check, split and convert labelled images."
)
app.add_typer(data_app, name="data")

Data = Annotated[
    Path, typer.Argument(help="Labelled images: class folders, a CSV or Parquet table, idx files, VOC XML.")
]
Format = Annotated[str | None, typer.Option(help="Format of the data: folder, table, idx, voc. Default: found out.")]
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
Repeats = Annotated[int | None, typer.Option(help="Repeat the cross-validation so many times.")]


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"bakeoff {version('bakeoff')}")
        raise typer.Exit


@app.callback()
def _main(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks for errors too.")] = False,
    _shown: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if debug:
        os.environ["BAKEOFF_DEBUG"] = "1"


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="The study folder.")] = Path("bakeoff-demo"),
    sets: Sets = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a whole study on built-in handwritten digits: three small candidates, three seeds, no download."""
    from bakeoff import verbs

    with _progress(quiet) as progress:
        comparison = verbs.demo(out, _settings(sets), progress.tell)
    _answer(comparison, out, as_json)


@app.command()
def init(
    data: Data,
    out: Out = None,
    models: Models = None,
    format: Format = None,
    label_from: LabelFrom = None,
    group_from: GroupFrom = None,
    sets: Sets = None,
) -> None:
    """Look at labelled images, say what they are, and write a commented study.toml.

    Example:  bakeoff init photos --models small:cnn,resnet18@none --out study
    """
    from bakeoff import verbs

    settings = _settings(sets, _data(format, label_from, group_from))
    file = verbs.init(data, out, _names(models), settings)
    typer.echo(file)
    _say(f"look at it, then: bakeoff run {file.parent}")


@app.command()
def run(
    target: Annotated[Path, typer.Argument(help="A study folder, its study.toml, or labelled images.")],
    out: Out = None,
    models: Models = None,
    seeds: Annotated[int | None, typer.Option(help="Runs of each candidate (3 at least, 5 by default).")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of every recipe (recipe.epochs).")] = None,
    size: Annotated[int | None, typer.Option(help="Input side in pixels.")] = None,
    folds: Folds = None,
    repeats: Repeats = None,
    baseline: Annotated[str | None, typer.Option(help="Test the others against this candidate only.")] = None,
    eps: Annotated[float | None, typer.Option(help="The smallest difference that matters, in points.")] = None,
    format: Format = None,
    label_from: LabelFrom = None,
    group_from: GroupFrom = None,
    skip_unreadable: Skip = False,
    accept_leaks: Annotated[bool, typer.Option(help="Go on with given splits that share images or groups.")] = False,
    sets: Sets = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read, audit, split and plan; train nothing.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train every candidate x seed under equal conditions, evaluate, compare, report.  Run again to resume.

    Examples:
      bakeoff run photos --models small:cnn,mobilenetv2_100@pretrained --seeds 3

      bakeoff run photos --models resnet18,resnet50 --folds 5 --repeats 3

      bakeoff run bakeoff-photos --set recipe.epochs=40
    """
    from bakeoff import verbs

    chosen = {
        "seeds": seeds,
        "recipe.epochs": epochs,
        "size": size,
        "baseline": baseline,
        "eps": eps,
        "split.folds": folds,
        "split.repeats": repeats,
        **_data(format, label_from, group_from, skip_unreadable),
        "data.accept_leaks": accept_leaks or None,
    }
    settings = _settings(sets, chosen)
    with _progress(quiet) as progress:
        if dry_run:
            plan = verbs.dry_run(target, out, _names(models), settings, progress.tell)
        else:
            comparison = verbs.run(target, out, _names(models), settings, progress.tell)
    if dry_run:
        _print_json(plan) if as_json else typer.echo("\n".join(f"{key}: {value}" for key, value in plan.items()))
        return
    _answer(comparison, verbs.find_study(target, out, _names(models), settings)[1], as_json)


@app.command()
def report(study: Annotated[Path, typer.Argument(help="A study folder.")], as_json: Json = False) -> None:
    """Rebuild verdict and report from a study folder, without loading a network."""
    from bakeoff import verbs

    path = verbs.report(study)
    _print_json({"report": str(path)}) if as_json else typer.echo(path)


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="An architecture (layer table), or part of a name (list).")] = None,
    family: Annotated[str | None, typer.Option(help="Only this family: small, torchvision, timm.")] = None,
    licence: Annotated[str | None, typer.Option(help="Only weights of this licence, e.g. apache-2.0.")] = None,
    classes: Annotated[int, typer.Option(help="Number of classes of the layer table.")] = 1000,
    size: Annotated[int, typer.Option(help="Input side of the layer table, in pixels.")] = 224,
    as_json: Json = False,
) -> None:
    """List the candidates, or show one: its layers, parameters, memory and arithmetic.

    Examples:  bakeoff models mobilenet     bakeoff models vgg13_bn --classes 100 --size 256
    """
    from bakeoff import tables, verbs

    found = verbs.models(name, family, licence, classes, size)
    if isinstance(found, list):
        _print_json([vars(entry) for entry in found]) if as_json else typer.echo(tables.catalogue_text(found))
    else:
        _print_json(tables.layers_json(found)) if as_json else typer.echo(tables.layers_text(found))


@app.command()
def score(
    model: Annotated[Path, typer.Argument(help="A trained model, a run's folder, or a study (its winner).")],
    data: Data,
    format: Format = None,
    label_from: LabelFrom = None,
    group_from: GroupFrom = None,
    as_json: Json = False,
) -> None:
    """Evaluate a trained model on other labelled images: every metric with its 95 % interval."""
    from bakeoff import tables, verbs

    found = verbs.score(model, data, _settings(None, _data(format, label_from, group_from)))
    _print_json(found.to_json()) if as_json else typer.echo(tables.score_text(found))


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A trained model, a run's folder, or a study (its winner).")],
    inputs: Annotated[list[str], typer.Argument(help="Images, folders or glob patterns.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write to this .csv or .jsonl file.")] = None,
    batch: Annotated[int, typer.Option(help="Images at a time.")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:0.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines instead of CSV.")] = False,
) -> None:
    """Label images with a trained model; CSV or JSON lines.  Files that cannot be read are named (exit code 3)."""
    from bakeoff import verbs

    errors = verbs.write_predictions(model, inputs, out, (batch, device), as_json)
    if errors:
        _say(f"{errors} files could not be read; they are named in the output")
        raise typer.Exit(3)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check the environment and bakeoff's own promises (exact resume, statistics) on tiny data."""
    from bakeoff import verbs

    found = verbs.doctor()
    _print_json([finding.to_json() for finding in found]) if as_json else _print_findings(found)
    if any(finding.severity == "error" for finding in found):
        raise typer.Exit(5)


@data_app.command("audit")
def data_audit(
    data: Data,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write an HTML contact sheet.")] = Path("audit.html"),
    format: Format = None,
    label_from: LabelFrom = None,
    group_from: GroupFrom = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Look for what spoils a comparison: unreadable, duplicate, leaking, rare, odd images.

    Example:  bakeoff data audit photos --group-from 'patient(?P<group>[0-9]+)'
    """
    from bakeoff import verbs

    with _progress(quiet) as progress:
        found = verbs.audit(data, out, _settings(None, _data(format, label_from, group_from)), progress.count)
    _print_json(found.to_json()) if as_json else _print_findings(found.findings)
    if out is not None:
        _say(f"contact sheet: {out}")


@data_app.command("split")
def data_split(
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="The JSON file to write.")] = Path("split.json"),
    val: Annotated[float | None, typer.Option(help="Share for validation.")] = None,
    test: Annotated[float | None, typer.Option(help="Share for the test.")] = None,
    folds: Folds = None,
    repeats: Repeats = None,
    seed: Annotated[int | None, typer.Option(help="Another draw.")] = None,
    format: Format = None,
    label_from: LabelFrom = None,
    group_from: GroupFrom = None,
    skip_unreadable: Skip = False,
    accept_leaks: Annotated[bool, typer.Option(help="Go on with given splits that share images or groups.")] = False,
    quiet: Quiet = False,
) -> None:
    """Split images: groups and duplicates kept whole, classes balanced, frozen by fingerprint."""
    from bakeoff import verbs

    chosen = {
        "split.val": val,
        "split.test": test,
        "split.folds": folds,
        "split.repeats": repeats,
        "split.seed": seed,
        **_data(format, label_from, group_from, skip_unreadable),
        "data.accept_leaks": accept_leaks or None,
    }
    with _progress(quiet) as progress:
        splits = verbs.split(data, out, _settings(None, chosen), progress.count)
    _print_findings(splits.findings)
    part = splits.parts[0]
    _say(
        f"{len(splits.parts)} split(s); the first: {len(part.train)} train, {len(part.val)} val, {len(part.test)} test"
    )
    typer.echo(out)


@data_app.command("show")
def data_show(
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="An .html or .png file.")] = Path("sheet.html"),
    per_class: Annotated[int, typer.Option(help="Pictures of each class.")] = 8,
    seed: Annotated[int, typer.Option(help="Another draw.")] = 0,
    format: Format = None,
    label_from: LabelFrom = None,
) -> None:
    """Write a sheet of pictures with their labels."""
    from bakeoff import verbs

    typer.echo(verbs.show(data, out, per_class, seed, _settings(None, _data(format, label_from))))


@data_app.command("convert")
def data_convert(
    data: Data,
    out: Annotated[Path, typer.Argument(help="The new folder or table.")],
    to: Annotated[str, typer.Option(help="The format to write: folder, table, idx, voc.")],
    format: Format = None,
    label_from: LabelFrom = None,
    group_from: GroupFrom = None,
) -> None:
    """Write labelled images in another format; the originals stay untouched."""
    from bakeoff import verbs

    dataset = verbs.convert(data, out, to, _settings(None, _data(format, label_from, group_from)))
    typer.echo(f"{out}: {len(dataset)} images of {len(dataset.classes)} classes as {to}")


def _data(
    format: str | None, label_from: str | None = None, group_from: str | None = None, skip: bool = False
) -> dict[str, Any]:
    """Return the data options as settings by dotted path."""
    return {
        "data.format": format,
        "data.label_from": label_from,
        "data.group_from": group_from,
        "data.skip_unreadable": skip or None,
    }


def _settings(sets: list[str] | None, chosen: dict[str, Any] | None = None) -> dict[str, Any]:
    """Join options that were given with --set key=value."""
    from bakeoff.settings import parse_setting

    given = {key: value for key, value in (chosen or {}).items() if value is not None}
    return {**given, **dict(parse_setting(setting) for setting in sets or ())}


def _names(models: str | None) -> list[str]:
    return [name.strip() for name in models.split(",") if name.strip()] if models else []


def _progress(quiet: bool) -> Progress:
    from bakeoff.progress import Progress

    return Progress(mode="quiet" if quiet else "auto")


def _answer(comparison: Comparison, folder: Path, as_json: bool) -> None:
    """Print the verdict and where the report is; exit code 4 when some run failed."""
    from bakeoff import tables

    if as_json:
        _print_json({**comparison.to_json(), "report": str(folder / "report.html")})
    else:
        typer.echo(tables.comparison_text(comparison))
        typer.echo(f"\nreport: {folder / 'report.html'}")
    if any(row.failures for row in comparison.rows):
        raise typer.Exit(4)


def _print_findings(findings: Any) -> None:
    """Print findings, one a line."""
    for finding in findings:
        typer.echo(f"{finding.severity:8} {finding.code:28} {finding.sentence}")
    if not findings:
        typer.echo("nothing found")


def _print_json(content: Any) -> None:
    body = content if isinstance(content, dict) else {"items": content}
    typer.echo(json.dumps({"schema_version": SCHEMA_VERSION, **body}, indent=1))


def _say(line: str) -> None:
    typer.echo(line, err=True)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with the exit code of errors.py; no traceback for errors raised on purpose."""
    given = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app(given)
    except KeyboardInterrupt:
        _say("stopped; run the same command again to go on")
        sys.exit(130)
    except BakeoffError as error:
        if os.environ.get("BAKEOFF_DEBUG"):
            traceback.print_exc()
        if "--json" in given:
            _print_json({"error": str(error), "type": type(error).__name__, "exit_code": error.exit_code})
        _say(f"bakeoff: {error}")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(141)


def _terminate(_signal: int, _frame: object) -> None:
    """End as after Ctrl-C, workers included, with the signal's exit code."""
    sys.exit(143)
