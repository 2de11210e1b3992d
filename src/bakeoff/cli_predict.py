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
    inputs: Annotated[
        list[str] | None,
        typer.Argument(help="Images, folders, glob patterns, videos; - for a list of paths on standard input."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A .csv, .jsonl or .json (COCO) file; a new folder.")
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="csv, jsonl, coco; yolo or voc: folders. Default: that of --out, or csv.")
    ] = None,
    masks: Annotated[Path | None, typer.Option(help="Write label maps to this new folder, as palette PNGs.")] = None,
    overlays: Annotated[
        Path | None, typer.Option(help="Write pictures (of videos: videos) with what was found to this folder.")
    ] = None,
    threshold: Annotated[float, typer.Option(help="Leave out objects with a lower score.")] = 0.5,
    camera: Annotated[int | None, typer.Option(help="Look through this camera (0: the first), until Ctrl-C.")] = None,
    every: Annotated[int, typer.Option(help="Of videos and cameras, take every so many-th frame.")] = 1,
    seconds: Annotated[float | None, typer.Option(help="Of videos and cameras, take the first seconds.")] = None,
    tile: Annotated[int | None, typer.Option(help="See large images in windows of so many pixels.")] = None,
    overlap: Annotated[float, typer.Option(help="Share of a window's side that its neighbour sees too.")] = 0.25,
    tta: Annotated[bool, typer.Option("--tta", help="See every image mirrored too, and fuse the two answers.")] = False,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="All finished runs of the study's best candidate together.")
    ] = False,
    calibrated: Annotated[
        bool, typer.Option("--calibrated", help="Probabilities scaled so that they fit the validation images.")
    ] = False,
    batch: Annotated[int | None, typer.Option(help="Images at a time; default: as in evaluations.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:0.")] = "auto",
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines instead of CSV.")] = False,
) -> None:
    """Label images, videos or what a camera sees with a trained model.  Files that cannot be read are named (exit 3).

    Examples:  bakeoff predict STUDY photos --out labels.csv     bakeoff predict STUDY '*.jpg' --overlays seen

    bakeoff predict STUDY clip.mp4 --every 5 --overlays seen     bakeoff predict STUDY scans --tile 512 --out found.json

    find . -name '*.png' | bakeoff predict STUDY - --ensemble --tta --format yolo --out labelled
    """
    from bakeoff import verbs_predict
    from bakeoff.predict import Folders, Options, Output

    if as_json and format not in (None, "jsonl"):
        raise UsageError(f"--json means JSON lines, but --format is {format}; leave one out")
    output = Output(out, "jsonl" if as_json else format, Folders(masks, overlays))
    options = Options(tta, tile, overlap, ensemble, calibrated, every, seconds)
    named = [*(inputs or ()), *(() if camera is None else (f"camera:{camera}",))]
    with show_progress(quiet or (out is None and sys.stdout.isatty())) as progress:
        how = (batch, device, threshold)
        errors = verbs_predict.write_predictions(model, named, output, how, progress.count, options)
    if errors:
        say(f"{plural(errors, 'file')} could not be read; the output says why")
        raise typer.Exit(3)
