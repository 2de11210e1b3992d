"""The command line: one typer command per verb.  Parse, call the library, print; no logic.

stdout is data, stderr is talk.  Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bakeoff import cli_composite, cli_data, cli_predict, cli_winner
from bakeoff.errors import BakeoffError
from bakeoff.options import (
    TERMINATED,
    Data,
    Folds,
    Format,
    GroupFrom,
    Json,
    LabelFrom,
    Models,
    Out,
    Quiet,
    Repeats,
    Sets,
    Skip,
    Task,
    Track,
    all_settings,
    data_settings,
    model_names,
    print_findings,
    print_json,
    say,
    share_list,
    show_progress,
)

if TYPE_CHECKING:
    from bakeoff.compare import Comparison

app = typer.Typer(
    name="bakeoff",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Which vision model and recipe should I use on my images, is the difference real, where is the winner?\n\n"
    "Start with:  bakeoff demo\n\nYour own images:  bakeoff run IMAGES --models small:cnn,mobilenetv2_100",
)
app.add_typer(cli_data.app, name="data")


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
    task: Annotated[str, typer.Option(help="classification, semantic, detection or instance.")] = "classification",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The study folder. Default: bakeoff-demo.")] = None,
    sets: Sets = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a whole study on built-in handwritten digits, or scenes of them: small candidates, three seeds, no download.

    Examples:  bakeoff demo     bakeoff demo --task detection
    """
    from bakeoff import demos, verbs

    folder = out or demos.folder(task)
    with show_progress(quiet) as progress:
        comparison = verbs.demo(folder, all_settings(sets), progress.tell, task)
    _answer(comparison, folder, as_json)


@app.command()
def init(
    data: Data,
    out: Out = None,
    models: Models = None,
    format: Format = None,
    label_from: LabelFrom = None,
    group_from: GroupFrom = None,
    task: Task = None,
    sets: Sets = None,
) -> None:
    """Look at labelled images, say what they are, and write a commented study.toml.

    Example:  bakeoff init photos --models small:cnn,resnet18@none --out study
    """
    from bakeoff import verbs

    settings = all_settings(sets, data_settings(format, label_from, group_from, task=task))
    file = verbs.init(data, out, model_names(models), settings)
    typer.echo(file)
    say(f"look at it, then: bakeoff run {file.parent}")


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
    licence: Annotated[str | None, typer.Option(help="permissive: refuse weights that not everybody may use.")] = None,
    format: Format = None,
    label_from: LabelFrom = None,
    group_from: GroupFrom = None,
    task: Task = None,
    skip_unreadable: Skip = False,
    accept_leaks: Annotated[bool, typer.Option(help="Go on with given splits that share images or groups.")] = False,
    sets: Sets = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read, audit, split and plan; train nothing.")] = False,
    track: Track = None,
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
        "licence": licence,
        "split.folds": folds,
        "split.repeats": repeats,
        **data_settings(format, label_from, group_from, skip_unreadable, task),
        "data.accept_leaks": accept_leaks or None,
    }
    settings = all_settings(sets, chosen)
    with show_progress(quiet) as progress:
        if dry_run:
            plan = verbs.dry_run(target, out, model_names(models), settings, progress.tell)
        else:
            comparison = verbs.run(target, out, model_names(models), settings, progress.tell, model_names(track))
    if dry_run:
        print_json(plan) if as_json else typer.echo("\n".join(f"{key}: {value}" for key, value in plan.items()))
        return
    _answer(comparison, verbs.find_study(target, out, model_names(models), settings)[1], as_json)


@app.command()
def curve(
    study: Annotated[Path, typer.Argument(help="A study folder or its study.toml.")],
    shares: Annotated[str, typer.Option(help="Shares of the training images, separated by commas.")] = "0.1,0.25,0.5,1",
    seeds: Annotated[int | None, typer.Option(help="Runs at each share. Default: as many as the study has.")] = None,
    sets: Sets = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a study's candidates on shares of its training images: what would twice the images buy?

    Examples:  bakeoff curve bakeoff-photos     bakeoff curve bakeoff-photos --shares 0.2,0.4,0.6,0.8 --seeds 3
    """
    from bakeoff import tables, verbs

    with show_progress(quiet) as progress:
        found = verbs.curve(study, share_list(shares), seeds, all_settings(sets), progress.tell)
    print_json(found.to_json()) if as_json else typer.echo(tables.curve_text(found))
    if any(course.failures for course in found.courses):
        raise typer.Exit(4)


@app.command()
def report(
    study: Annotated[Path, typer.Argument(help="A study folder.")], track: Track = None, as_json: Json = False
) -> None:
    """Rebuild verdict and report from a study folder, without loading a network.

    Examples:  bakeoff report bakeoff-photos     bakeoff report bakeoff-photos --track tensorboard,mlflow
    """
    from bakeoff import verbs

    path = verbs.report(study, model_names(track))
    print_json({"report": str(path)}) if as_json else typer.echo(path)


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="An architecture (layer table), or part of a name (list).")] = None,
    task: Annotated[
        str | None, typer.Option(help="Only for this task: classification, semantic, detection, instance.")
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(help="Only this family: small, torchvision, timm, smp, classics, detectors, transformers."),
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Only weights of this licence: apache-2.0, permissive, restricted, …")
    ] = None,
    classes: Annotated[int, typer.Option(help="Number of classes of the layer table.")] = 1000,
    size: Annotated[int, typer.Option(help="Input side of the layer table, in pixels.")] = 224,
    as_json: Json = False,
) -> None:
    """List the candidates, or show one: its layers, parameters, memory and arithmetic.

    Examples:  bakeoff models mobilenet     bakeoff models vgg13_bn --classes 100 --size 256

    bakeoff models --task detection     bakeoff models unet:resnet50 --classes 2 --size 256
    """
    from bakeoff import tables, verbs

    listing = name is None or family is not None or licence is not None
    table = None if listing else verbs.layers(str(name), classes, size, task)
    if table is not None:
        print_json(tables.layers_json(table)) if as_json else typer.echo(tables.layers_text(table))
        return
    found = verbs.models(name, family, licence, task)
    print_json([vars(entry) for entry in found]) if as_json else typer.echo(tables.catalogue_text(found))


for group in (cli_predict, cli_composite, cli_winner):  # here, in the order of the help
    app.registered_commands += group.app.registered_commands


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check the environment and bakeoff's own promises (exact resume, statistics) on tiny data."""
    from bakeoff import verbs

    found = verbs.doctor()
    print_json([finding.to_json() for finding in found]) if as_json else print_findings(found)
    if any(finding.severity == "error" for finding in found):
        raise typer.Exit(5)


def _answer(comparison: Comparison, folder: Path, as_json: bool) -> None:
    """Print the verdict and where the report is; exit code 4 when some run failed."""
    from bakeoff import tables

    if as_json:
        print_json({**comparison.to_json(), "report": str(folder / "report.html")})
    else:
        typer.echo(tables.comparison_text(comparison))
        typer.echo(f"\nreport: {folder / 'report.html'}")
    if any(row.failures for row in comparison.rows):
        raise typer.Exit(4)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with the exit code of errors.py; no traceback for errors raised on purpose."""
    given = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGTERM, _terminate)
    try:
        _run(given)
    except BrokenPipeError:  # whoever read the output, head say, has enough
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still to be flushed goes nowhere
        sys.exit(141)


def _run(given: list[str]) -> None:
    """Run the command line; raises BrokenPipeError, which typer would turn into exit code 1, as it was."""
    try:
        app(given)
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):
            raise end.__context__ from None
        raise
    except BakeoffError as error:
        if os.environ.get("BAKEOFF_DEBUG"):
            traceback.print_exc()
        if "--json" in given:
            print_json({"error": str(error), "type": type(error).__name__, "exit_code": error.exit_code})
        say(f"bakeoff: {error}")
        sys.exit(error.exit_code)


def _terminate(_signal: int, _frame: object) -> None:
    """End as after Ctrl-C, workers included, with the signal's exit code."""
    sys.exit(TERMINATED)
