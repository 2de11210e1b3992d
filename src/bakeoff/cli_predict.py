"""The command line of predict, which has many options.  Parse, call the library, print; no logic."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bakeoff.errors import UsageError
from bakeoff.findings import plural
from bakeoff.options import Quiet, say, show_progress

app = typer.Typer(rich_markup_mode=None)


@app.command()
def predict(
    model: Annotated[
        Path, typer.Argument(help="A trained model, a run's folder, a study (its winner) or an .onnx file.")
    ],
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
    from bakeoff import verbs_predict
    from bakeoff.predict import Folders, Output

    if as_json and format not in (None, "jsonl"):
        raise UsageError(f"--json means JSON lines, but --format is {format}; leave one out")
    output = Output(out, "jsonl" if as_json else format, Folders(masks, overlays))
    with show_progress(quiet or (out is None and sys.stdout.isatty())) as progress:
        how = (batch, device, threshold)
        errors = verbs_predict.write_predictions(model, inputs, output, how, progress.count)
    if errors:
        say(f"{plural(errors, 'file')} could not be read; the output says why")
        raise typer.Exit(3)
