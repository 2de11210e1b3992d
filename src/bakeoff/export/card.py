"""The model card: README.md in the hub's format, with what was measured and what is known of where it comes from."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bakeoff.compare import Row
from bakeoff.evaluate.ledger import Control
from bakeoff.evaluate.pairs import Estimate
from bakeoff.evaluate.score import Interval
from bakeoff.export.loading import loading
from bakeoff.export.material import Origin
from bakeoff.export.parity import Parity
from bakeoff.findings import plural, printable
from bakeoff.models.licences import identifier, kind, worded
from bakeoff.models.trained import Trained
from bakeoff.report.wording import LEVELS, NOTHING, count, known, number
from bakeoff.tasks import TASKS
from bakeoff.tasks.task import Metric

PIPELINES = {  # the hub's names of tasks
    "classification": "image-classification",
    "semantic": "image-segmentation",
    "detection": "object-detection",
    "instance": "image-segmentation",
}
LIBRARIES = {"onnx": "onnx", "pt2": "pytorch", "hub": "timm"}
VERBS = {
    "classification": "Says which of the classes an image shows",
    "semantic": "Says of every pixel which of the classes it belongs to",
    "detection": "Finds the objects of the classes and draws a box around each",
    "instance": "Finds the objects of the classes, each with its box and its mask",
}
UNITS = {"classification": "labels", "semantic": "pixels", "detection": "objects", "instance": "objects"}
MARKS = {"|": "&#124;", "`": "&#96;", "\\": "&#92;", "](": "]&#40;", "][": "]&#91;"}  # that Markdown reads
FEW = 50  # test images: below, the card says that they are few


@dataclass(frozen=True)
class Contents:
    """What a card is about: the model, where it comes from, the files beside it, and what the gate measured."""

    model: Trained
    origin: Origin | None
    files: Sequence[str]
    parity: Mapping[str, Parity]
    form: str


def model_card(contents: Contents) -> str:
    """Return the text of README.md: YAML front matter, then Markdown in which every name is harmless."""
    model, origin = contents.model, contents.origin
    comparison = origin.comparison if origin else None
    rows = {row.candidate: row for row in comparison.rows} if comparison else {}
    row = rows.get(origin.run.candidate) if origin else None
    table = TASKS[model.task](model.classes).table
    controls = comparison.controls if comparison else ()
    room = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
    )
    room.filters["name"] = harmless
    return room.get_template("card.md.j2").render(
        front=yaml.safe_dump(front_matter(contents), sort_keys=False, allow_unicode=True),
        title=harmless(origin.run.candidate if origin else model.spec.arch),
        verb=VERBS[model.task],
        task=model.task,
        model=model,
        run=origin.run if origin else None,
        data=_parts(origin),
        files=contents.files,
        parity=contents.parity,
        parameters=_parameters(model),
        comparison=comparison,
        candidates=len(rows),
        row=row,
        level=LEVELS[comparison.level] if comparison else "",
        equal=[harmless(control.name) for control in controls if control.status == "equal"],
        unequal=[control for control in controls if control.status != "equal"],
        metrics=lambda one: list(_compared(one, table)),
        of_row=lambda: list(_of_row(row, table)),
        values=_values,
        agreement=agreement,
        licence=_licence(model),
        limits=list(_limits(contents)),
        loading=loading(model, contents.form, contents.files[-1] if contents.form != "hub" else ""),
    )


def front_matter(contents: Contents) -> dict[str, Any]:
    """Return what the hub reads: licence, library, task and tags.  Data sets are not named: they are the user's own."""
    card = contents.model.network.card
    licence = identifier(card.licence)
    named: dict[str, Any] = {"license": "unknown"}
    if licence is not None:
        known_there = kind(licence) == "permissive" or licence.startswith("cc-")
        named = {"license": licence} if known_there else {"license": "other", "license_name": licence}
    task = contents.model.task
    return {
        **named,
        "library_name": LIBRARIES[contents.form],
        "pipeline_tag": PIPELINES[task],
        "tags": ["bakeoff", task, *([contents.form] if contents.form != "hub" else [])],
    }


def agreement(found: Parity) -> str:
    """Say in sentences how far file and network lie apart, and what that does to the headline metric."""
    parts = [
        f"{one.output} {one.largest:.2g}" + ("" if one.tolerance is None else f" (allowed {one.tolerance:g})")
        for one in found.differences
    ]
    same = f"{found.same:,} of {found.decisions:,} {UNITS[found.task]} are decided alike"
    change = found.change
    moved = ""
    if change.value is not None:
        span = (
            ""
            if change.low is None
            else f" [{number(_points(change.low), 2, True)}, {number(_points(change.high), 2, True)}]"
        )
        moved = f" {found.headline} changes by {number(_points(change.value), 2, True)} points{span} (images paired)."
    return f"Largest differences: {', '.join(parts)}; {same}.{moved}"


def harmless(text: object) -> str:
    """Return text that neither steers a terminal nor becomes HTML, a link or a table's cell in Markdown.

    >>> harmless("a|b <i>x_1 [here](page)")
    'a&#124;b &lt;i&gt;x_1 [here]&#40;page)'
    """
    shown = html.escape(printable(str(text)), quote=False)
    for mark, code in MARKS.items():
        shown = shown.replace(mark, code)
    return shown


def _points(value: float | None) -> float | None:
    """Return a share in points."""
    return None if value is None else 100 * value


def shown(found: Interval | Estimate | None, metric: Metric) -> str:
    """Write a value with its interval, in points for percent metrics."""
    if found is None or known(found.value) is None:
        return NOTHING
    scale, digits = (100, 2) if metric.percent else (1, 4)
    value, low, high = (None if one is None else scale * one for one in (found.value, found.low, found.high))
    return number(value, digits) + ("" if low is None else f" [{number(low, digits)}, {number(high, digits)}]")


def _compared(found: Parity, table: Mapping[str, Metric]) -> Iterator[tuple[str, str, str]]:
    """Yield title, network's and file's value of every metric, the headline first."""
    for name in sorted(table, key=lambda name: name != found.headline):
        yield table[name].title, shown(found.before[name], table[name]), shown(found.after[name], table[name])


def _of_row(row: Row | None, table: Mapping[str, Metric]) -> Iterator[tuple[str, str]]:
    """Yield title and value of the candidate's metrics in the study."""
    for name, found in row.metrics.items() if row else ():
        if name in table:
            yield table[name].title, shown(found, table[name])


def _values(control: Control) -> str:
    """Write what each candidate had."""
    pairs = (
        f"{name}: {value if isinstance(value, str) else json.dumps(value)}" for name, value in control.values.items()
    )
    return harmless("; ".join(pairs))


def _parts(origin: Origin | None) -> str:
    """Say how many images the run had in each part."""
    if origin is None:
        return ""
    split = origin.split
    return f"; {len(split.train):,} images to train on, {len(split.val):,} to validate, {len(split.test):,} to test"


def _licence(model: Trained) -> str:
    """Say under which licence the weights were that training began with, and what they had learned from."""
    card = model.network.card
    if card.pretraining == "none":
        return "Training began with random weights: there is no licence of other weights to keep."
    page = f" ({harmless(card.url)})" if card.url else ""
    learned = harmless(card.pretraining or "not stated")
    terms = harmless(worded(card.licence))
    return f"Training began with other weights. Their licence: {terms}; trained on: {learned}{page}."


def _parameters(model: Trained) -> str:
    """Write how many parameters there are."""
    return count(model.info.get("facts", {}).get("parameters", 0)) if model.info.get("facts") else ""


def _limits(contents: Contents) -> Iterator[str]:
    """Yield what a user must know before trusting it."""
    task = contents.model.task
    if task == "classification":
        yield "It knows its classes alone: an image of something else gets one of them too, often with confidence."
    elif task == "semantic":
        yield "It knows its classes alone: every pixel gets one of them."
    else:
        yield "Its scores rank objects; they are no calibrated probabilities."
    yield f"Details that vanish at {contents.model.size} x {contents.model.size} pixels are not seen."
    tested = max(one.images for one in contents.parity.values())
    if tested < FEW:
        yield f"It was tested on {plural(tested, 'image')}: too few to promise much."
    origin = contents.origin
    for finding in origin.comparison.findings if origin and origin.comparison else ():
        if finding.severity != "info":
            yield harmless(finding.sentence)
