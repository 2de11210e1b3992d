"""The command line of composite, which has many options.  Parse, call the library, print; no logic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bakeoff.findings import plural
from bakeoff.options import Quiet, print_json, say, show_progress

app = typer.Typer(rich_markup_mode=None)


@app.command()
def composite(
    model: Annotated[
        str, typer.Argument(help="A semantic or instance model, run, study or .onnx file; grabcut; a mask's file.")
    ],
    inputs: Annotated[list[str], typer.Argument(help="Images, folders, glob patterns, videos; - for a list.")],
    background: Annotated[
        str, typer.Option("--background", "-b", help="A colour (white, #RRGGBB), blur, a picture or a video.")
    ] = "white",
    out: Annotated[Path, typer.Option("--out", "-o", help="A folder; for one input a .png, .jpg or .mp4 file.")] = Path(
        "composites"
    ),
    wanted: Annotated[
        str | None, typer.Option("--class", help="Cut out this class. Default: the one with most pixels.")
    ] = None,
    alpha: Annotated[bool, typer.Option("--alpha", help="Write the cut-outs alone, as transparent PNGs.")] = False,
    matte: Annotated[
        str, typer.Option(help="closed_form (sharper), guided (faster), none; auto: guided for videos.")
    ] = "auto",
    band: Annotated[
        float, typer.Option(help="How far the mask's edge may be wrong, as share of the longer side.")
    ] = 0.03,
    feather: Annotated[float, typer.Option(help="Blur of the matte, as share of the longer side.")] = 0.0,
    spill: Annotated[bool, typer.Option("--spill", help="Keep the old background's light at the edges.")] = False,
    scale: Annotated[float, typer.Option(help="Size of the subject; 1: its picture fits the canvas.")] = 1.0,
    position: Annotated[
        str | None, typer.Option(help="Where the subject stands: x,y from 0,0 (top left) to 1,1; 0.5,1: bottom centre.")
    ] = None,
    canvas: Annotated[str, typer.Option(help="As large as the image or as the background.")] = "image",
    blur: Annotated[float, typer.Option(help="Of the background blur, as share of the longer side.")] = 0.02,
    smooth: Annotated[
        float, typer.Option(help="Of videos: share of the last matte that is kept where the picture stays; 0: none.")
    ] = 0.5,
    format: Annotated[str, typer.Option(help="png or jpg, of pictures in a folder.")] = "png",
    threshold: Annotated[float, typer.Option(help="Leave out objects with a lower score.")] = 0.5,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:0.")] = "auto",
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines instead of words.")] = False,
) -> None:
    """Set what a model finds in images and videos before another background.  What cannot be used is named (exit 3).

    Examples:  bakeoff composite STUDY photos --background beach.jpg     bakeoff composite grabcut cup.jpg --alpha

    bakeoff composite STUDY clip.mp4 --background blur --out clip-blurred.mp4

    bakeoff composite STUDY me.jpg -b beach.jpg --canvas background --scale 0.6 --position 0.8,1 --out postcard.jpg
    """
    from bakeoff.composite import Matting, Options, Placement, make_composites, read_position

    placement = Placement(scale, None if position is None else read_position(position), canvas)
    options = Options(Matting(matte, band, feather), placement, spill, blur, alpha, smooth, format, threshold, device)
    errors = 0
    with show_progress(quiet) as progress:
        for made in make_composites(model, inputs, out, (background, wanted), options, progress.count):
            print_json(made.to_json(), lines=True) if as_json else typer.echo(made.words)
            errors += made.error is not None
    if errors:
        say(f"{plural(errors, 'input')} could not be used, or not to the end; the output says why")
        raise typer.Exit(3)
