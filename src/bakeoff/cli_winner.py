"""The command line of trained models: what is done with the winner.  Parse, call the library, print; no logic."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bakeoff.errors import UsageError
from bakeoff.findings import plural
from bakeoff.options import (
    Data,
    Format,
    GroupFrom,
    Json,
    LabelFrom,
    Quiet,
    Sets,
    Task,
    all_settings,
    data_settings,
    model_names,
    print_json,
    say,
    show_progress,
)

app = typer.Typer(rich_markup_mode=None)


@app.command()
def score(
    model: Annotated[
        Path, typer.Argument(help="A trained model, a run's folder, a study (its winner), or a file of predictions.")
    ],
    data: Data,
    part: Annotated[str | None, typer.Option(help="Only this part of the model's study: train, val or test.")] = None,
    format: Format = None,
    label_from: LabelFrom = None,
    group_from: GroupFrom = None,
    task: Task = None,
    against: Annotated[Path | None, typer.Option(help="A second file of predictions: the paired differences.")] = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Evaluate a trained model on other labelled images, or grade a file of predictions: every metric, 95 % intervals.

    Examples:  bakeoff score STUDY other-photos     bakeoff score labels.csv photos --against others.csv

    Predictions are .csv, .jsonl (labels, probabilities, boxes, run lengths) or COCO's .json.
    """
    from bakeoff import tables, verbs_winner

    settings = all_settings(sets, data_settings(format, label_from, group_from, task=task))
    found = verbs_winner.score(model, data, part, settings, against)
    print_json(found.to_json()) if as_json else typer.echo(tables.score_text(found))


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A trained model, a run's folder, or a study (its winner).")],
    inputs: Annotated[list[str], typer.Argument(help="Images, folders or glob patterns.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A .csv, .jsonl or .json (COCO) file.")] = None,
    format: Annotated[str | None, typer.Option(help="csv, jsonl or coco; default: that of --out, or csv.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Write label maps to this new folder, as palette PNGs.")] = None,
    overlays: Annotated[Path | None, typer.Option(help="Write pictures with what was found to this folder.")] = None,
    threshold: Annotated[float, typer.Option(help="Leave out objects with a lower score.")] = 0.5,
    batch: Annotated[int | None, typer.Option(help="Images at a time; default: as in evaluations.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:0.")] = "auto",
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines instead of CSV.")] = False,
) -> None:
    """Label images with a trained model.  Files that cannot be read are named (exit code 3).

    Examples:  bakeoff predict STUDY photos --out labels.csv     bakeoff predict STUDY '*.jpg' --overlays seen
    """
    from bakeoff import verbs_winner
    from bakeoff.predict import Folders, Output

    if as_json and format not in (None, "jsonl"):
        raise UsageError(f"--json means JSON lines, but --format is {format}; leave one out")
    output = Output(out, "jsonl" if as_json else format, Folders(masks, overlays))
    with show_progress(quiet or (out is None and sys.stdout.isatty())) as progress:
        how = (batch, device, threshold)
        errors = verbs_winner.write_predictions(model, inputs, output, how, progress.count)
    if errors:
        say(f"{plural(errors, 'file')} could not be read; the output says why")
        raise typer.Exit(3)


@app.command()
def explain(
    model: Annotated[Path, typer.Argument(help="A trained model, a run's folder, or a study (its winner).")],
    inputs: Annotated[list[str] | None, typer.Argument(help="Images, folders or glob patterns.")] = None,
    method: Annotated[
        str, typer.Option(help="gradcam, layercam, integrated_gradients, occlusion, … by commas; or all.")
    ] = "gradcam,layercam",
    wanted: Annotated[str | None, typer.Option("--class", help="Explain this class. Default: the surest.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="A folder for the pictures.")] = Path("explanations"),
    layer: Annotated[str, typer.Option(help="The layer to look at (bakeoff models NAME lists them).")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:0.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines instead of words.")] = False,
) -> None:
    """Show why a trained model says what it says: a picture per image, with a check of every map in words.

    Of a study without images: some test images by every candidate, in its report.

    Examples:  bakeoff explain STUDY photo.jpg     bakeoff explain STUDY photos --method gradcam,occlusion --class cat
    """
    from bakeoff import exhibition, verbs_winner
    from bakeoff.explain.explainer import Options

    names, options = model_names(method), Options(layer=layer, device=device)
    if not inputs:
        with show_progress(as_json) as progress:
            path = exhibition.explain_study(model, names, options, progress.tell, progress.count)
        print_json({"report": str(path)}) if as_json else typer.echo(path)
        return
    errors = 0
    for entry in verbs_winner.explain(model, inputs, out, names, wanted, options):
        print_json(entry.to_json(), lines=True) if as_json else typer.echo(entry.words)
        errors += entry.error is not None
    if errors:
        say(f"{plural(errors, 'image')} could not be explained; the output says why")
        raise typer.Exit(3)
