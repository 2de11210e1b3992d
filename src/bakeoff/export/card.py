"""The model card: README.md in the hub's format, with what was measured and what is known of where it comes from."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from bakeoff.compare import Comparison, Control, Row
from bakeoff.export.graph import last_part
from bakeoff.export.loading import loading
from bakeoff.export.material import Origin
from bakeoff.export.parity import Parity
from bakeoff.export.words import agreement, rows
from bakeoff.findings import plural, printable
from bakeoff.models.licences import identifier, kind, worded
from bakeoff.models.trained import Trained
from bakeoff.report.wording import LEVELS, count
from bakeoff.tables import METRICS, cells

TEMPLATE = "card.md.j2"
PIPELINES = {  # the hub's names of tasks
    "classification": "image-classification",
    "semantic": "image-segmentation",
    "detection": "object-detection",
    "instance": "image-segmentation",
}
LIBRARIES = {"onnx": "onnx", "pt2": "pytorch", "hub": "timm"}
PURPOSES = {
    "classification": "Says which of the classes an image shows",
    "semantic": "Says of every pixel which of the classes it belongs to",
    "detection": "Finds the objects of the classes and draws a box around each",
    "instance": "Finds the objects of the classes, each with its box and its mask",
}
LIMITS = {
    "classification": "It knows its classes alone: an image of something else gets one of them too, often confidently.",
    "semantic": "It knows its classes alone: every pixel gets one of them.",
    "detection": "Its scores rank objects; they are no calibrated probabilities.",
    "instance": "Its scores rank objects; they are no calibrated probabilities.",
}
FEW = 50  # test images: below, the card says that they are few
MARKS = {"|": "&#124;", "`": "&#96;", "\\": "&#92;", "](": "]&#40;", "][": "]&#91;"}  # that Markdown reads


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
    row = _row(comparison, origin.run.candidate) if comparison and origin else None
    controls = comparison.controls if comparison else ()
    room = Environment(loader=PackageLoader("bakeoff.export", "."), undefined=StrictUndefined, autoescape=False)
    room.filters["name"] = harmless
    text = room.get_template(TEMPLATE).render(
        front=yaml.safe_dump(front_matter(contents), sort_keys=False, allow_unicode=True),
        title=origin.run.candidate if origin else model.spec.arch,
        purpose=PURPOSES[model.task],
        model=model,
        origin=origin,
        files=contents.files,
        parity=contents.parity,
        parameters=count(model.info.get("facts", {}).get("parameters")),
        comparison=comparison,
        row=row,
        metrics=list(_metrics(model.task, row)),
        level=LEVELS[comparison.level] if comparison else "",
        equal=[control.name for control in controls if control.status == "equal"],
        unequal=[(control, _values(control)) for control in controls if control.status != "equal"],
        compared=rows,
        agreement=agreement,
        licence=_licence(model),
        limits=list(_limits(contents)),
        loading=loading(model, contents.form, contents.files[0]),
    )
    return f"{text.rstrip()}\n"


def front_matter(contents: Contents) -> dict[str, Any]:
    """Return what the hub reads: licence, library, task and tags.  Data sets are not named: they are the user's own."""
    licence, task = identifier(contents.model.network.card.licence), contents.model.task
    named: dict[str, Any] = {"license": licence or "unknown"}
    if licence is not None and kind(licence) != "permissive" and not licence.startswith("cc-"):
        named = {"license": "other", "license_name": licence}
    return {
        **named,
        "library_name": LIBRARIES[contents.form],
        "pipeline_tag": PIPELINES[task],
        "tags": ["bakeoff", task, *([contents.form] if contents.form != "hub" else [])],
    }


def harmless(text: object) -> str:
    """Return text that neither steers a terminal nor becomes HTML, a link or a table's cell in Markdown.

    >>> harmless("a|b <i>x_1 [here](page)")
    'a&#124;b &lt;i&gt;x_1 [here]&#40;page)'
    """
    shown = html.escape(printable(str(text)), quote=False)
    for mark, code in MARKS.items():
        shown = shown.replace(mark, code)
    return shown


def _row(comparison: Comparison, candidate: str) -> Row | None:
    """Return a candidate's row."""
    return next((row for row in comparison.rows if row.candidate == candidate), None)


def _metrics(task: str, row: Row | None) -> Iterator[tuple[str, str]]:
    """Yield title and value of the candidate's metrics in the study."""
    for name, found in row.metrics.items() if row else ():
        yield METRICS[task][name].title, " ".join(cells(METRICS[task][name], found)).strip()


def _values(control: Control) -> str:
    """Write what each candidate had."""
    values = ((name, last_part(value)) for name, value in control.values.items())
    return "; ".join(f"{name}: {value if isinstance(value, str) else json.dumps(value)}" for name, value in values)


def _licence(model: Trained) -> str:
    """Say under which licence the weights were that training began with, and what they had learned from."""
    card = model.network.card
    if card.pretraining == "none":
        return "Training began with random weights: there is no licence of other weights to keep."
    page = f" ({card.url})" if card.url else ""
    learned = f"{card.pretraining or 'not stated'}{page}"
    return harmless(f"Training began with other weights. Their licence: {worded(card.licence)}; trained on: {learned}.")


def _limits(contents: Contents) -> Iterator[str]:
    """Yield what a user must know before trusting it."""
    model, origin = contents.model, contents.origin
    yield LIMITS[model.task]
    yield f"Details that vanish at {model.size} x {model.size} pixels are not seen."
    tested = max(one.images for one in contents.parity.values())
    if tested < FEW:
        yield f"It was tested on {plural(tested, 'image')}: too few to promise much."
    findings = origin.comparison.findings if origin and origin.comparison else ()
    yield from (harmless(finding.sentence) for finding in findings if finding.severity != "info")
