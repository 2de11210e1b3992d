"""bakeoff data …: look at, check, split, convert and expand labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bakeoff.errors import ResourceError
from bakeoff.options import (
    Data,
    Folds,
    Format,
    GroupFrom,
    Json,
    LabelFrom,
    Quiet,
    Repeats,
    Sets,
    Skip,
    Task,
    all_settings,
    data_settings,
    print_findings,
    print_json,
    say,
    show_progress,
)

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Look at, check, split, convert and expand labelled images."
)


@app.command("audit")
def data_audit(
    data: Data,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write an HTML contact sheet.")] = Path("audit.html"),
    format: Format = None,
    label_from: LabelFrom = None,
    group_from: GroupFrom = None,
    task: Task = None,
    sets: Sets = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Look for what spoils a comparison: unreadable, duplicate, leaking, rare, odd images.

    Example:  bakeoff data audit photos --group-from 'patient(?P<group>[0-9]+)'
    """
    from bakeoff import verbs_data
    from bakeoff.data.audit import audit

    with show_progress(quiet) as progress:
        dataset = verbs_data.read(data, all_settings(sets, data_settings(format, label_from, group_from, task=task)))
        found = audit(dataset, progress=progress.count)
    print_json(found.to_json()) if as_json else print_findings(found.findings)
    if out is None:
        return
    try:  # the findings are told by now, and with --json they stay the only answer
        verbs_data.write_audit(out, dataset, found)
    except ResourceError as error:
        say(f"bakeoff: the contact sheet was not written: {error}; choose another place with --out")
        raise typer.Exit(error.exit_code) from error
    say(f"contact sheet: {out}")


@app.command("split")
def data_split(
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="The JSON file to write.")] = Path("split.json"),
    val: Annotated[float | None, typer.Option(help="Share for validation.")] = None,
    test: Annotated[float | None, typer.Option(help="Share for the test.")] = None,
    folds: Folds = None,
    repeats: Repeats = None,
    seed: Annotated[int | None, typer.Option(help="Another draw.")] = None,
    given: Annotated[bool, typer.Option(help="Use the splits that the data prescribes, if any.")] = True,
    format: Format = None,
    label_from: LabelFrom = None,
    group_from: GroupFrom = None,
    task: Task = None,
    skip_unreadable: Skip = False,
    accept_leaks: Annotated[bool, typer.Option(help="Go on with given splits that share images or groups.")] = False,
    sets: Sets = None,
    quiet: Quiet = False,
) -> None:
    """Split images: groups and duplicates kept whole, classes balanced, frozen by fingerprint."""
    from bakeoff import verbs_data

    chosen = {
        "split.val": val,
        "split.test": test,
        "split.folds": folds,
        "split.repeats": repeats,
        "split.seed": seed,
        "split.given": given,
        **data_settings(format, label_from, group_from, skip_unreadable, task),
        "data.accept_leaks": accept_leaks or None,
    }
    with show_progress(quiet) as progress:
        splits = verbs_data.split(data, out, all_settings(sets, chosen), progress.count)
    print_findings(splits.findings)
    part = splits.parts[0]
    say(f"{len(splits.parts)} split(s); the first: {len(part.train)} train, {len(part.val)} val, {len(part.test)} test")
    typer.echo(out)


@app.command("show")
def data_show(
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="An .html or .png file.")] = Path("sheet.html"),
    per_class: Annotated[int, typer.Option(help="Pictures of each class.")] = 8,
    seed: Annotated[int, typer.Option(help="Another draw.")] = 0,
    format: Format = None,
    label_from: LabelFrom = None,
    task: Task = None,
    sets: Sets = None,
) -> None:
    """Write a sheet of pictures with their labels."""
    from bakeoff import verbs_data

    settings = all_settings(sets, data_settings(format, label_from, task=task))
    typer.echo(verbs_data.show(data, out, per_class, seed, settings))


@app.command("convert")
def data_convert(
    data: Data,
    out: Annotated[Path, typer.Argument(help="The new folder or table.")],
    to: Annotated[str, typer.Option(help="The format to write: folder, table, idx, masks, voc, coco, yolo, via, …")],
    as_task: Annotated[
        str | None, typer.Option("--as", help="Make other labels of it: boxes of masks, crops of boxes, label maps.")
    ] = None,
    format: Format = None,
    label_from: LabelFrom = None,
    group_from: GroupFrom = None,
    task: Task = None,
    sets: Sets = None,
) -> None:
    """Write labelled images in another format, with other labels too; the originals stay untouched.

    Examples:
      bakeoff data convert photos.json photos-yolo --to yolo --as detection

      bakeoff data convert photos.json crops --to folder --as classification
    """
    from bakeoff import verbs_data

    settings = all_settings(sets, data_settings(format, label_from, group_from, task=task))
    dataset = verbs_data.convert(data, out, to, settings, as_task)
    typer.echo(f"{out}: {len(dataset)} images of {len(dataset.classes)} classes as {to}, for {dataset.task}")


@app.command("expand")
def data_expand(
    data: Data,
    out: Annotated[Path, typer.Argument(help="The new folder.")],
    background: Annotated[int, typer.Option(help="Images whose background is replaced.")] = 0,
    cutmix: Annotated[int, typer.Option(help="Images with patches of another image of the same class.")] = 0,
    originals: Annotated[int | None, typer.Option(help="Keep so many originals to train on. Default: all.")] = None,
    fill: Annotated[
        str, typer.Option(help="New background: white, black, grey, #rrggbb, blur, a picture or a folder of pictures.")
    ] = "white",
    model: Annotated[
        Path | None, typer.Option(help="An ONNX file of U2-Net, IS-Net or BiRefNet. Default: GrabCut.")
    ] = None,
    family: Annotated[
        str | None, typer.Option(help="What the ONNX file holds: u2net, isnet, birefnet. Default: told by its name.")
    ] = None,
    patches: Annotated[int, typer.Option(help="CutMix: patches in each image.")] = 1,
    area: Annotated[
        tuple[float, float], typer.Option(help="CutMix: smallest and largest share of the picture of a patch.")
    ] = (0.1, 0.4),
    seed: Annotated[int, typer.Option(help="Another draw.")] = 0,
    format: Format = None,
    label_from: LabelFrom = None,
    group_from: GroupFrom = None,
    task: Task = None,
    sets: Sets = None,
    quiet: Quiet = False,
) -> None:
    """Make more images to train on, in a new folder with the originals; classification.

    Examples:
      bakeoff data expand photos more --originals 200 --background 200 --cutmix 500

      bakeoff data expand photos more --background 200 --model u2net.onnx --fill backgrounds
    """
    from bakeoff import verbs_data
    from bakeoff.data.expand import Expansion

    plan = Expansion(originals, background, cutmix, seed, fill, model, family, patches, area)
    settings = all_settings(sets, data_settings(format, label_from, group_from, task=task))
    with show_progress(quiet) as progress:
        found = verbs_data.expand(data, out, plan, settings, progress.count)
    for note in found.dataset.lineage:
        say(note)
    if found.missing:
        say(f"{found.missing} images fewer than asked for: there are too few originals whose background can be told")
    say(f"contact sheet: {found.sheet}")
    made = ", ".join(f"{count:,} {method}" for method, count in found.dataset.methods.items())
    typer.echo(f"{out}: {len(found.dataset.originals):,} originals, {made}")
