"""The command line of trained models: what is done with the winner.  Parse, call the library, print; no logic."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

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
def explain(
    model: Annotated[Path, typer.Argument(help="A trained model, a run's folder, or a study (its winner).")],
    inputs: Annotated[list[str] | None, typer.Argument(help="Images, folders or glob patterns.")] = None,
    method: Annotated[
        str,
        typer.Option(help="gradcam, layercam, occlusion, deconvnet, … by commas; all; activations: of many images."),
    ] = "gradcam,layercam",
    wanted: Annotated[str | None, typer.Option("--class", help="Explain this class. Default: the surest.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="A folder for the pictures.")] = Path("explanations"),
    layer: Annotated[str, typer.Option(help="The layer to look at (bakeoff models NAME lists them).")] = "",
    channel: Annotated[int | None, typer.Option(help="The layer's channel: deconvnet, activations.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps: inversion, integrated_gradients.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:0.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines instead of words.")] = False,
) -> None:
    """Show why a trained model says what it says: a picture per image, with a check of every map in words.

    Of a study without images: some test images by every candidate, in its report.

    Examples:  bakeoff explain STUDY photo.jpg     bakeoff explain STUDY photos --method gradcam,occlusion --class cat

      bakeoff explain STUDY photos --method activations --layer features.8 --channel 3
    """
    from bakeoff import exhibition, verbs_winner
    from bakeoff.explain.explainer import Options

    names, options = model_names(method), Options(layer, channel, steps, device=device)
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


@app.command()
def serve(
    study: Annotated[Path, typer.Argument(help="A finished study folder.")],
    port: Annotated[int, typer.Option(help="A port of this machine; 0: any that is free.")] = 8642,
    open_page: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Open the page in the browser. Default: where there is one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the address as JSON on stdout.")] = False,
) -> None:
    """Serve a study as a page on this machine: its report, its test images, its candidates asked about pictures.

    Programs ask it over HTTP (/predict).  Nobody else can open it: the address holds a token.  Ctrl-C ends it.

    Examples:  bakeoff serve STUDY     bakeoff serve STUDY --port 9000 --no-open
    """
    from urllib.parse import urlsplit

    from bakeoff.serve import serve as serve_study

    def tell(url: str) -> None:
        print_json({"url": url, "port": urlsplit(url).port}) if as_json else typer.echo(url)
        sys.stdout.flush()  # a program that started it waits for the address
        say(f"serving {study} at that address, for this machine alone; Ctrl-C ends it")

    serve_study(study, port, open_page, tell)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A trained model, a run's folder, or a study (its winner).")],
    to: Annotated[str, typer.Option(help="onnx, pt2 (torch.export) or hub (what timm loads back).")] = "onnx",
    out: Annotated[Path, typer.Option("--out", "-o", help="A new folder for the file and its model card.")] = Path(
        "exported"
    ),
    int8: Annotated[bool, typer.Option("--int8", help="8-bit integers, calibrated with training images.")] = False,
    allow: Annotated[float, typer.Option(help="Points that the metric of an 8-bit file may fall by.")] = 1.0,
    images: Annotated[
        Path | None, typer.Option(help="Labelled images to test the file on. Default: the study's test images.")
    ] = None,
    sets: Sets = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make a file that works without bakeoff.  It is run on your test images first; one that differs is not written.

    Examples:  bakeoff export STUDY --out winner     bakeoff export STUDY --int8 --out small
    """
    from bakeoff import verbs_data, verbs_winner
    from bakeoff.export import Wish

    wish = Wish(to, int8, allow)
    with show_progress(quiet) as progress:
        dataset = None if images is None else verbs_data.read(images, all_settings(sets))
        found = verbs_winner.export_files(model, out, wish, dataset, progress.count)
    print_json(found.to_json()) if as_json else typer.echo(found.words)
